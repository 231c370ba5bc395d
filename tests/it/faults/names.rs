//! Names of the upstream: none, several addresses, other addresses.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::config;
use crate::support::{
    Books, Certs, Config, Daemon, Fault, Faulty, Launch, PATH, Port, Reply, Scripted, Site,
    assert_same_lines, cut_off, keyed, numbered, payload, wait_for, with_hosts,
};

const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Sorts behind the other loopback addresses (RFC 6724, rule 9: it has the shortest prefix in
/// common with the source, 127.0.0.1).
const LAST: Ipv4Addr = Ipv4Addr::new(127, 128, 0, 1);

#[test]
fn a_name_that_does_not_exist() {
    let upstream = Faulty::tcp(|_| Fault::Reads);
    let config = config("tcp://upstream.invalid:2003");
    let daemon = Daemon::start(&config);
    let sent = numbered("named", 1000);
    daemon.tcp(payload(&sent));
    wait_for("some attempts", || {
        daemon.metric("sidecarbon_sink_errors_total{kind=\"dns\"}") >= 3
    });
    assert_eq!(daemon.waiting(), 1000);
    daemon.reload(&config.set("sink.url", upstream.url()));
    Books::close(daemon, upstream, &sent).assert_exact();
}

#[test]
fn the_first_address_refuses() {
    // Nobody listens there.
    the_first_address(|_| ());
}

#[test]
fn the_first_address_never_answers() {
    the_first_address(|port| {
        let deaf = port.at(FIRST).listen(None);
        cut_off(&deaf);
        deaf
    });
}

/// Both addresses are tried at each attempt, so the second one gets it all.
fn the_first_address<T>(occupy: impl FnOnce(&Port) -> T) {
    let port = Port::reserve();
    let occupied = occupy(&port);
    let upstream = Faulty::tcp_at(&port, |_| Fault::Reads);
    let url = format!("tcp://carbon.test:{}", port.address().port());
    let config = config(url).set("sink.connect_timeout", "200ms");
    let hosts = config.path("hosts");
    fs::write(
        &hosts,
        format!("{FIRST} carbon.test\n127.0.0.1 carbon.test\n"),
    )
    .expect("a host file");
    let Some(prefix) = with_hosts(&hosts) else {
        return;
    };
    let daemon = Launch::by(&prefix, &config).start();
    let sent = numbered("second", 1000);
    daemon.tcp(payload(&sent));
    assert_same_lines(&upstream.expect_lines(1000), &keyed(&sent));
    Books::close(daemon, upstream, &sent).assert_exact();
    drop(occupied);
}

macro_rules! last_of {
    ($($test:ident: $row:ident($addresses:expr, $fault:expr);)*) => {
        $(
            #[test]
            fn $test() {
                $row($addresses, $fault);
            }
        )*
    };
}

// All addresses but the last are broken above TCP.
last_of! {
    the_first_of_two_closes_in_the_handshake: over_tls(2, Broken::Plain(Fault::Closes));
    the_first_of_two_is_silent_in_the_handshake: over_tls(2, Broken::Plain(Fault::Stalls));
    the_first_of_two_is_untrusted: over_tls(2, Broken::Untrusted);
    eight_of_nine_close_in_the_handshake: over_tls(9, Broken::Plain(Fault::Closes));
    eight_of_nine_are_silent_in_the_handshake: over_tls(9, Broken::Plain(Fault::Stalls));
    eight_of_nine_are_untrusted: over_tls(9, Broken::Untrusted);
    the_first_of_two_closes: over_tcp(2, Fault::Closes);
    the_first_of_two_resets: over_tcp(2, Fault::Resets(Duration::ZERO));
    eight_of_nine_close: over_tcp(9, Fault::Closes);
    eight_of_nine_reset: over_tcp(9, Fault::Resets(Duration::ZERO));
    the_first_of_two_closes_http: over_http(2, Fault::Closes);
    the_first_of_two_resets_http: over_http(2, Fault::Resets(Duration::ZERO));
    eight_of_nine_close_http: over_http(9, Fault::Closes);
    eight_of_nine_reset_http: over_http(9, Fault::Resets(Duration::ZERO));
}

#[derive(Debug, Clone, Copy)]
enum Broken {
    Plain(Fault),
    /// A TLS server whose certificate nobody here has signed.
    Untrusted,
}

fn over_tls(addresses: u8, broken: Broken) {
    let site = Site::tls().on(LAST);
    let stranger = Certs::stranger();
    let others = others(&site, addresses, |port| match broken {
        Broken::Plain(fault) => Faulty::tcp_at(port, move |_| fault),
        Broken::Untrusted => {
            Faulty::tls_at(port, stranger.server(&["localhost"]), |_| Fault::Reads)
        }
    });
    let upstream = Faulty::at(&site, |_| Fault::Reads);
    let Some((daemon, sent)) = start(&site, "tls", addresses) else {
        return;
    };
    shows_the_address(&daemon, &site, &others);
    Books::close(daemon, upstream, &sent).assert_exact();
}

/// Nothing tells whether an upstream of this kind has read what its kernel acknowledged.
fn over_tcp(addresses: u8, fault: Fault) {
    let site = Site::tcp().on(LAST);
    let others = others(&site, addresses, |port| {
        Faulty::tcp_at(port, move |_| fault)
    });
    let upstream = Faulty::at(&site, |_| Fault::Reads);
    let Some((daemon, sent)) = start(&site, "tcp", addresses) else {
        return;
    };
    shows_the_address(&daemon, &site, &others);
    let books = Books::close(daemon, upstream, &sent);
    assert!(books.lost < books.sent / 2, "{books:?}");
}

fn over_http(addresses: u8, fault: Fault) {
    let site = Site::http().on(LAST);
    let others = others(&site, addresses, |port| {
        Faulty::tcp_at(port, move |_| fault)
    });
    let upstream = Scripted::at(&site, |_| Reply::take());
    let Some((daemon, sent)) = start(&site, "http", addresses) else {
        return;
    };
    shows_the_address(&daemon, &site, &others);
    Books::close(daemon, upstream, &sent).assert_exact();
}

/// Doubles at the addresses before the site's own.
fn others(site: &Site, addresses: u8, double: impl Fn(&Port) -> Faulty) -> Vec<Faulty> {
    let others = broken_addresses(addresses);
    others.map(|at| double(&site.port().at(at))).collect()
}

/// Addresses that no other test uses: on 127.0.0.1 the port may be taken.
fn broken_addresses(addresses: u8) -> impl Iterator<Item = Ipv4Addr> {
    (1..addresses).map(|last| Ipv4Addr::new(127, 0, 77, last))
}

/// A daemon that knows the site by a name with so many addresses, and lines for it.
fn start(site: &Site, scheme: &str, addresses: u8) -> Option<(Daemon, Vec<String>)> {
    let config = named(site, scheme);
    let hosts = config.path("hosts");
    let others = broken_addresses(addresses);
    let names = others.chain([LAST]).map(|at| format!("{at} carbon.test\n"));
    fs::write(&hosts, names.collect::<String>()).expect("a host file");
    let prefix = with_hosts(&hosts)?;
    let daemon = Launch::by(&prefix, &config).start();
    let sent = numbered("last", 1000);
    daemon.tcp(payload(&sent));
    daemon.wait_received(1000);
    Some((daemon, sent))
}

/// The site by its name.
fn named(site: &Site, scheme: &str) -> Config {
    let path = if scheme == "http" { PATH } else { "" };
    let port = site.port().address().port();
    let config = config(format!("{scheme}://carbon.test:{port}{path}"))
        .set("sink.tls.server_name", "localhost");
    match site.ca_file() {
        Some(file) => config.set("sink.tls.ca_file", &file),
        None => config,
    }
}

/// The address in use, and that the others were tried and have failed.
#[track_caller]
fn shows_the_address(daemon: &Daemon, site: &Site, others: &[Faulty]) {
    wait_for("every line to be delivered", || daemon.waiting() == 0);
    let address = site.port().address().to_string();
    let status = daemon.status();
    assert_eq!(status["sink"]["address"], address, "{status}");
    let failed = &status["sink"]["failed_addresses"];
    let text = failed.as_str().expect("the addresses that failed");
    assert!(text.contains("127.0.77.1"), "{status}");
    // Four are named, the others counted.
    let more = others.len().saturating_sub(4);
    assert!(
        more == 0 || text.contains(&format!("and {more} more addresses")),
        "{status}"
    );
    assert!(others.iter().all(|other| other.connections() > 0));
    daemon
        .log
        .find("the address in the log", |line| line.contains(&address));
}

#[test]
fn the_address_changes() {
    let port = Port::reserve();
    let elsewhere = port.at(FIRST);
    let old = Faulty::tcp_at(&port, |_| Fault::Reads);
    let new = Faulty::tcp_at(&elsewhere, |_| Fault::Reads);
    let url = format!("tcp://carbon.test:{}", port.address().port());
    // A connection that works is left in time, too.
    let config = config(url).set("sink.max_connection_age", "1s");
    let hosts = config.path("hosts");
    fs::write(&hosts, "127.0.0.1 carbon.test\n").expect("a host file");
    let Some(prefix) = with_hosts(&hosts) else {
        return;
    };
    let daemon = Launch::by(&prefix, &config).start();
    let mut sent = numbered("old", 1000);
    daemon.tcp(payload(&sent));
    old.expect_lines(1000);
    fs::write(&hosts, format!("{FIRST} carbon.test\n")).expect("a host file");
    let mut more = 0;
    wait_for("the new address", || {
        let line = format!("new.{more:06} 1 1700000000");
        daemon.udp(&line);
        sent.push(line);
        more += 1;
        daemon.wait_received(sent.len());
        new.len() > 0
    });
    wait_for("the last line", || daemon.waiting() == 0);
    let ledger = daemon.stop();
    let mut arrived = old.finish();
    arrived.extend(new.finish());
    assert_same_lines(&arrived, &keyed(&sent));
    assert_eq!(ledger.delivered, sent.len() as u64, "{ledger:?}");
}

#[test]
fn a_connection_goes_on_while_the_name_cannot_be_looked_up() {
    let site = Site::tcp();
    let upstream = Faulty::at(&site, |_| Fault::Reads);
    let Some((daemon, sent)) = goes_on(&site, "tcp", || upstream.connections()) else {
        return;
    };
    Books::close(daemon, upstream, &sent).assert_exact();
}

#[test]
fn a_connection_goes_on_while_the_name_cannot_be_looked_up_http() {
    let site = Site::http();
    let upstream = Scripted::at(&site, |_| Reply::take());
    let Some((daemon, sent)) = goes_on(&site, "http", || upstream.connections()) else {
        return;
    };
    Books::close(daemon, upstream, &sent).assert_exact();
}

/// A connection that has reached its age is closed only once there is another one.
fn goes_on(
    site: &Site,
    scheme: &str,
    connections: impl Fn() -> usize,
) -> Option<(Daemon, Vec<String>)> {
    let config = named(site, scheme).set("sink.max_connection_age", "1s");
    let hosts = config.path("hosts");
    let names = format!("{} carbon.test\n", site.port().address().ip());
    fs::write(&hosts, &names).expect("a host file");
    let prefix = with_hosts(&hosts)?;
    let daemon = Launch::by(&prefix, &config).start();
    let mut sent = Vec::new();
    let mut deliver = || {
        let line = format!("{scheme}.age.{:06} 1 1700000000", sent.len());
        daemon.tcp(format!("{line}\n"));
        sent.push(line);
        wait_for("the line", || daemon.delivered() == sent.len() as u64);
    };
    deliver();
    fs::write(&hosts, "").expect("a host file");
    let is_kept = |line: &str| line.contains("the connection is not renewed");
    while !daemon.log.lines().iter().any(|line| is_kept(line)) {
        deliver();
    }
    deliver();
    assert_eq!(connections(), 1);
    assert_eq!(
        daemon.metric("sidecarbon_sink_errors_total{kind=\"dns\"}"),
        0
    );
    fs::write(&hosts, &names).expect("a host file");
    while connections() < 2 {
        deliver();
    }
    Some((daemon, sent))
}
