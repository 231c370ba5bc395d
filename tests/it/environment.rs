//! The environment alone: a container has no file. Every key by its name there,
//! with a value that holds and one that does not.

use sidecarbon::config::KEYS;

use crate::support::{Certs, Config, Launch, Outcome, Upstream};

/// What the others go with. Over HTTPS, every key has a meaning.
const BASE: [(&str, &str); 4] = [
    ("sink.url", "https://carbon.example.com/api/v1/sink"),
    ("sink.api_key", ""),
    ("listen.udp", "localhost:0"),
    ("admin.listen", ""),
];

struct Row {
    path: &'static str,
    good: String,
    /// As `check` shows it.
    shown: String,
    bad: &'static str,
    /// What is said of it, in words that help.
    said: &'static str,
}

fn row(path: &'static str, good: &str, bad: &'static str, said: &'static str) -> Row {
    let shown = match path.split_once('.') {
        Some(("listen", "udp" | "tcp" | "unix_stream" | "unix_datagram" | "statsd" | "pickle")) => {
            let items: Vec<String> = good
                .split(',')
                .map(|item| format!("\"{}\"", item.trim()))
                .collect();
            format!("[{}]", items.join(", "))
        }
        _ if good.parse::<u32>().is_ok() => good.to_owned(),
        _ if path == "statsd.percentiles" => format!("[{good}]"),
        _ if path == "sink.api_key" => "\"<key>\"".to_owned(),
        _ => format!("\"{good}\""),
    };
    Row {
        path,
        good: good.to_owned(),
        shown,
        bad,
        said,
    }
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn rows(certs: &Certs, config: &Config) -> Vec<Row> {
    let ca = certs.ca_file().display().to_string();
    let cert = certs.client_files().0.display().to_string();
    let key = certs.client_files().1.display().to_string();
    let key_file = config.key_file().display().to_string();
    let duration = "write a number with ms, s, m or h";
    let size = "write a number with KiB, MiB or GiB";
    let address = "write \"localhost:2003\"";
    let unix = "write an absolute path";
    vec![
        row(
            "sink.url",
            "tls://h:20030",
            "h:20030",
            "write \"tls://h:20030\"",
        ),
        row(
            "sink.api_key_file",
            &key_file,
            "/nonexistent/key",
            "write the API key into that file",
        ),
        row("sink.api_key", "d3adb33f", "two words", "a key is one word"),
        row("sink.connect_timeout", "7s", "7", duration),
        row("sink.write_timeout", "31s", "soon", duration),
        row(
            "sink.request_timeout",
            "1500ms",
            "2h",
            "write 100ms to 3600s",
        ),
        row("sink.max_connection_age", "20m", "10", duration),
        row(
            "sink.datagram_bytes",
            "512",
            "9000",
            "write a whole number from 128 to 8192",
        ),
        row(
            "sink.proxy",
            "http://proxy:3128",
            "socks5://proxy:1",
            "write \"http://proxy",
        ),
        row(
            "sink.max_lines_per_second",
            "5000",
            "fast",
            "write a whole number from 1",
        ),
        row(
            "sink.uncertain",
            "drop",
            "maybe",
            "is not one of \"resend\"",
        ),
        row("sink.resend_tail", "500ms", "2h", "write 0ns to 60s"),
        row(
            "sink.tls.ca_file",
            &ca,
            "/nonexistent/ca.pem",
            "name a PEM file",
        ),
        row(
            "sink.tls.server_name",
            "carbon.example",
            "no name",
            "write the name in",
        ),
        row(
            "sink.tls.client_cert_file",
            &cert,
            "/nonexistent/c.pem",
            "name a PEM file",
        ),
        row(
            "sink.tls.client_key_file",
            &key,
            "/nonexistent/k.pem",
            "cannot be read as a PEM key",
        ),
        row("sink.tls.confirm_timeout", "3s", "2h", "write 0ns to 60s"),
        row("listen.udp", "127.0.0.1:0, [::1]:0", "localhost", address),
        row("listen.tcp", ":0", "2003x", address),
        row("listen.unix_stream", "/tmp/s.sock,@name", "relative", unix),
        row("listen.unix_datagram", "@name", "relative", unix),
        row(
            "listen.statsd",
            "127.0.0.1:8125, localhost:0",
            "host:8125",
            address,
        ),
        row(
            "listen.pickle",
            "127.0.0.1:2004,[::1]:2004",
            "host:2004",
            address,
        ),
        row("listen.names", "strict", "some", "is not one of \"any\""),
        row("listen.max_line_bytes", "8KiB", "4", size),
        row(
            "listen.max_connections",
            "7",
            "0",
            "write a whole number from 1",
        ),
        row(
            "listen.udp_threads",
            "2",
            "65",
            "write a whole number from 1 to 64",
        ),
        row("statsd.interval", "60s", "500ms", "write 1s to 3600s"),
        row(
            "statsd.percentiles",
            "50, 99.9",
            "90,p99",
            "write a number over 0 and at most 100",
        ),
        row(
            "statsd.prefix",
            "stats.web-1",
            "a b",
            "not a metric path; write nodes",
        ),
        row(
            "statsd.bytes",
            "16MiB",
            "1KiB",
            "write \"64KiB\" to \"4GiB\"",
        ),
        row("batch.bytes", "32KiB", "1B", "write \"1KiB\" to \"16MiB\""),
        row("batch.linger", "50ms", "1", duration),
        row("queue.bytes", "16MiB", "plenty", size),
        row("retry.first", "100ms", "10", duration),
        row("retry.max", "17s", "1d", "write 10ms to 3600s"),
        row("shutdown.grace", "25s", "2h", "write 0ns to 3600s"),
        row(
            "shutdown.quiet",
            "2s",
            "8s",
            "write at most half of the grace",
        ),
        row(
            "admin.listen",
            "127.0.0.1:2024",
            "nowhere",
            "or \"\" for none",
        ),
        row(
            "self_metrics.prefix",
            "relays.web-1",
            "a b",
            "not a metric path; write nodes",
        ),
        row("self_metrics.interval", "30s", "10", duration),
        row(
            "probe.key_check_url",
            "https://h/x",
            "ftp://h/x",
            "write \"https://",
        ),
        row("log.level", "debug", "loud", "is not one of \"error\""),
        row("log.format", "container", "xml", "is not one of \"auto\""),
    ]
}

fn variable(path: &str) -> String {
    let key = KEYS.iter().find(|key| key.path == path);
    key.unwrap_or_else(|| panic!("no key {path}")).env_name()
}

/// `check` with one value in the environment, beside what all have there.
fn check(path: &str, value: &str, certs: &Certs) -> Outcome {
    let mut launch = Launch::bare().arg("check");
    let others = BASE.iter().filter(|(other, _)| *other != path);
    for (other, value) in others {
        launch = launch.env(&variable(other), value);
    }
    // A certificate needs its key, and the other way round.
    launch = match path {
        "sink.tls.client_cert_file" => launch.env(
            &variable("sink.tls.client_key_file"),
            certs.client_files().1,
        ),
        "sink.tls.client_key_file" => launch.env(
            &variable("sink.tls.client_cert_file"),
            certs.client_files().0,
        ),
        // Not set to nothing, which is "not set" there; the file says it.
        _ => launch,
    };
    let keyless = Config::to("https://carbon.example.com/")
        .unset("sink.api_key_file")
        .unset("sink.url")
        .unset("shutdown.grace")
        .set("sink.api_key", "");
    keyless.write();
    launch
        .arg("--config")
        .arg(keyless.file())
        .env(&variable(path), value)
        .run()
}

#[test]
fn every_key_has_a_row() {
    let certs = Certs::new();
    let config = Config::to("stdout:");
    let rows = rows(&certs, &config);
    let known: Vec<&str> = KEYS.iter().map(|key| key.path).collect();
    let tried: Vec<&str> = rows.iter().map(|row| row.path).collect();
    assert_eq!(tried, known);
}

#[test]
fn every_key_can_be_set() {
    let certs = Certs::new();
    let config = Config::to("stdout:");
    for row in rows(&certs, &config) {
        let outcome = check(row.path, &row.good, &certs);
        assert_eq!(outcome.code, Some(0), "{}: {}", row.path, outcome.said);
        let (_, name) = row.path.rsplit_once('.').expect("a table");
        let line = format!("{name} = {}  # {}", row.shown, variable(row.path));
        assert!(outcome.printed.contains(&line), "{line}: {}", outcome.said);
    }
}

#[test]
fn every_bad_value_is_told_as_in_a_file() {
    let certs = Certs::new();
    let config = Config::to("stdout:");
    for row in rows(&certs, &config) {
        let outcome = check(row.path, row.bad, &certs);
        assert_eq!(outcome.code, Some(78), "{}: {}", row.path, outcome.said);
        let place = format!("{}: {}", variable(row.path), row.path);
        let told = outcome
            .said
            .lines()
            .find(|line| line.starts_with(&place))
            .unwrap_or_else(|| panic!("no {place} in {}", outcome.said));
        assert!(told.contains(row.said), "{told}");

        let mut in_file = Config::to("https://carbon.example.com/")
            .unset("sink.api_key_file")
            .unset("shutdown.grace")
            .set("sink.api_key", "");
        match row.path {
            "sink.tls.client_cert_file" => {
                in_file = in_file.set("sink.tls.client_key_file", &certs.client_files().1);
            }
            "sink.tls.client_key_file" => {
                let file = certs.client_files().0;
                in_file = in_file.set("sink.tls.client_cert_file", &file);
            }
            _ => {}
        }
        let in_file = in_file.set(row.path, row.bad);
        let outcome = Launch::with(&in_file).arg("check").run();
        assert_eq!(outcome.code, Some(78), "{}: {}", row.path, outcome.said);
        let message = &told[place.len() - row.path.len()..];
        assert!(
            outcome.said.lines().any(|line| line.ends_with(message)),
            "no {message} in {}",
            outcome.said
        );
    }
}

#[test]
fn no_key_at_all_can_be_said() {
    let upstream = Upstream::tcp();
    let launch = |key: &str| {
        Launch::bare()
            .env("SIDECARBON_SINK_URL", upstream.url())
            .env("SIDECARBON_LISTEN_UDP", "localhost:0")
            .env("SIDECARBON_LISTEN_TCP", "localhost:0")
            .env("SIDECARBON_ADMIN_LISTEN", "localhost:0")
            .env("SIDECARBON_API_KEY", key)
    };
    // A variable that somebody forgot to fill, and its remedy.
    let outcome = launch("").run();
    assert_eq!(outcome.code, Some(78), "{}", outcome.said);
    assert!(
        outcome.said.contains("SIDECARBON_API_KEY='\"\"'"),
        "{}",
        outcome.said
    );
    let daemon = launch("\"\"").start();
    daemon.udp("keyless.line 1 1700000000");
    upstream.expect("keyless.line 1 1700000000");
}

#[test]
fn a_misspelt_name_is_told_with_the_nearest() {
    let outcome = Launch::bare()
        .arg("check")
        .env("SIDECARBON_SINK_ULR", "tcp://h:1")
        .run();
    assert_eq!(outcome.code, Some(78), "{}", outcome.said);
    assert!(
        outcome
            .said
            .contains("SIDECARBON_SINK_ULR: names no known key")
            && outcome.said.contains("did you mean SIDECARBON_SINK_URL?"),
        "{}",
        outcome.said
    );
}

#[test]
fn a_value_that_is_no_text_is_told() {
    use std::os::unix::ffi::OsStrExt;
    let bytes = std::ffi::OsStr::from_bytes(b"tls://\xff:20030");
    let outcome = Launch::bare()
        .arg("check")
        .env("SIDECARBON_SINK_URL", bytes)
        .run();
    assert_eq!(outcome.code, Some(78), "{}", outcome.said);
    assert!(
        outcome
            .said
            .contains("SIDECARBON_SINK_URL: sink.url is not UTF-8 text"),
        "{}",
        outcome.said
    );
}

#[test]
fn two_quotes_are_the_empty_text_as_in_a_file() {
    let outcome = Launch::bare()
        .env("SIDECARBON_LISTEN_TCP", "\"\"")
        .env("SIDECARBON_ADMIN_LISTEN", "\"\"")
        .env("SIDECARBON_SINK_PROXY", "\"\"")
        .env("SIDECARBON_STATSD_PREFIX", "\"\"")
        .args(["check"])
        .run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.said);
    let printed = outcome.printed.join("\n");
    for (setting, name) in [
        ("tcp = []", "LISTEN_TCP"),
        ("listen = \"\"", "ADMIN_LISTEN"),
        ("proxy = \"\"", "SINK_PROXY"),
        ("prefix = \"\"", "STATSD_PREFIX"),
    ] {
        let line = printed.lines().find(|line| line.contains(name));
        assert!(
            line.is_some_and(|line| line.starts_with(setting)),
            "{printed}"
        );
    }
}

#[test]
fn a_container_logs_to_standard_output_as_json() {
    let launch = || {
        Launch::bare()
            .env("SIDECARBON_LISTEN_UDP", "localhost:0")
            .env("SIDECARBON_LISTEN_TCP", "localhost:0")
            .env("SIDECARBON_ADMIN_LISTEN", "")
            .env("SIDECARBON_LOG_FORMAT", "container")
    };
    let process = launch()
        .env("SIDECARBON_SINK_URL", "udp://127.0.0.1:9")
        .env("SIDECARBON_API_KEY", "d3adb33f")
        .go();
    let started = process
        .output
        .find("the start", |line| line.contains("\"message\":\"started\""));
    assert!(
        started.starts_with('{') && started.ends_with('}'),
        "{started}"
    );
    assert_eq!(process.log.lines(), [""; 0]);

    // Where lines are printed, logs keep out of their way.
    let process = launch().env("SIDECARBON_SINK_URL", "stdout:").go();
    process
        .log
        .find("the start", |line| line.contains("\"message\":\"started\""));
    assert_eq!(process.output.lines(), [""; 0]);
}
