//! Upstreams that do not read, or hardly, and networks that pass nothing.

use std::time::Duration;

use super::config;
use crate::support::{
    Books, Certs, Config, Daemon, Fault, Faulty, Load, Port, cut_off, numbered, payload, wait_for,
};

/// More than the kernel takes for a peer that does not read.
const LINES: usize = 100_000;

#[test]
fn a_stall_shorter_than_the_timeout() {
    let upstream = Faulty::tcp(|_| Fault::Stalls);
    let config = config(upstream.url()).set("sink.write_timeout", "30s");
    let (daemon, sent) = stalled(&config);
    upstream.behave();
    wait_for("the rest", || daemon.waiting() == 0);
    // Nothing was wrong with it.
    assert_eq!(upstream.connections(), 1);
    assert_eq!(daemon.total("sidecarbon_sink_errors_total"), 0);
    let books = Books::close(daemon, upstream, &sent);
    books.assert_exact();
    assert_eq!((books.said.resent, books.said.at_risk), (0, 0), "{books:?}");
}

#[test]
fn a_stall_longer_than_the_timeout() {
    let upstream = Faulty::tcp(|_| Fault::Stalls);
    let config = config(upstream.url()).set("sink.write_timeout", "1s");
    let books = given_up_and_read_later(&config, upstream);
    books.assert_exact();
}

#[test]
fn a_stall_longer_than_the_timeout_tls() {
    let certs = Certs::new();
    // The handshake is read, and hardly more.
    let upstream = Faulty::tls(&certs, |_| Fault::Sips(1024, Duration::from_secs(4)));
    let config = config(upstream.url())
        .set("sink.write_timeout", "1s")
        .set("sink.tls.ca_file", &certs.ca_file());
    let (daemon, sent) = stalled(&config);
    wait_for("another attempt", || upstream.connections() >= 2);
    upstream.behave();
    let books = Books::close(daemon, upstream, &sent);
    assert_eq!(books.lost, 0, "{books:?}");
}

/// The first connections are given up unread; what their kernels had is read
/// all the same.
fn given_up_and_read_later(config: &Config, upstream: Faulty) -> Books {
    let (daemon, sent) = stalled(config);
    wait_for("another attempt", || upstream.connections() >= 2);
    upstream.behave();
    Books::close(daemon, upstream, &sent)
}

/// A daemon that can get rid of nothing more.
fn stalled(config: &Config) -> (Daemon, Vec<String>) {
    let daemon = Daemon::start(config);
    let sent = numbered("stalled", LINES);
    daemon.tcp(payload(&sent));
    daemon.wait_received(LINES);
    let mut before = None;
    wait_for("the stall", || {
        let now = Some(daemon.delivered());
        std::mem::replace(&mut before, now) == now && daemon.ledger().in_flight > 0
    });
    (daemon, sent)
}

#[test]
fn a_slow_reader_is_not_given_up() {
    // Longer than the timeout for all of it, but never without progress.
    let upstream = Faulty::tcp(|_| Fault::Sips(16 * 1024, Duration::from_millis(10)));
    let config = config(upstream.url()).set("sink.write_timeout", "1s");
    let daemon = Daemon::start(&config);
    let sent = numbered("slow", 30_000);
    daemon.tcp(payload(&sent));
    wait_for("the last line", || daemon.delivered() == sent.len() as u64);
    assert_eq!(upstream.connections(), 1);
    let books = Books::close(daemon, upstream, &sent);
    books.assert_exact();
    assert_eq!(books.said.resent, 0, "{books:?}");
}

#[test]
fn the_network_goes_away_in_the_middle() {
    let upstream = Faulty::tcp(vanishing_once);
    let config = config(upstream.url()).set("sink.write_timeout", "1s");
    black_hole(&config, upstream).assert_exact();
}

#[test]
fn the_network_goes_away_in_the_middle_tls() {
    let certs = Certs::new();
    let upstream = Faulty::tls(&certs, vanishing_once);
    let config = config(upstream.url())
        .set("sink.write_timeout", "1s")
        .set("sink.tls.ca_file", &certs.ca_file());
    black_hole(&config, upstream).assert_exact();
}

fn vanishing_once(number: usize) -> Fault {
    match number {
        0 => Fault::Vanishes(Duration::from_millis(100)),
        _ => Fault::Reads,
    }
}

fn black_hole(config: &Config, upstream: Faulty) -> Books {
    let daemon = Daemon::start(config);
    let load = Load::start(&daemon, "hole", 5000);
    wait_for("a new connection", || upstream.connections() >= 2);
    let sent = load.stop();
    Books::close(daemon, upstream, &sent)
}

#[test]
fn a_connection_that_is_never_answered() {
    let port = Port::reserve();
    // Somebody listens, and hears nothing.
    let deaf = port.listen(None);
    cut_off(&deaf);
    let config = config(port.url()).set("sink.connect_timeout", "100ms");
    let daemon = Daemon::start(&config);
    let sent = numbered("unanswered", 1000);
    daemon.tcp(payload(&sent));
    wait_for("some attempts", || {
        daemon.metric("sidecarbon_sink_errors_total{kind=\"connect\"}") >= 3
    });
    drop(deaf);
    let upstream = Faulty::tcp_at(&port, |_| Fault::Reads);
    Books::close(daemon, upstream, &sent).assert_exact();
}
