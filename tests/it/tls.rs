//! TLS upstreams: whom the daemon trusts, and that nothing is lost on the way.

use crate::support::{
    Certs, Config, Daemon, KEY, Port, Upstream, assert_same_lines, keyed, numbered, payload,
    wait_for,
};

#[test]
fn a_private_authority_is_refused_until_it_is_configured() {
    let certs = Certs::new();
    let upstream = Upstream::tls(&certs);
    let config = Config::to(upstream.url());
    let daemon = Daemon::start(&config);
    let sent = numbered("private", 100);
    daemon.tcp(payload(&sent));
    daemon.wait_received(100);

    let error = the_one_error(&daemon, &upstream);
    assert!(error.contains("certificate"), "{error}");
    assert!(error.contains("ca_file"), "no remedy in {error}");
    assert_eq!((daemon.waiting(), daemon.delivered()), (100, 0));
    assert_eq!(upstream.len(), 0);

    daemon.reload(&config.set("sink.tls.ca_file", &certs.ca_file()));
    assert_same_lines(&upstream.expect_lines(100), &keyed(&sent));
}

#[test]
fn a_certificate_for_another_name_is_refused_unless_that_name_is_configured() {
    let certs = Certs::new();
    let upstream = Upstream::tls_named(&certs, "carbon.example");
    let config = Config::to(upstream.url()).set("sink.tls.ca_file", &certs.ca_file());
    let daemon = Daemon::start(&config);
    daemon.udp("name.line 1 1700000000");
    let error = the_one_error(&daemon, &upstream);
    assert!(error.contains("certificate"), "{error}");
    assert!(error.contains("server_name"), "no remedy in {error}");
    assert_eq!((daemon.waiting(), upstream.len()), (1, 0));

    daemon.reload(&config.set("sink.tls.server_name", "carbon.example"));
    upstream.expect(&format!("{KEY}.name.line 1 1700000000"));
}

#[test]
fn a_client_certificate_is_shown_where_one_is_asked_for() {
    let certs = Certs::new();
    let upstream = Upstream::tls_asking(&certs);
    let (certificate, key) = certs.client_files();
    let config = Config::to(upstream.url()).set("sink.tls.ca_file", &certs.ca_file());

    // Without one the server ends the session, and the log has its reason.
    let daemon = Daemon::start(&config);
    daemon.udp("client.without 1 1700000000");
    daemon.log.find("what is missing", |line| {
        !line.contains(" INFO ") && line.to_lowercase().contains("certificate")
    });
    drop(daemon);
    assert_eq!(upstream.len(), 0);

    let config = config
        .set("sink.tls.client_cert_file", &certificate)
        .set("sink.tls.client_key_file", &key);
    let daemon = Daemon::start(&config);
    daemon.udp("client.with 1 1700000000");
    upstream.expect(&format!("{KEY}.client.with 1 1700000000"));
}

#[test]
fn a_peer_without_tls_is_named_as_such() {
    let upstream = Upstream::tcp_greeting("220 mail.example ESMTP\r\n");
    let daemon = Daemon::start(&Config::to(upstream.url_as("tls://127.0.0.1")));
    daemon.udp("plain.line 1 1700000000");
    // Not "received corrupt message", but what that means.
    daemon.log.find("a helpful message", |line| {
        line.contains("does not speak TLS")
    });
    wait_for("another attempt", || upstream.connections() >= 2);
    assert_eq!(daemon.waiting(), 1);
    // Not even then does the key leave in clear.
    let heard = [upstream.lines(), upstream.fragments()].concat().concat();
    assert!(!heard.contains(KEY));
}

#[test]
fn lines_written_just_before_the_end_arrive_although_session_tickets_came() {
    // The server sends its tickets while it has hardly begun to read. A client
    // that closes with them unread makes the kernel throw its lines away.
    const LINES: usize = 20_000;
    let certs = Certs::new();
    let port = Port::reserve();
    let config = Config::to(port.tls_url()).set("sink.tls.ca_file", &certs.ca_file());
    let daemon = Daemon::start(&config);
    let sent = numbered("ticket", LINES);
    daemon.tcp(payload(&sent));
    daemon.wait_received(LINES);
    let upstream = Upstream::tls_slow_at(&port, &certs);
    let ledger = daemon.stop();
    assert_eq!((ledger.delivered, ledger.left()), (LINES as u64, 0));
    assert_same_lines(&upstream.finish(), &keyed(&sent));
}

#[test]
fn a_tls_upstream_that_comes_back_gets_the_lines_that_waited() {
    let certs = Certs::new();
    let port = Port::reserve();
    let config = Config::to(port.tls_url()).set("sink.tls.ca_file", &certs.ca_file());
    let daemon = Daemon::start(&config);
    for round in 0..2 {
        let sent = numbered(&format!("back.{round}"), 5000);
        daemon.tcp(payload(&sent));
        daemon.wait_received((round + 1) * 5000);
        let upstream = Upstream::tls_at(&port, &certs);
        assert_same_lines(&upstream.expect_lines(5000), &keyed(&sent));
        daemon.wait_delivered((round + 1) * 5000);
        upstream.leave();
    }
}

/// What the daemon says about an upstream that it must not trust: however
/// often it tries, it says so once.
#[track_caller]
fn the_one_error(daemon: &Daemon, upstream: &Upstream) -> String {
    let is_error = |line: &str| line.contains(" ERROR ");
    let error = daemon.log.find("an error", is_error);
    let so_far = upstream.connections();
    wait_for("two more attempts", || upstream.connections() >= so_far + 2);
    let errors = daemon
        .log
        .lines()
        .iter()
        .filter(|line| is_error(line))
        .count();
    assert_eq!(errors, 1, "repeats of {error}");
    error
}
