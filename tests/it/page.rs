//! What the status page is made of.

use serde_json::Value;

use crate::support::{
    Config, Daemon, KEY, Launch, Upstream, say_and_hang_up, unix_datagram, unix_stream, wait_for,
    wait_until,
};

fn start() -> (Upstream, Daemon) {
    let upstream = Upstream::tcp();
    let daemon = Daemon::start(&Config::to(upstream.url()));
    (upstream, daemon)
}

#[test]
fn the_last_minutes_are_columns_of_numbers() {
    let (upstream, daemon) = start();
    daemon.tcp("history.one 1 1700000000\nhistory.two nan\n");
    upstream.expect(&format!("{KEY}.history.one 1 1700000000"));
    daemon.wait_delivered(1);
    let history = wait_until("a step that is over", || {
        let history = json(&daemon, "/api/history");
        let received = history["received"].as_array().expect("a column").clone();
        (received.iter().filter_map(Value::as_u64).sum::<u64>() == 2).then_some(history)
    });
    assert_eq!(history["step_seconds"], 2);
    let columns = ["received", "delivered", "dropped", "queue_bytes"];
    let lengths = columns.map(|column| history[column].as_array().map(Vec::len));
    assert!(
        lengths.iter().all(|length| *length == lengths[0]),
        "{history:#}"
    );
    let sum = |column: &str| {
        let column = history[column].as_array().expect("a column");
        column.iter().filter_map(Value::as_u64).sum::<u64>()
    };
    assert_eq!((sum("delivered"), sum("dropped")), (1, 0));
}

#[test]
fn rejected_lines_are_shown_with_their_senders() {
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url()).with_unix_listeners();
    let daemon = Daemon::start(&config);
    let rejected = || {
        json(&daemon, "/api/rejected")
            .as_array()
            .expect("a list")
            .clone()
    };
    assert_eq!(rejected(), Vec::<Value>::new());

    daemon.udp("good.line 1\nudp.value oops\nudp.fields\n");
    daemon.tcp(format!("{KEY}.<b> {}\n", "x".repeat(300)));
    daemon.tcp("tcp.nan nan\n");
    let us = format!("pid {} uid ", std::process::id());
    for path in daemon.addresses("unix_stream") {
        say_and_hang_up(unix_stream(&path), "stream.time 1 -5\n");
    }
    for path in daemon.addresses("unix_datagram") {
        unix_datagram(&path, "datagram.time 1 -5\n");
    }
    wait_for("every line", || rejected().len() == 8);
    let all = rejected();
    let find = |start: &str| {
        let starts = |line: &&Value| {
            let excerpt = line["excerpt"].as_str().unwrap_or_default();
            excerpt.starts_with(start)
        };
        let found = all.iter().find(starts);
        found.unwrap_or_else(|| panic!("no {start} in {all:#?}"))
    };
    for (start, reason, listener, sender) in [
        ("udp.value oops", "value", "udp:localhost:0", "127.0.0.1:"),
        ("udp.fields", "fields", "udp:localhost:0", "127.0.0.1:"),
        ("<key>.<b> xxx", "value", "tcp:localhost:0", "127.0.0.1:"),
        ("tcp.nan nan", "not_finite", "tcp:localhost:0", "127.0.0.1:"),
        ("stream.time 1 -5", "timestamp", "unix_stream:", &us),
        ("datagram.time 1 -5", "timestamp", "unix_datagram:", &us),
    ] {
        let line = find(start);
        assert_eq!(line["reason"], reason, "{line:#}");
        assert!(line["hint"].as_str().is_some_and(|hint| !hint.is_empty()));
        assert!(line["time"].as_f64() > Some(1.7e9), "{line:#}");
        let begins = |name: &str, with: &str| {
            let text = line[name].as_str().unwrap_or_default();
            assert!(text.starts_with(with), "{name}: {line:#}");
        };
        begins("listener", listener);
        begins("sender", sender);
        assert!(line["excerpt"].as_str().is_some_and(|text| text.len() < 90));
    }
}

#[test]
fn the_settings_are_those_that_check_prints_and_follow_a_reload() {
    let (_upstream, daemon) = start();
    let value = |path: &str| {
        let page = json(&daemon, "/api/settings");
        let settings = page["settings"].as_array().expect("a list").clone();
        let setting = settings.iter().find(|setting| setting["path"] == path);
        setting.unwrap_or_else(|| panic!("no {path}"))["value"].clone()
    };
    assert_eq!(value("queue.bytes"), "\"64MiB\"");
    let config = daemon.config().clone().set("queue.bytes", "32MiB");
    daemon.reload(&config);
    assert_eq!(value("queue.bytes"), "\"32MiB\"");

    let check = Launch::with(&config).arg("check").run();
    let page = json(&daemon, "/api/settings");
    for setting in page["settings"].as_array().expect("a list") {
        let text = |name: &str| setting[name].as_str().unwrap_or_default().to_owned();
        let path = text("path");
        let name = path.rsplit('.').next().unwrap_or_default();
        let printed = format!("{name} = {}  # {}", text("value"), text("origin"));
        assert!(check.printed.contains(&printed), "{printed}: {check:#?}");
    }
    let page = daemon.try_get("/api/settings").expect("an answer");
    assert!(!page.text().contains(KEY));
}

fn json(daemon: &Daemon, path: &str) -> Value {
    let page = daemon.try_get(path).expect("an answer");
    serde_json::from_slice(&page.body).expect("JSON")
}
