//! A process that was stopped for longer than its timeouts: what has arrived
//! meanwhile counts, and time in which it did not run does not.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::config_for;
use crate::support::{
    Books, Daemon, Fault, Faulty, Reply, Scripted, Site, Switch, numbered, payload, udp_to,
    wait_for,
};

/// The timeouts of these tests. Enough for a busy machine.
const TIMEOUT: &str = "2s";

/// Longer than that.
const STOPPED: Duration = Duration::from_secs(5);

/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(600);

/// More than the kernel takes for a peer that does not read.
const LINES: usize = 100_000;

/// Stops the daemon, does something, and continues the daemon much later.
fn stopped(daemon: &Daemon, meanwhile: impl FnOnce()) {
    daemon.signal(Signal::STOP);
    wait_for("the stop", || {
        daemon.process_state().starts_with("State:\tT")
    });
    let since = Instant::now();
    meanwhile();
    wait_for("the end of the stop", || since.elapsed() >= STOPPED);
    daemon.signal(Signal::CONT);
}

#[test]
fn an_answer_that_came_while_stopped_counts() {
    answered(&Site::http());
}

#[test]
fn an_answer_that_came_while_stopped_counts_https() {
    answered(&Site::https());
}

fn answered(site: &Site) {
    for uncertain in ["resend", "drop"] {
        let answers = Switch::default();
        let upstream = Scripted::at(site, {
            let answers = answers.clone();
            move |_| {
                answers.wait();
                Reply::take()
            }
        });
        let config = config_for(site)
            .set("sink.request_timeout", TIMEOUT)
            .set("sink.uncertain", uncertain);
        let daemon = Daemon::start(&config);
        let sent = numbered("stopped", 50);
        daemon.tcp(payload(&sent));
        wait_for("a request", || upstream.asked() == 1);
        stopped(&daemon, || {
            answers.on();
            wait_for("the answer", || !upstream.answered().is_empty());
        });
        let books = Books::close(daemon, upstream, &sent);
        books.assert_exact();
        let said = &books.said;
        assert_eq!((said.resent, said.uncertain), (0, 0), "{books:?}");
    }
}

#[test]
fn a_server_that_closed_while_stopped_gets_a_new_connection() {
    closed(&Site::http());
}

#[test]
fn a_server_that_closed_while_stopped_gets_a_new_connection_https() {
    closed(&Site::https());
}

/// Lines that came while the daemon was stopped are not written to a connection
/// that has ended: with `drop`, they would be lost.
fn closed(site: &Site) {
    let closes = Switch::default();
    let upstream = Scripted::at(site, {
        let closes = closes.clone();
        move |asked| {
            if asked.number == 0 {
                Reply::take().then_close_when(&closes)
            } else {
                Reply::take()
            }
        }
    });
    let config = config_for(site)
        .set("sink.request_timeout", TIMEOUT)
        .set("sink.uncertain", "drop");
    let daemon = Daemon::start(&config);
    let mut sent = numbered("before", 10);
    daemon.tcp(payload(&sent));
    daemon.wait_delivered(10);
    let client = daemon.address("udp");
    stopped(&daemon, || {
        closes.on();
        wait_for("the end", || upstream.ended() == 1);
        for line in numbered("meanwhile", 10) {
            udp_to(client, format!("{line}\n"));
            sent.push(line);
        }
    });
    let books = Books::close(daemon, upstream, &sent);
    books.assert_exact();
    let said = &books.said;
    assert_eq!((said.resent, said.uncertain), (0, 0), "{books:?}");
}

#[test]
fn a_connection_that_was_read_while_stopped_is_kept() {
    kept(&Site::tcp());
}

#[test]
fn a_connection_that_was_read_while_stopped_is_kept_tls() {
    kept(&Site::tls());
}

/// A write is under way, and is read while the daemon is stopped.
fn kept(site: &Site) {
    // Of TLS, the handshake is read, and hardly more.
    let is_tls = site.ca_file().is_some();
    let upstream = Faulty::at(site, move |_| {
        if is_tls {
            Fault::Sips(1024, FOR_EVER)
        } else {
            Fault::Stalls
        }
    });
    let config = config_for(site).set("sink.write_timeout", TIMEOUT);
    let daemon = Daemon::start(&config);
    let sent = numbered("stopped", LINES);
    daemon.tcp(payload(&sent));
    wait_for("a write under way", || daemon.ledger().in_flight > 0);
    stopped(&daemon, || {
        upstream.behave();
        let mut before = None;
        wait_for("all that is on its way", || {
            let now = Some(upstream.lines().len());
            std::mem::replace(&mut before, now) == now && now > Some(0)
        });
    });
    wait_for("the last line", || daemon.waiting() == 0);
    assert_eq!(upstream.connections(), 1);
    assert_eq!(daemon.total("sidecarbon_sink_errors_total"), 0);
    let books = Books::close(daemon, upstream, &sent);
    books.assert_exact();
    assert_eq!((books.said.resent, books.said.at_risk), (0, 0), "{books:?}");
}

#[test]
fn a_drain_that_was_stopped_goes_on() {
    for site in [Site::tcp(), Site::tls()] {
        let upstream = Faulty::at(&site, |_| Fault::Sips(16 * 1024, Duration::from_millis(5)));
        let config = config_for(&site).set("shutdown.grace", "4s");
        let daemon = Daemon::start(&config);
        let sent = numbered("drain", 20_000);
        daemon.tcp(payload(&sent));
        daemon.wait_received(sent.len());
        daemon.signal(Signal::TERM);
        daemon
            .log
            .find("the stop", |line| line.contains("stopping"));
        stopped(&daemon, || {});
        let books = Books::of_stopping(daemon, upstream, &sent);
        books.assert_exact();
    }
}
