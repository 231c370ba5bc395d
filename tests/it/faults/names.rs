//! Names of the upstream: none, several addresses, other addresses.

use std::fs;
use std::net::Ipv4Addr;

use super::config;
use crate::support::{
    Books, Daemon, Fault, Faulty, Launch, Port, assert_same_lines, cut_off, keyed, numbered,
    payload, wait_for, with_hosts,
};

const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

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
        new.connections() > 0
    });
    wait_for("the last line", || daemon.waiting() == 0);
    // Acknowledged is not read yet.
    wait_for("a line there", || new.len() > 0);
    let ledger = daemon.stop();
    let mut arrived = old.finish();
    arrived.extend(new.finish());
    assert_same_lines(&arrived, &keyed(&sent));
    assert_eq!(ledger.delivered, sent.len() as u64, "{ledger:?}");
}
