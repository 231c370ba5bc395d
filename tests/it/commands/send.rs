//! `send`: one line to the daemon, as an application would send it.

use crate::support::{Config, Daemon, KEY, Launch, Upstream};

#[test]
fn a_line_goes_to_the_tcp_listener() {
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url());
    let daemon = Daemon::start(&config);
    let address = daemon.address("tcp").to_string();
    let outcome = Launch::with(&config)
        .args(["--tcp", &address])
        .args(["send", "sent.tcp", "-1.5", "1700000000"])
        .run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.said);
    assert_eq!(
        outcome.printed,
        [format!(
            "received by tcp:{address}: sent.tcp -1.5 1700000000"
        )]
    );
    upstream.expect(&format!("{KEY}.sent.tcp -1.5 1700000000"));
}

#[test]
fn without_tcp_it_goes_to_udp() {
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url());
    let daemon = Daemon::start(&config);
    let address = daemon.address("udp").to_string();
    let config = config.set("listen.tcp", [""; 0]);
    let outcome = Launch::with(&config)
        .args(["send", "sent.udp", "2", "1700000000"])
        .args(["--udp", &address])
        .run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.said);
    upstream.expect(&format!("{KEY}.sent.udp 2 1700000000"));
}

#[test]
fn without_either_it_goes_to_a_unix_socket() {
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url())
        .set("listen.tcp", [""; 0])
        .set("listen.udp", [""; 0])
        .with_unix_listeners();
    let _daemon = Daemon::start(&config);
    let streams = config.clone();
    let datagrams = config.clone().set("listen.unix_stream", [""; 0]);
    for (name, config) in [("stream", streams), ("datagram", datagrams)] {
        // The daemon has read its own file already.
        let outcome = Launch::with(&config)
            .args(["send", name, "3", "1700000000"])
            .run();
        assert_eq!(outcome.code, Some(0), "{name}: {}", outcome.said);
        upstream.expect(&format!("{KEY}.{name} 3 1700000000"));
    }
}

#[test]
fn a_line_without_a_time_gets_the_daemons() {
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url());
    let daemon = Daemon::start(&config);
    let address = daemon.address("tcp").to_string();
    let launch = Launch::with(&config).args(["--tcp", &address]);
    let outcome = launch.args(["send", "sent.now", "1"]).run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.said);
    upstream.find("the line", |line| {
        line.starts_with(&format!("{KEY}.sent.now 1 1"))
    });
}

#[test]
fn what_is_no_line_is_not_sent() {
    let config = Config::to("tcp://carbon.example:2003");
    for (arguments, expected) in [
        (["send", "a", "oops"], "rejected, value: not a number"),
        (["send", "two words", "1"], "rejected, value"),
        (["send", "a\nb", "1"], "rejected, encoding"),
        (["send", " ", " "], "nothing to send"),
    ] {
        let outcome = Launch::with(&config).args(arguments).run();
        assert_eq!(outcome.code, Some(64), "{arguments:?}: {}", outcome.said);
        assert!(
            outcome.said.contains(expected),
            "{arguments:?}: {}",
            outcome.said
        );
    }
}

#[test]
fn nobody_there_is_said() {
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url());
    let daemon = Daemon::start(&config);
    let [tcp, udp] = ["tcp", "udp"].map(|kind| daemon.address(kind).to_string());
    drop(daemon);
    let no_tcp = config.clone().set("listen.tcp", [""; 0]);
    for (config, flag, address) in [(&config, "--tcp", tcp), (&no_tcp, "--udp", udp)] {
        let launch = Launch::with(config).args([flag, &address]);
        let outcome = launch.args(["send", "a", "1"]).run();
        assert_eq!(outcome.code, Some(1), "{flag}: {}", outcome.said);
        assert!(outcome.said.contains(&address), "{}", outcome.said);
        assert!(
            outcome.said.contains("is the daemon running?"),
            "{}",
            outcome.said
        );
    }
    // A port that only the daemon knows.
    let outcome = Launch::with(&config).args(["send", "a", "1"]).run();
    assert_eq!(outcome.code, Some(78), "{}", outcome.said);
    assert!(outcome.said.contains("--tcp"), "{}", outcome.said);
}
