//! Certificate files are replaced while the daemon runs, and nobody sends a
//! signal: what is on disk is used.

use std::fs;
use std::path::Path;

use crate::rotation::talk_until;
use crate::support::{Certs, Config, Daemon, HttpUpstream, KEY, Upstream, wait_for};

const NEWS: &str = "the certificate files have changed";
const PROBLEM: &str = "the certificate files cannot be used";

/// As careful tools do it: in one step for whoever reads.
fn replace(path: &Path, with: &Path) {
    let new = path.with_extension("new");
    fs::copy(with, &new).expect("a copy");
    fs::rename(new, path).expect("a swap");
}

fn count(daemon: &Daemon, text: &str) -> usize {
    let lines = daemon.log.lines();
    lines.iter().filter(|line| line.contains(text)).count()
}

#[test]
fn an_authority_that_is_added_to_its_file_is_trusted_at_the_next_attempt() {
    let certs = Certs::new();
    let upstream = Upstream::tls(&certs);
    let config = Config::to(upstream.url());
    let file = config.path("ca.pem");
    replace(&file, &Certs::stranger().ca_file());
    let daemon = Daemon::start(&config.set("sink.tls.ca_file", &file));
    daemon.udp("authority.line 1 1700000000");
    daemon
        .log
        .find("a refusal", |line| line.contains(" ERROR "));
    replace(&file, &certs.ca_file());
    upstream.expect(&format!("{KEY}.authority.line 1 1700000000"));
    wait_for("the news", || count(&daemon, NEWS) == 1);
    assert_eq!(daemon.metric("sidecarbon_reload_success"), 1);
    let ledger = daemon.stop();
    assert_eq!((ledger.delivered, ledger.left()), (1, 0));
}

#[test]
fn the_same_over_https() {
    let certs = Certs::new();
    let upstream = HttpUpstream::tls(&certs);
    let config = Config::to(upstream.url());
    let file = config.path("ca.pem");
    replace(&file, &Certs::stranger().ca_file());
    let daemon = Daemon::start(&config.set("sink.tls.ca_file", &file));
    daemon.udp("authority.line 1 1700000000");
    daemon
        .log
        .find("a refusal", |line| line.contains(" ERROR "));
    replace(&file, &certs.ca_file());
    upstream.expect("authority.line 1 1700000000");
}

#[test]
fn a_client_certificate_and_its_key_are_replaced_one_after_the_other() {
    let certs = Certs::new();
    let upstream = Upstream::tls(&certs);
    let config = Config::to(upstream.url()).set("sink.tls.ca_file", &certs.ca_file());
    let (certificate, key) = (config.path("client.pem"), config.path("client.key"));
    let (old_certificate, old_key) = certs.client_files();
    replace(&certificate, &old_certificate);
    replace(&key, &old_key);
    let config = config
        .set("sink.tls.client_cert_file", &certificate)
        .set("sink.tls.client_key_file", &key);
    let daemon = Daemon::start(&config);
    daemon.udp("pair.before 1 1700000000");
    upstream.expect(&format!("{KEY}.pair.before 1 1700000000"));

    // Another pair, of which the certificate comes first.
    let (new_certificate, new_key) = certs.client_files();
    replace(&certificate, &new_certificate);
    let mut said = talk_until(&daemon, "a word about the pair", || {
        count(&daemon, PROBLEM) > 0
    });
    // The old pair stays, and so does the connection.
    assert_eq!((upstream.connections(), count(&daemon, NEWS)), (1, 0));
    replace(&key, &new_key);
    said += talk_until(&daemon, "the new pair", || upstream.connections() > 1);
    wait_for("the news", || count(&daemon, NEWS) == 1);
    assert_eq!(count(&daemon, PROBLEM), 1, "once");
    assert_eq!(daemon.metric("sidecarbon_reload_success"), 1);
    let ledger = daemon.stop();
    assert_eq!((ledger.delivered, ledger.left()), (said + 1, 0));
}

#[test]
fn a_client_certificate_that_is_refused_is_replaced_at_once() {
    let certs = Certs::new();
    let upstream = Upstream::tls_asking(&certs);
    let config = Config::to(upstream.url()).set("sink.tls.ca_file", &certs.ca_file());
    let (certificate, key) = (config.path("client.pem"), config.path("client.key"));
    let stranger = Certs::stranger();
    let (foreign_certificate, foreign_key) = stranger.client_files();
    replace(&certificate, &foreign_certificate);
    replace(&key, &foreign_key);
    let config = config
        .set("sink.tls.client_cert_file", &certificate)
        .set("sink.tls.client_key_file", &key);
    let daemon = Daemon::start(&config);
    daemon.udp("refused.first 1 1700000000");
    daemon.log.find("the upstream's reason", |line| {
        line.contains("does not trust the authority of our client certificate")
    });
    let (good_certificate, good_key) = certs.client_files();
    replace(&certificate, &good_certificate);
    replace(&key, &good_key);
    wait_for("the new pair", || {
        daemon.udp("refused.after 1 1700000000");
        count(&daemon, NEWS) > 0
    });
    daemon.udp("refused.last 1 1700000000");
    upstream.expect(&format!("{KEY}.refused.last 1 1700000000"));
}

#[test]
fn what_expires_within_two_weeks_is_shown_and_warned_about() {
    let certs = Certs::new();
    let upstream = Upstream::serving(certs.server_for_days(&["localhost"], 30));
    let config = Config::to(upstream.url()).set("sink.tls.ca_file", &certs.ca_file());
    let (certificate, key) = certs.client_files_for_days(5);
    let config = config
        .set("sink.tls.client_cert_file", &certificate)
        .set("sink.tls.client_key_file", &key);
    let daemon = Daemon::start(&config);
    let word = daemon.log.find("a warning", |line| {
        line.contains("certificate expires soon")
    });
    assert!(
        word.contains(" WARN ") && word.contains("our client certificate"),
        "{word}"
    );
    let metrics = daemon.metrics();
    assert_eq!(metrics.get("sidecarbon_certificate_expiry_seconds"), None);
    daemon.udp("expiry.line 1 1700000000");
    daemon.wait_delivered(1);
    let metrics = daemon.metrics();
    let left = |name: &str| metrics.value(&format!("sidecarbon_{name}"));
    // Less the time that the test has taken.
    for (name, days) in [
        ("certificate_expiry_seconds", 30.0),
        ("client_certificate_expiry_seconds", 5.0),
    ] {
        let left = left(name) / 86_400.0;
        assert!((days - 0.5..=days).contains(&left), "{name}: {left} days");
    }
    wait_for("the warning", || {
        count(&daemon, "certificate expires soon") == 1
    });
}

#[test]
fn without_tls_nothing_is_said_of_certificates() {
    let upstream = Upstream::tcp();
    let daemon = Daemon::start(&Config::to(upstream.url()));
    daemon.udp("plain.line 1 1700000000");
    daemon.wait_delivered(1);
    let metrics = daemon.metrics();
    let names: Vec<&str> = metrics
        .names()
        .filter(|name| name.contains("certificate_expiry"))
        .collect();
    assert!(names.is_empty(), "{names:?}");
}
