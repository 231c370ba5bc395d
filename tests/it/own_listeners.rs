//! A sink that leads back to a listener of the same daemon: every line would come again.

use std::fs;
use std::net::{TcpListener, UdpSocket};

use rustix::process::Signal;

use crate::support::{Config, Daemon, Launch, Network, Upstream, wait_for, with_hosts};

/// A port that is free for datagrams and streams.
fn free_port() -> u16 {
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = tcp.local_addr().expect("a bound socket").port();
    drop(UdpSocket::bind(("127.0.0.1", port)));
    port
}

#[test]
fn a_sink_that_is_a_listener_is_refused_by_check_and_at_the_start() {
    let port = free_port();
    let (udp, tcp) = (port, port);
    for (sink, key, listener) in [
        (format!("tcp://127.0.0.1:{tcp}"), "listen.tcp", "localhost"),
        (format!("tcp://[::1]:{tcp}"), "listen.tcp", "localhost"),
        (format!("tcp://localhost:{tcp}"), "listen.tcp", "127.0.0.1"),
        (format!("tcp://LOCALHOST.:{tcp}"), "listen.tcp", "0.0.0.0"),
        (format!("tcp://0.0.0.0:{tcp}"), "listen.tcp", "127.0.0.1"),
        (format!("tcp://[::]:{tcp}"), "listen.tcp", "[::1]"),
        (format!("tcp://127.9.9.9:{tcp}"), "listen.tcp", "0.0.0.0"),
        (format!("tls://127.0.0.1:{tcp}"), "listen.tcp", "[::]"),
        (format!("http://127.0.0.1:{tcp}/"), "listen.pickle", "[::]"),
        (format!("https://localhost:{tcp}"), "listen.statsd", "[::1]"),
        (format!("udp://127.0.0.1:{udp}"), "listen.udp", "localhost"),
        (format!("udp://localhost:{udp}"), "listen.statsd", "0.0.0.0"),
        (format!("udp://0.0.0.0:{udp}"), "listen.udp", "127.0.0.1"),
        (format!("http://localhost:{tcp}"), "admin.listen", "0.0.0.0"),
    ] {
        let listener = format!("{listener}:{port}");
        let config = Config::to(&sink);
        let config = match key {
            "listen.tcp" | "listen.udp" | "listen.pickle" | "listen.statsd" => {
                config.set(key, [&listener])
            }
            key => config.set(key, listener.as_str()),
        };
        let check = Launch::bare().arg("check");
        let start = Launch::bare();
        for launch in [check, start] {
            config.write();
            let outcome = launch.arg("--config").arg(config.file()).run();
            assert_eq!(outcome.code, Some(78), "{sink} {}", outcome.said);
            for word in ["leads to sidecarbon itself", key, &listener, "sink.url"] {
                assert!(outcome.said.contains(word), "{sink}: {}", outcome.said);
            }
        }
    }
}

#[test]
fn what_only_looks_alike_is_not_refused() {
    let port = free_port();
    for (sink, key) in [
        // The other protocol, and an address of nobody.
        (format!("tcp://127.0.0.1:{port}"), "listen.udp"),
        (format!("udp://127.0.0.1:{port}"), "listen.tcp"),
        (format!("tcp://192.0.2.1:{port}"), "listen.tcp"),
    ] {
        let config = Config::to(&sink).set(key, [format!("0.0.0.0:{port}")]);
        config.write();
        let check = Launch::bare().args(["check", "--config"]);
        let outcome = check.arg(config.file()).run();
        assert_eq!(outcome.code, Some(0), "{sink} {}", outcome.said);
    }
}

#[test]
fn a_reload_to_a_listener_is_refused() {
    let upstream = Upstream::tcp();
    let port = free_port();
    let config = Config::to(upstream.url()).set("listen.tcp", [format!("localhost:{port}")]);
    let daemon = Daemon::start(&config);
    config
        .clone()
        .set("sink.url", format!("tcp://127.0.0.1:{port}").as_str())
        .write();
    daemon.signal(Signal::HUP);
    daemon.log.find("the refusal", |line| {
        line.contains(" ERROR ") && line.contains("leads to sidecarbon itself")
    });
    daemon.tcp("still.line 1 5\n");
    upstream.expect_lines(1);
}

#[test]
fn a_name_of_the_host_file_is_refused_where_it_leads_here() {
    let config = Config::to("tcp://relay.example:1");
    let hosts = config.path("hosts");
    fs::write(&hosts, "127.0.0.1 localhost\n127.0.0.1 relay.example\n").expect("a file");
    let Some(prefix) = with_hosts(&hosts) else {
        return;
    };
    let port = free_port();
    let config = config
        .set("sink.url", format!("tcp://relay.example:{port}").as_str())
        .set("listen.tcp", [format!("localhost:{port}")]);
    let outcome = Launch::by(&prefix, &config).run();
    assert_eq!(outcome.code, Some(78), "{}", outcome.said);
    assert!(outcome.said.contains("itself"), "{}", outcome.said);
}

/// The system chooses the listeners' ports here, so that nothing can be seen before.
#[test]
fn a_way_that_ends_at_a_listener_shows_when_it_is_taken() {
    for scheme in ["tcp", "tls", "http", "https", "udp"] {
        let first = Upstream::tcp();
        let config = Config::to(first.url())
            .set("retry.first", "5m")
            .set("retry.max", "5m");
        let daemon = Daemon::start(&config);
        let kind = if scheme == "udp" { "udp" } else { "tcp" };
        let port = daemon.address(kind).port();
        let url = format!("{scheme}://localhost:{port}");
        daemon.reload(&config.set("sink.url", url.as_str()));
        daemon.tcp("loop.line 1 5\n");
        let line = daemon.log.find("the loop", |line| {
            line.contains(" ERROR ") && line.contains("own listener")
        });
        assert!(line.contains(&format!("{kind}:localhost:0")), "{line}");
        wait_for("the line to wait", || daemon.waiting() == 1);
        assert_eq!(daemon.received(), 1, "{scheme}");
    }
}

#[test]
fn an_address_of_this_host_that_a_wildcard_serves_is_refused() {
    let Some(network) = Network::new() else {
        return;
    };
    let config =
        Config::to(format!("tcp://{}:2003", network.daemon())).set("listen.tcp", ["0.0.0.0:2003"]);
    let outcome = Launch::by(&network.command(), &config).run();
    assert_eq!(outcome.code, Some(78), "{}", outcome.said);
    // The other end of the link is another host.
    let config = Config::to(format!("tcp://{}:2003", network.upstream()))
        .set("listen.udp", [""; 0])
        .set("listen.tcp", ["0.0.0.0:2003"])
        .set("admin.listen", "");
    Launch::by(&network.command(), &config).start();
}

/// The C library reads 127.1 as an address, which the configuration does not.
#[test]
fn probe_says_so_too() {
    let port = free_port();
    for (scheme, key) in [
        ("tcp", "listen.tcp"),
        ("http", "listen.pickle"),
        ("udp", "listen.udp"),
    ] {
        let config = Config::to(format!("{scheme}://127.1:{port}"));
        let config = config.set(key, [format!("127.0.0.1:{port}")]);
        let daemon = Daemon::start(&config);
        let probe = Launch::bare().args(["probe", "--config"]);
        let outcome = probe.arg(config.file()).run();
        assert_eq!(outcome.code, Some(69), "{}", outcome.said);
        assert!(outcome.said.contains("own listener"), "{}", outcome.said);
        assert_eq!(daemon.received(), 0);
    }
}

#[test]
fn a_chain_of_two_is_no_loop() {
    let upstream = Upstream::tcp();
    let second = Daemon::start(&Config::to(upstream.url()));
    let next = format!("tcp://{}", second.address("tcp"));
    let first = Daemon::start(&Config::to(next));
    first.tcp("chain.line 1 5\n");
    upstream.expect_lines(1);
}
