//! Answers whose status is plain and whose header fields are not: the status line
//! says what became of the lines.

use std::time::Duration;

use super::{config, config_for};
use crate::support::{Books, Daemon, Reply, Scripted, Site, numbered, payload, wait_for};

/// Heads of a 2xx, each with the fault that it is named after. The body is empty.
fn odd_heads() -> Vec<(&'static str, Vec<u8>)> {
    let with = |fields: &[u8]| {
        [
            b"HTTP/1.1 202 Accepted\r\n",
            fields,
            b"Content-Length: 0\r\n\r\n",
        ]
        .concat()
    };
    let many = |count: usize| -> Vec<u8> {
        (0..count)
            .flat_map(|number| format!("X-Field-{number}: value\r\n").into_bytes())
            .collect()
    };
    let long = |bytes: usize| format!("X-Long: {}\r\n", "x".repeat(bytes)).into_bytes();
    vec![
        ("folded", with(b"X-Folded: one\r\n two\r\n\tthree\r\n")),
        ("folded first", with(b" folded: first\r\n")),
        ("space before the colon", with(b"X-Space : 1\r\n")),
        ("tab before the colon", with(b"X-Tab\t: 1\r\n")),
        (
            "brackets",
            with(b"X-[Name]: 1\r\nX-(Name): 2\r\nX-{N}: 3\r\n"),
        ),
        ("no colon", with(b"nothing to see here\r\n")),
        ("no name", with(b": value\r\n")),
        ("blank in the name", with(b"X Name: value\r\n")),
        ("Latin-1", with(b"X-Name: caf\xe9\r\nX-\xe9: 1\r\n")),
        ("UTF-8", with("X-Näme: größe\r\n".as_bytes())),
        ("control characters", with(b"X-Control: a\x00b\x07c\r\n")),
        ("carriage return", with(b"X-Return: a\rb\r\n")),
        ("120 fields", with(&many(120))),
        ("500 fields", with(&many(500))),
        ("20 KiB", with(&long(20 << 10))),
        ("100 KiB", with(&long(100 << 10))),
        ("300 KiB", with(&many(15_000))),
        (
            "two lengths",
            with(b"Content-Length: 1\r\nContent-Length: 2\r\n"),
        ),
        ("a length of words", with(b"Content-Length: many\r\n")),
        ("a negative length", with(b"Content-Length: -1\r\n")),
        ("length and coding", with(b"Transfer-Encoding: chunked\r\n")),
        ("an unknown coding", with(b"Transfer-Encoding: sidecar\r\n")),
        (
            "bare line feeds",
            b"HTTP/1.1 202 Accepted\nX-Bare: 1\nContent-Length: 0\n\n".to_vec(),
        ),
        ("no field", b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
        ("no reason", b"HTTP/1.1 204\r\n\r\n".to_vec()),
        (
            "odd reason",
            b"HTTP/1.0 202 \xe9\x01 - ok\r\nContent-Length: 0\r\n\r\n".to_vec(),
        ),
        ("two blanks", b"HTTP/1.1  204 OK\r\n\r\n".to_vec()),
        (
            "empty lines before",
            b"\r\n\r\nHTTP/1.1 204 OK\r\n\r\n".to_vec(),
        ),
        (
            "after an interim answer",
            b"HTTP/1.1 100 Continue\r\nX-[1]: 1\r\n\r\nHTTP/1.1 204 OK\r\nX-(2: 2\r\n\r\n".to_vec(),
        ),
        (
            "another 2xx",
            b"HTTP/1.1 299 Fine\r\nX-\x7f: 1\r\n\r\n".to_vec(),
        ),
    ]
}

#[test]
fn a_2xx_is_a_delivery_whatever_its_fields() {
    a_2xx_is_a_delivery(&Site::http());
}

#[test]
fn a_2xx_is_a_delivery_whatever_its_fields_https() {
    a_2xx_is_a_delivery(&Site::https());
}

fn a_2xx_is_a_delivery(site: &Site) {
    let heads = odd_heads();
    let upstream = Scripted::at(site, {
        let heads = heads.clone();
        move |asked| Reply::bytes(heads[asked.number % heads.len()].1.clone()).storing()
    });
    // An answer is waited for as long as it takes; only the body of one with an odd
    // length has an end in time.
    let config = config_for(site).set("sink.request_timeout", "30s");
    let daemon = Daemon::start(&config);
    let mut sent = Vec::new();
    for (fault, _) in &heads {
        let before = upstream.answered().len();
        let name = format!("odd.{before}");
        let lines = numbered(&name, 3);
        daemon.tcp(payload(&lines));
        sent.extend(lines);
        wait_for("a delivery", || daemon.waiting() == 0);
        let requests = upstream.answered().len() - before;
        let uncertain = daemon.total("sidecarbon_lines_uncertain_total");
        assert_eq!((requests, uncertain), (1, 0), "{fault}");
    }
    let books = Books::close(daemon, upstream, &sent);
    books.assert_exact();
    assert_eq!(books.said.resent, 0, "{books:?}");
}

#[test]
fn a_2xx_without_an_end_is_a_delivery() {
    for (head, then) in [
        // No empty line.
        (
            &b"HTTP/1.1 202 Accepted\r\n"[..],
            Reply::then_close as fn(Reply) -> Reply,
        ),
        (
            b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n",
            Reply::then_close,
        ),
        (
            b"HTTP/1.1 202 Accepted\r\nX-Never: ends",
            Reply::then_silence,
        ),
    ] {
        let upstream = Scripted::start(move |_| then(Reply::bytes(head).storing()));
        let daemon = Daemon::start(&config(upstream.url()));
        let sent = numbered("endless", 20);
        daemon.tcp(payload(&sent));
        let books = Books::close(daemon, upstream, &sent);
        books.assert_exact();
        assert_eq!(
            (books.said.resent, books.said.uncertain),
            (0, 0),
            "{books:?}"
        );
    }
}

#[test]
fn a_2xx_that_drips_until_the_timeout_is_a_delivery() {
    let upstream = Scripted::start(|_| {
        let head = format!("HTTP/1.1 202 Accepted\r\nX-Drips: {}", "x".repeat(60));
        Reply::bytes(head)
            .storing()
            .slowly(Duration::from_millis(10))
            .then_silence()
    });
    let daemon = Daemon::start(&config(upstream.url()));
    let sent = numbered("drips", 20);
    daemon.tcp(payload(&sent));
    Books::close(daemon, upstream, &sent).assert_exact();
}

/// Refusals mean what they say as well.
#[test]
fn other_statuses_with_odd_fields_mean_what_they_say() {
    const FIELDS: &str = "X-[1]: 1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n";
    let upstream = Scripted::start(|asked| match asked.number {
        0 => Reply::bytes(format!("HTTP/1.1 503 Busy\r\n{FIELDS}")),
        1 => Reply::bytes(format!("HTTP/1.1 413 Too Large\r\n{FIELDS}")),
        _ => Reply::take(),
    });
    let daemon = Daemon::start(&config(upstream.url()));
    let sent = numbered("others", 100);
    daemon.tcp(payload(&sent));
    let books = Books::close(daemon, upstream, &sent);
    books.assert_exact();
    assert_eq!(books.said.uncertain, 0, "{books:?}");
}

/// Answers of something that does not speak HTTP: uncertain once, then a fault of
/// the configuration, with one ERROR.
#[test]
fn what_is_no_http_is_a_fault_of_the_configuration() {
    for answer in [
        &b"SSH-2.0-OpenSSH_9.9\r\n"[..],
        b"220 mail.example ESMTP\r\n",
        b"\x15\x03\x03\x00\x02\x02\x46",
        b"HTTP/2.0 202 Accepted\r\n\r\n",
        b"-ERR unknown command 'POST'\r\n",
        b"<html>202 Accepted</html>\n",
    ] {
        let upstream = Scripted::start(move |asked| {
            if asked.number < 6 {
                Reply::bytes(answer).then_close()
            } else {
                Reply::take()
            }
        });
        let daemon = Daemon::start(&config(upstream.url()));
        let sent = numbered("other", 20);
        daemon.tcp(payload(&sent));
        wait_for("the last line", || daemon.waiting() == 0);
        let errors = daemon.log.lines();
        let errors: Vec<&String> = errors
            .iter()
            .filter(|line| line.contains(" ERROR "))
            .collect();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].contains("sink.url"), "no remedy in {errors:?}");
        let books = Books::close(daemon, upstream, &sent);
        books.assert_exact();
        assert_eq!(books.said.uncertain, 20, "{books:?}");
    }
}
