//! Upstreams that require a client certificate. In TLS 1.3 the server judges it
//! after the client has finished its handshake (RFC 8446, 4.4.2), so lines that are
//! written at once would be acknowledged by its kernel and lost.

use std::time::Duration;

use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};

use super::config_for;
use crate::support::{
    Books, Certs, Config, Daemon, Fault, Faulty, Reply, Scripted, Site, numbered, payload, wait_for,
};

const LINES: usize = 1000;

/// How late the server reads, and judges, the certificate.
const FAR: Duration = Duration::from_millis(100);

/// What the daemon shows first.
#[derive(Debug, Clone, Copy)]
enum Shown {
    Nothing,
    Foreign,
    Expired,
}

use Shown::{Expired, Foreign, Nothing};

macro_rules! rows {
    ($($test:ident: $row:ident($($argument:expr),*);)*) => {
        $(
            #[test]
            fn $test() {
                $row($($argument),*);
            }
        )*
    };
}

rows! {
    missing_tls12: lines(&TLS12, 0, Nothing);
    foreign_tls12: lines(&TLS12, 0, Foreign);
    expired_tls12: lines(&TLS12, 0, Expired);
    missing_without_tickets: lines(&TLS13, 0, Nothing);
    missing_with_one_ticket: lines(&TLS13, 1, Nothing);
    missing_with_two_tickets: lines(&TLS13, 2, Nothing);
    foreign_without_tickets: lines(&TLS13, 0, Foreign);
    foreign_with_tickets: lines(&TLS13, 2, Foreign);
    expired_without_tickets: lines(&TLS13, 0, Expired);
    expired_with_tickets: lines(&TLS13, 2, Expired);
    missing_https_tls12: requests(&TLS12, 0, Nothing);
    missing_https_without_tickets: requests(&TLS13, 0, Nothing);
    missing_https_with_tickets: requests(&TLS13, 2, Nothing);
    foreign_https_with_one_ticket: requests(&TLS13, 1, Foreign);
    expired_https_without_tickets: requests(&TLS13, 0, Expired);
}

fn lines(version: &'static SupportedProtocolVersion, tickets: usize, shown: Shown) {
    let site = Site::tls().with_server(|certs| certs.server_that_asks_by(&[version], tickets));
    let upstream = Faulty::far(&site, FAR);
    let (daemon, config, sent) = refused(&site, shown, || upstream.ended());
    accepted(&daemon, &site, config);
    Books::close(daemon, upstream, &sent).assert_exact();
}

fn requests(version: &'static SupportedProtocolVersion, tickets: usize, shown: Shown) {
    let site = Site::https().with_server(|certs| certs.server_that_asks_by(&[version], tickets));
    let upstream = Scripted::at(&site, |_| Reply::take());
    let (daemon, config, sent) = refused(&site, shown, || upstream.connections());
    accepted(&daemon, &site, config);
    Books::close(daemon, upstream, &sent).assert_exact();
}

/// Nothing counts as delivered, nothing is in doubt, and the log has the reason.
#[track_caller]
fn refused(
    site: &Site,
    shown: Shown,
    attempts: impl Fn() -> usize,
) -> (Daemon, Config, Vec<String>) {
    let own = site.certs().expect("an authority");
    let stranger = Certs::stranger();
    let files = match shown {
        Nothing => None,
        Foreign => Some(stranger.client_files()),
        Expired => Some(own.client_files_valid(2019..2020)),
    };
    // With "drop", whatever is in doubt would be lost.
    let mut config = config_for(site).set("sink.uncertain", "drop");
    if let Some((certificate, key)) = &files {
        config = config
            .set("sink.tls.client_cert_file", certificate)
            .set("sink.tls.client_key_file", key);
    }
    let daemon = Daemon::start(&config);
    let sent = numbered("judged", LINES);
    daemon.tcp(payload(&sent));
    daemon.wait_received(LINES);
    wait_for("more attempts", || attempts() >= 4);
    let ledger = daemon.ledger();
    assert_eq!((ledger.delivered, ledger.dropped), (0, 0), "{ledger:?}");
    for doubt in ["at_risk", "uncertain"] {
        assert_eq!(
            daemon.metric(&format!("sidecarbon_lines_{doubt}_total")),
            0,
            "{doubt}"
        );
    }
    let log = daemon.log.lines();
    assert!(
        log.iter().any(|line| line.contains("client certificate")),
        "no reason in {log:?}"
    );
    assert!(
        !log.iter().any(|line| line.contains("takes lines")),
        "up in {log:?}"
    );
    (daemon, config, sent)
}

fn accepted(daemon: &Daemon, site: &Site, config: Config) {
    let (certificate, key) = site.certs().expect("an authority").client_files();
    daemon.reload(
        &config
            .set("sink.tls.client_cert_file", &certificate)
            .set("sink.tls.client_key_file", &key),
    );
}

/// A server that sends no tickets and judges after `sink.tls.confirm_timeout`: one batch is
/// sent, and comes back.
#[test]
fn a_late_verdict() {
    let site = Site::tls().with_server(|certs| certs.server_that_asks_by(&[&TLS13], 0));
    let upstream = Faulty::far(&site, Duration::from_millis(500));
    let stranger = Certs::stranger();
    let (certificate, key) = stranger.client_files();
    let config = config_for(&site)
        .set("sink.tls.client_cert_file", &certificate)
        .set("sink.tls.client_key_file", &key)
        .set("sink.tls.confirm_timeout", "50ms");
    let daemon = Daemon::start(&config);
    let sent = numbered("late", LINES);
    daemon.tcp(payload(&sent));
    daemon.wait_received(LINES);
    wait_for("lines sent and taken back, twice", || {
        daemon.metric("sidecarbon_lines_resent_total") > 0 && upstream.ended() >= 2
    });
    let ledger = daemon.ledger();
    assert_eq!((ledger.delivered, ledger.dropped), (0, 0), "{ledger:?}");
    assert_eq!(daemon.metric("sidecarbon_lines_at_risk_total"), 0);
    accepted(&daemon, &site, config);
    Books::close(daemon, upstream, &sent).assert_exact();
}

/// The certificate is right, but no ticket says so: an orderly close does.
#[test]
fn an_orderly_close_without_tickets_resends_nothing() {
    let site = Site::tls().with_server(|certs| certs.server_that_asks_by(&[&TLS13], 0));
    let upstream = Faulty::at(&site, |number| match number {
        0 => Fault::EndsIdle(Duration::from_millis(200)),
        _ => Fault::Reads,
    });
    let (certificate, key) = site.certs().expect("an authority").client_files();
    let config = config_for(&site)
        .set("sink.tls.client_cert_file", &certificate)
        .set("sink.tls.client_key_file", &key)
        .set("sink.tls.confirm_timeout", "50ms");
    let daemon = Daemon::start(&config);
    let sent = numbered("orderly", 10);
    daemon.tcp(payload(&sent));
    wait_for("the delivery", || daemon.delivered() == 10);
    let books = Books::close(daemon, upstream, &sent);
    books.assert_exact();
    assert_eq!(books.said.resent, 0);
}
