//! StatsD samples in, points out: over real sockets, in the forms of real clients.

use std::io::Write;
use std::net::TcpStream;

use rustix::process::Signal;

use crate::support::{
    Config, Daemon, KEY, Ledger, Manager, Port, Upstream, say_and_hang_up, udp_to, wait_for,
    wait_until,
};

/// A flush would come long after any test: what comes sooner is of the end, or of
/// a reload.
fn config(url: impl AsRef<str>) -> Config {
    Config::to(url)
        .set("listen.statsd", ["localhost:0"])
        .set("statsd.interval", "1h")
}

#[track_caller]
fn udp(daemon: &Daemon, samples: &str) {
    udp_to(daemon.address("statsd"), samples);
}

#[track_caller]
fn tcp(daemon: &Daemon, samples: &str) {
    let stream = TcpStream::connect(daemon.address("statsd")).expect("a TCP listener");
    say_and_hang_up(stream, samples);
}

/// The lines as they arrived, in order of names, without key and second.
fn points(lines: &[String]) -> Vec<String> {
    let bare = |line: &String| {
        let line = line
            .strip_prefix(KEY)
            .and_then(|line| line.strip_prefix('.'));
        let (point, second) = line.expect("our key").rsplit_once(' ').expect("a second");
        assert_eq!(second.len(), 10, "{second}");
        point.to_owned()
    };
    let mut points: Vec<String> = lines.iter().map(bare).collect();
    points.sort();
    points
}

/// What comes of the samples when the daemon is told to stop.
#[track_caller]
fn stopped(daemon: Daemon, upstream: Upstream) -> (Ledger, Vec<String>) {
    let ledger = daemon.stop();
    (ledger, points(&upstream.finish()))
}

#[test]
fn a_stop_in_the_middle_of_an_interval_loses_nothing() {
    let upstream = Upstream::tcp();
    let daemon = Daemon::start(&config(upstream.url()));
    // As statsd of PyPI writes them: one a datagram, several through a pipeline,
    // and a gauge below nought in two steps.
    udp(&daemon, "py.requests:1|c");
    udp(&daemon, "py.requests:3|c|@0.5");
    udp(
        &daemon,
        "py.latency:320.000000|ms\npy.latency:100.000000|ms",
    );
    udp(&daemon, "py.depth:0|g\npy.depth:-5|g");
    udp(&daemon, "py.depth:+2|g");
    udp(&daemon, "py.users:ann|s\npy.users:bob|s\npy.users:ann|s\n");
    // As hot-shots does.
    udp(&daemon, "js.requests:2|c|#env:prod,canary\n");
    tcp(
        &daemon,
        "js.requests:3|c|#canary,env:prod\njs.size:1:2:3|d\n",
    );
    daemon.wait_received(15);
    let held = daemon.metric("sidecarbon_statsd_names");
    assert_eq!(held, 6);
    let (ledger, points) = stopped(daemon, upstream);
    let own = points.len() as u64;
    assert_eq!(
        (ledger.received, ledger.aggregated, ledger.generated),
        (15, 15, own)
    );
    assert_eq!(
        (ledger.delivered, ledger.left(), ledger.dropped),
        (own, 0, 0)
    );
    for point in [
        "stats.counters.py.requests.count 7",
        "stats.gauges.py.depth -3",
        "stats.sets.py.users.count 2",
        "stats.counters.js.requests.count;canary=true;env=prod 5",
        "stats.timers.py.latency.count 2",
        "stats.timers.py.latency.mean 210",
        "stats.timers.py.latency.upper_90 320",
        "stats.timers.js.size.sum 6",
        "stats.timers.js.size.median 2",
    ] {
        assert!(points.contains(&point.to_owned()), "{point}: {points:#?}");
    }
    // A rate and a count for each counter, 14 of each timer.
    assert_eq!(points.len(), 2 * 2 + 1 + 1 + 2 * 14);
}

#[test]
fn points_leave_when_the_interval_ends_and_only_what_was_seen() {
    let upstream = Upstream::tcp();
    let daemon = Daemon::start(&config(upstream.url()).set("statsd.interval", "1s"));
    for round in 1..=3 {
        udp(
            &daemon,
            &format!("round.{round}:{round}|c\nlevel:{round}|g"),
        );
        let count = format!("{KEY}.stats.counters.round.{round}.count {round} ");
        upstream.look("the points", |lines| {
            lines.iter().find(|line| line.starts_with(&count)).map(drop)
        });
    }
    // Then it sleeps: no more names, and no more points.
    wait_for("counters to be forgotten", || {
        daemon.metric("sidecarbon_statsd_names") == 1
    });
    let ledger = daemon.stop();
    let lines = upstream.finish();
    let of = |name: &str| lines.iter().filter(|line| line.contains(name)).count();
    assert_eq!(
        (of(".round."), of(".rate "), of(".gauges.level ")),
        (6, 3, 3)
    );
    assert_eq!((ledger.aggregated, ledger.generated), (6, 9));
}

#[test]
fn names_without_a_prefix_are_as_hosted_ones() {
    let upstream = Upstream::tcp();
    let config = config(upstream.url())
        .set("statsd.prefix", "")
        .set("listen.names", "sanitize");
    let daemon = Daemon::start(&config);
    tcp(
        &daemon,
        &format!("{KEY}.a..b(c):1|c\n{}.d:2|g\n", KEY.to_lowercase()),
    );
    daemon.wait_received(2);
    let (_, points) = stopped(daemon, upstream);
    let rate = format!("counters.a.b_c_.rate {}", 1.0 / 3600.0);
    assert_eq!(points[1], rate);
    assert_eq!(points[0], "counters.a.b_c_.count 1");
    assert_eq!(points[2], "gauges.d 2");
}

#[test]
fn a_time_of_its_own_passes_at_once() {
    let upstream = Upstream::tcp();
    let daemon = Daemon::start(&config(upstream.url()));
    udp(
        &daemon,
        "past.requests:4|c|@0.5|#dc:fra|T1700000000\npast.level:5|g|T1700000001",
    );
    upstream.expect(&format!(
        "{KEY}.stats.counters.past.requests.count;dc=fra 8 1700000000"
    ));
    upstream.expect(&format!("{KEY}.stats.gauges.past.level 5 1700000001"));
    let ledger = daemon.stop();
    assert_eq!((ledger.received, ledger.delivered), (2, 2));
    assert_eq!((ledger.aggregated, ledger.generated), (0, 0));
}

#[test]
fn what_is_no_sample_is_told_apart() {
    let upstream = Upstream::tcp();
    let daemon = Daemon::start(&config(upstream.url()));
    udp(&daemon, "_e{5,4}:title|text\n_sc|check|0");
    udp(
        &daemon,
        "graphite.line 1 1700000000\ngood:1|c\nbad:x|c:nan|g\nbad:1|ms|T1700000000",
    );
    let stream = TcpStream::connect(daemon.address("statsd")).expect("a TCP listener");
    say_and_hang_up(stream, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    // The end of a stream that broke may be cut, that of a datagram is not.
    tcp(&daemon, "clean:1|c");
    daemon.wait_received(9);
    let rejected = daemon.metrics().rejected();
    for (reason, lines) in [
        ("protocol", 3),
        ("fields", 1),
        ("value", 1),
        ("not_finite", 1),
        ("timestamp", 1),
    ] {
        assert_eq!(rejected[reason], lines, "{reason}: {rejected:?}");
    }
    daemon
        .log
        .find("a hint", |line| line.contains("DogStatsD event"));
    let (ledger, points) = stopped(daemon, upstream);
    assert_eq!((ledger.aggregated, ledger.rejected), (2, 7));
    assert_eq!(points.len(), 4);
}

#[test]
fn a_stream_may_be_cut_anywhere() {
    let upstream = Upstream::tcp();
    let daemon = Daemon::start(&config(upstream.url()));
    let mut stream = TcpStream::connect(daemon.address("statsd")).expect("a TCP listener");
    stream.set_nodelay(true).expect("an open socket");
    for (number, byte) in b"cut.here:1|c|#a:b\ncut.here:2|c|#a:b\n".iter().enumerate() {
        stream.write_all(&[*byte]).expect("the daemon reads");
        if number == 17 {
            daemon.wait_received(1);
        }
    }
    daemon.wait_received(2);
    drop(stream);
    let (ledger, points) = stopped(daemon, upstream);
    assert_eq!((ledger.received, ledger.aggregated), (2, 2));
    assert_eq!(points[0], "stats.counters.cut.here.count;a=b 3");
}

#[test]
fn memory_for_names_has_its_bound() {
    const NAMES: u64 = 5000;
    let upstream = Upstream::tcp();
    let daemon = Daemon::start(&config(upstream.url()).set("statsd.bytes", "64KiB"));
    let samples: String = (0..NAMES)
        .map(|name| format!("many.{name}:1|c\n"))
        .collect();
    tcp(&daemon, &samples);
    daemon.wait_received(5000);
    let dropped = "sidecarbon_lines_dropped_total{reason=\"queue_full\"}";
    let before = daemon.metric(dropped);
    assert!(before > NAMES / 2 && before < NAMES, "{before}");
    daemon.log.find("one word on it", |line| {
        line.contains(" ERROR ") && line.contains("statsd.bytes is used up")
    });
    // A known name goes on being counted.
    tcp(&daemon, "many.0:1|c\n");
    daemon.wait_received(5001);
    assert_eq!(daemon.metric(dropped), before);
    let errors = daemon.log.lines();
    let errors = errors
        .iter()
        .filter(|line| line.contains(" ERROR "))
        .count();
    assert_eq!(errors, 1);
    let (ledger, points) = stopped(daemon, upstream);
    assert_eq!(ledger.aggregated + ledger.dropped, NAMES + 1);
    assert_eq!(points.len() as u64, 2 * (NAMES - before));
    assert!(points.contains(&"stats.counters.many.0.count 2".to_owned()));
}

#[test]
fn a_reload_changes_names_and_parts_and_loses_nothing() {
    let upstream = Upstream::tcp();
    let config = config(upstream.url());
    let daemon = Daemon::start(&config);
    udp(&daemon, "kept:1|c\nkept:5|g\nslow:7|ms");
    daemon.wait_received(3);
    let config = config
        .set("statsd.prefix", "other.place")
        .set("statsd.percentiles", ["50", "99.9"]);
    daemon.reload(&config);
    upstream.look("the points of before", |lines| {
        let is_it = |line: &&String| line.contains(".stats.counters.kept.count 1 ");
        lines.iter().find(is_it).map(drop)
    });
    udp(&daemon, "kept:2|c\nkept:+1|g\nslow:9|ms");
    daemon.wait_received(6);
    // One that changes nothing of it leaves alone what is gathered.
    daemon.reload(&config.clone().set("log.level", "info"));
    let ledger = daemon.ledger();
    let (generated, aggregated) = (ledger.generated, ledger.aggregated);
    assert_eq!((generated, aggregated), (2 + 1 + 14, 6));
    let (_, points) = stopped(daemon, upstream);
    for point in [
        "stats.gauges.kept 5",
        "stats.timers.slow.upper_90 7",
        "other.place.counters.kept.count 2",
        "other.place.gauges.kept 6",
        "other.place.timers.slow.upper_50 9",
        "other.place.timers.slow.upper_99_9 9",
    ] {
        assert!(points.contains(&point.to_owned()), "{point}: {points:#?}");
    }
    assert!(
        !points
            .iter()
            .any(|point| point.starts_with("other.place") && point.contains("_90"))
    );
}

#[test]
fn listeners_of_samples_come_and_go() {
    let upstream = Upstream::tcp();
    let without = config(upstream.url()).set("listen.statsd", [""; 0]);
    let daemon = Daemon::start(&without);
    daemon.reload(&config_like(&without));
    // The same port for datagrams and streams, and none that lines come in at.
    let addresses = daemon.socket_addresses("statsd");
    let ports: Vec<u16> = addresses.iter().map(std::net::SocketAddr::port).collect();
    assert!(ports.iter().all(|port| *port == ports[0]), "{ports:?}");
    assert_ne!(ports[0], daemon.address("udp").port());
    let protocols = daemon.log.lines();
    let protocols = protocols
        .iter()
        .filter(|line| line.contains("listening listener=statsd:"));
    let tcp_ones = protocols
        .filter(|line| line.contains("protocol=\"tcp\""))
        .count();
    assert_eq!(tcp_ones, addresses.len() / 2);

    udp(&daemon, "comes:1|c");
    tcp(&daemon, "comes:2|c\n");
    daemon.udp("line 1 1700000000");
    upstream.expect(&format!("{KEY}.line 1 1700000000"));
    daemon.wait_received(3);
    daemon.reload(&without);
    wait_for("nobody to listen", || {
        TcpStream::connect(addresses[0]).is_err()
    });
    let (ledger, points) = stopped(daemon, upstream);
    assert_eq!((ledger.received, ledger.aggregated), (3, 2));
    assert!(points.contains(&"stats.counters.comes.count 3".to_owned()));
}

#[test]
fn what_was_gathered_survives_a_restart() {
    let port = Port::reserve();
    let manager = Manager::with_store();
    let config = config(port.url()).set("shutdown.grace", "5m");
    let daemon = manager.start(&config);
    udp(&daemon, "over.a.restart:1|c");
    daemon.wait_received(1);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_end().code, Some(0));
    manager.wait_kept(1);
    let upstream = Upstream::tcp_at(&port);
    let daemon = manager.start(&config);
    daemon.wait_delivered(2);
    let (ledger, points) = stopped(daemon, upstream);
    let of_both = (ledger.received, ledger.aggregated, ledger.generated);
    assert_eq!((of_both, ledger.delivered), ((1, 1, 2), 2));
    assert_eq!(points[0], "stats.counters.over.a.restart.count 1");
}

/// The same with a listener for samples.
fn config_like(config: &Config) -> Config {
    config.clone().set("listen.statsd", ["localhost:0"])
}

#[test]
fn what_was_gathered_is_in_the_account_of_a_daemon_that_stops_at_once() {
    let port = Port::reserve();
    let daemon = Daemon::start(&config(port.url()).set("shutdown.grace", "5m"));
    udp(&daemon, "at.once:1|c");
    daemon.wait_received(1);
    daemon.signal(Signal::TERM);
    wait_until("the drain", || {
        let answer = daemon.try_get("/readyz");
        answer
            .is_none_or(|answer| answer.word(1) == "503")
            .then_some(())
    });
    daemon.signal(Signal::TERM);
    let ledger = daemon.wait_end().ledger.expect("a ledger line");
    assert_eq!(
        (ledger.aggregated, ledger.generated, ledger.left()),
        (1, 2, 2)
    );
}
