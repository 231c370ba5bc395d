//! The API key: where it must not be, while and after it is used.
//!
//! Every output of every process in these tests is searched for it when the
//! process ends (`support/process.rs`); here is what that does not see.

use std::io::{ErrorKind, Write};
use std::net::{TcpListener, TcpStream};

use crate::support::{
    Certs, Config, Daemon, KEY, Launch, Memory, NEW_KEY, Port, Upstream, numbered, payload,
    read_some, reset,
};

#[test]
fn no_log_holds_it_at_any_level() {
    for format in ["text", "json"] {
        let certs = Certs::new();
        let port = Port::reserve();
        let config = Config::to(port.tls_url())
            .set("sink.tls.ca_file", &certs.ca_file())
            .set("log.level", "trace")
            .set("log.format", format);
        let daemon = Daemon::start(&config);
        let mut lines = numbered("traced", 100);
        // A client that puts the key where it does not belong.
        lines.push(format!("{KEY}.traced.own 1"));
        lines.push(format!("{KEY}.traced.bad oops"));
        lines.push(format!("traced.odd {} 1700000000", KEY.to_uppercase()));
        lines.push(format!("traced.field 1 1700000000 {KEY}"));
        lines.push(format!("{}.traced\u{1}.control 1", KEY.to_lowercase()));
        daemon.tcp(payload(&lines));
        for line in &lines {
            daemon.udp(line);
            daemon.tcp(line);
        }
        let upstream = Upstream::tls_at(&port, &certs);
        upstream.find("the line of its owner", |line| line.contains("traced.own"));
        config.write_key(NEW_KEY);
        daemon.reload(&config);
        daemon.udp("traced.rekeyed 1 1700000000");
        upstream.expect(&format!("{NEW_KEY}.traced.rekeyed 1 1700000000"));
        drop(upstream);
        daemon.udp("traced.last 1");
        daemon.log.find("a talkative log", |line| {
            line.contains("DEBUG") || line.contains("TRACE")
        });
        for page in ["/metrics", "/healthz", "/readyz", "/"] {
            let answer = daemon.try_get(page).expect("an answer").text();
            assert!(
                !answer.to_lowercase().contains(&KEY.to_lowercase()),
                "{page}"
            );
        }
        // The text is searched when the daemon is dropped.
    }
}

#[test]
fn the_command_line_does_not_hold_it() {
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url())
        .unset("sink.api_key_file")
        .set("sink.api_key", KEY);
    let daemon = Daemon::start(&config);
    daemon.udp("command.line 1 1700000000");
    upstream.expect(&format!("{KEY}.command.line 1 1700000000"));
    let command_line = Memory::of(daemon.id()).command_line();
    assert!(command_line.contains("sidecarbon.toml"), "{command_line}");
    assert!(!command_line.contains(KEY), "{command_line}");
    // Nor is there a flag that would put it there.
    let outcome = Launch::bare().args(["--api-key", "anything"]).run();
    assert_eq!(outcome.code, Some(64), "{}", outcome.said);
}

#[test]
fn check_does_not_print_it() {
    for config in [
        Config::to("tls://carbon.example:20030"),
        Config::to("tls://carbon.example:20030")
            .unset("sink.api_key_file")
            .set("sink.api_key", KEY),
    ] {
        config.write();
        let outcome = Launch::bare()
            .arg("check")
            .arg("--config")
            .arg(config.file())
            .run();
        assert_eq!(outcome.code, Some(0), "{}", outcome.said);
        assert!(
            outcome.said.contains("carbon.example:20030"),
            "{}",
            outcome.said
        );
    }
}

#[test]
fn no_error_quotes_the_line_that_holds_it() {
    let config = Config::to("stdout:");
    for (line, key_line) in [
        ("not closed", format!("api_key = \"{KEY}")),
        ("no quotes", format!("api_key = {KEY}")),
        ("a misspelt name", format!("apikey = \"{KEY}\"")),
        ("the wrong type", format!("api_key = [\"{KEY}\"]")),
        (
            "given twice",
            format!("api_key = \"{KEY}\"\napi_key = \"{KEY}\""),
        ),
        ("two words", format!("api_key = \"{KEY} {KEY}\"")),
        ("text behind it", format!("api_key = \"{KEY}\" {KEY}")),
        ("no value", KEY.to_owned()),
        (
            "a key as the host's user",
            format!("url = \"tls://{KEY}@carbon.example:20030\""),
        ),
    ] {
        let url = if key_line.starts_with("url") {
            ""
        } else {
            "url = \"stdout:\""
        };
        config.write_text(&format!("# A comment.\n[sink]\n{key_line}\n{url}\n"));
        // That the key is not said is checked when the process has ended.
        let outcome = Launch::bare()
            .arg("check")
            .arg("--config")
            .arg(config.file())
            .run();
        assert_eq!(outcome.code, Some(78), "{line}: {}", outcome.said);
        let at = ["sidecarbon.toml:3", "sidecarbon.toml:4"];
        let names_line = at.iter().any(|at| outcome.said.contains(at));
        assert!(names_line, "{line}: {}", outcome.said);
    }
}

#[test]
fn the_memory_does_not_hold_it_before_a_name_over_tcp() {
    let port = Port::reserve();
    let daemon = Daemon::start(&Config::to(port.url()));
    let upstream = Upstream::tcp_at(&port);
    image_without_stamped_names(&daemon, upstream);
}

#[test]
fn the_memory_does_not_hold_it_before_a_name_over_tls() {
    let certs = Certs::new();
    let port = Port::reserve();
    let config = Config::to(port.tls_url()).set("sink.tls.ca_file", &certs.ca_file());
    let daemon = Daemon::start(&config);
    let upstream = Upstream::tls_at(&port, &certs);
    image_without_stamped_names(&daemon, upstream);
}

/// Delivers some lines, has others wait, and looks through the memory.
fn image_without_stamped_names(daemon: &Daemon, upstream: Upstream) {
    let early = numbered("memory.early", 5000);
    daemon.tcp(payload(&early));
    upstream.expect(&format!("{KEY}.{}", early[4999]));
    daemon.wait_delivered(early.len());
    upstream.leave();

    let late = numbered("memory.late", 5000);
    daemon.tcp(payload(&late));
    daemon.wait_received(early.len() + late.len());
    assert_eq!(daemon.waiting(), late.len() as u64);

    assert_no_stamped_names(daemon, "memory.late.004999");
}

#[test]
fn the_memory_does_not_hold_it_before_a_name_that_a_client_stamped() {
    let port = Port::reserve();
    let daemon = Daemon::start(&Config::to(port.url()));
    // Whole, in two reads, rejected, and cut off.
    let mut client = daemon.connect();
    let line = format!("{KEY}.memory.whole 1 1700000000\n");
    client.write_all(line.as_bytes()).expect("the daemon reads");
    daemon.wait_received(1);
    client
        .write_all(&line.as_bytes()[..40])
        .expect("the daemon reads");
    daemon.udp(format!(
        "{KEY}.memory.datagram 1 1700000000\n{KEY}.memory.bad oops"
    ));
    daemon.wait_received(3);
    client
        .write_all(&line.as_bytes()[40..])
        .expect("the daemon reads");
    daemon.wait_received(4);
    reset(client);
    assert_no_stamped_names(&daemon, "memory.datagram");
}

/// With tags, with a blank, of no type, and with a tag that is none.
#[test]
fn the_memory_does_not_hold_it_before_a_name_of_a_sample() {
    let port = Port::reserve();
    let config = Config::to(port.url())
        .set("listen.statsd", ["127.0.0.1:0"])
        .set("statsd.interval", "1h");
    let daemon = Daemon::start(&config);
    let name = format!("{}{KEY}.memory", ".".repeat(40));
    let mut client = TcpStream::connect(daemon.address("statsd")).expect("a StatsD listener");
    let samples = format!(
        "{name}.tagged:1|c|#env:prod\n{name}.with blank:1|c\n{name}.odd:1|x|#a:b\n{name}.tag:1|c|#:b\n"
    );
    client
        .write_all(samples.as_bytes())
        .expect("the daemon reads");
    daemon.wait_received(4);
    assert_no_stamped_names(&daemon, "memory.tagged");
}

/// In frames: whole, in two reads, refused as a whole, too large, and cut off.
#[test]
fn the_memory_does_not_hold_it_before_a_name_that_a_client_pickled() {
    let port = Port::reserve();
    let config = Config::to(port.url()).set("listen.pickle", ["127.0.0.1:0"]);
    let daemon = Daemon::start(&config);
    let mut client = TcpStream::connect(daemon.address("pickle")).expect("a pickle listener");
    // Not at the beginning of a buffer, where an allocator writes when it is freed.
    let name = format!("{}{KEY}.memory.pickled", ".".repeat(40));
    let point = |end: &str| format!("(l(S'{name}'\n(I5\nI1\ntta{end}").into_bytes();
    let framed = |pickle: Vec<u8>| {
        let length = u32::try_from(pickle.len()).expect("a frame");
        [&length.to_be_bytes()[..], &pickle].concat()
    };
    let mut say = |bytes: &[u8]| client.write_all(bytes).expect("the daemon reads");
    say(&framed(point(".")));
    daemon.wait_received(1);
    let whole = framed(point("."));
    let (first, rest) = whole.split_at(100);
    say(&[&framed(point("R.")), first].concat());
    daemon.wait_received(2);
    say(&[rest, &(2_u32 << 20).to_be_bytes(), &point(".").repeat(300)].concat());
    daemon.wait_received(4);
    // So that the end of what is skipped is read, too.
    let skipped = 300 * point(".").len();
    say(&vec![b'.'; (2 << 20) - skipped - 1000]);
    say(&point(".")[..100]);
    say(&vec![b'.'; 900]);
    say(&framed(point(".")));
    daemon.wait_received(5);
    say(&whole[..100]);
    reset(client);
    daemon.wait_received(6);
    assert_no_stamped_names(&daemon, "memory.pickled");
}

#[track_caller]
fn assert_no_stamped_names(daemon: &Daemon, waiting: &str) {
    let stamped = format!("{KEY}.memory.");
    match Memory::of(daemon.id()).count([&stamped, waiting]) {
        // The line that waits shows that the right memory was searched.
        Ok([stamped, waiting]) => {
            assert!(
                waiting > 0,
                "the lines that wait are not in the memory that was read"
            );
            assert_eq!(
                stamped, 0,
                "names with the key before them are in the memory"
            );
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            eprintln!("SKIPPED: this system does not let a process read its child's memory");
        }
        Err(error) => panic!("the memory cannot be read: {error}"),
    }
}

#[test]
fn a_plain_listener_in_place_of_the_upstream_learns_nothing() {
    // Whatever answers on the upstream's port, the key waits for the handshake.
    let impostor = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = impostor.local_addr().expect("a bound socket");
    let daemon = Daemon::start(&Config::to(format!("tls://{address}")));
    daemon.udp("impostor.line 1");
    let (mut stream, _) = impostor.accept().expect("an attempt");
    let mut hello = [0; 16 * 1024];
    let read = read_some(&mut stream, &mut hello).expect("a TLS hello");
    assert_eq!(hello[0], 0x16, "no TLS handshake");
    let found = memchr::memmem::find(&hello[..read], KEY.as_bytes());
    assert_eq!(found, None);
}
