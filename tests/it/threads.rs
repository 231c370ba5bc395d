//! Several threads at one UDP address: `listen.udp_threads`.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::support::{
    Config, Daemon, Launch, Upstream, assert_same_lines, keyed, numbered, wait_for,
};

const THREADS: &str = "listen.udp_threads";

/// So many clients that each of a few threads has some of them, but for a chance
/// of one in a million.
const CLIENTS: usize = 64;

fn config(upstream: &Upstream) -> Config {
    Config::to(upstream.url()).set("listen.udp", ["127.0.0.1:0"])
}

/// Each line in a datagram, from one of many clients.
fn send(daemon: &Daemon, lines: &[String]) {
    let address = daemon.address("udp");
    let bind = |_| UdpSocket::bind("127.0.0.1:0").expect("a client's socket");
    let clients: Vec<UdpSocket> = (0..CLIENTS).map(bind).collect();
    for (line, client) in lines.iter().zip(clients.iter().cycle()) {
        let sent = client.send_to(line.as_bytes(), address);
        sent.expect("a datagram");
    }
}

/// How many sockets are bound to an address, as proc(5) has them. It may show one
/// twice while others come and go: their inodes tell.
fn sockets_at(address: SocketAddr) -> usize {
    let port = format!(":{:04X}", address.port());
    let table = fs::read_to_string("/proc/net/udp").expect("the table of sockets");
    let inodes = table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields
            .get(1)?
            .ends_with(&port)
            .then(|| fields[9].to_owned())
    });
    inodes.collect::<HashSet<String>>().len()
}

/// Order holds within what one thread receives, and that is any part of it.
#[track_caller]
fn arrived_once(upstream: Upstream, sent: &[String]) {
    let (mut arrived, mut expected) = (upstream.finish(), keyed(sent));
    arrived.sort();
    expected.sort();
    assert_same_lines(&arrived, &expected);
}

/// A socket that nobody reads would keep the lines of some of the clients.
#[test]
fn all_that_comes_to_any_of_them_arrives_once() {
    let upstream = Upstream::tcp();
    let daemon = Daemon::start(&config(&upstream).set(THREADS, 4));
    assert_eq!(sockets_at(daemon.address("udp")), 4);
    let sent = numbered("threads", 2000);
    send(&daemon, &sent);
    daemon.wait_received(2000);
    let ledger = daemon.stop();
    assert_eq!((ledger.received, ledger.delivered), (2000, 2000));
    arrived_once(upstream, &sent);
}

#[test]
fn what_has_come_before_a_stop_is_read_by_each() {
    let upstream = Upstream::tcp();
    let daemon = Daemon::start(&config(&upstream).set(THREADS, 3));
    let sent = numbered("stopped", 3000);
    send(&daemon, &sent);
    let ledger = daemon.stop();
    assert_eq!((ledger.received, ledger.delivered), (3000, 3000));
    arrived_once(upstream, &sent);
}

#[test]
fn a_reload_changes_how_many_they_are_and_loses_nothing() {
    let upstream = Upstream::tcp();
    let config = config(&upstream);
    let daemon = Daemon::start(&config);
    let address = daemon.address("udp");
    let mut sent = Vec::new();
    let mut reloaded = config;
    for (round, threads) in [1, 4, 2, 1].into_iter().enumerate() {
        reloaded = reloaded.set(THREADS, threads);
        daemon.reload(&reloaded);
        let expected = usize::try_from(threads).expect("a small number");
        wait_for("the sockets", || sockets_at(address) == expected);
        let lines = numbered(&format!("round{round}"), 500);
        send(&daemon, &lines);
        sent.extend(lines);
        daemon.wait_received(sent.len());
    }
    upstream.expect_lines(sent.len());
    daemon.stop();
    arrived_once(upstream, &sent);
}

/// Sockets that were bound for nothing would take datagrams with them.
#[test]
fn a_reload_that_is_refused_shares_no_address() {
    let upstream = Upstream::tcp();
    let config = config(&upstream).set(THREADS, 1);
    let daemon = Daemon::start(&config);
    let address = daemon.address("udp");
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = other.local_addr().expect("a bound socket").to_string();
    let changed = config.set(THREADS, 4);
    changed.clone().set("listen.tcp", [taken.as_str()]).write();
    daemon.signal(Signal::HUP);
    daemon.log.find("the error", |line| {
        line.contains(" ERROR ") && line.contains(&taken)
    });
    wait_for("the one socket", || sockets_at(address) == 1);
    // Nobody may join it, as is so from the first moment that another has.
    let beside = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
    beside.set_reuse_port(true).expect("an option");
    let joined = beside.bind(&address.into());
    assert_eq!(joined.unwrap_err().kind(), ErrorKind::AddrInUse);
    daemon.reload(&changed);
    wait_for("the sockets", || sockets_at(address) == 4);
    daemon.stop();
}

#[test]
fn an_address_that_is_taken_stays_so() {
    let upstream = Upstream::tcp();
    let daemon = Daemon::start(&config(&upstream).set(THREADS, 2));
    let address = daemon.address("udp").to_string();
    let second = Config::to(upstream.url())
        .set("listen.udp", [address.as_str()])
        .set(THREADS, 2);
    let outcome = Launch::with(&second).run();
    assert_eq!(outcome.code, Some(71), "{}", outcome.said);
    assert!(outcome.said.contains(&address), "{}", outcome.said);
}
