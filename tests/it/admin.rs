//! The admin listener: metrics and health, for machines.

use std::collections::BTreeSet;

use crate::support::{Config, Daemon, KEY, Port, Upstream, payload, unlike, wait_for};

const REJECTED: [&str; 9] = [
    "name",
    "value",
    "not_finite",
    "timestamp",
    "fields",
    "too_long",
    "truncated",
    "encoding",
    "protocol",
];

const DROPPED: [&str; 6] = [
    "queue_full",
    "refused",
    "uncertain",
    "too_large",
    "shutdown",
    "corrupt",
];

fn start() -> (Upstream, Daemon) {
    let upstream = Upstream::tcp();
    let daemon = Daemon::start(&Config::to(upstream.url()));
    (upstream, daemon)
}

/// The page that names each metric, and each value of a label.
const REFERENCE: &str = include_str!("../../docs/metrics.md");

#[test]
fn the_reference_has_each_metric_and_no_other() {
    let (_upstream, daemon) = start();
    let metrics = daemon.metrics();
    let documented: BTreeSet<String> = REFERENCE
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter(|row| row.starts_with("sidecarbon_"))
        .filter_map(|row| row.split(['{', '`']).next())
        .map(str::to_owned)
        .collect();
    assert_eq!(&documented, metrics.families());
    for sample in metrics.names() {
        for label in ["reason", "kind", "mode"] {
            let Some((_, value)) = sample.split_once(&format!("{label}=\"")) else {
                continue;
            };
            let value = value.split('"').next().unwrap_or_default();
            let shown = format!("`{value}`");
            assert!(REFERENCE.contains(&shown), "{sample}: no {shown}");
        }
    }
}

#[test]
fn every_number_is_there_from_the_start() {
    let (_upstream, daemon) = start();
    let metrics = daemon.metrics();
    for name in [
        "lines_generated_total",
        "lines_filtered_total",
        "lines_aggregated_total",
        "lines_delivered_total",
        "queue_lines",
        "in_flight_lines",
        "queue_bytes",
        "delivery_delay_seconds_count",
        "delivery_delay_seconds_bucket{le=\"+Inf\"}",
    ] {
        assert_eq!(
            metrics.get(&format!("sidecarbon_{name}")),
            Some(0),
            "{name}"
        );
    }
    for reason in REJECTED {
        let sample = format!("sidecarbon_lines_rejected_total{{reason=\"{reason}\"}}");
        assert_eq!(metrics.get(&sample), Some(0), "{sample}");
    }
    for reason in DROPPED {
        let sample = format!("sidecarbon_lines_dropped_total{{reason=\"{reason}\"}}");
        assert_eq!(metrics.get(&sample), Some(0), "{sample}");
    }
    for listener in ["udp:localhost:0", "tcp:localhost:0"] {
        let sample = format!("sidecarbon_lines_received_total{{listener=\"{listener}\"}}");
        assert_eq!(metrics.get(&sample), Some(0), "{sample}");
    }
    assert_eq!(
        metrics.get("sidecarbon_connections{listener=\"tcp:localhost:0\"}"),
        Some(0)
    );
    assert_eq!(
        metrics.get("sidecarbon_queue_limit_bytes"),
        Some(64 * 1024 * 1024)
    );
    assert_eq!(metrics.get("sidecarbon_reload_success"), Some(1));
    assert_eq!(metrics.sum("sidecarbon_sink_errors_total"), Some(0));
    assert_eq!(metrics.sum("sidecarbon_connections_closed_total"), Some(0));
    assert_eq!(metrics.get("sidecarbon_sink_up"), None, "not tried yet");
    assert!(metrics.get("sidecarbon_sink_connects_total").is_some());
    assert_eq!(metrics.sum("sidecarbon_build_info"), Some(1));
    let version = format!("\"{}\"", env!("CARGO_PKG_VERSION"));
    let mut builds = metrics
        .names()
        .filter(|name| name.starts_with("sidecarbon_build_info"));
    assert!(builds.any(|name| name.contains(&version)));
}

/// The names that others rely on, with their types and labels.
const NAMES: [(&str, &str, &[&str]); 29] = [
    ("lines_received_total", "counter", &["listener"]),
    ("lines_generated_total", "counter", &[]),
    ("lines_rejected_total", "counter", &["reason"]),
    ("lines_filtered_total", "counter", &[]),
    ("lines_aggregated_total", "counter", &[]),
    ("lines_delivered_total", "counter", &[]),
    ("lines_dropped_total", "counter", &["reason"]),
    ("queue_lines", "gauge", &[]),
    ("in_flight_lines", "gauge", &[]),
    ("lines_uncertain_total", "counter", &[]),
    ("lines_at_risk_total", "counter", &[]),
    ("lines_resent_total", "counter", &[]),
    ("queue_bytes", "gauge", &[]),
    ("queue_limit_bytes", "gauge", &[]),
    ("queue_horizon_seconds", "gauge", &[]),
    ("drain_seconds", "gauge", &[]),
    ("statsd_names", "gauge", &[]),
    ("statsd_gauges_forgotten_total", "counter", &[]),
    ("udp_kernel_drops_total", "counter", &["listener"]),
    ("connections", "gauge", &["listener"]),
    (
        "connections_closed_total",
        "counter",
        &["listener", "reason"],
    ),
    ("sink_up", "gauge", &[]),
    ("sink_connects_total", "counter", &[]),
    ("sink_errors_total", "counter", &["kind"]),
    ("sink_ack_mode", "gauge", &["mode"]),
    ("reload_success", "gauge", &[]),
    ("log_lines_suppressed_total", "counter", &[]),
    ("ledger_imbalance", "gauge", &[]),
    ("build_info", "gauge", &["version"]),
];

#[test]
fn every_name_that_others_rely_on_is_there() {
    let (_upstream, daemon) = start();
    // `sink_up` has no value before the first attempt has ended.
    daemon.tcp("names.line 1 1700000000\n");
    daemon.wait_delivered(1);
    let page = daemon.try_get("/metrics").expect("an answer").text();
    for (name, kind, labels) in NAMES {
        let name = format!("sidecarbon_{name}");
        assert!(page.contains(&format!("# HELP {name} ")), "{name}");
        assert!(page.contains(&format!("# TYPE {name} {kind}\n")), "{name}");
        let sample = page.lines().find_map(|line| {
            let rest = line.strip_prefix(&name)?;
            rest.starts_with(['{', ' ']).then_some(rest)
        });
        let sample = sample.unwrap_or_else(|| panic!("no sample of {name}"));
        let there: Vec<&str> = sample
            .rsplit_once(' ')
            .map_or("", |(labels, _)| labels)
            .split(['{', ','])
            .filter_map(|label| label.split_once('=').map(|(name, _)| name))
            .collect();
        assert_eq!(there, labels, "{name}");
    }
}

#[test]
fn every_number_says_what_it_is() {
    let (_upstream, daemon) = start();
    let metrics = daemon.metrics();
    for sample in metrics.names() {
        let name = sample.split('{').next().unwrap_or_default();
        assert!(name.starts_with("sidecarbon_"), "{sample}");
        let summed = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|part| name.strip_suffix(part))
            .is_some_and(|histogram| metrics.has_type(histogram));
        assert!(metrics.has_type(name) || summed, "no type for {sample}");
    }
    let answer = daemon.try_get("/metrics").expect("an answer");
    let kind = answer.field("content-type").unwrap_or_default();
    assert!(kind.starts_with("text/plain"), "{kind}");
}

#[test]
fn the_numbers_follow_the_lines() {
    let (upstream, daemon) = start();
    daemon.udp("numbers.udp 1 1700000000\nnumbers.bad oops\n");
    daemon.tcp("numbers.tcp 1 1700000000\nnumbers.nan nan\n\n");
    upstream.expect(&format!("{KEY}.numbers.udp 1 1700000000"));
    upstream.expect(&format!("{KEY}.numbers.tcp 1 1700000000"));
    daemon.wait_delivered(2);
    let metrics = daemon.metrics();
    for (sample, value) in [
        ("lines_received_total{listener=\"udp:localhost:0\"}", 2),
        ("lines_received_total{listener=\"tcp:localhost:0\"}", 2),
        ("lines_rejected_total{reason=\"value\"}", 1),
        ("lines_rejected_total{reason=\"not_finite\"}", 1),
        ("lines_delivered_total", 2),
        ("queue_lines", 0),
        ("in_flight_lines", 0),
        ("sink_up", 1),
    ] {
        assert_eq!(
            metrics.get(&format!("sidecarbon_{sample}")),
            Some(value),
            "{sample}"
        );
    }
    assert!(metrics.get("sidecarbon_sink_connects_total") >= Some(1));

    let client = daemon.connect();
    let open = || daemon.metric("sidecarbon_connections{listener=\"tcp:localhost:0\"}");
    wait_for("the connection to be counted", || open() == 1);
    drop(client);
    wait_for("the connection to be forgotten", || open() == 0);
}

#[test]
fn health_does_not_depend_on_the_upstream() {
    // A busy machine may hold up the pipeline for a moment, and `/healthz` may
    // say so; what it must not do is to stay like that.
    let is_well = |daemon: &Daemon| {
        assert_eq!(daemon.get("/readyz"), 200);
        wait_for("good health", || daemon.get("/healthz") == 200);
    };
    let port = Port::reserve();
    let config = Config::to(port.url()).set("queue.bytes", "1MiB");
    let daemon = Daemon::start(&config);
    is_well(&daemon);
    wait_for("a full queue", || {
        daemon.tcp(payload(&unlike("health", 50_000)));
        daemon.total("sidecarbon_lines_dropped_total") > 0
    });
    is_well(&daemon);
    wait_for("a failed attempt", || {
        daemon.total("sidecarbon_sink_errors_total") > 0
            && daemon.metrics().get("sidecarbon_sink_up") == Some(0)
    });
    is_well(&daemon);
}

#[test]
fn the_status_is_for_programs() {
    let (upstream, daemon) = start();
    daemon.tcp("status.one 1 1700000000\nstatus.two nan\n");
    upstream.expect(&format!("{KEY}.status.one 1 1700000000"));
    daemon.wait_delivered(1);
    let page = daemon.try_get("/api/status").expect("an answer");
    let status: serde_json::Value = serde_json::from_slice(&page.body).expect("JSON");
    for (pointer, expected) in [
        ("/ledger/received", 2),
        ("/ledger/rejected/not_finite", 1),
        ("/ledger/delivered", 1),
        ("/ledger/dropped/queue_full", 0),
        ("/ledger/imbalance", 0),
        ("/queue/limit_bytes", 64 * 1024 * 1024),
        ("/sink/connects", 1),
        ("/sink/errors/connect", 0),
    ] {
        let value = status.pointer(pointer).and_then(serde_json::Value::as_u64);
        assert_eq!(value, Some(expected), "{pointer}: {status:#}");
    }
    assert_eq!(status["sink"]["up"], true);
    assert_eq!(status["sink"]["state"], "up");
    assert!(!status["hostname"].as_str().unwrap_or_default().is_empty());
    assert_eq!(status["sink"]["ack_mode"], "acknowledged");
    assert_eq!(status["listeners"][0]["name"], "udp:localhost:0");
    assert_eq!(status["sink"]["url"], upstream.url());
    for nothing in ["last_error", "next_attempt_seconds", "away_seconds"] {
        assert!(status["sink"][nothing].is_null(), "{nothing}: {status:#}");
    }
    assert!(status["uptime_seconds"].is_u64());
    // Not known, or without an end.
    assert!(status["queue"].get("horizon_seconds").is_some());
    assert_eq!(status["queue"]["drain_seconds"], 0.0);
}

#[test]
fn the_status_tells_why_the_upstream_is_away() {
    let port = Port::reserve();
    let config = Config::to(port.url()).set("retry.max", "20ms");
    let daemon = Daemon::start(&config);
    let sink = || {
        let page = daemon.try_get("/api/status").expect("an answer");
        let status: serde_json::Value = serde_json::from_slice(&page.body).expect("JSON");
        status["sink"].clone()
    };
    daemon.tcp("away.line 1 1700000000\n");
    wait_for("a failed attempt", || sink()["up"] == false);
    let away = sink();
    assert_eq!(away["last_error"]["kind"], "connect");
    let message = away["last_error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("refused"), "{away:#}");
    assert!(away["away_seconds"].is_number() && away["next_attempt_seconds"].is_number());

    let upstream = Upstream::tcp_at(&port);
    upstream.expect(&format!("{KEY}.away.line 1 1700000000"));
    wait_for("the upstream", || sink()["up"] == true);
    wait_for("the end of the outage", || sink()["away_seconds"].is_null());
    let back = sink();
    assert!(back["next_attempt_seconds"].is_null(), "{back:#}");
    assert_eq!(back["last_error"]["kind"], "connect");
}

#[test]
fn what_is_not_there_is_refused() {
    let (_upstream, daemon) = start();
    for path in ["/nothing", "/metrics/more", "/../etc/passwd", "//"] {
        assert_eq!(daemon.get(path), 404, "{path}");
    }
    for method in ["POST", "DELETE", "PUT"] {
        let request = format!(
            "{method} /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        let answer = daemon.ask(&request).ok().flatten().expect("an answer");
        assert_eq!(answer.word(1), "405", "{method}");
    }
}

#[test]
fn it_can_be_switched_off() {
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url()).set("admin.listen", "");
    let daemon = Daemon::start(&config);
    assert_eq!(daemon.addresses("admin"), [""; 0]);
    daemon.udp("off.line 1 1700000000");
    upstream.expect(&format!("{KEY}.off.line 1 1700000000"));
    assert_eq!(daemon.stop().delivered, 1);
}
