//! The key inside other settings: it is masked wherever they are shown. With plain
//! Graphite the key is a prefix of names, so people write it where prefixes are written.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sidecarbon::config::KEYS;

use crate::support::{Config, Daemon, KEY, KEY_STEM, Launch, NEW_KEY, Port, Upstream, wait_for};

/// Everything that the admin endpoint answers.
const PAGES: [&str; 7] = [
    "/",
    "/metrics",
    "/healthz",
    "/api/status",
    "/api/history",
    "/api/rejected",
    "/api/settings",
];

/// Ways to write the key, as a person or a program would.
fn forms() -> [String; 6] {
    [
        KEY.to_owned(),
        KEY.to_uppercase(),
        KEY.to_lowercase(),
        KEY.replace('-', "%2d"),
        KEY.to_lowercase().replace('6', "%36"),
        STANDARD.encode(format!("{KEY}:")).replace('=', ""),
    ]
}

/// The output of processes is searched for the plain forms by `support/process.rs`.
#[track_caller]
fn assert_without_key(text: &str, place: &str) {
    let encoded = STANDARD.encode(KEY_STEM);
    let decoded = text.replace("%2d", "-").replace("%36", "6").to_lowercase();
    let found = decoded.contains(&KEY_STEM.to_lowercase())
        || text.to_lowercase().contains(&KEY_STEM.to_lowercase())
        || text.contains(&encoded[..40]);
    assert!(!found, "the key is in {place}: {text}");
}

/// A value that a setting takes and that holds the text, for each setting that takes
/// text. A new setting has to be added here.
fn value_with(path: &str, text: &str, config: &Config) -> Option<String> {
    let file = |name: &str| config.path(name).display().to_string();
    let value = match path {
        // They take no such characters.
        "sink.tls.server_name" | "statsd.prefix" | "self_metrics.prefix" if text.contains('%') => {
            return None;
        }
        "sink.url" => format!("'http://127.0.0.1:1/{text}/sink?key={text}'"),
        "sink.api_key_file" => {
            let path = config.path(&format!("{text}.key"));
            fs::write(&path, KEY).expect("a key file");
            format!("'{}'", path.display())
        }
        "sink.api_key" => format!("'{KEY}'"),
        "sink.proxy" => format!("'http://{text}:{text}@127.0.0.1:1'"),
        "sink.tls.ca_file" => format!("'{}'", file(&format!("{text}.pem"))),
        "sink.tls.server_name" => format!("'{text}.example'"),
        "sink.tls.client_cert_file" => format!("'/nowhere/{text}.crt'"),
        "sink.tls.client_key_file" => format!("'/nowhere/{text}.key'"),
        "listen.unix_stream" => format!("['{}', '@{text}']", file(text)),
        "listen.unix_datagram" => format!("['@{text}-datagram']"),
        "statsd.prefix" => format!("'{text}.app.{text}'"),
        "self_metrics.prefix" => format!("'me.{text}'"),
        "probe.key_check_url" => format!("'http://127.0.0.1:1/{text}?k={text}'"),
        "sink.connect_timeout"
        | "sink.write_timeout"
        | "sink.request_timeout"
        | "sink.max_connection_age"
        | "sink.datagram_bytes"
        | "sink.max_lines_per_second"
        | "sink.uncertain"
        | "sink.resend_tail"
        | "sink.tls.confirm_timeout"
        | "listen.udp"
        | "listen.tcp"
        | "listen.statsd"
        | "listen.pickle"
        | "listen.names"
        | "listen.max_line_bytes"
        | "listen.max_connections"
        | "listen.udp_threads"
        | "statsd.interval"
        | "statsd.percentiles"
        | "statsd.bytes"
        | "batch.bytes"
        | "batch.linger"
        | "queue.bytes"
        | "retry.first"
        | "retry.max"
        | "shutdown.grace"
        | "shutdown.quiet"
        | "admin.listen"
        | "self_metrics.interval"
        | "log.level"
        | "log.format" => return None,
        other => panic!("{other} is new: can it hold the key?"),
    };
    Some(value)
}

/// A configuration with the text in every setting that takes it, in a file whose own
/// path holds it as well.
fn config_with(text: &str, config: &Config, format: &str) -> String {
    let mut file = format!(
        "listen.udp = ['127.0.0.1:0']\nlisten.tcp = ['127.0.0.1:0']\nlisten.statsd = ['127.0.0.1:0']\n\
         admin.listen = '127.0.0.1:0'\nretry.first = '10ms'\nretry.max = '50ms'\nshutdown.grace = '0s'\n\
         self_metrics.interval = '1s'\nstatsd.interval = '1s'\nlog.level = 'trace'\nlog.format = '{format}'\n"
    );
    for key in KEYS {
        if let Some(value) = value_with(key.path, text, config) {
            file += &format!("{} = {value}\n", key.path);
        }
    }
    let path = config.path(&format!("{text}.toml"));
    fs::write(&path, file).expect("a configuration file");
    path.display().to_string()
}

#[test]
fn no_setting_that_holds_it_shows_it() {
    for (index, text) in forms().into_iter().enumerate() {
        let config = Config::to("stdout:");
        let format = ["text", "json"][index % 2];
        let file = config_with(&text, &config, format);
        let outcome = Launch::bare().args(["check", "--config", &file]).run();
        assert_eq!(outcome.code, Some(0), "{}", outcome.said);
        assert_without_key(&outcome.said, "check");
        assert!(outcome.said.contains("<key>"), "{}", outcome.said);

        let process = Launch::bare().args(["--config", &file]).go();
        let daemon = Daemon::ready(process, None);
        daemon.udp(format!(
            "a.line 1\n{text}.of.client nan\nnot {text} a number"
        ));
        daemon.wait_received(3);
        wait_for("an attempt", || {
            daemon.total("sidecarbon_sink_errors_total") > 0
        });
        for page in PAGES {
            let answer = daemon.try_get(page).expect("an answer").text();
            assert_without_key(&answer, page);
        }
        let admin = daemon.address("admin").to_string();
        for (arguments, input) in [
            (&["status"][..], ""),
            (&["status", "--json"], ""),
            (&["health"], ""),
            (&["probe"], ""),
            (&["explain"], "{key}.name 1\n{key} 1 2 3\nx.{key} nan\n"),
            (&["send", "--tcp", "127.0.0.1:1", "x", "nan{key}"], ""),
            (&["send", "--tcp", "127.0.0.1:1", "x.{key}", "1"], ""),
            (&["{key}"], ""),
            (&["status", "--{key}"], ""),
        ] {
            let mut launch = Launch::bare()
                .args(["--config", &file])
                .env("SIDECARBON_ADMIN_LISTEN", &admin)
                .input(input.replace("{key}", &text));
            for argument in arguments {
                launch = launch.arg(argument.replace("{key}", &text));
            }
            let outcome = launch.run();
            // An argument in place of a command is not read with a configuration: what
            // does not look like a key is not known to be one.
            if !arguments[arguments.len() - 1].ends_with("{key}") || index < 3 {
                assert_without_key(&outcome.said, &arguments.join(" "));
            }
        }
        for line in daemon.log.lines() {
            assert_without_key(&line, "the log");
        }
    }
}

/// A value of the wrong kind is quoted in the problem that it causes.
#[test]
fn no_setting_that_is_refused_shows_it() {
    for (index, text) in forms().into_iter().enumerate() {
        let config = Config::to("stdout:");
        for key in KEYS {
            // Without the key, what does not look like one is not known to be one.
            if key.path == "sink.api_key_file" && index >= 3 {
                continue;
            }
            for value in [
                format!("'{text}'"),
                format!("['{text}']"),
                format!("'x://{text}/#'"),
            ] {
                let rest = match key.path {
                    "sink.api_key_file" => String::new(),
                    _ => format!("sink.api_key_file = '{}'\n", config.key_file().display()),
                };
                config.write_text(&format!("{} = {value}\n{rest}", key.path));
                let file = config.file();
                let outcome = Launch::bare().arg("check").arg("--config").arg(file).run();
                assert_without_key(&outcome.said, key.path);
            }
        }
    }
}

#[test]
fn files_that_are_missing_are_named_without_it() {
    let config = Config::to("https://127.0.0.1:1/")
        .set(
            "sink.tls.ca_file",
            &config_path(&format!("/nowhere/{KEY}.pem")),
        )
        .set("log.level", "trace");
    for arguments in [&["check"][..], &["probe"], &[]] {
        let mut launch = Launch::with(&config);
        for argument in arguments {
            launch = launch.arg(argument);
        }
        let outcome = launch.run();
        assert_eq!(outcome.code, Some(78), "{}", outcome.said);
        assert!(
            outcome.said.contains("/nowhere/<key>.pem"),
            "{}",
            outcome.said
        );
    }
}

fn config_path(text: &str) -> std::path::PathBuf {
    text.into()
}

/// The key is put before each name anyway.
#[test]
fn a_prefix_that_begins_with_the_key_loses_it() {
    for key in [KEY.to_owned(), KEY.to_lowercase(), format!("{KEY}.{KEY}")] {
        let upstream = Upstream::tcp();
        let config = Config::to(upstream.url())
            .set("listen.statsd", ["127.0.0.1:0"])
            .set("statsd.interval", "1s")
            .set("statsd.prefix", format!("{key}.samples").as_str())
            .set("self_metrics.interval", "1s")
            .set("self_metrics.prefix", format!("{key}.me").as_str());
        let daemon = Daemon::start(&config);
        for path in ["statsd.prefix", "self_metrics.prefix"] {
            daemon.log.find("a warning", |line| {
                line.contains("WARN")
                    && line.contains(path)
                    && line.contains("begins with the API key")
            });
        }
        let client = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        client
            .send_to(b"x:1|c", daemon.address("statsd"))
            .expect("a listener");
        upstream.find("a point", |line| {
            line.starts_with(&format!("{KEY}.samples.counters.x."))
                || line.starts_with(&format!("{KEY}.samples."))
        });
        upstream.find("an own point", |line| {
            line.starts_with(&format!("{KEY}.me."))
        });
        let page = daemon.try_get("/api/settings").expect("an answer").text();
        assert!(
            page.contains(r#""\"samples\"""#) && page.contains(r#""\"me\"""#),
            "{page}"
        );

        let outcome = Launch::with(&config).arg("check").run();
        assert!(
            outcome.said.contains(r#"prefix = "samples""#),
            "{}",
            outcome.said
        );
        assert!(outcome.said.contains("warning: "), "{}", outcome.said);
    }
}

/// A prefix that is the key alone is no prefix: nothing is reported.
#[test]
fn a_prefix_that_is_the_key_is_none() {
    let config = Config::to("tcp://127.0.0.1:1").set("self_metrics.prefix", KEY);
    let outcome = Launch::with(&config).arg("check").run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.said);
    assert!(outcome.said.contains(r#"prefix = """#), "{}", outcome.said);
}

/// The key that was replaced is as secret as the new one: others may still use it.
#[test]
fn both_keys_are_masked_after_a_change() {
    let port = Port::reserve();
    let upstream = Upstream::tcp_at(&port);
    let config = Config::to(port.url())
        .set("log.level", "trace")
        .set("listen.unix_datagram", [format!("@{KEY}")])
        .set("statsd.prefix", format!("{NEW_KEY}.old.{KEY}").as_str());
    let daemon = Daemon::start(&config);
    config.write_key(NEW_KEY);
    daemon.reload(&config);
    daemon.udp(format!("a.line 1 1700000000\n{KEY} is {NEW_KEY} not"));
    upstream.expect(&format!("{NEW_KEY}.a.line 1 1700000000"));
    for page in PAGES {
        let answer = daemon.try_get(page).expect("an answer").text();
        assert_without_key(&answer, page);
    }
    let page = daemon.try_get("/api/settings").expect("an answer").text();
    assert!(page.contains("begins with the API key"), "{page}");
}

/// Whoever listens on the admin port may answer anything.
#[test]
fn no_command_prints_what_deceives_a_terminal() {
    const TEXT: &str = "\u{1b}]0;owned\u{7}\u{9b}31m\r\nforged\u{202e}\u{2066}\u{200b}\u{feff}\u{2028}\u{61c}\u{7f}\u{8}";
    let text = serde_json::to_string(TEXT).expect("JSON");
    let status = format!(
        r#"{{"version": {text}, "uptime_seconds": 1, "draining": false,
        "ledger": {{"received": 1, "generated": 0, "rejected": {{{text}: 3}}, "filtered": 0, "aggregated": 0,
            "delivered": 0, "dropped": {{{text}: 3}}, "queued": 0, "in_flight": 0, "imbalance": 0}},
        "listeners": [{{"name": {text}, "received": 1, "connections": 0, "kernel_drops": 0}}],
        "queue": {{"bytes": 0, "limit_bytes": 1, "horizon_seconds": null, "drain_seconds": null}},
        "sink": {{"url": {text}, "up": false, "away_seconds": 3, "next_attempt_seconds": 1,
            "last_error": {{"kind": {text}, "message": {text}, "ago_seconds": 1}},
            "connects": 0, "ack_mode": {text}, "errors": {{{text}: 1}}, "resent": 0, "at_risk": 0, "uncertain": 0}}}}"#
    );
    let answers = [
        (200, status.clone()),
        (200, TEXT.to_owned()),
        (200, format!("[{text}]")),
        (503, TEXT.to_owned()),
    ];
    for (code, body) in answers {
        for arguments in [&["status"][..], &["status", "--json"], &["health"]] {
            let impostor = TcpListener::bind("127.0.0.1:0").expect("a port");
            let admin = impostor.local_addr().expect("a bound socket").to_string();
            let is_status = body == status;
            let body = body.clone();
            let answering = thread::spawn(move || {
                let (mut stream, _) = impostor.accept().expect("a client");
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).expect("a request");
                let head = format!(
                    "HTTP/1.1 {code} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                stream.write_all(head.as_bytes()).expect("a reader");
                stream.write_all(body.as_bytes()).expect("a reader");
            });
            let mut launch = Launch::with(&Config::to("tcp://127.0.0.1:1"))
                .env("SIDECARBON_ADMIN_LISTEN", admin)
                // As on a terminal: without it, control sequences are taken out.
                .env("CLICOLOR_FORCE", "1");
            for argument in arguments {
                launch = launch.arg(argument);
            }
            let outcome = launch.run();
            answering.join().expect("an answer");
            assert_harmless(&outcome.said, &format!("{arguments:?} {code}"));
            if code == 200 && arguments[0] == "status" && is_status {
                assert_eq!(outcome.code, Some(0), "{}", outcome.said);
            }
        }
    }
    let input = format!("a{TEXT}b 1\nc.\u{202e}d 1\nx {TEXT}\n\u{2066}e nan\n");
    let config = Config::to("tcp://127.0.0.1:1").set("statsd.prefix", "x");
    let outcome = Launch::with(&config)
        .env("CLICOLOR_FORCE", "1")
        .arg("explain")
        .input(input)
        .run();
    assert_harmless(&outcome.said, "explain");
    let outcome = Launch::with(&config)
        .env("SIDECARBON_LISTEN_UNIX_STREAM", format!("/nowhere/{TEXT}"))
        .env("SIDECARBON_STATSD_PREFIX", TEXT)
        .arg("check")
        .run();
    assert_harmless(&outcome.said, "check");
}

#[track_caller]
fn assert_harmless(said: &str, place: &str) {
    // The colours are our own.
    let mut plain = said.to_owned();
    while let Some(at) = plain.find("\u{1b}[") {
        let length = plain[at..].find('m').expect("a colour");
        let code = &plain[at + 2..at + length];
        assert!(
            code.chars().all(|c| c.is_ascii_digit() || c == ';'),
            "{place}: {said:?}"
        );
        plain.replace_range(at..=at + length, "");
    }
    let odd = plain.find(|c: char| c != '\n' && sidecarbon::format::is_deceptive(c));
    assert_eq!(odd, None, "{place}: {said:?}");
    let forged = plain.lines().any(|line| line.starts_with("forged"));
    assert!(!forged, "{place}: {said:?}");
}
