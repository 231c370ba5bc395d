//! The daemon's own numbers as Graphite lines.

use std::collections::BTreeSet;

use crate::support::{Config, Daemon, KEY, Port, Upstream, numbered, payload, wait_for};

fn reporting(url: impl AsRef<str>) -> Config {
    Config::to(url)
        .set("self_metrics.prefix", "relays.this")
        .set("self_metrics.interval", "1s")
}

/// The reported value, where the line is of that name.
fn value<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let line = line.strip_prefix(&format!("{KEY}.relays.this.{name} "))?;
    line.split(' ').next()
}

fn is_own(line: &str) -> bool {
    line.starts_with(&format!("{KEY}.relays.this."))
}

#[test]
fn ten_names_at_most_tell_what_happened() {
    const LINES: usize = 500;
    let upstream = Upstream::tcp();
    let daemon = Daemon::start(&reporting(upstream.url()));
    daemon.tcp(payload(&numbered("own", LINES)));
    daemon.wait_delivered(LINES);
    let said = |name: &'static str| {
        let of = move |line: &String| value(line, name)?.parse::<f64>().ok();
        move |lines: &[String]| lines.iter().filter_map(of).sum::<f64>()
    };
    let received = said("lines.received");
    wait_for("all lines in the reports", || {
        received(&upstream.lines()) >= 500.0
    });
    wait_for("two reports", || {
        let lines = upstream.lines();
        lines
            .iter()
            .filter(|line| value(line, "sink.up").is_some())
            .count()
            >= 2
    });
    let ledger = daemon.stop();
    let lines = upstream.finish();
    let own: Vec<&String> = lines.iter().filter(|line| is_own(line)).collect();
    assert_eq!(
        (ledger.received, ledger.generated),
        (LINES as u64, own.len() as u64)
    );
    assert_eq!(ledger.delivered, (LINES + own.len()) as u64);
    assert!((received(&lines) - 500.0).abs() < 0.5);
    let names: BTreeSet<&str> = own
        .iter()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(names.len(), 10, "{names:?}");
}

#[test]
fn they_pass_a_full_queue() {
    let port = Port::reserve();
    let config = reporting(port.url()).set("queue.bytes", "1MiB");
    let daemon = Daemon::start(&config);
    wait_for("a report", || {
        daemon.metric("sidecarbon_lines_generated_total") > 0
    });
    // Values that hardly compress.
    let mut number = 0;
    wait_for("a full queue", || {
        let flood: Vec<String> = (0..20_000)
            .map(|_| {
                number += 1;
                format!("flood.{number:x} {}", f64::from(number).sqrt())
            })
            .collect();
        daemon.tcp(payload(&flood));
        daemon.total("sidecarbon_lines_dropped_total") > 0
    });
    let upstream = Upstream::tcp_at(&port);
    wait_for("the drain", || daemon.waiting() == 0);
    let ledger = daemon.stop();
    let lines = upstream.finish();
    assert!(is_own(&lines[0]), "{}", lines[0]);
    let own = lines.iter().filter(|line| is_own(line)).count();
    // None of them was dropped for a line of an application.
    assert_eq!(own as u64, ledger.generated);
}

#[test]
fn nobody_asked_for_them() {
    const LINES: usize = 10;
    let upstream = Upstream::tcp();
    let daemon = Daemon::start(&Config::to(upstream.url()).set("self_metrics.interval", "1s"));
    daemon.tcp(payload(&numbered("others", LINES)));
    daemon.wait_delivered(LINES);
    assert_eq!(daemon.stop().generated, 0);
    assert_eq!(upstream.finish().len(), LINES);
}
