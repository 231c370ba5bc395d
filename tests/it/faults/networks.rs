//! A network that goes away under a connection, without a filter's help.

use std::time::Duration;

use super::config;
use crate::support::{Books, Fault, Faulty, Launch, Load, Network, Port, wait_for};

#[test]
fn the_link_goes_down_and_up() {
    let Some(network) = Network::new() else {
        return;
    };
    let address = network.upstream().parse().expect("an address");
    let port = Port::reserve_at(address);
    // It never hears the end of the first connection, and gives it up itself.
    let upstream = Faulty::tcp_at(&port, |number| match number {
        0 => Fault::EndsIdle(Duration::from_secs(1)),
        _ => Fault::Reads,
    });
    let listen = format!("{}:0", network.daemon());
    let config = config(upstream.url())
        .set("sink.write_timeout", "2s")
        .set("sink.connect_timeout", "500ms")
        .set("listen.udp", [""; 0])
        .set("listen.tcp", [listen.as_str()])
        .set("admin.listen", listen.as_str());
    let daemon = Launch::by(&network.command(), &config).start();
    let load = Load::start(&daemon, "link", 5000);
    wait_for("some lines", || upstream.len() > 1000);
    network.pass(false);
    wait_for("the end of patience", || {
        daemon.metrics().get("sidecarbon_sink_up") == Some(0)
    });
    network.pass(true);
    wait_for("the upstream to be back", || {
        daemon.metrics().get("sidecarbon_sink_up") == Some(1)
    });
    let sent = load.stop();
    let books = Books::close(daemon, upstream, &sent);
    // The last acknowledgements may have gone down with the link: what they were
    // for comes twice, which `Books` has held against `resent`.
    assert_eq!((books.lost, books.said.dropped), (0, 0), "{books:?}");
}

/// With a single free port, a connection to it is one to oneself (RFC 9293, 3.5). Its end must
/// not keep the upstream from binding the port.
#[test]
fn a_connection_to_oneself_leaves_no_time_wait() {
    const PORT: u16 = 40_123;
    let Some(network) = Network::new() else {
        return;
    };
    network.run(&["ip", "link", "set", "lo", "up"]);
    let range = format!("net.ipv4.ip_local_port_range={PORT} {PORT}");
    network.run(&["sysctl", "-q", "-w", &range]);
    let listen = |port: u16| format!("{}:{port}", network.daemon());
    let config = config(format!("tcp://127.0.0.1:{PORT}"))
        .set("listen.udp", [""; 0])
        .set("listen.tcp", [listen(2003).as_str()])
        .set("admin.listen", listen(2023).as_str());
    let daemon = Launch::by(&network.command(), &config).start();
    daemon.tcp("oneself.line 1 1700000000\n");
    daemon.log.find("a connection to oneself", |line| {
        line.contains("nothing listens there")
    });
    wait_for("more attempts", || {
        daemon.metric("sidecarbon_sink_errors_total{kind=\"connect\"}") >= 3
    });
    assert_eq!(daemon.delivered(), 0);
    // Of its columns the second is the local end, the fourth the state; 06 is TIME-WAIT.
    let sockets = network.run(&["cat", "/proc/net/tcp"]);
    let local = format!(":{PORT:04X}");
    let waits = |line: &&str| {
        let mut columns = line.split_whitespace().skip(1);
        let is_there = columns
            .next()
            .is_some_and(|local_end| local_end.ends_with(&local));
        is_there && columns.nth(1) == Some("06")
    };
    assert_eq!(sockets.lines().filter(waits).count(), 0, "{sockets}");
}
