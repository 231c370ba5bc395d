//! What waits for long: how small it is, and how it goes when the upstream is
//! back.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::{
    Config, Daemon, Fault, Faulty, KEY, Port, Reply, Scripted, Upstream, assert_same_lines, keyed,
    numbered, payload, udp_to, unlike, wait_for,
};

#[test]
fn lines_that_wait_are_small_and_none_is_lost() {
    const LINES: usize = 400_000;
    let port = Port::reserve();
    // A fifth of what the lines take as they are.
    let config = Config::to(port.url()).set("queue.bytes", "4MiB");
    let daemon = Daemon::start(&config);
    let sent = numbered("waiting.for.a.long.time.with.a.long.name", LINES);
    for (round, lines) in sent.chunks(LINES / 8).enumerate() {
        daemon.tcp(payload(lines));
        daemon.wait_received((round + 1) * lines.len());
        let bytes = daemon.metric("sidecarbon_queue_bytes");
        assert!(bytes <= 4 << 20, "{bytes} bytes");
    }
    assert_eq!(daemon.ledger().dropped, 0);
    assert_eq!(daemon.waiting(), LINES as u64);

    let upstream = Upstream::tcp_at(&port);
    daemon.wait_delivered(LINES);
    daemon.stop();
    // Nothing came beside it, so all of it is in order.
    assert_eq!(upstream.finish(), keyed(&sent));
}

#[test]
fn an_upstream_that_keeps_up_has_nothing_compressed_for_it() {
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url()).set("log.level", "debug");
    let daemon = Daemon::start(&config);
    let sent = numbered("prompt", 100_000);
    daemon.tcp(payload(&sent));
    daemon.wait_delivered(sent.len());
    let compressed = |line: &String| line.contains(" compressed ");
    assert!(!daemon.log.lines().iter().any(compressed));
}

#[test]
fn new_lines_pass_a_backlog_that_keeps_its_pace() {
    // More than goes at once after a break that was no outage.
    const BACKLOG: usize = 60_000;
    let port = Port::reserve();
    let config = Config::to(port.url()).set("sink.max_lines_per_second", 2000);
    let daemon = Daemon::start(&config);
    let backlog = numbered("backlog", BACKLOG);
    daemon.tcp(payload(&backlog));
    daemon.wait_received(BACKLOG);
    wait_for("an outage", || {
        daemon.total("sidecarbon_sink_errors_total") > 3
    });

    let upstream = Upstream::tcp_at(&port);
    upstream.find("the backlog", |line| line.contains("backlog"));
    let mut new = Vec::new();
    for number in 0..5 {
        let line = format!("live.{number} 1 1700000000");
        daemon.tcp(format!("{line}\n"));
        upstream.expect(&format!("{KEY}.{line}"));
        new.push(line);
        // The backlog is not done, and will not be for seconds.
        assert!(daemon.metric("sidecarbon_queue_lines") > BACKLOG as u64 / 10);
    }
    // Nobody needs to wait for the rest.
    daemon.reload(
        &daemon
            .config()
            .clone()
            .set("sink.max_lines_per_second", "unlimited"),
    );
    daemon.wait_delivered(BACKLOG + new.len());
    daemon.stop();
    let arrived = upstream.finish();
    let (passed, waited): (Vec<String>, Vec<String>) =
        arrived.into_iter().partition(|line| line.contains("live."));
    assert_eq!(passed, keyed(&new));
    assert_eq!(waited, keyed(&backlog));
}

#[test]
fn new_lines_pass_a_backlog_that_a_slow_upstream_takes() {
    const BACKLOG: usize = 60_000;
    let port = Port::reserve();
    let daemon = Daemon::start(&Config::to(port.url()));
    let backlog = numbered("backlog", BACKLOG);
    daemon.tcp(payload(&backlog));
    daemon.wait_received(BACKLOG);
    wait_for("an outage", || {
        daemon.total("sidecarbon_sink_errors_total") > 3
    });

    let upstream = Faulty::tcp_at(&port, |_| Fault::Sips(16 << 10, Duration::from_millis(20)));
    wait_for("the drain", || daemon.delivered() > 0);
    daemon.tcp("live 1 1700000000\n");
    daemon.wait_received(BACKLOG + 1);
    let before = daemon.delivered();
    wait_for("progress", || daemon.delivered() > before + 10_000);
    upstream.behave();
    daemon.wait_delivered(BACKLOG + 1);
    daemon.stop();
    let arrived = upstream.finish();
    let live = format!("{KEY}.live 1 1700000000");
    let at = arrived
        .iter()
        .position(|line| *line == live)
        .expect("there");
    assert!(at < BACKLOG / 2, "only after {at} lines");
    let waited: Vec<String> = arrived.into_iter().filter(|line| *line != live).collect();
    assert_eq!(waited, keyed(&backlog));
}

#[test]
fn an_upstream_that_asks_for_less_has_the_backlog_slower() {
    let upstream = Scripted::start(|asked| {
        if asked.number < 3 {
            Reply::with_field(429, "Retry-After: 1")
        } else {
            Reply::take()
        }
    });
    let config = Config::to(upstream.url())
        .set("sink.max_lines_per_second", 1000)
        .set("batch.bytes", "4KiB");
    let daemon = Daemon::start(&config);
    let sent = numbered("asked", 300);
    daemon.tcp(payload(&sent));
    daemon.wait_delivered(sent.len());
    let errors = daemon.metric("sidecarbon_sink_errors_total{kind=\"throttled\"}");
    assert_eq!(errors, 3);
    daemon.stop();
    assert_same_lines(&upstream.finish(), &sent);
}

#[test]
fn the_log_says_how_long_the_queue_lasts_and_what_an_outage_cost() {
    let port = Port::reserve();
    let upstream = Upstream::tcp_at(&port);
    let config = Config::to(port.url()).set("queue.bytes", "1MiB");
    let daemon = Daemon::start(&config);
    // Long enough for a rate to be known.
    let mut sent = 0;
    wait_for("a horizon", || {
        let lines = numbered("rate", 100);
        daemon.tcp(payload(&lines));
        sent += lines.len();
        daemon
            .metrics()
            .value("sidecarbon_queue_horizon_seconds")
            .is_finite()
    });
    daemon.wait_delivered(sent);
    upstream.leave();
    let wasted = unlike("outage", 200_000);
    daemon.tcp(payload(&wasted));
    wait_for("the outage", || {
        daemon.total("sidecarbon_sink_errors_total") > 0
    });
    let away = daemon
        .log
        .find("the outage", |line| line.contains("upstream unavailable"));
    assert!(away.contains("queue_lasts="), "{away}");
    daemon.wait_received(sent + wasted.len());
    let dropped = daemon.ledger().dropped;
    assert!(dropped > 0);

    let _upstream = Upstream::tcp_at(&port);
    let back = daemon
        .log
        .find("its end", |line| line.contains("the upstream is back"));
    assert!(back.contains(&format!("dropped={dropped}")), "{back}");
    assert!(back.contains("waiting="), "{back}");
    wait_for("the drain", || {
        daemon.metrics().value("sidecarbon_drain_seconds") == 0.0
    });
}

#[test]
fn every_datagram_is_received_or_counted_by_the_kernel() {
    const DATAGRAMS: usize = 40_000;
    let upstream = Upstream::tcp();
    let daemon = Daemon::start(&Config::to(upstream.url()));
    let to = daemon.address("udp");
    daemon.signal(Signal::STOP);
    for number in 0..DATAGRAMS {
        udp_to(to, format!("stopped.{number} 1 1700000000"));
    }
    daemon.signal(Signal::CONT);
    // No further datagram comes.
    wait_for("all of them", || {
        let dropped = daemon.total("sidecarbon_udp_kernel_drops_total");
        daemon.received() + dropped == DATAGRAMS as u64
    });
    let dropped = daemon.total("sidecarbon_udp_kernel_drops_total");
    assert!(dropped > 0, "the buffer held them all");
    daemon.log.find("the drops", |line| {
        line.contains("the kernel dropped datagrams") && line.contains("net.core.rmem_max")
    });
    let ledger = daemon.stop();
    assert_eq!(ledger.received + dropped, DATAGRAMS as u64);
}
