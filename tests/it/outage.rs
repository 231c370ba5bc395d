//! The upstream goes away, comes back, or behaves badly in between.

use std::time::Duration;

use crate::support::{
    Config, Daemon, HttpUpstream, KEY, Port, UdpPort, UdpUpstream, Upstream, assert_same_lines,
    keyed, numbered, payload, unlike, wait_for,
};

#[test]
fn lines_wait_for_the_upstream_and_arrive_once_and_in_order() {
    const LINES: usize = 200_000;
    let port = Port::reserve();
    let daemon = Daemon::start(&Config::to(port.url()));
    let sent = numbered("down", LINES);
    daemon.tcp(payload(&sent));
    daemon.wait_received(LINES);
    assert_eq!(daemon.waiting(), LINES as u64);
    assert_eq!(daemon.delivered(), 0);

    let upstream = Upstream::tcp_at(&port);
    assert_same_lines(&upstream.expect_lines(LINES), &keyed(&sent));
    let ledger = daemon.stop();
    assert_eq!((ledger.delivered, ledger.left()), (LINES as u64, 0));
    assert_same_lines(&upstream.finish(), &keyed(&sent));
}

#[test]
fn an_upstream_that_goes_away_again_and_again_gets_every_line_once() {
    let port = Port::reserve();
    let daemon = Daemon::start(&Config::to(port.url()));
    for round in 0..3 {
        let sent = numbered(&format!("again.{round}"), 1000);
        daemon.tcp(payload(&sent));
        daemon.wait_received((round + 1) * 1000);
        let upstream = Upstream::tcp_at(&port);
        assert_same_lines(&upstream.expect_lines(1000), &keyed(&sent));
        daemon.wait_delivered((round + 1) * 1000);
        // Until the daemon knows, it may write to a connection that is gone.
        upstream.leave();
    }
}

#[test]
fn a_full_queue_keeps_the_newest_lines() {
    const LINES: usize = 200_000;
    // A third of the queue at most, with everything that comes with them.
    const SURELY_KEPT: usize = 10_000;
    let port = Port::reserve();
    let config = Config::to(port.url()).set("queue.bytes", "1MiB");
    let daemon = Daemon::start(&config);
    assert_eq!(daemon.metric("sidecarbon_queue_limit_bytes"), 1024 * 1024);
    let sent = unlike("full", LINES);
    for (number, lines) in sent.chunks(LINES / 10).enumerate() {
        daemon.tcp(payload(lines));
        daemon.wait_received((number + 1) * lines.len());
        let bytes = daemon.metric("sidecarbon_queue_bytes");
        assert!(bytes <= 1024 * 1024, "{bytes} bytes waiting");
        daemon.ledger();
    }

    let upstream = Upstream::tcp_at(&port);
    upstream.expect(&format!("{KEY}.{}", sent[LINES - 1]));
    let ledger = daemon.stop();
    assert_eq!(ledger.received, LINES as u64);
    assert!(ledger.dropped > 0, "{ledger:?}");
    assert_eq!(
        ledger.delivered + ledger.dropped,
        ledger.received,
        "{ledger:?}"
    );

    let arrived = upstream.finish();
    assert_eq!(arrived.len() as u64, ledger.delivered);
    assert!(arrived.is_sorted_by(|a, b| a < b), "out of order, or twice");
    let newest = &arrived[arrived.len() - SURELY_KEPT..];
    assert_same_lines(newest, &keyed(&sent[LINES - SURELY_KEPT..]));
}

#[test]
fn a_trickle_costs_little_more_than_its_bytes() {
    const ROUNDS: usize = 600;
    const LINES: usize = 20;
    let port = Port::reserve();
    // Sealed as soon as possible, which is the worst case.
    let config = Config::to(port.url()).set("batch.linger", "1ms");
    let daemon = Daemon::start(&config);
    let sent = numbered("trickle", ROUNDS * LINES);
    for (round, lines) in sent.chunks(LINES).enumerate() {
        daemon.tcp(payload(lines));
        daemon.wait_received((round + 1) * LINES);
    }
    let bytes = payload(&sent).len() as u64;
    let waiting = daemon.metric("sidecarbon_queue_bytes");
    assert!(
        (bytes..=bytes + bytes / 2).contains(&waiting),
        "{waiting} bytes for {bytes} bytes of lines"
    );

    let upstream = Upstream::tcp_at(&port);
    assert_same_lines(&upstream.expect_lines(ROUNDS * LINES), &keyed(&sent));
}

#[test]
fn an_upstream_may_close_idle_connections() {
    let upstream = Upstream::tcp_closing_idle(Duration::from_millis(50));
    let daemon = Daemon::start(&Config::to(upstream.url()));
    let mut sent = Vec::new();
    for round in 0..5 {
        let line = format!("idle.{round} 1 1700000000");
        daemon.udp(&line);
        upstream.expect(&format!("{KEY}.{line}"));
        sent.push(line);
        // Closed by both: the daemon has noticed without a line to send.
        wait_for("the end of the connection", || {
            upstream.ended() == upstream.connections()
        });
    }
    assert!(upstream.connections() >= 5);
    daemon.stop();
    assert_same_lines(&upstream.finish(), &keyed(&sent));
}

#[test]
fn an_upstream_that_never_reads_is_left_alone() {
    // More than the kernel takes for a peer that does not read.
    const LINES: usize = 150_000;
    let upstream = Upstream::tcp_never_reading();
    let config = Config::to(upstream.url()).set("sink.write_timeout", "1s");
    let daemon = Daemon::start(&config);
    daemon.tcp(payload(&numbered("never.read", LINES)));
    daemon.wait_received(LINES);
    wait_for("a second attempt", || upstream.connections() >= 2);
    // Nothing is given up over it, and no client waits for it.
    daemon.udp("never.late 1");
    daemon.wait_received(LINES + 1);
    let ledger = daemon.ledger();
    assert_eq!((ledger.rejected, ledger.dropped), (0, 0));
    assert!(ledger.left() > 0, "{ledger:?}");
}

#[test]
fn http_answers_of_trouble_lose_nothing_and_double_nothing() {
    let upstream = HttpUpstream::plain();
    upstream.answer([503; 5]);
    let daemon = Daemon::start(&Config::to(upstream.url()));
    let mut sent = numbered("trouble.first", 500);
    daemon.tcp(payload(&sent));
    wait_for("five refusals", || {
        let requests = upstream.requests();
        requests
            .iter()
            .filter(|request| request.answered == 503)
            .count()
            == 5
    });
    let more = numbered("trouble.second", 500);
    daemon.tcp(payload(&more));
    sent.extend(more);
    assert_same_lines(&upstream.expect_lines(1000), &sent);
    daemon.wait_delivered(1000);

    upstream.answer([500, 502, 429, 408]);
    let more = numbered("trouble.third", 500);
    daemon.tcp(payload(&more));
    sent.extend(more);
    assert_same_lines(&upstream.expect_lines(1500), &sent);

    let ledger = daemon.stop();
    assert_eq!((ledger.delivered, ledger.dropped), (1500, 0));
    assert_same_lines(&upstream.finish(), &sent);
}

#[test]
fn a_refused_udp_port_is_waited_out() {
    const LINES: usize = 1000;
    let port = UdpPort::reserve();
    let config = Config::to(port.url())
        .set("retry.first", "500ms")
        .set("retry.max", "2s");
    let daemon = Daemon::start(&config);
    let mut probes = 0;
    wait_for("the refusal to be noticed", || {
        // The kernel reports a refusal with the datagram after it.
        daemon.tcp(format!("refused.probe.{probes} 1 1700000000\n"));
        probes += 1;
        daemon.total("sidecarbon_sink_errors_total") > 0
    });

    let sent = numbered("refused.waits", LINES);
    daemon.tcp(payload(&sent));
    daemon.wait_received(probes + LINES);
    let upstream = UdpUpstream::at(&port);
    daemon.wait_delivered(probes + LINES);
    daemon.udp("refused.later 1 1700000000");
    upstream.expect(&format!("{KEY}.refused.later 1 1700000000"));

    // An attempt may cost a datagram or two, but not all of them.
    let arrived = upstream.lines();
    let arrived = arrived
        .iter()
        .filter(|line| line.contains("refused.waits"))
        .count();
    assert!(
        arrived >= LINES / 2,
        "only {arrived} lines waited for the port"
    );
    let ledger = daemon.stop();
    assert_eq!(ledger.dropped, 0, "{ledger:?}");
}

#[test]
fn what_waited_is_seen_in_the_delays() {
    const LINES: usize = 1000;
    let port = Port::reserve();
    let daemon = Daemon::start(&Config::to(port.url()));
    let waited = std::time::Instant::now();
    let sent = numbered("late", LINES);
    daemon.tcp(payload(&sent));
    daemon.wait_received(LINES);
    let at_least = std::time::Instant::now();
    wait_for("some attempts", || {
        daemon.metric("sidecarbon_sink_errors_total{kind=\"connect\"}") >= 3
    });
    let at_least = at_least.elapsed().as_secs_f64();

    let upstream = Upstream::tcp_at(&port);
    daemon.wait_delivered(LINES);
    let at_most = waited.elapsed().as_secs_f64();
    let metrics = daemon.metrics();
    let count = |of: &str| metrics.get(&format!("sidecarbon_delivery_delay_seconds_{of}"));
    let all = Some(LINES as u64);
    assert_eq!((count("count"), count("bucket{le=\"+Inf\"}")), (all, all));
    assert_eq!(count("bucket{le=\"0.001\"}"), Some(0));
    let each = metrics.value("sidecarbon_delivery_delay_seconds_sum") / 1000.0;
    assert!(
        (at_least..=at_most).contains(&each),
        "{at_least} {each} {at_most}"
    );
    daemon.stop();
    upstream.finish();
}
