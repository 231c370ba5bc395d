//! SIGTERM and SIGHUP while an HTTP server is busy, silent, or refuses lines.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::config_for;
use super::signals::{close, rows, say};
use crate::support::{
    Asked, Books, Config, Daemon, Reply, Scripted, Site, Switch, numbered, payload, wait_for,
};

const LINES: usize = 5000;

const TERM: Signal = Signal::TERM;
const HUP: Signal = Signal::HUP;

rows! {
    term_among_503s: among_503s(TERM, Site::http());
    term_among_503s_https: among_503s(TERM, Site::https());
    hang_up_among_503s: among_503s(HUP, Site::http());
    hang_up_among_503s_https: among_503s(HUP, Site::https());
    term_while_it_asks_to_wait: while_it_asks_to_wait(TERM, Site::http());
    term_while_it_asks_to_wait_https: while_it_asks_to_wait(TERM, Site::https());
    hang_up_while_it_asks_to_wait: while_it_asks_to_wait(HUP, Site::http());
    hang_up_while_it_asks_to_wait_https: while_it_asks_to_wait(HUP, Site::https());
    term_among_culprits: among_culprits(TERM, Site::http());
    term_among_culprits_https: among_culprits(TERM, Site::https());
    hang_up_among_culprits: among_culprits(HUP, Site::http());
    hang_up_among_culprits_https: among_culprits(HUP, Site::https());
    term_with_an_answer_outstanding: with_an_answer_outstanding(TERM, Site::http());
    term_with_an_answer_outstanding_https: with_an_answer_outstanding(TERM, Site::https());
    hang_up_with_an_answer_outstanding: with_an_answer_outstanding(HUP, Site::http());
    hang_up_with_an_answer_outstanding_https: with_an_answer_outstanding(HUP, Site::https());
    term_while_requests_hang: while_requests_hang(TERM, Site::http());
    term_while_requests_hang_https: while_requests_hang(TERM, Site::https());
    hang_up_while_requests_hang: while_requests_hang(HUP, Site::http());
    hang_up_while_requests_hang_https: while_requests_hang(HUP, Site::https());
}

fn among_503s(signal: Signal, site: &Site) {
    let good = Switch::default();
    let upstream = Scripted::at(site, {
        let good = good.clone();
        move |_: &Asked| {
            if good.is_on() {
                Reply::take()
            } else {
                Reply::status(503)
            }
        }
    });
    let (daemon, sent) = with_lines(&config_for(site));
    wait_for("some of them", || upstream.count(503) >= 2);
    say(signal, &daemon);
    let so_far = upstream.count(503);
    wait_for("more of them", || upstream.count(503) >= so_far + 3);
    good.on();
    close(signal, daemon, upstream, &sent).assert_exact();
}

/// For much longer than anybody waits here: neither a drain nor a reload does.
fn while_it_asks_to_wait(signal: Signal, site: &Site) {
    let upstream = Scripted::at(site, |asked| {
        if asked.number == 0 {
            Reply::with_field(429, "Retry-After: 120")
        } else {
            Reply::take()
        }
    });
    let (daemon, sent) = with_lines(&config_for(site));
    wait_for("the wish", || upstream.count(429) == 1);
    say(signal, &daemon);
    close(signal, daemon, upstream, &sent).assert_exact();
}

/// The signal comes when some requests were refused and others are still to
/// be tried.
fn among_culprits(signal: Signal, site: &Site) {
    const BAD: [usize; 4] = [0, 1000, 2345, LINES - 1];
    const REFUSALS: usize = 6;
    let (searching, signalled) = (Switch::default(), Switch::default());
    let (daemon, sent) = with_lines(&patient(site));
    let upstream = Scripted::at(site, {
        let bad = BAD.map(|number| sent[number].clone());
        let (searching, signalled) = (searching.clone(), signalled.clone());
        let refusals = AtomicUsize::new(0);
        move |asked| {
            if !asked.lines.iter().any(|line| bad.contains(line)) {
                return Reply::take();
            }
            if refusals.fetch_add(1, Ordering::SeqCst) == REFUSALS {
                searching.on();
                signalled.wait();
            }
            Reply::status(400)
        }
    });
    searching.wait();
    say(signal, &daemon);
    signalled.on();
    let books = close(signal, daemon, upstream, &sent);
    assert_eq!(
        (books.lost, books.twice, books.said.dropped),
        (4, 0, 4),
        "{books:?}"
    );
}

/// The answer comes after the signal, and counts.
fn with_an_answer_outstanding(signal: Signal, site: &Site) {
    let (asked, signalled) = (Switch::default(), Switch::default());
    let upstream = Scripted::at(site, {
        let (asked, signalled) = (asked.clone(), signalled.clone());
        move |_: &Asked| {
            asked.on();
            signalled.wait();
            Reply::take()
        }
    });
    let (daemon, sent) = with_lines(&patient(site));
    asked.wait();
    say(signal, &daemon);
    signalled.on();
    let books = close(signal, daemon, upstream, &sent);
    books.assert_exact();
    assert_eq!(
        (books.said.uncertain, books.said.resent),
        (0, 0),
        "{books:?}"
    );
}

/// One is waiting for its answer when the signal comes, and the next one gets
/// none either.
fn while_requests_hang(signal: Signal, site: &Site) {
    let upstream = hanging(site, 2);
    let (daemon, sent) = with_lines(&config_for(site));
    wait_for("a request", || !upstream.answered().is_empty());
    say(signal, &daemon);
    let books = close(signal, daemon, upstream, &sent);
    // They were stored all the same.
    assert_eq!((books.lost, books.said.dropped), (0, 0), "{books:?}");
    assert!(books.twice > 0, "a harmless fault: {books:?}");
    assert!(books.said.uncertain >= books.twice, "{books:?}");
}

// For longer than the daemon may wait

rows! {
    term_while_a_request_hangs_for_longer_than_the_grace:
        for_longer_than_the_grace(TERM, Site::http());
    term_while_a_request_hangs_for_longer_than_the_grace_https:
        for_longer_than_the_grace(TERM, Site::https());
    hang_up_while_a_request_hangs_for_long: hangs_and_is_sent_again(HUP, Site::http());
    hang_up_while_a_request_hangs_for_long_https: hangs_and_is_sent_again(HUP, Site::https());
    hang_up_while_a_request_hangs_for_long_and_is_dropped:
        hangs_and_is_dropped(HUP, Site::http());
    hang_up_while_a_request_hangs_for_long_and_is_dropped_https:
        hangs_and_is_dropped(HUP, Site::https());
}

fn for_longer_than_the_grace(signal: Signal, site: &Site) {
    const GRACE: Duration = Duration::from_secs(1);
    let upstream = hanging(site, usize::MAX);
    let (daemon, sent) = with_lines(&patient(site).set("shutdown.grace", "1s"));
    wait_for("a request", || !upstream.answered().is_empty());
    let asked = Instant::now();
    say(signal, &daemon);
    let books = Books::of_stopping(daemon, upstream, &sent);
    let took = asked.elapsed();
    assert!(took >= GRACE && took < GRACE * 8, "gave up after {took:?}");
    // Nothing is known to have arrived.
    assert_eq!((books.said.left, books.twice), (books.sent, 0), "{books:?}");
}

/// A reload waits for an answer, but not as long as the request may take. What
/// it gives up is as uncertain as if the time were over.
fn hangs_and_is_sent_again(signal: Signal, site: &Site) {
    let books = hangs_past_a_reload(signal, site, "resend");
    assert_eq!((books.lost, books.said.dropped), (0, 0), "{books:?}");
    assert!(books.twice > 0, "a harmless fault: {books:?}");
    assert!(books.said.uncertain >= books.twice, "{books:?}");
}

fn hangs_and_is_dropped(signal: Signal, site: &Site) {
    let books = hangs_past_a_reload(signal, site, "drop");
    assert_eq!((books.lost, books.twice), (0, 0), "{books:?}");
    assert!(books.said.dropped_uncertain > 0, "{books:?}");
    assert_eq!(books.said.dropped_uncertain, books.said.uncertain);
}

fn hangs_past_a_reload(signal: Signal, site: &Site, uncertain: &'static str) -> Books {
    let upstream = hanging(site, 1);
    let (daemon, sent) = with_lines(&patient(site).set("sink.uncertain", uncertain));
    wait_for("a request", || !upstream.answered().is_empty());
    say(signal, &daemon);
    wait_for("nobody to wait for it any more", || {
        daemon.metric("sidecarbon_lines_uncertain_total") > 0
    });
    close(signal, daemon, upstream, &sent)
}

/// Stores what the first requests bring, and says nothing. The others take
/// their time, so that a daemon that stops can be asked what these have cost.
fn hanging(site: &Site, requests: usize) -> Scripted {
    Scripted::at(site, move |asked| {
        if asked.number < requests {
            Reply::nothing().storing().then_silence()
        } else {
            Reply::take().slowly(Duration::from_millis(2))
        }
    })
}

/// Nothing takes too long.
fn patient(site: &Site) -> Config {
    config_for(site).set("sink.request_timeout", "30s")
}

fn with_lines(config: &Config) -> (Daemon, Vec<String>) {
    let daemon = Daemon::start(config);
    let sent = numbered("signal", LINES);
    daemon.tcp(payload(&sent));
    daemon.wait_received(LINES);
    (daemon, sent)
}
