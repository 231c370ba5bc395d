//! SIGTERM and SIGHUP while the upstream misbehaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use super::config;
use crate::support::{
    Asked, Books, Certs, Config, Daemon, Fault, Faulty, Load, Port, Reply, Scripted, numbered,
    payload, wait_for,
};

/// More than goes out between two resets.
const LINES: usize = 100_000;

/// How long a connection lives.
const LIFE: Duration = Duration::from_millis(20);

#[test]
fn term_among_resets() {
    let port = Port::reserve();
    let (daemon, sent) = with_backlog(&config(port.url()));
    let upstream = Faulty::tcp_at(&port, |_| Fault::Resets(LIFE));
    wait_for("two resets", || upstream.ended() >= 2);
    let ledger = daemon.stop();
    assert_eq!((ledger.left(), ledger.dropped), (0, 0), "{ledger:?}");
    Books::of_ended(&ledger, upstream, &sent).assert_exact();
}

#[test]
fn term_among_ends() {
    let port = Port::reserve();
    let (daemon, sent) = with_backlog(&config(port.url()));
    let upstream = Faulty::tcp_at(&port, |_| Fault::Ends(LIFE));
    wait_for("two of them", || upstream.ended() >= 2);
    let ledger = daemon.stop();
    assert_eq!((ledger.left(), ledger.dropped), (0, 0), "{ledger:?}");
    Books::of_ended(&ledger, upstream, &sent).assert_exact();
}

#[test]
fn hang_up_among_resets() {
    let upstream = Faulty::tcp(|_| Fault::Resets(LIFE * 5));
    reload_among(&config(upstream.url()), upstream).assert_exact();
}

#[test]
fn hang_up_among_ends() {
    let upstream = Faulty::tcp(|_| Fault::Ends(LIFE * 5));
    reload_among(&config(upstream.url()), upstream).assert_exact();
}

#[test]
fn hang_up_among_resets_tls() {
    let certs = Certs::new();
    let upstream = Faulty::tls(&certs, |_| Fault::Resets(LIFE * 5));
    let config = config(upstream.url()).set("sink.tls.ca_file", &certs.ca_file());
    reload_among(&config, upstream);
}

fn reload_among(config: &Config, upstream: Faulty) -> Books {
    let daemon = Daemon::start(config);
    let load = Load::start(&daemon, "reload", 10_000);
    for breaks in 1..=5 {
        wait_for("another break", || upstream.ended() >= breaks);
        daemon.reload(config);
    }
    upstream.behave();
    let sent = load.stop();
    Books::close(daemon, upstream, &sent)
}

#[test]
fn term_in_a_stall() {
    let upstream = Faulty::tcp(|_| Fault::Stalls);
    let (daemon, sent) = with_backlog(&config(upstream.url()));
    wait_for("lines in flight", || daemon.ledger().in_flight > 0);
    daemon.signal(Signal::TERM);
    wait_for("the drain", || {
        daemon
            .log
            .lines()
            .iter()
            .any(|line| line.contains("stopping"))
    });
    upstream.behave();
    let ended = daemon.wait_end();
    assert_eq!(ended.code, Some(0));
    let ledger = ended.ledger.expect("a ledger line");
    assert_eq!((ledger.left(), ledger.dropped), (0, 0), "{ledger:?}");
    Books::of_ended(&ledger, upstream, &sent).assert_exact();
}

#[test]
fn term_in_a_stall_that_lasts() {
    const GRACE: Duration = Duration::from_secs(1);
    let upstream = Faulty::tcp(|_| Fault::Stalls);
    let config = config(upstream.url()).set("shutdown.grace", "1s");
    let (daemon, sent) = with_backlog(&config);
    wait_for("lines in flight", || daemon.ledger().in_flight > 0);
    daemon.signal(Signal::TERM);
    let ended = daemon.wait_end();
    assert_eq!(ended.code, Some(0));
    assert!(ended.took >= GRACE, "gave up after {:?}", ended.took);
    assert!(ended.took < GRACE * 8, "gave up after {:?}", ended.took);
    // What it says that it has not delivered is what the upstream has not.
    let ledger = ended.ledger.expect("a ledger line");
    let given_up = ledger.left() + ledger.dropped;
    assert!(given_up > 0, "{ledger:?}");
    let books = Books::of_ended(&ledger, upstream, &sent);
    assert_eq!((books.lost, books.twice), (given_up, 0), "{books:?}");
}

#[test]
fn hang_up_in_a_stall() {
    let upstream = Faulty::tcp(|_| Fault::Stalls);
    let config = config(upstream.url());
    let (daemon, sent) = with_backlog(&config);
    wait_for("lines in flight", || daemon.ledger().in_flight > 0);
    config.write();
    daemon.signal(Signal::HUP);
    upstream.behave();
    Books::close(daemon, upstream, &sent).assert_exact();
}

/// A daemon with lines that it could not send yet, or not all.
fn with_backlog(config: &Config) -> (Daemon, Vec<String>) {
    let daemon = Daemon::start(config);
    let sent = numbered("backlog", LINES);
    daemon.tcp(payload(&sent));
    daemon.wait_received(LINES);
    (daemon, sent)
}

#[test]
fn term_among_503s() {
    let (daemon, upstream, good, sent) = with_503s();
    daemon.signal(Signal::TERM);
    let so_far = upstream.count(503);
    wait_for("more of them", || upstream.count(503) >= so_far + 3);
    good.store(true, Ordering::SeqCst);
    let ended = daemon.wait_end();
    assert_eq!(ended.code, Some(0));
    let ledger = ended.ledger.expect("a ledger line");
    assert_eq!((ledger.left(), ledger.dropped), (0, 0), "{ledger:?}");
    Books::of_ended(&ledger, upstream, &sent).assert_exact();
}

#[test]
fn hang_up_among_503s() {
    let (daemon, upstream, good, sent) = with_503s();
    for _ in 0..3 {
        let so_far = upstream.count(503);
        daemon.reload(daemon.config());
        wait_for("more of them", || upstream.count(503) >= so_far + 2);
    }
    good.store(true, Ordering::SeqCst);
    Books::close(daemon, upstream, &sent).assert_exact();
}

fn with_503s() -> (Daemon, Scripted, Arc<AtomicBool>, Vec<String>) {
    let good = Arc::new(AtomicBool::new(false));
    let upstream = Scripted::start({
        let good = Arc::clone(&good);
        move |_: &Asked| {
            if good.load(Ordering::SeqCst) {
                Reply::take()
            } else {
                Reply::status(503)
            }
        }
    });
    let daemon = Daemon::start(&config(upstream.url()));
    let sent = numbered("busy", 5000);
    daemon.tcp(payload(&sent));
    daemon.wait_received(5000);
    wait_for("some of them", || upstream.count(503) >= 2);
    (daemon, upstream, good, sent)
}

#[test]
fn hang_up_with_an_answer_outstanding() {
    // The answer comes after the reload, and counts.
    let upstream = Scripted::start(|asked| {
        if asked.number == 0 {
            Reply::take().slowly(Duration::from_millis(20))
        } else {
            Reply::take()
        }
    });
    let config = config(upstream.url()).set("sink.request_timeout", "10s");
    let daemon = Daemon::start(&config);
    let sent = numbered("outstanding", 1000);
    daemon.tcp(payload(&sent));
    wait_for("the request", || !upstream.answered().is_empty());
    daemon.reload(&config);
    let books = Books::close(daemon, upstream, &sent);
    books.assert_exact();
    assert_eq!(books.said.uncertain, 0, "{books:?}");
}
