//! SIGHUP: what changes, what stays, and what a broken file does.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::net::{TcpListener, UdpSocket};
use std::thread;

use rustix::process::Signal;

use crate::support::{
    Config, Daemon, HttpUpstream, KEY, Launch, NEW_KEY, Port, Upstream, assert_same_lines,
    is_silent, keyed, numbered, payload, unix_datagram, wait_for, wait_until,
};

const SUCCESS: &str = "sidecarbon_reload_success";

#[test]
fn lines_that_wait_go_out_with_the_new_key() {
    let port = Port::reserve();
    let config = Config::to(port.url());
    let daemon = Daemon::start(&config);
    let sent = numbered("rekeyed", 1000);
    daemon.tcp(payload(&sent));
    daemon.wait_received(1000);
    config.write_key(NEW_KEY);
    daemon.reload(&config);
    assert_eq!(daemon.metric(SUCCESS), 1);

    let upstream = Upstream::tcp_at(&port);
    let with_new_key: Vec<String> = sent
        .iter()
        .map(|line| format!("{NEW_KEY}.{line}"))
        .collect();
    assert_same_lines(&upstream.expect_lines(1000), &with_new_key);
}

#[test]
fn a_key_that_the_upstream_refused_can_be_put_right() {
    let upstream = HttpUpstream::plain();
    upstream.take_key(NEW_KEY);
    // So long that only the reload can be what makes it go on.
    let config = Config::to(upstream.url())
        .set("retry.first", "5m")
        .set("retry.max", "5m");
    let daemon = Daemon::start(&config);
    let sent = numbered("refused", 100);
    daemon.tcp(payload(&sent));
    wait_for("a refusal", || {
        upstream
            .requests()
            .iter()
            .any(|request| request.answered == 401)
    });
    assert_eq!((daemon.waiting(), daemon.delivered()), (100, 0));

    config.write_key(NEW_KEY);
    daemon.reload(&config);
    assert_same_lines(&upstream.expect_lines(100), &sent);
}

#[test]
fn lines_that_wait_go_to_the_new_upstream() {
    let nobody = Port::reserve();
    let config = Config::to(nobody.url());
    let daemon = Daemon::start(&config);
    let sent = numbered("moved", 1000);
    daemon.tcp(payload(&sent));
    daemon.wait_received(1000);

    let upstream = Upstream::tcp();
    daemon.reload(&config.set("sink.url", upstream.url()));
    assert_same_lines(&upstream.expect_lines(1000), &keyed(&sent));
    let ledger = daemon.stop();
    assert_eq!((ledger.delivered, ledger.dropped), (1000, 0));
    assert_same_lines(&upstream.finish(), &keyed(&sent));
}

#[test]
fn a_broken_file_changes_nothing_and_is_named() {
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url());
    let daemon = Daemon::start(&config);
    let mut stream = daemon.connect();
    stream
        .write_all(b"broken.before 1 1700000000\n")
        .expect("the daemon reads");
    upstream.expect(&format!("{KEY}.broken.before 1 1700000000"));

    // The key is on the line in question, as everywhere in this file.
    config.write_text(&format!(
        "# The key has moved.\n\
         [sink]\n\
         url = \"{}\"\n\
         api_kye = \"{NEW_KEY}\"\n",
        upstream.url()
    ));
    daemon.signal(Signal::HUP);
    let error = daemon
        .log
        .find("the error", |line| line.contains("sidecarbon.toml:4"));
    assert!(error.contains(" ERROR "), "{error}");
    assert!(
        error.contains("api_kye") && error.contains("sink.api_key"),
        "{error}"
    );
    wait_for("the failure to be counted", || daemon.metric(SUCCESS) == 0);

    // Old connections, old key, old listeners, old upstream.
    stream
        .write_all(b"broken.open 1 1700000000\n")
        .expect("the daemon reads");
    upstream.expect(&format!("{KEY}.broken.open 1 1700000000"));
    daemon.udp("broken.after 1 1700000000");
    upstream.expect(&format!("{KEY}.broken.after 1 1700000000"));
    assert_eq!(daemon.get("/readyz"), 200);
    assert_eq!(upstream.connections(), 1);

    daemon.reload(&config);
    assert_eq!(daemon.metric(SUCCESS), 1);
}

#[test]
fn listeners_come_and_go_and_the_others_keep_their_connections() {
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url());
    let daemon = Daemon::start(&config);
    let tcp = daemon.address("tcp");
    let mut stream = daemon.connect();
    stream
        .write_all(b"kept.before 1 1700000000\n")
        .expect("the daemon reads");
    upstream.expect(&format!("{KEY}.kept.before 1 1700000000"));

    let socket = config.path("added.sock");
    let changed = config.clone().set("listen.udp", [""; 0]).set(
        "listen.unix_datagram",
        [socket.to_str().expect("a path in UTF-8")],
    );
    daemon.reload(&changed);

    stream
        .write_all(b"kept.after 1 1700000000\n")
        .expect("the daemon reads");
    upstream.expect(&format!("{KEY}.kept.after 1 1700000000"));
    assert!(is_silent(&mut stream));
    assert_eq!(daemon.address("tcp"), tcp);
    daemon.tcp("kept.new 1 1700000000\n");
    upstream.expect(&format!("{KEY}.kept.new 1 1700000000"));
    unix_datagram(&socket.display().to_string(), "added.line 1 1700000000");
    upstream.expect(&format!("{KEY}.added.line 1 1700000000"));
    assert_refused(&daemon);

    // And back again.
    let config = config.set("listen.unix_datagram", [""; 0]);
    daemon.reload(&config);
    daemon.udp("back.line 1 1700000000");
    upstream.expect(&format!("{KEY}.back.line 1 1700000000"));
    stream
        .write_all(b"kept.still 1 1700000000\n")
        .expect("the daemon reads");
    upstream.expect(&format!("{KEY}.kept.still 1 1700000000"));
    wait_for("the unused socket to be removed", || !socket.exists());
}

#[test]
fn a_client_that_always_has_more_keeps_no_listener() {
    const ENOUGH: u64 = 10_000;
    let nobody = Port::reserve();
    let config = Config::to(nobody.url());
    let daemon = Daemon::start(&config);
    let client = UdpSocket::bind("127.0.0.1:0").expect("a client's socket");
    client.connect(daemon.address("udp")).expect("an address");
    let mut stream = daemon.connect();
    let line = "flood.line 1 1700000000\n";
    let (datagram, lines) = (line.repeat(50), line.repeat(1000));
    let floods = [
        thread::spawn(move || {
            wait_for("a refused datagram", || {
                (0..1000).any(|_| client.send(datagram.as_bytes()).is_err())
            });
        }),
        thread::spawn(move || {
            wait_for("a closed connection", || {
                (0..100).any(|_| stream.write_all(lines.as_bytes()).is_err())
            });
        }),
    ];
    wait_for("the flood", || daemon.received() > ENOUGH);
    let without = config.set("listen.udp", [""; 0]);
    daemon.reload(&without.set("listen.tcp", ["127.0.0.1:0"]));
    for flood in floods {
        flood.join().expect("a client that is stopped");
    }
}

/// Nobody receives where the UDP listener was.
fn assert_refused(daemon: &Daemon) {
    let client = UdpSocket::bind("127.0.0.1:0").expect("a client's socket");
    client.connect(daemon.address("udp")).expect("an address");
    wait_for("a refused datagram", || {
        // The kernel reports a refusal with the datagram after it.
        let sent = client.send(b"gone.line 1 1700000000");
        sent.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
}

#[test]
fn a_listener_that_cannot_be_bound_changes_nothing() {
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url());
    let daemon = Daemon::start(&config);
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = other.local_addr().expect("a bound socket").to_string();
    config
        .clone()
        .set("listen.tcp", ["localhost:0", taken.as_str()])
        .write();
    daemon.signal(Signal::HUP);
    wait_for("the failure to be counted", || daemon.metric(SUCCESS) == 0);
    daemon.log.find("the error", |line| {
        line.contains(" ERROR ") && line.contains(&taken)
    });
    daemon.tcp("unbound.line 1 1700000000\n");
    upstream.expect(&format!("{KEY}.unbound.line 1 1700000000"));
}

#[test]
fn the_log_level_changes() {
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url()).set("log.level", "info");
    let daemon = Daemon::start(&config);
    daemon.tcp("level.info 1 1700000000\n");
    upstream.expect(&format!("{KEY}.level.info 1 1700000000"));
    let is_debug = |line: &str| line.contains(" DEBUG ");
    assert!(!daemon.log.lines().iter().any(|line| is_debug(line)));

    // A new connection is worth a line at that level, and at no other.
    let other = Upstream::tcp();
    let config = config
        .set("log.level", "debug")
        .set("sink.url", other.url());
    daemon.reload(&config);
    daemon.tcp("level.debug 1 1700000000\n");
    other.expect(&format!("{KEY}.level.debug 1 1700000000"));
    daemon.log.find("a debug line", is_debug);
}

#[test]
fn a_setting_of_sink_or_listeners_that_vanishes_is_no_wish() {
    let upstream = Upstream::tcp();
    let whole = Config::to(upstream.url())
        .set("sink.connect_timeout", "4s")
        .set("sink.tls.ca_file", "")
        .set("listen.unix_stream", [""; 0])
        .set("listen.max_connections", 1000)
        .set("queue.bytes", "32MiB");
    let daemon = Daemon::start(&whole);
    let keys = [
        "sink.url",
        "sink.connect_timeout",
        "sink.tls.ca_file",
        "listen.udp",
        "listen.tcp",
        "listen.unix_stream",
        "listen.max_connections",
    ];
    for (refusals, key) in keys.into_iter().enumerate() {
        whole.clone().unset(key).write();
        daemon.signal(Signal::HUP);
        let is_refusal = |line: &&String| line.contains("not reloaded");
        let refusal = wait_until("the refusal", || {
            let lines = daemon.log.lines();
            lines.iter().filter(is_refusal).nth(refusals).cloned()
        });
        for word in [" ERROR ", key, "write it explicitly, or restart"] {
            assert!(refusal.contains(word), "{key}: {refusal}");
        }
    }
    // What is written says what is meant.
    daemon.reload(&whole.clone().set("listen.udp", [""; 0]));
    // The key has another place; all else may go, and is named.
    let without = whole
        .unset("sink.api_key_file")
        .set("sink.api_key", KEY)
        .unset("queue.bytes")
        .set("listen.udp", [""; 0])
        .set("batch.bytes", "32KiB");
    daemon.reload(&without);
    let line = daemon.log.find("the reload", |line| {
        line.contains(" INFO ") && line.contains("reloaded") && line.contains("queue.bytes")
    });
    let changed = "changed=\"sink.api_key_file sink.api_key batch.bytes queue.bytes\"";
    assert!(line.contains(changed), "{line}");
    daemon.tcp("still.line 1 5\n");
    upstream.expect(&format!("{KEY}.still.line 1 5"));
}

/// Whoever writes a file anew may be read in the middle of it.
#[test]
fn a_file_that_is_cut_anywhere_moves_no_listener_and_no_sink() {
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url());
    let whole = format!(
        "[batch]\nbytes = '32KiB'\n[sink]\nurl = '{}'\napi_key_file = '{}'\n\
         [listen]\nudp = [ 'localhost:0' ]\ntcp = [ '127.0.0.1:0' ]\n\
         unix_stream = ['{}']\nmax_connections = 1000\n\
         [queue]\nbytes = '32MiB'\n",
        upstream.url(),
        config.key_file().display(),
        config.path("cut.sock").display(),
    );
    config.write_text(&whole);
    let process = Launch::bare()
        .env("SIDECARBON_ADMIN_LISTEN", "localhost:0")
        .arg("--config")
        .arg(config.file())
        .go();
    let daemon = Daemon::ready(process, Some(config.clone()));
    let settings = || {
        let answer = daemon.try_get("/api/settings").expect("an answer");
        let all: serde_json::Value = serde_json::from_str(&answer.text()).expect("JSON");
        let all = all["settings"].as_array().expect("a list").clone();
        let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
        let all = all.iter();
        all.map(|one| (text(&one["path"]), text(&one["value"])))
            .collect::<BTreeMap<String, String>>()
    };
    let said_last = || {
        let lines = daemon.log.lines();
        let is_answer = |line: &&String| line.contains("reloaded");
        let mut answers = lines.iter().filter(is_answer);
        (answers.clone().count(), answers.next_back().cloned())
    };
    let mut before = settings();
    assert!(before.contains_key("listen.tcp"), "{before:?}");
    // Behind the last byte stands a newline, without which the file says the same.
    for cut in 0..whole.len() - 1 {
        config.write_text(&whole[..cut]);
        let (answers, _) = said_last();
        daemon.signal(Signal::HUP);
        let said = wait_until("an answer", || {
            let (now, said) = said_last();
            said.filter(|_| now > answers)
        });
        wait_for("the settings", || daemon.get("/readyz") == 200);
        let after = settings();
        for (path, value) in &after {
            let is_same = before.get(path) == Some(value);
            assert!(
                is_same || said.contains(path),
                "{cut}: {path} is {value}: {said}"
            );
            let of_upstream = path.starts_with("sink.");
            let of_listener = path.starts_with("listen.") && path != "listen.max_connections";
            assert!(
                is_same || !(of_upstream || of_listener),
                "{cut}: {path} is {value}"
            );
        }
        before = after;
    }
}
