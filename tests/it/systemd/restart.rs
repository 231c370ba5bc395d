//! Lines that wait over a restart.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::{
    Config, Daemon, KEY_STEM, Manager, Port, Upstream, assert_same_lines, keyed, numbered, payload,
};

const LINES: usize = 20_000;

/// A daemon without an upstream has received lines and was stopped.
fn waiting(manager: &Manager, config: &Config) -> Vec<String> {
    let daemon = manager.start(config);
    let sent = numbered("kept", LINES);
    daemon.tcp(payload(&sent));
    daemon.wait_received(LINES);
    stop(daemon);
    manager.wait_kept(1);
    sent
}

/// A stop with the upstream away does not wait for it.
#[track_caller]
fn stop(daemon: Daemon) {
    daemon.signal(Signal::TERM);
    let ended = daemon.wait_end();
    assert_eq!(ended.code, Some(0));
    assert!(ended.took < Duration::from_secs(10), "{:?}", ended.took);
}

fn away() -> (Port, Config) {
    let port = Port::reserve();
    // Longer than any test waits.
    let config = Config::to(port.url()).set("shutdown.grace", "5m");
    (port, config)
}

#[test]
fn they_survive_three_restarts_in_order_and_arrive_once() {
    let (port, config) = away();
    let manager = Manager::with_store();
    let mut sent = waiting(&manager, &config);
    for round in 0..3_usize {
        let daemon = manager.start(&config);
        daemon.log.find("the adoption", |line| {
            line.contains("queued again") && line.contains(&format!("lines={}", sent.len()))
        });
        manager.wait_kept(0);
        assert_eq!(daemon.received(), sent.len() as u64);
        let more = numbered(&format!("more.{round}"), 100);
        daemon.tcp(payload(&more));
        sent.extend(more);
        daemon.wait_received(sent.len());
        stop(daemon);
    }
    let upstream = Upstream::tcp_at(&port);
    let daemon = manager.start(&config);
    daemon.wait_delivered(sent.len());
    let ledger = daemon.stop();
    manager.wait_kept(0);
    assert_eq!(
        (ledger.received, ledger.delivered),
        (sent.len() as u64, sent.len() as u64)
    );
    assert_eq!((ledger.dropped, ledger.left()), (0, 0));
    assert_same_lines(&upstream.finish(), &keyed(&sent));
}

#[test]
fn the_image_is_sealed_small_and_without_the_key() {
    let (_port, config) = away();
    let manager = Manager::with_store();
    // Until most of it is compressed.
    let daemon = manager.start(&config.clone().set("log.level", "debug"));
    let sent = numbered("image", 100_000);
    daemon.tcp(payload(&sent));
    daemon.wait_received(sent.len());
    daemon
        .log
        .find("a compressed frame", |line| line.contains(" compressed "));
    stop(daemon);
    assert!(manager.image_is_sealed());
    let image = manager.image();
    assert!(image.len() < payload(&sent).len());
    let text = String::from_utf8_lossy(&image).to_lowercase();
    assert!(!text.contains(&KEY_STEM.to_lowercase()));
}

/// Damages the image, and starts with the upstream back. Answers with the lines
/// that arrived and with how many are said to be lost.
fn after(damage: impl FnOnce(&mut Vec<u8>)) -> (Vec<String>, Vec<String>, u64) {
    let (port, config) = away();
    let manager = Manager::with_store();
    let sent = waiting(&manager, &config);
    let mut image = manager.image();
    damage(&mut image);
    manager.replace_image(&image);
    let upstream = Upstream::tcp_at(&port);
    let daemon = manager.start(&config);
    manager.wait_kept(0);
    let lost = daemon.metric("sidecarbon_lines_dropped_total{reason=\"corrupt\"}");
    daemon.log.find("the loss", |line| {
        line.contains(" ERROR ") && line.contains(&format!("lost={lost}"))
    });
    let ledger = daemon.stop();
    assert_eq!(ledger.received, LINES as u64);
    assert_eq!(
        (ledger.delivered + lost, ledger.dropped, ledger.left()),
        (LINES as u64, lost, 0)
    );
    (keyed(&sent), upstream.finish(), lost)
}

#[test]
fn a_flipped_byte_costs_what_follows_it() {
    let (sent, arrived, lost) = after(|image| {
        let middle = image.len() / 2;
        image[middle] ^= 0x40;
    });
    assert!(lost > 0 && lost < LINES as u64, "{lost}");
    assert_eq!(arrived.len() as u64, LINES as u64 - lost);
    assert_same_lines(&arrived, &sent[..arrived.len()]);
}

#[test]
fn a_cut_image_costs_its_tail() {
    let (sent, arrived, lost) = after(|image| image.truncate(image.len() / 2));
    assert!(lost > 0 && lost < LINES as u64, "{lost}");
    assert_same_lines(&arrived, &sent[..arrived.len()]);
}

#[test]
fn an_image_of_another_version_is_lost_and_counted() {
    let (_, arrived, lost) = after(|image| image[..4].copy_from_slice(&99_u32.to_le_bytes()));
    assert_eq!((arrived.len(), lost), (0, LINES as u64));
}

#[test]
fn a_live_upstream_gets_everything_and_nothing_is_kept() {
    let upstream = Upstream::tcp();
    let manager = Manager::with_store();
    let daemon = manager.start(&Config::to(upstream.url()));
    let sent = numbered("live", LINES);
    daemon.tcp(payload(&sent));
    let ledger = daemon.stop();
    assert_eq!((ledger.delivered, ledger.left()), (LINES as u64, 0));
    manager.wait_kept(0);
    assert_same_lines(&upstream.finish(), &keyed(&sent));
}

#[test]
fn a_second_signal_keeps_what_was_not_taken() {
    let upstream = Upstream::tcp_never_reading();
    let manager = Manager::with_store();
    // Up, as far as anybody knows: it is waited for.
    let config = Config::to(upstream.url()).set("shutdown.grace", "5m");
    let daemon = manager.start(&config);
    let sent = numbered("second", 5 * LINES);
    daemon.tcp(payload(&sent));
    daemon.wait_received(sent.len());
    daemon.signal(Signal::TERM);
    manager
        .told
        .find("the stop", |told| told.starts_with("STOPPING=1"));
    daemon.signal(Signal::TERM);
    let ledger = daemon.wait_end().ledger.expect("a ledger line");
    assert!(ledger.left() > 0, "{ledger:?}");
    manager.wait_kept(1);
}

#[test]
fn a_manager_without_a_word_on_its_store_is_offered_them_after_the_grace() {
    let port = Port::reserve();
    let config = Config::to(port.url()).set("shutdown.grace", "100ms");
    let manager = Manager::new();
    let daemon = manager.start(&config);
    daemon.udp("offered.line 1 1700000000");
    daemon.wait_received(1);
    let log = daemon.log.clone();
    daemon.stop();
    log.find("a warning", |line| {
        line.contains("FileDescriptorStoreMax=2")
    });
    manager.wait_kept(1);
}

#[test]
fn a_manager_without_a_store_is_not_bothered() {
    let port = Port::reserve();
    let config = Config::to(port.url()).set("shutdown.grace", "100ms");
    let manager = Manager::new().env("FDSTORE", "0");
    let daemon = manager.start(&config);
    daemon.udp("lost.line 1 1700000000");
    daemon.wait_received(1);
    let log = daemon.log.clone();
    daemon.stop();
    log.find("the loss", |line| {
        line.contains("the lines not delivered are lost")
    });
    manager.wait_kept(0);
}
