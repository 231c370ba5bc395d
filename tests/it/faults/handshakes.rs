//! TLS peers that must not be trusted, or that never come to the point; and
//! then the right one, where the wrong one was.

use std::sync::Arc;

use rustls::ServerConfig;

use super::config;
use crate::support::{
    Books, Certs, Daemon, Fault, Faulty, KEY, Port, assert_same_lines, keyed, numbered, payload,
    wait_for,
};

#[test]
fn expired() {
    wrong_certificate(|certs| certs.server_valid(2019..2020), "expired");
}

#[test]
fn not_yet_valid() {
    wrong_certificate(|certs| certs.server_valid(2998..2999), "not valid yet");
}

#[test]
fn for_another_name() {
    wrong_certificate(|certs| certs.server(&["carbon.example"]), "server_name");
}

#[test]
fn signed_by_nobody_we_know() {
    wrong_certificate(|_| Certs::stranger().server(&["localhost"]), "ca_file");
}

#[test]
fn an_authority_as_a_server() {
    wrong_certificate(Certs::server_that_is_an_authority, "CA:FALSE");
}

#[test]
fn only_for_clients() {
    wrong_certificate(Certs::server_for_clients_only, "serverAuth");
}

#[test]
fn an_intermediate_that_is_not_sent() {
    wrong_certificate(
        |_| Certs::server_below_an_intermediate(),
        "no intermediate certificate",
    );
}

/// One ERROR that says what is wrong, and not a byte of any line before the
/// right server is there.
fn wrong_certificate(wrong: impl FnOnce(&Certs) -> Arc<ServerConfig>, said: &str) {
    let certs = Certs::new();
    let port = Port::reserve();
    let impostor = Faulty::tls_at(&port, wrong(&certs), |_| Fault::Reads);
    let config = config(port.tls_url()).set("sink.tls.ca_file", &certs.ca_file());
    let daemon = Daemon::start(&config);
    let sent = numbered("handshake", 500);
    daemon.tcp(payload(&sent));
    let error = daemon
        .log
        .find("the error", |line| line.contains(" ERROR "));
    assert!(error.contains(said), "no {said:?} in {error}");
    let so_far = impostor.connections();
    wait_for("two more attempts", || impostor.connections() >= so_far + 2);
    let ledger = daemon.ledger();
    assert_eq!((ledger.delivered, ledger.left()), (0, 500), "{ledger:?}");
    assert_eq!(impostor.len(), 0);
    let errors = daemon.log.lines();
    let errors = errors.iter().filter(|line| line.contains(" ERROR "));
    assert_eq!(errors.count(), 1, "repeats of {error}");
    drop(impostor);
    the_right_one_appears(daemon, &certs, &port, &sent);
}

#[test]
fn plain_text() {
    let certs = Certs::new();
    let port = Port::reserve();
    let mail = Faulty::tcp_at(&port, |_| Fault::Greets("220 mail.example ESMTP\r\n"));
    let config = config(port.tls_url()).set("sink.tls.ca_file", &certs.ca_file());
    let daemon = Daemon::start(&config);
    let sent = numbered("handshake", 500);
    daemon.tcp(payload(&sent));
    daemon
        .log
        .find("what is wrong", |line| line.contains("does not speak TLS"));
    wait_for("more attempts", || mail.ended() >= 3);
    let heard = [mail.lines(), mail.fragments()].concat().concat();
    assert!(!heard.contains(KEY));
    drop(mail);
    the_right_one_appears(daemon, &certs, &port, &sent);
}

#[test]
fn garbage_after_a_record_of_tls() {
    let port = Port::reserve();
    // A record with an empty ServerHelloDone, then none.
    let odd = Faulty::tcp_at(&port, |_| {
        Fault::Greets("\u{16}\u{3}\u{3}\0\u{4}\u{e}\0\0\0GARBAGE GARBAGE\r\n")
    });
    let daemon = Daemon::start(&config(port.tls_url()));
    daemon.udp("garbage.line 1 1700000000");
    let said = daemon
        .log
        .find("what is wrong", |line| line.contains(" WARN "));
    assert!(said.contains("TLS software is at fault"), "{said}");
    assert!(!said.contains("does not speak TLS"), "{said}");
    wait_for("more attempts", || odd.ended() >= 2);
}

#[test]
fn a_handshake_that_is_closed() {
    let certs = Certs::new();
    let port = Port::reserve();
    let rude = Faulty::tcp_at(&port, |_| Fault::Closes);
    let config = config(port.tls_url()).set("sink.tls.ca_file", &certs.ca_file());
    let daemon = Daemon::start(&config);
    let sent = numbered("handshake", 500);
    daemon.tcp(payload(&sent));
    wait_for("more attempts", || rude.ended() >= 5);
    drop(rude);
    the_right_one_appears(daemon, &certs, &port, &sent);
}

#[test]
fn a_handshake_that_stalls() {
    let certs = Certs::new();
    let port = Port::reserve();
    let silent = Faulty::tcp_at(&port, |_| Fault::Stalls);
    let config = config(port.tls_url()).set("sink.tls.ca_file", &certs.ca_file());
    let daemon = Daemon::start(&config);
    let sent = numbered("handshake", 500);
    daemon.tcp(payload(&sent));
    // Ten seconds, in which clients notice nothing.
    wait_for("the first attempt", || silent.connections() == 1);
    daemon.udp("handshake.meanwhile 1 1700000000");
    daemon.wait_received(501);
    daemon.log.find("the end of patience", |line| {
        line.contains("TLS handshake took longer")
    });
    drop(silent);
    let mut sent = sent;
    sent.push("handshake.meanwhile 1 1700000000".to_owned());
    the_right_one_appears(daemon, &certs, &port, &sent);
}

#[track_caller]
fn the_right_one_appears(daemon: Daemon, certs: &Certs, port: &Port, sent: &[String]) {
    let upstream = Faulty::tls_at(port, certs.server(&["localhost"]), |_| Fault::Reads);
    assert_same_lines(&upstream.expect_lines(sent.len()), &keyed(sent));
    Books::close(daemon, upstream, sent).assert_exact();
}
