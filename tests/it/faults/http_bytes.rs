//! Answers that come slowly, in part, too early, or are none; and connections
//! that end between them.

use std::time::Duration;

use super::{config, config_for};
use crate::support::{Asked, Books, Daemon, Reply, Scripted, Site, numbered, payload, wait_for};

/// The server treats the first requests so, and then behaves.
fn at_first(
    site: &Site,
    requests: usize,
    reply: impl Fn() -> Reply + Send + Sync + 'static,
) -> Scripted {
    Scripted::at(site, move |asked| {
        if asked.number < requests {
            reply()
        } else {
            Reply::take()
        }
    })
}

fn all_arrives(upstream: Scripted) -> Books {
    let daemon = Daemon::start(&config_for(upstream.site()));
    let sent = numbered("bytes", 5000);
    daemon.tcp(payload(&sent));
    let books = Books::close(daemon, upstream, &sent);
    assert_eq!((books.lost, books.said.dropped), (0, 0), "{books:?}");
    books
}

// Answers that are not whole

#[test]
fn no_answer_in_time() {
    no_answer(&Site::http());
}

#[test]
fn no_answer_in_time_https() {
    no_answer(&Site::https());
}

fn no_answer(site: &Site) {
    let upstream = at_first(site, 2, || Reply::nothing().then_silence());
    let books = all_arrives(upstream);
    books.assert_exact();
    assert!(books.said.uncertain > 0, "{books:?}");
}

#[test]
fn no_answer_in_time_although_the_lines_are_stored() {
    no_answer_although_stored(&Site::http());
}

#[test]
fn no_answer_in_time_although_the_lines_are_stored_https() {
    no_answer_although_stored(&Site::https());
}

fn no_answer_although_stored(site: &Site) {
    let upstream = at_first(site, 2, || Reply::nothing().storing().then_silence());
    let books = all_arrives(upstream);
    assert!(books.twice > 0, "a harmless fault: {books:?}");
    assert!(books.said.uncertain >= books.twice, "{books:?}");
}

#[test]
fn an_answer_cut_short_in_its_headers() {
    cut_short_in_its_headers(&Site::http());
}

#[test]
fn an_answer_cut_short_in_its_headers_https() {
    cut_short_in_its_headers(&Site::https());
}

fn cut_short_in_its_headers(site: &Site) {
    for part in ["HT", "HTTP/1.1 20", "HTTP/1.1 202 OK\r\nContent-Len"] {
        let upstream = at_first(site, 3, move || Reply::bytes(part).then_close());
        all_arrives(upstream).assert_exact();
    }
}

#[test]
fn an_answer_cut_short_in_its_body() {
    cut_short_in_its_body(&Site::http());
}

#[test]
fn an_answer_cut_short_in_its_body_https() {
    cut_short_in_its_body(&Site::https());
}

fn cut_short_in_its_body(site: &Site) {
    const PART: &str = "HTTP/1.1 202 Accepted\r\nContent-Length: 1000\r\n\r\nso far";
    let upstream = at_first(site, 3, || Reply::bytes(PART).storing().then_close());
    all_arrives(upstream);
    let upstream = at_first(site, 3, || Reply::bytes(PART).storing().then_reset());
    all_arrives(upstream);
}

#[test]
fn a_refusal_cut_short_in_its_body() {
    const PART: &str = "HTTP/1.1 503 Busy\r\nContent-Length: 1000\r\n\r\nso far";
    let upstream = at_first(&Site::http(), 3, || Reply::bytes(PART).then_close());
    all_arrives(upstream).assert_exact();
}

#[test]
fn an_answer_that_never_ends() {
    let mut endless = b"HTTP/1.1 202 Accepted\r\nContent-Length: 99999999\r\n\r\n".to_vec();
    endless.resize(1024 * 1024, b'x');
    let upstream = at_first(&Site::http(), 3, move || {
        Reply::bytes(endless.clone()).storing().then_silence()
    });
    all_arrives(upstream);
}

#[test]
fn headers_that_never_end() {
    let mut endless = b"HTTP/1.1 202 Accepted\r\n".to_vec();
    while endless.len() < 1024 * 1024 {
        endless.extend_from_slice(b"X-More: of the same\r\n");
    }
    let upstream = at_first(&Site::http(), 3, move || {
        Reply::bytes(endless.clone()).storing().then_silence()
    });
    let books = all_arrives(upstream);
    books.assert_exact();
    assert_eq!(books.said.resent, 0, "{books:?}");
}

#[test]
fn an_answer_byte_by_byte() {
    // Every byte comes in time, and the whole does not.
    let upstream = at_first(&Site::http(), 2, || {
        Reply::take().slowly(Duration::from_millis(100))
    });
    let books = all_arrives(upstream);
    assert!(books.said.uncertain > 0, "{books:?}");
}

#[test]
fn an_answer_byte_by_byte_in_time() {
    let upstream = at_first(&Site::http(), 3, || {
        Reply::take().slowly(Duration::from_millis(1))
    });
    let books = all_arrives(upstream);
    books.assert_exact();
    assert_eq!(books.said.uncertain, 0, "{books:?}");
}

#[test]
fn garbage() {
    for garbage in [
        &b"SSH-2.0-OpenSSH_9.9\r\n"[..],
        b"\x15\x03\x03\x00\x02\x02\x46",
        b"\r\n\r\n\r\n",
        b"HTTP/9.9 202 OK\r\n\r\n",
        b"HTTP/1.1 2222 OK\r\n\r\n",
        b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
    ] {
        let upstream = at_first(&Site::http(), 2, move || Reply::bytes(garbage).then_close());
        all_arrives(upstream).assert_exact();
    }
}

#[test]
fn interim_answers_are_none() {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n";
    let upstream = at_first(&Site::http(), 3, move || {
        let last = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
        Reply::bytes(format!("{interim}{interim}{last}")).storing()
    });
    let books = all_arrives(upstream);
    books.assert_exact();
    assert_eq!(books.said.resent, 0, "{books:?}");
}

// Connections that end between answers

#[test]
fn closed_after_each_answer() {
    closed_each_time(&Site::http(), || {
        Reply::bytes("HTTP/1.1 202 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            .storing()
            .then_close()
    });
}

#[test]
fn closed_after_each_answer_without_a_word() {
    closed_each_time(&Site::http(), || Reply::take().then_close());
}

#[test]
fn closed_after_each_answer_without_a_word_https() {
    closed_each_time(&Site::https(), || Reply::take().then_close());
}

#[test]
fn reset_after_each_answer() {
    closed_each_time(&Site::http(), || Reply::take().then_reset());
}

#[test]
fn reset_after_each_answer_https() {
    closed_each_time(&Site::https(), || Reply::take().then_reset());
}

#[test]
fn answered_up_to_the_end_of_the_connection() {
    closed_each_time(&Site::http(), || {
        Reply::bytes("HTTP/1.0 202 OK\r\n\r\nthat is all")
            .storing()
            .then_close()
    });
}

/// Many small batches, each on a connection that may be just about to end. A
/// request that is known not to have got through is sent again even by a daemon
/// that is told not to. A reset can overtake what would have proved it: then the
/// lines are dropped as told, and counted.
fn closed_each_time(site: &Site, reply: impl Fn() -> Reply + Send + Sync + 'static) {
    let upstream = Scripted::at(site, move |_: &Asked| reply());
    let config = config_for(site)
        .set("batch.linger", "1ms")
        .set("sink.uncertain", "drop");
    let daemon = Daemon::start(&config);
    let sent = numbered("closed", 600);
    for (number, lines) in sent.chunks(10).enumerate() {
        daemon.tcp(payload(lines));
        if number % 5 == 0 {
            wait_for("a moment of peace", || daemon.waiting() == 0);
        }
    }
    wait_for("the last line", || daemon.waiting() == 0);
    assert!(upstream.connections() >= 10, "hardly a fault");
    let books = Books::close(daemon, upstream, &sent);
    assert_eq!(
        (books.lost, books.twice),
        (books.said.dropped_uncertain, 0),
        "{books:?}"
    );
}

// Answers before the request is whole

#[test]
fn too_large_by_its_head_alone() {
    early(413, Reply::then_linger);
}

#[test]
fn too_large_by_its_head_alone_and_closed() {
    early(413, Reply::then_close);
}

#[test]
fn refused_by_its_head_alone() {
    early(401, Reply::then_linger);
}

#[test]
fn refused_by_its_head_alone_and_closed() {
    early(401, Reply::then_close);
}

#[test]
fn busy_by_its_head_alone() {
    early(503, Reply::then_linger);
}

/// Requests larger than what the sockets hold, so that they cannot be whole
/// when they are answered.
fn early(status: u16, then: impl Fn(Reply) -> Reply + Send + Sync + 'static) {
    const EARLY: usize = 3;
    let upstream = Scripted::impatient(EARLY, move |asked| {
        if asked.number < EARLY {
            then(Reply::status(status))
        } else {
            Reply::take()
        }
    });
    let config = config(upstream.url())
        .set("sink.request_timeout", "10s")
        .set("batch.bytes", "4MiB")
        .set("batch.linger", "200ms");
    let daemon = Daemon::start(&config);
    let sent = numbered("early", 60_000);
    daemon.tcp(payload(&sent));
    let books = Books::close(daemon, upstream, &sent);
    books.assert_exact();
}
