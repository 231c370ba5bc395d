//! `probe`: each step with its verdict, the failing one with its remedy.

use crate::support::{
    Certs, Config, HttpUpstream, KEY, Launch, NEW_KEY, Outcome, Port, Proxy, Reply, Scripted,
    UdpUpstream, Upstream,
};

fn probe(config: &Config) -> Outcome {
    Launch::with(config).args(["probe"]).run()
}

/// What is said of a step: `ok`, `note` or `FAIL`.
fn verdict<'a>(outcome: &'a Outcome, step: &str) -> &'a str {
    let mut lines = outcome.printed.iter();
    let line = lines.find(|line| line.split_whitespace().nth(1) == Some(step));
    line.and_then(|line| line.split_whitespace().next())
        .unwrap_or_default()
}

#[track_caller]
fn assert_said(outcome: &Outcome, words: &[&str]) {
    for word in words {
        assert!(
            outcome.said.contains(word),
            "no {word:?} in\n{}",
            outcome.said
        );
    }
}

#[track_caller]
fn assert_fails(outcome: &Outcome, code: i32, step: &str, words: &[&str]) {
    assert_eq!(outcome.code, Some(code), "{}", outcome.said);
    assert_eq!(verdict(outcome, step), "FAIL", "{}", outcome.said);
    assert_said(outcome, words);
    assert_said(outcome, &["not usable"]);
    let lines = outcome.printed.len();
    assert!(lines < 24, "more than a screen: {}", outcome.said);
}

#[test]
fn a_good_tls_upstream_passes_every_step() {
    let certs = Certs::new();
    let upstream = Upstream::tls(&certs);
    let config = Config::to(upstream.url()).set("sink.tls.ca_file", &certs.ca_file());
    let outcome = probe(&config);
    assert_eq!(outcome.code, Some(0), "{}", outcome.said);
    for step in ["config", "dns", "tcp", "tls"] {
        assert_eq!(verdict(&outcome, step), "ok", "{step}: {}", outcome.said);
    }
    assert_said(
        &outcome,
        &[
            "localhost has",
            "127.0.0.1",
            "TLS 1.3, TLS13_",
            "certificate for localhost",
            "chain: CN=",
            "sidecarbon test authority",
            " days (",
            // Lines are never answered.
            "the upstream never confirms a key",
            "probe.key_check_url",
        ],
    );
    assert_eq!((upstream.len(), upstream.fragments().len()), (0, 0));
}

#[test]
fn a_test_point_is_written_where_asked_for() {
    let certs = Certs::new();
    let over_tls = Upstream::tls(&certs);
    let over_tcp = Upstream::tcp();
    let over_udp = UdpUpstream::start();
    let over_http = HttpUpstream::plain();
    let udp_url = over_udp.url();
    for url in [over_tls.url(), over_tcp.url(), &udp_url, over_http.url()] {
        let config = Config::to(url).set("sink.tls.ca_file", &certs.ca_file());
        let outcome = Launch::with(&config).args(["probe", "--send"]).run();
        assert_eq!(outcome.code, Some(0), "{url}: {}", outcome.said);
        assert_eq!(verdict(&outcome, "send"), "ok", "{url}: {}", outcome.said);
    }
    let is_point = |line: &str| line.starts_with(&format!("{KEY}.sidecarbon.probe 1 1"));
    over_tls.find("the point", is_point);
    over_tcp.find("the point", is_point);
    over_udp.find("the point", is_point);
    over_http.find("the point", |line| line.starts_with("sidecarbon.probe 1 1"));
}

#[test]
fn an_expired_certificate_fails_at_tls() {
    let certs = Certs::new();
    let upstream = Upstream::tls_valid(&certs, 2020..2021);
    let config = Config::to(upstream.url()).set("sink.tls.ca_file", &certs.ca_file());
    assert_fails(&probe(&config), 69, "tls", &["has expired", "clock"]);
}

#[test]
fn a_stranger_fails_at_tls() {
    let upstream = Upstream::tls(&Certs::stranger());
    let outcome = probe(&Config::to(upstream.url()));
    assert_fails(
        &outcome,
        69,
        "tls",
        &["not trusted here", "sink.tls.ca_file"],
    );
}

#[test]
fn a_missing_client_certificate_fails_at_tls() {
    let certs = Certs::new();
    let upstream = Upstream::tls_asking(&certs);
    let config = Config::to(upstream.url()).set("sink.tls.ca_file", &certs.ca_file());
    assert_fails(&probe(&config), 69, "tls", &["client_cert_file"]);
}

#[test]
fn a_closed_port_fails_at_tcp() {
    let port = Port::reserve();
    let outcome = probe(&Config::to(port.url()));
    assert_fails(&outcome, 69, "tcp", &["refused", "check host and port"]);
}

#[test]
fn a_name_that_does_not_resolve_fails_at_dns() {
    let config = Config::to("tcp://no.such.name.invalid:2003").set("sink.connect_timeout", "2s");
    let outcome = probe(&config);
    assert_fails(
        &outcome,
        69,
        "dns",
        &["no.such.name.invalid", "check the host"],
    );
}

#[test]
fn an_http_upstream_confirms_the_key_or_refuses_it() {
    let upstream = HttpUpstream::plain();
    let config = Config::to(upstream.url());
    let outcome = probe(&config);
    assert_eq!(outcome.code, Some(0), "{}", outcome.said);
    assert_eq!(verdict(&outcome, "http"), "ok", "{}", outcome.said);
    assert_eq!(upstream.len(), 0, "nothing is written");

    upstream.take_key(NEW_KEY);
    let outcome = probe(&config);
    assert_fails(&outcome, 69, "http", &["rejects the API key", "401"]);
}

#[test]
fn a_proxy_is_a_step_of_its_own() {
    let upstream = HttpUpstream::plain();
    let proxy = Proxy::start();
    let config = Config::to(upstream.url()).set("sink.proxy", &*proxy.url());
    let outcome = probe(&config);
    assert_eq!(outcome.code, Some(0), "{}", outcome.said);
    assert_eq!(verdict(&outcome, "proxy"), "ok", "{}", outcome.said);
    assert_said(&outcome, &["the proxy 127.0.0.1"]);
    assert_eq!(proxy.asked().len(), 1);

    let url = proxy.url();
    drop(proxy);
    let outcome = probe(&config.set("sink.proxy", &*url));
    assert_fails(&outcome, 69, "tcp", &["refused"]);
}

#[test]
fn what_cannot_be_configured_fails_before_any_connection() {
    let config = Config::to("tls://localhost:20030");
    let nowhere = config.path("nowhere.pem");
    let outcome = probe(&config.clone().set("sink.tls.ca_file", &nowhere));
    assert_fails(&outcome, 78, "tls", &["sink.tls.ca_file", "nowhere.pem"]);
    let outcome = probe(&config.set("sink.api_key_file", &nowhere));
    assert_fails(&outcome, 78, "config", &["sink.api_key_file"]);
}

#[test]
fn the_key_is_checked_where_somebody_can_be_asked() {
    let upstream = Upstream::tcp();
    let knows = Scripted::start(|asked| Reply::status(if asked.has_key(KEY) { 200 } else { 401 }));
    let config = Config::to(upstream.url()).set("probe.key_check_url", &*knows.url());
    let outcome = probe(&config);
    assert_eq!(outcome.code, Some(0), "{}", outcome.said);
    assert_said(&outcome, &["127.0.0.1 knows it (200 OK"]);

    config.write_key(NEW_KEY);
    let outcome = probe(&config);
    assert_fails(
        &outcome,
        69,
        "check",
        &["does not know it (401", "account page"],
    );

    // Nothing is known of the key; the way of the lines is open all the same.
    let nobody = Port::reserve();
    let url = format!("http://{}/search", nobody.address());
    let outcome = probe(&config.set("probe.key_check_url", &*url));
    assert_eq!(outcome.code, Some(0), "{}", outcome.said);
    assert_said(&outcome, &["not checked", "refused"]);
}

#[test]
fn without_an_upstream_there_is_nothing_to_prove() {
    let outcome = Launch::bare().args(["probe"]).run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.said);
    assert_said(&outcome, &["lines are printed", "set sink.url"]);
}
