//! Connections that die at any byte: what arrives is whole lines as they were
//! sent.

use super::config;
use crate::support::{Books, Certs, Config, Cutter, Daemon, Fault, Faulty, Load, Port, wait_for};

const CUTS: usize = 200;

/// A connection is cut within so many bytes.
const MOST: usize = 20_000;

#[test]
fn cut_at_any_byte() {
    let port = Port::reserve();
    let upstream = Faulty::tcp_at(&port, |_| Fault::Reads);
    let cutter = Cutter::before(port.address(), MOST, 1);
    let url = format!("tcp://{}", cutter.address());
    cut_again_and_again(&config(url), &cutter, upstream);
}

#[test]
fn cut_at_any_byte_tls() {
    let certs = Certs::new();
    let port = Port::reserve();
    let upstream = Faulty::tls_at(&port, certs.server(&["localhost"]), |_| Fault::Reads);
    let cutter = Cutter::before(port.address(), MOST, 2);
    let url = format!("tls://localhost:{}", cutter.address().port());
    let config = config(url).set("sink.tls.ca_file", &certs.ca_file());
    cut_again_and_again(&config, &cutter, upstream);
}

/// Altered, joined and half lines fail in the count.
fn cut_again_and_again(config: &Config, cutter: &Cutter, upstream: Faulty) {
    let config = config
        .clone()
        .set("retry.first", "10ms")
        .set("retry.max", "20ms");
    let daemon = Daemon::start(&config);
    let load = Load::start(&daemon, "cut", 20_000);
    wait_for("the cuts", || cutter.cuts() >= CUTS);
    cutter.calm_down();
    let sent = load.stop();
    let books = Books::close(daemon, upstream, &sent);
    // The proxy ends what it has read; what it had not is in doubt.
    assert!(books.said.resent > 0, "harmless cuts: {books:?}");
    assert!(sent.len() > 1000, "{books:?}");
}

#[test]
fn cut_within_the_first_line() {
    let port = Port::reserve();
    let upstream = Faulty::tcp_at(&port, |_| Fault::Reads);
    let cutter = Cutter::before(port.address(), 60, 3);
    let config = config(format!("tcp://{}", cutter.address()))
        .set("retry.first", "10ms")
        .set("retry.max", "20ms");
    let daemon = Daemon::start(&config);
    let load = Load::start(&daemon, "short", 500);
    wait_for("the cuts", || cutter.cuts() >= 20);
    cutter.calm_down();
    let sent = load.stop();
    let books = Books::close(daemon, upstream, &sent);
    assert!(books.sent > 0, "{books:?}");
}
