//! A server that stores what it is sent and cuts the connection before it has
//! answered: nobody can know, and `sink.uncertain` says what to do.

use super::{config, config_for};
use crate::support::{Books, Daemon, Reply, Scripted, Site, numbered, payload, wait_for};

#[test]
fn what_is_uncertain_is_sent_again() {
    sent_again(&Site::http());
}

#[test]
fn what_is_uncertain_is_sent_again_https() {
    sent_again(&Site::https());
}

fn sent_again(site: &Site) {
    let books = cut_every_third_time(site, "resend", Reply::then_close);
    assert_eq!((books.lost, books.said.dropped), (0, 0), "{books:?}");
    assert!(books.twice > 0, "a harmless fault: {books:?}");
}

#[test]
fn what_is_uncertain_is_dropped() {
    let books = dropped(&Site::http(), Reply::then_close);
    assert!(books.said.dropped_uncertain > 0, "{books:?}");
}

#[test]
fn what_is_uncertain_is_dropped_https() {
    let books = dropped(&Site::https(), Reply::then_close);
    assert!(books.said.dropped_uncertain > 0, "{books:?}");
}

#[test]
fn what_is_uncertain_is_dropped_after_a_reset() {
    dropped(&Site::http(), Reply::then_reset);
}

#[test]
fn what_is_uncertain_is_dropped_after_a_reset_https() {
    dropped(&Site::https(), Reply::then_reset);
}

fn dropped(site: &Site, cut: impl Fn(Reply) -> Reply + Send + Sync + 'static) -> Books {
    let books = cut_every_third_time(site, "drop", cut);
    // The server had stored it all.
    assert_eq!((books.lost, books.twice), (0, 0), "{books:?}");
    assert_eq!(books.said.dropped_uncertain, books.said.uncertain);
    books
}

#[test]
fn what_is_uncertain_is_sent_again_after_a_reset() {
    sent_again_after_a_reset(&Site::http());
}

#[test]
fn what_is_uncertain_is_sent_again_after_a_reset_https() {
    sent_again_after_a_reset(&Site::https());
}

fn sent_again_after_a_reset(site: &Site) {
    let books = cut_every_third_time(site, "resend", Reply::then_reset);
    assert_eq!((books.lost, books.said.dropped), (0, 0), "{books:?}");
}

fn cut_every_third_time(
    site: &Site,
    uncertain: &'static str,
    cut: impl Fn(Reply) -> Reply + Send + Sync + 'static,
) -> Books {
    let upstream = Scripted::at(site, move |asked| {
        if asked.number % 3 == 2 {
            cut(Reply::nothing().storing())
        } else {
            Reply::take()
        }
    });
    books_with(uncertain, upstream)
}

fn books_with(uncertain: &'static str, upstream: Scripted) -> Books {
    let config = config_for(upstream.site())
        .set("sink.uncertain", uncertain)
        // Many requests, however the lines gather.
        .set("batch.bytes", "4KiB");
    let daemon = Daemon::start(&config);
    let sent = numbered("doubt", 3000);
    for lines in sent.chunks(100) {
        daemon.tcp(payload(lines));
    }
    wait_for("the last line", || daemon.waiting() == 0);
    Books::close(daemon, upstream, &sent)
}

#[test]
fn what_is_dropped_and_was_not_stored_is_what_is_lost() {
    let upstream = Scripted::start(|asked| {
        if asked.number % 3 == 2 {
            Reply::nothing().then_close()
        } else {
            Reply::take()
        }
    });
    let books = books_with("drop", upstream);
    assert!(books.lost > 0, "a harmless fault: {books:?}");
    assert_eq!((books.lost, books.twice), (books.said.uncertain, 0));
    assert_eq!(books.said.dropped, books.said.uncertain, "{books:?}");
}

#[test]
fn a_request_that_was_never_whole_is_certain() {
    // Much more than the sockets hold: the server has not read it.
    let upstream = Scripted::impatient(3, |asked| {
        if asked.number < 3 {
            Reply::nothing().then_close()
        } else {
            Reply::take()
        }
    });
    let config = config(upstream.url())
        .set("sink.uncertain", "drop")
        .set("sink.request_timeout", "10s")
        .set("batch.bytes", "4MiB")
        // All of them in one request, also where the machine is busy: a small one
        // would be whole in the sockets.
        .set("batch.linger", "2s");
    let daemon = Daemon::start(&config);
    let sent = numbered("part", 60_000);
    daemon.tcp(payload(&sent));
    Books::close(daemon, upstream, &sent).assert_exact();
}

#[test]
fn an_answer_that_came_too_late_is_dropped_when_asked_to() {
    too_late(&Site::http());
}

#[test]
fn an_answer_that_came_too_late_is_dropped_when_asked_to_https() {
    too_late(&Site::https());
}

fn too_late(site: &Site) {
    let upstream = Scripted::at(site, |asked| {
        if asked.number == 0 {
            Reply::nothing().storing().then_silence()
        } else {
            Reply::take()
        }
    });
    let books = books_with("drop", upstream);
    assert_eq!((books.lost, books.twice), (0, 0), "{books:?}");
    assert!(books.said.dropped_uncertain > 0, "{books:?}");
}
