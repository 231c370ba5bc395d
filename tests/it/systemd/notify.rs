//! What the manager hears.

use rustix::process::Signal;

use crate::support::{Config, KEY, Manager, NEW_KEY, Port, Upstream, numbered, payload};

#[test]
fn it_is_ready_once_it_listens_and_says_so_when_it_stops() {
    let upstream = Upstream::tcp();
    let manager = Manager::new();
    let daemon = manager.start(&Config::to(upstream.url()));
    manager.told.expect("READY=1");
    daemon.tcp("ready.line 1 1700000000\n");
    upstream.expect(&format!("{KEY}.ready.line 1 1700000000"));
    let ledger = daemon.stop();
    assert_eq!((ledger.delivered, ledger.left()), (1, 0));
    let told = manager
        .told
        .find("the end", |told| told.starts_with("STOPPING=1"));
    assert!(told.contains(" EXTEND_TIMEOUT_USEC="), "{told}");
    // Nothing waited, so nothing is kept.
    manager.wait_kept(0);
}

#[test]
fn it_tells_in_words_how_queue_and_upstream_are() {
    const LINES: usize = 1234;
    let port = Port::reserve();
    let manager = Manager::new();
    let daemon = manager.start(&Config::to(port.url()));
    let idle = format!("STATUS=queue empty; upstream {} not tried yet", port.url());
    manager.told.expect(&idle);
    daemon.tcp(payload(&numbered("status", LINES)));
    manager.told.find("the outage", |told| {
        told.starts_with("STATUS=1,234 lines queued, ") && told.contains(" down for ")
    });
    let upstream = Upstream::tcp_at(&port);
    daemon.wait_delivered(LINES);
    let recovered = format!("STATUS=queue empty; upstream {} up", port.url());
    manager.told.expect(&recovered);
    daemon.stop();
    drop(upstream);
}

#[test]
fn a_reload_begins_and_ends_whatever_comes_of_it() {
    let upstream = Upstream::tcp();
    let manager = Manager::new();
    let config = Config::to(upstream.url());
    let daemon = manager.start(&config);
    let ready = |count: usize| {
        manager.told.look("READY=1", |told| {
            (told.iter().filter(|told| *told == "READY=1").count() == count).then_some(())
        });
    };
    ready(1);
    daemon.reload(&config);
    ready(2);
    let told = manager
        .told
        .find("RELOADING=1", |told| told.starts_with("RELOADING=1"));
    let (_, time) = told.split_once(" MONOTONIC_USEC=").expect("one datagram");
    assert!(time.parse::<u64>().is_ok_and(|time| time > 0), "{told}");

    config.write_text("[sink");
    daemon.signal(Signal::HUP);
    ready(3);
    daemon
        .log
        .find("the refusal", |line| line.contains("not reloaded"));
    daemon.stop();
}

#[test]
fn the_watchdog_is_fed_while_the_upstream_is_dead() {
    let port = Port::reserve();
    let manager = Manager::new().env("WATCHDOG_USEC", "200000");
    let daemon = manager.start(&Config::to(port.url()));
    daemon.udp("watched.line 1");
    daemon.wait_received(1);
    manager.told.look("the watchdog's food", |told| {
        let fed = told.iter().filter(|told| *told == "WATCHDOG=1").count();
        (fed >= 20).then_some(())
    });
    assert_eq!(daemon.waiting(), 1);
    daemon.signal(Signal::KILL);
    daemon.wait_end();
}

#[test]
fn a_watchdog_for_another_process_is_not_fed() {
    let upstream = Upstream::tcp();
    let manager = Manager::new()
        .env("WATCHDOG_USEC", "1000")
        .env("WATCHDOG_PID", "1");
    let daemon = manager.start(&Config::to(upstream.url()));
    daemon.tcp("unwatched.line 1 1700000000\n");
    upstream.expect(&format!("{KEY}.unwatched.line 1 1700000000"));
    daemon.stop();
    manager
        .told
        .find("the end", |told| told.starts_with("STOPPING=1"));
    manager.told.look("no food", |told| {
        (!told.iter().any(|told| told == "WATCHDOG=1")).then_some(())
    });
}

#[test]
fn a_new_key_applies_to_the_lines_that_waited_before_the_restart() {
    let port = Port::reserve();
    let manager = Manager::with_store();
    let config = Config::to(port.url());
    let daemon = manager.start(&config);
    daemon.tcp("rotated.line 1 1700000000\n");
    daemon.wait_received(1);
    daemon.stop();
    config.write_key(NEW_KEY);
    let upstream = Upstream::tcp_at(&port);
    let daemon = manager.start(&config);
    upstream.expect(&format!("{NEW_KEY}.rotated.line 1 1700000000"));
    daemon.stop();
}

#[test]
fn a_manager_that_is_gone_harms_nothing() {
    let upstream = Upstream::tcp();
    let manager = Manager::with_store();
    let daemon = manager.start(&Config::to(upstream.url()));
    drop(manager);
    daemon.tcp("alone.line 1 1700000000\n");
    upstream.expect(&format!("{KEY}.alone.line 1 1700000000"));
    daemon.reload(daemon.config());
    let ledger = daemon.stop();
    assert_eq!(ledger.delivered, 1);
}
