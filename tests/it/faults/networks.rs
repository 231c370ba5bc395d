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
        daemon.metric("sidecarbon_sink_up") == 0
    });
    network.pass(true);
    wait_for("the upstream to be back", || {
        daemon.metric("sidecarbon_sink_up") == 1
    });
    let sent = load.stop();
    let books = Books::close(daemon, upstream, &sent);
    // The last acknowledgements may have gone down with the link: what they were
    // for comes twice, which `Books` has held against `resent`.
    assert_eq!((books.lost, books.said.dropped), (0, 0), "{books:?}");
}
