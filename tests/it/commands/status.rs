//! `status` and `health`: the daemon beside them.

use crate::support::{Config, Daemon, KEY, Launch, Port, Upstream, numbered, payload, wait_for};

/// A command that asks this daemon.
fn asking(daemon: &Daemon) -> Launch {
    let admin = daemon.address("admin").to_string();
    Launch::with(daemon.config()).env("SIDECARBON_ADMIN_LISTEN", admin)
}

#[test]
fn health_is_an_exit_code() {
    let upstream = Upstream::tcp();
    let daemon = Daemon::start(&Config::to(upstream.url()));
    let ask = || asking(&daemon).args(["health"]).run();
    // A busy machine may hold up the pipeline for a moment.
    wait_for("good health", || ask().code == Some(0));
    let outcome = ask();
    assert_eq!(outcome.said, "", "no page");

    let ask = asking(&daemon);
    drop(daemon);
    let outcome = ask.args(["health"]).run();
    assert_eq!(outcome.code, Some(1), "{}", outcome.said);
    assert!(
        outcome.said.contains("no daemon answers"),
        "{}",
        outcome.said
    );
    assert_eq!(outcome.said.lines().count(), 1, "{}", outcome.said);

    for off in ["", "localhost:0"] {
        let config = Config::to(upstream.url()).set("admin.listen", off);
        let outcome = Launch::with(&config).args(["health"]).run();
        assert_eq!(outcome.code, Some(1), "{}", outcome.said);
        assert!(outcome.said.contains("admin.listen"), "{}", outcome.said);
    }
    let outcome = Launch::bare()
        .args(["health", "--config", "/nowhere.toml"])
        .run();
    assert_eq!(outcome.code, Some(1), "{}", outcome.said);
}

#[test]
fn the_status_is_a_table_for_people() {
    let upstream = Upstream::tcp();
    let daemon = Daemon::start(&Config::to(upstream.url()));
    daemon.tcp("status.one 1 1700000000\nstatus.two nan\n");
    upstream.expect(&format!("{KEY}.status.one 1 1700000000"));
    daemon.wait_delivered(1);
    let outcome = asking(&daemon).args(["status"]).run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.said);
    let row = |words: &[&str]| {
        let found = outcome
            .printed
            .iter()
            .any(|line| line.split_whitespace().collect::<Vec<_>>() == words);
        assert!(found, "no {words:?} in {}", outcome.said);
    };
    row(&["upstream", upstream.url(), "up"]);
    row(&["lines", "received", "2"]);
    row(&["rejected", "1", "not_finite", "1"]);
    row(&["delivered", "1"]);
    row(&["tcp:localhost:0", "2", "0", "-"]);
    row(&["udp:localhost:0", "0", "-", "0"]);
    assert!(
        !outcome.said.contains('\u{1b}'),
        "colours without a terminal"
    );
    assert!(outcome.said.contains("of 64 MiB"), "{}", outcome.said);
}

#[test]
fn the_status_can_be_json() {
    let upstream = Upstream::tcp();
    let daemon = Daemon::start(&Config::to(upstream.url()));
    let outcome = asking(&daemon).args(["status", "--json"]).run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.said);
    let status: serde_json::Value = serde_json::from_str(&outcome.said).expect("JSON");
    assert_eq!(status["sink"]["url"], upstream.url());

    let watching = asking(&daemon).args(["status", "--json", "--watch"]).go();
    for seen in 0..2 {
        let line = watching
            .output
            .look("an object a line", |lines| lines.get(seen).cloned());
        let status: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(status["ledger"]["imbalance"], 0);
    }
}

#[test]
fn an_outage_is_told_with_its_reason() {
    let port = Port::reserve();
    let config = Config::to(port.url())
        .set("retry.first", "1h")
        .set("retry.max", "1h");
    let daemon = Daemon::start(&config);
    daemon.tcp("outage.line 1 1700000000\n");
    wait_for("a failed attempt", || {
        daemon.metrics().get("sidecarbon_sink_up") == Some(0)
    });
    let outcome = asking(&daemon).args(["status"]).run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.said);
    for words in [
        "down for",
        "connect: 127.0.0.1",
        "refused",
        "next attempt",
        "1 line queued",
    ] {
        assert!(
            outcome.said.contains(words),
            "no {words} in {}",
            outcome.said
        );
    }
}

#[test]
fn a_drain_is_watched_to_its_end() {
    // More than goes at once after a break that was no outage.
    const LINES: usize = 60_000;
    let port = Port::reserve();
    let config = Config::to(port.url()).set("sink.max_lines_per_second", 12_000);
    let daemon = Daemon::start(&config);
    daemon.tcp(payload(&numbered("drain", LINES)));
    daemon.wait_received(LINES);
    wait_for("an outage", || {
        daemon.total("sidecarbon_sink_errors_total") > 3
    });
    let watching = asking(&daemon).args(["status", "--watch"]).go();
    watching
        .output
        .find("the outage", |line| line.contains("down for"));
    let upstream = Upstream::tcp_at(&port);
    watching.output.find("the time left", |line| {
        line.starts_with("draining   about ") && line.contains(" left")
    });
    upstream.expect_lines(LINES);
    daemon.wait_delivered(LINES);
    watching
        .output
        .find("the end", |line| line.contains("delivered          60,000"));
    drop(daemon);
    watching.output.find("the daemon's end", |line| {
        line.contains("no daemon answers")
    });
}

#[test]
fn nobody_there_is_said() {
    let config = Config::to("tcp://carbon.example:2003");
    let admin = Port::reserve().address().to_string();
    for arguments in [&["status"][..], &["status", "--json"]] {
        let mut launch = Launch::with(&config).env("SIDECARBON_ADMIN_LISTEN", &admin);
        for argument in arguments {
            launch = launch.arg(argument);
        }
        let outcome = launch.run();
        assert_eq!(outcome.code, Some(1), "{}", outcome.said);
        let words = format!("no daemon answers at {admin}");
        assert!(outcome.said.contains(&words), "{}", outcome.said);
    }
}
