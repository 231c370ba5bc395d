//! Visitors of the admin listener that it must survive, and pages of other
//! origins, which must get nothing.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::{Config, Daemon, KEY, Message, Upstream, raise_open_files};

fn start() -> (Upstream, Daemon) {
    let upstream = Upstream::tcp();
    let daemon = Daemon::start(&Config::to(upstream.url()));
    (upstream, daemon)
}

#[test]
fn silent_visitors_hinder_nobody() {
    // Far above a scrape, far below what waiting for a visitor would take.
    const SOON: Duration = Duration::from_secs(3);
    raise_open_files();
    let (upstream, daemon) = start();
    let address = daemon.address("admin");
    let started = Instant::now();
    let silent: Vec<TcpStream> = (0..1000)
        .map(|_| TcpStream::connect(address).expect("the admin listener"))
        .collect();
    daemon.udp("visitors.line 1 1700000000");
    upstream.expect(&format!("{KEY}.visitors.line 1 1700000000"));
    daemon.wait_delivered(1);
    assert_eq!(daemon.get("/healthz"), 200);
    assert!(started.elapsed() < SOON, "took {:?}", started.elapsed());
    drop(silent);
}

#[test]
fn a_scraper_keeps_its_connection_while_silent_visitors_come() {
    let (_upstream, daemon) = start();
    let address = daemon.address("admin");
    let mut scraper = BufReader::new(TcpStream::connect(address).expect("the admin listener"));
    let mut scrape = || {
        let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
        scraper.get_mut().write_all(request).expect("a connection");
        let answer = Message::read(&mut scraper).expect("an answer");
        assert_eq!(answer.expect("an answer").word(1), "200");
    };
    scrape();
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.extend((0..50).map(|_| TcpStream::connect(address).expect("the admin listener")));
        scrape();
    }
}

#[test]
fn endless_requests_hinder_nobody() {
    let (upstream, daemon) = start();
    let megabyte = vec![b'a'; 1024 * 1024];
    let mut visitors = Vec::new();
    for head in [
        &b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Long: "[..],
        b"GET /",
        b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n",
        b"\x16\x03\x01",
    ] {
        let mut visitor = visit(&daemon);
        // The daemon may hang up on it at any time, or stop to read.
        let _ = visitor
            .write_all(head)
            .and_then(|()| visitor.write_all(&megabyte));
        visitors.push(visitor);
    }
    assert_eq!(daemon.get("/metrics"), 200);
    daemon.udp("endless.line 1 1700000000");
    upstream.expect(&format!("{KEY}.endless.line 1 1700000000"));
}

#[test]
fn a_long_path_is_refused() {
    let (_upstream, daemon) = start();
    let request = format!(
        "GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "a".repeat(100 * 1024)
    );
    let mut visitor = visit(&daemon);
    let _ = visitor.write_all(request.as_bytes());
    // It may have hung up on us with bytes of ours unread.
    if let Ok(Some(answer)) = Message::read(&mut BufReader::new(visitor)) {
        assert!(answer.word(1).starts_with('4'), "{}", answer.start);
    }
    assert_eq!(daemon.get("/metrics"), 200);
}

#[test]
fn pipelined_garbage_ends_its_connection() {
    let (upstream, daemon) = start();
    let mut visitor = visit(&daemon);
    let good = "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let bad = "\0\u{1}garbage\r\n\r\n".repeat(1000);
    let _ = visitor.write_all(format!("{good}{good}{bad}").as_bytes());
    let mut visitor = BufReader::new(visitor);
    for status in ["200", "200", "400"] {
        let answer = Message::read(&mut visitor).expect("an answer");
        let answer = answer.expect("an answer");
        assert_eq!(answer.word(1), status, "{}", answer.start);
    }
    // To the end, whether it is a polite one or not.
    let _ = visitor.read_to_end(&mut Vec::new());
    daemon.udp("garbage.line 1 1700000000");
    upstream.expect(&format!("{KEY}.garbage.line 1 1700000000"));
    assert_eq!(daemon.get("/metrics"), 200);
}

/// A connection that gives up writing when nobody reads.
fn visit(daemon: &Daemon) -> TcpStream {
    let visitor = TcpStream::connect(daemon.address("admin")).expect("the admin listener");
    let second = Some(Duration::from_secs(1));
    visitor.set_write_timeout(second).expect("an open socket");
    visitor.set_read_timeout(second).expect("an open socket");
    visitor
}

#[test]
fn pages_of_other_origins_get_nothing() {
    let (_upstream, daemon) = start();
    let status = |fields: &str| {
        let request = format!("GET /api/status HTTP/1.1\r\n{fields}\r\nConnection: close\r\n\r\n");
        let answer = daemon.ask(&request).ok().flatten().expect("an answer");
        assert_eq!(answer.field("access-control-allow-origin"), None);
        let is_told = answer.text().contains("ledger");
        assert_eq!(is_told, answer.word(1) == "200", "{}", answer.text());
        answer.word(1).to_owned()
    };
    let port = daemon.address("admin").port();
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        assert_eq!(status(&format!("Host: {host}:{port}")), "200", "{host}");
    }
    // A name that was made to resolve to this address.
    assert_eq!(status(&format!("Host: rebound.example:{port}")), "403");
    assert_eq!(status("Host: a\r\nHost: localhost"), "400");
    assert_eq!(status("X-No-Host: here"), "400");
    for fields in [
        "Sec-Fetch-Site: cross-site",
        "Origin: https://other.example",
    ] {
        assert_eq!(status(&format!("Host: localhost\r\n{fields}")), "403");
    }
}

#[test]
fn scrapers_come_by_any_name_where_others_than_this_host_can_reach_it() {
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url()).set("admin.listen", "0.0.0.0:0");
    let daemon = Daemon::start(&config);
    let port = daemon.address("admin").port();
    let status = |fields: &str| {
        let request = format!("GET /metrics HTTP/1.1\r\n{fields}\r\nConnection: close\r\n\r\n");
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the admin listener");
        stream.write_all(request.as_bytes()).expect("a connection");
        let answer = Message::read(&mut BufReader::new(stream)).expect("an answer");
        answer.expect("an answer").word(1).to_owned()
    };
    for host in ["sidecarbon.monitoring.svc:2023", "10.0.0.7:2023", "web1"] {
        assert_eq!(status(&format!("Host: {host}")), "200", "{host}");
    }
    // A browser, though, which was led here by a name of somebody else.
    let led = "Host: rebound.example\r\nAccept-Language: en";
    assert_eq!(status(led), "403");
    assert_eq!(status("Host: sidecarbon\r\nAccept-Language: en"), "200");
}

#[test]
fn browsers_are_told_to_load_nothing() {
    let (_upstream, daemon) = start();
    for path in [
        "/",
        "/metrics",
        "/api/status",
        "/api/history",
        "/api/rejected",
        "/api/settings",
        "/nothing",
    ] {
        let answer = daemon.try_get(path).expect("an answer");
        let field = |name| answer.field(name).unwrap_or_default();
        assert_eq!(field("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(field("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(field("cache-control"), "no-store", "{path}");
        assert_eq!(answer.field("access-control-allow-origin"), None, "{path}");
        let policy = field("content-security-policy");
        assert!(policy.contains("default-src 'none'"), "{path}: {policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{path}");
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
    }
    let page = daemon.try_get("/").expect("an answer");
    assert_eq!(page.field("content-type"), Some("text/html; charset=utf-8"));
}
