//! The odd lines that real clients write: what arrives of each, and what the
//! ledger says. The tables hold the rows of docs/reference/lines.md and of "Clients" in
//! docs/facts.md.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Shutdown, TcpStream};

use crate::support::{
    Config, Daemon, KEY, Metrics, Upstream, assert_rejected, closes_silently, now, reset,
    say_and_hang_up, udp_to, unix_datagram, unix_stream,
};

use Fate::{Arrives, Ignored, Rejected, Stamped};

/// What becomes of a line.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// This goes upstream, behind the key.
    Arrives(&'static str),
    /// This goes upstream with the second of its receipt.
    Stamped(&'static str),
    /// It is counted for this reason, and nothing goes upstream.
    Rejected(&'static str),
    /// It is no line at all.
    Ignored,
}

/// `<KEY>` in what is sent stands for our own key, `<key>` for the same in
/// lower case.
type Row = (&'static [u8], Fate);

#[rustfmt::skip]
const ODD_LINES: &[Row] = &[
    // Blanks
    (b"odd.tabs\t1\t1700000000", Arrives("odd.tabs 1 1700000000")),
    (b"odd.blanks   1    1700000000", Arrives("odd.blanks 1 1700000000")),
    (b" \todd.outer 1 1700000000 \t ", Arrives("odd.outer 1 1700000000")),
    (b"odd.crlf 1 1700000000\r", Arrives("odd.crlf 1 1700000000")),
    (b"odd.crlf.bare 1\r", Stamped("odd.crlf.bare 1")),
    (b"", Ignored),
    (b"  \t ", Ignored),
    (b"\r", Ignored),
    // C programs that send `strlen + 1`; texts that begin with a byte order mark
    (b"odd.nul.last 1 1700000000\0", Arrives("odd.nul.last 1 1700000000")),
    (b"odd.nul.many 1 1700000000\r\0\0\0", Arrives("odd.nul.many 1 1700000000")),
    (b"odd.nul.behind 1 1700000000\n\0", Arrives("odd.nul.behind 1 1700000000")),
    (b"odd.nul.time.none 1\0", Stamped("odd.nul.time.none 1")),
    (b"\xef\xbb\xbfodd.mark 1 1700000000", Arrives("odd.mark 1 1700000000")),
    (b"\xef\xbb\xbf<KEY>.odd.mark.key 1 1700000000\0", Arrives("odd.mark.key 1 1700000000")),
    (b"\xef\xbb\xbf", Ignored),
    (b"odd.mark.\xef\xbb\xbfinside 1 1700000000", Arrives("odd.mark.\u{feff}inside 1 1700000000")),
    // Times
    (b"odd.time.none 1", Stamped("odd.time.none 1")),
    (b"odd.time.minus_one 1 -1", Stamped("odd.time.minus_one 1")),
    (b"odd.time.n 1 N", Stamped("odd.time.n 1")),
    (b"odd.time.float 1 1700000000.987", Arrives("odd.time.float 1 1700000000")),
    (b"odd.time.exponent 1 1e9", Arrives("odd.time.exponent 1 1000000000")),
    (b"odd.time.exponents 1 1.7E+9", Arrives("odd.time.exponents 1 1700000000")),
    (b"odd.time.zero 1 0", Arrives("odd.time.zero 1 0")),
    (b"odd.time.history 1 86400", Arrives("odd.time.history 1 86400")),
    (b"odd.time.ms 1 1700000000123", Rejected("timestamp")),
    (b"odd.time.long 1 17000000000", Rejected("timestamp")),
    (b"odd.time.ns 1 1700000000123456789", Rejected("timestamp")),
    (b"odd.time.negative 1 -5", Rejected("timestamp")),
    (b"odd.time.inf 1 inf", Rejected("timestamp")),
    (b"odd.time.nan 1 nan", Rejected("timestamp")),
    (b"odd.time.overflow 1 1e400", Rejected("timestamp")),
    (b"odd.time.text 1 now", Rejected("timestamp")),
    // Values
    (b"odd.value 1e-07 1700000000", Arrives("odd.value 1e-07 1700000000")),
    (b"odd.value +1 1700000000", Arrives("odd.value +1 1700000000")),
    (b"odd.value .5 1700000000", Arrives("odd.value .5 1700000000")),
    (b"odd.value 1. 1700000000", Arrives("odd.value 1. 1700000000")),
    (b"odd.value -0.0 1700000000", Arrives("odd.value -0.0 1700000000")),
    (b"odd.value 1_000 1700000000", Rejected("value")),
    (b"odd.value 0x10 1700000000", Rejected("value")),
    (b"odd.value True 1700000000", Rejected("value")),
    (b"odd.value \xd9\xa1\xd9\xa2 1700000000", Rejected("value")),
    (b"odd.value 1,5 1700000000", Rejected("value")),
    (b"odd.value - 1700000000", Rejected("value")),
    (b"odd.value 1e 1700000000", Rejected("value")),
    (b"odd.value nan 1700000000", Rejected("not_finite")),
    (b"odd.value NaN 1700000000", Rejected("not_finite")),
    (b"odd.value -nan 1700000000", Rejected("not_finite")),
    (b"odd.value inf 1700000000", Rejected("not_finite")),
    (b"odd.value +Inf 1700000000", Rejected("not_finite")),
    (b"odd.value -INFINITY", Rejected("not_finite")),
    (b"odd.value 1e400 1700000000", Rejected("not_finite")),
    (b"odd.value -1e400 1700000000", Rejected("not_finite")),
    // Fields
    (b"odd.alone", Rejected("fields")),
    (b"odd.four 1 1700000000 more", Rejected("fields")),
    (b"odd.five 1 1700000000 a b", Rejected("fields")),
    // Names: dots are squeezed, so that `KEY..name` is never sent
    (b".odd.dots.first 1 1700000000", Arrives("odd.dots.first 1 1700000000")),
    (b"odd.dots.last. 1 1700000000", Arrives("odd.dots.last 1 1700000000")),
    (b"odd..dots...many 1 1700000000", Arrives("odd.dots.many 1 1700000000")),
    (b"... 1 1700000000", Rejected("name")),
    (b";tag=alone 1 1700000000", Rejected("name")),
    // A blank that Python would split at, and ASCII clients never see
    (b"odd.nbsp\xc2\xa0x 1 1700000000", Rejected("name")),
    (b"odd.em\xe2\x80\x83x 1 1700000000", Rejected("name")),
    // Bytes that are no text
    (b"odd.latin1.\xfc 1 1700000000", Rejected("encoding")),
    (b"odd.broken.\xc3 1 1700000000", Rejected("encoding")),
    (b"\xff\xfe\xfd", Rejected("encoding")),
    (b"odd.nul\0x 1 1700000000", Rejected("encoding")),
    (b"odd.escape\x1b[31m 1 1700000000", Rejected("encoding")),
    (b"odd.delete\x7f 1 1700000000", Rejected("encoding")),
    // Our own key, as a re-pointed client sends it
    (b"<KEY>.odd.key.exact 1 1700000000", Arrives("odd.key.exact 1 1700000000")),
    (b"<key>.odd.key.lower 1 1700000000", Arrives("odd.key.lower 1 1700000000")),
    (b"<KEY>.<key>.odd.key.twice 1 1700000000", Arrives("odd.key.twice 1 1700000000")),
    (b"<KEY>..odd.key.dots 1", Stamped("odd.key.dots 1")),
    (b"<KEY>. 1 1700000000", Rejected("name")),
    (b"<KEY>.odd.key.bad oops 1700000000", Rejected("value")),
    (b"<key>.odd.key.fields", Rejected("fields")),
];

#[rustfmt::skip]
const CLIENT_LINES: &[Row] = &[
    // graphiteudp: %f %d, or %f alone
    (b"client.graphiteudp 12.500000 1700000000", Arrives("client.graphiteudp 12.500000 1700000000")),
    (b"client.graphiteudp.now 12.500000", Stamped("client.graphiteudp.now 12.500000")),
    (b"client.graphiteudp nan 1700000000", Rejected("not_finite")),
    (b"client.graphiteudp inf 1700000000", Rejected("not_finite")),
    // Diamond; its HostedGraphite handler lower-cases the key
    (b"servers.web1.cpu.total.idle 96.10 1700000000", Arrives("servers.web1.cpu.total.idle 96.10 1700000000")),
    (b"<key>.servers.web1.load 0.5 1700000000", Arrives("servers.web1.load 0.5 1700000000")),
    // graphyte: Python's repr, tags
    (b"client.graphyte 1e+22 1700000000", Arrives("client.graphyte 1e+22 1700000000")),
    (b"client.graphyte;dc=fra;rack=a1 5 1700000000", Arrives("client.graphyte;dc=fra;rack=a1 5 1700000000")),
    (b"client.graphyte nan 1700000000", Rejected("not_finite")),
    (b"client.graphyte True 1700000000", Rejected("value")),
    // collectd write_graphite: %.15g and \r\n
    (b"web1.load.shortterm 0.333333333333333 1700000000\r", Arrives("web1.load.shortterm 0.333333333333333 1700000000")),
    (b"web1.load.shortterm nan 1700000000\r", Rejected("not_finite")),
    // Telegraf: shortest decimal
    (b"telegraf.web1.mem.used_percent 42.7 1700000000", Arrives("telegraf.web1.mem.used_percent 42.7 1700000000")),
    // OpenTelemetry: tags, blanks in tag values
    (b"otel.requests;service=web;code=200 17 1700000000", Arrives("otel.requests;service=web;code=200 17 1700000000")),
    (b"otel.requests;service=my web 17 1700000000", Rejected("fields")),
    (b"otel.requests;service=web NaN 1700000000", Rejected("not_finite")),
    (b"otel.requests;service=web +Inf 1700000000", Rejected("not_finite")),
    // node statsd: JavaScript's numbers
    (b"stats.timers.upload 1e-7 1700000000", Arrives("stats.timers.upload 1e-7 1700000000")),
    (b"stats.timers.upload 1e+21 1700000000", Arrives("stats.timers.upload 1e+21 1700000000")),
    (b"stats.timers.upload NaN 1700000000", Rejected("not_finite")),
    // dropwizard: %2.2f
    (b"app.requests.p99 2.50 1700000000", Arrives("app.requests.p99 2.50 1700000000")),
    (b"app.requests.p99 Infinity 1700000000", Rejected("not_finite")),
    // prometheus_client: float times
    (b"prom.process.cpu 0.25 1700000000.1234567", Arrives("prom.process.cpu 0.25 1700000000")),
    // go-metrics-graphite
    (b"go.runtime.ratio +Inf 1700000000", Rejected("not_finite")),
    // A shell: tabs, double blanks, no time
    (b"shell.disk\t  17", Stamped("shell.disk 17")),
    // A StatsD client on the wrong port
    (b"statsd.counter:1|c", Rejected("fields")),
    (b"statsd.gauge:-5|g|#env:prod", Rejected("fields")),
];

#[rustfmt::skip]
const NAMES_ANY: &[Row] = &[
    (b"odd/slash:colon(paren) 1 1700000000", Arrives("odd/slash:colon(paren) 1 1700000000")),
    ("odd.größe 1 1700000000".as_bytes(), Arrives("odd.größe 1 1700000000")),
    ("odd.tag;stadt=köln 1 1700000000".as_bytes(), Arrives("odd.tag;stadt=köln 1 1700000000")),
    (b"odd.*.-_$%#=;a=b 1 1700000000", Arrives("odd.*.-_$%#=;a=b 1 1700000000")),
];

#[rustfmt::skip]
const NAMES_SANITIZE: &[Row] = &[
    (b"odd/slash:colon(paren) 1 1700000000", Arrives("odd_slash_colon_paren_ 1 1700000000")),
    ("odd.größe 1 1700000000".as_bytes(), Arrives("odd.gr__e 1 1700000000")),
    (b"odd.*.-_$%#=;a=b 1 1700000000", Arrives("odd.*.-_$%#=;a=b 1 1700000000")),
    (b"odd.latin1.\xfc 1 1700000000", Rejected("encoding")),
    (b"<KEY>.odd/key 1 1700000000", Arrives("odd_key 1 1700000000")),
];

#[rustfmt::skip]
const NAMES_STRICT: &[Row] = &[
    (b"odd/slash 1 1700000000", Rejected("name")),
    (b"odd:colon 1 1700000000", Rejected("name")),
    (b"odd(paren 1 1700000000", Rejected("name")),
    ("odd.größe 1 1700000000".as_bytes(), Rejected("name")),
    (b"odd.*.-_$%#=;a=b 1 1700000000", Arrives("odd.*.-_$%#=;a=b 1 1700000000")),
    (b"<KEY>.odd.key 1 1700000000", Arrives("odd.key 1 1700000000")),
];

#[test]
fn odd_lines() {
    check("any", ODD_LINES);
}

#[test]
fn lines_of_real_clients() {
    check("any", CLIENT_LINES);
}

#[test]
fn names_as_they_are() {
    check("any", NAMES_ANY);
}

#[test]
fn names_made_safe() {
    check("sanitize", NAMES_SANITIZE);
}

#[test]
fn names_refused() {
    check("strict", NAMES_STRICT);
}

/// Sends every row over TCP and over UDP, each with a good line behind it that
/// says when the row has been judged, and that it harmed nobody.
fn check(names: &str, rows: &[Row]) {
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url()).set("listen.names", names);
    let daemon = Daemon::start(&config);
    let mut before = daemon.metrics();
    let mut seen = 0;
    for way in ["tcp", "udp"] {
        for (number, &(sent, fate)) in rows.iter().enumerate() {
            let shown = sent.escape_ascii();
            let next = format!("next.{way}.{number} 1 1700000000");
            let bytes = [&with_key(sent), &b"\n"[..], next.as_bytes(), b"\n"].concat();
            let sent_at = now();
            match way {
                "tcp" => daemon.tcp(bytes),
                _ => daemon.udp(bytes),
            }
            upstream.expect(&format!("{KEY}.{next}"));

            let arrived = upstream.lines();
            let arrived_now = &arrived[seen..arrived.len() - 1];
            seen = arrived.len();
            match (fate, arrived_now) {
                (Arrives(line), [arrived]) => {
                    assert_eq!(*arrived, format!("{KEY}.{line}"), "{way}: {shown}");
                }
                (Stamped(line), [arrived]) => {
                    let stamp = arrived.strip_prefix(&format!("{KEY}.{line} "));
                    let stamp = stamp.and_then(|stamp| stamp.parse().ok());
                    let in_time = stamp.is_some_and(|stamp| (sent_at..=now()).contains(&stamp));
                    assert!(in_time, "{way}: {shown} gave {arrived}, sent at {sent_at}");
                }
                (Rejected(_) | Ignored, []) => {}
                _ => panic!("{way}: {shown} should be {fate:?} and gave {arrived_now:?}"),
            }

            let after = daemon.metrics();
            let mut rejected = BTreeMap::new();
            let mut received = 2;
            match fate {
                Rejected(reason) => drop(rejected.insert(reason.to_owned(), 1)),
                Ignored => received = 1,
                Arrives(_) | Stamped(_) => {}
            }
            assert_eq!(newly_rejected(&before, &after), rejected, "{way}: {shown}");
            assert_eq!(
                total_received(&after) - total_received(&before),
                received,
                "{way}: {shown}"
            );
            before = after;
        }
    }
    let ledger = daemon.stop();
    assert_eq!(ledger.delivered, upstream.finish().len() as u64);
}

fn with_key(sent: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = sent;
    while let Some((first, after)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(b"<KEY>") {
            bytes.extend_from_slice(KEY.as_bytes());
            rest = after;
        } else if let Some(after) = rest.strip_prefix(b"<key>") {
            bytes.extend_from_slice(KEY.to_lowercase().as_bytes());
            rest = after;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    bytes
}

fn newly_rejected(before: &Metrics, after: &Metrics) -> BTreeMap<String, u64> {
    let before = before.rejected();
    after
        .rejected()
        .into_iter()
        .map(|(reason, count)| {
            let already = before.get(&reason).copied().unwrap_or(0);
            (reason, count - already)
        })
        .filter(|(_, count)| *count > 0)
        .collect()
}

fn total_received(metrics: &Metrics) -> u64 {
    metrics
        .sum("sidecarbon_lines_received_total")
        .expect("lines received")
}

/// A daemon in front of a TCP upstream.
fn start() -> (Upstream, Daemon) {
    let upstream = Upstream::tcp();
    let daemon = Daemon::start(&Config::to(upstream.url()));
    (upstream, daemon)
}

/// A C program sends `strlen + 1` bytes; a text file may begin with a byte order mark.
#[test]
fn nuls_and_byte_order_marks_are_skipped_on_every_listener() {
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url())
        .with_unix_listeners()
        .set("listen.statsd", ["127.0.0.1:0"])
        .set("statsd.interval", "1s");
    let daemon = Daemon::start(&config);
    let text =
        |name: &str| format!("\u{feff}{name}.first 1 1700000000\n\0{name}.second 2 1700000000\n\0");
    daemon.udp(text("udp"));
    daemon.tcp(text("tcp"));
    // The NUL comes in the next read.
    let mut stream = daemon.connect();
    stream
        .write_all(b"late.first 1 1700000000\n")
        .expect("a reader");
    upstream.expect(&format!("{KEY}.late.first 1 1700000000"));
    stream
        .write_all(b"\0late.second 2 1700000000\n\0")
        .expect("a reader");
    upstream.expect(&format!("{KEY}.late.second 2 1700000000"));
    reset(stream);
    for address in daemon.addresses("unix_stream") {
        say_and_hang_up(unix_stream(&address), text("stream"));
    }
    for address in daemon.addresses("unix_datagram") {
        unix_datagram(&address, text("datagram"));
    }
    for name in ["udp", "tcp", "stream", "datagram"] {
        upstream.expect(&format!("{KEY}.{name}.first 1 1700000000"));
        upstream.expect(&format!("{KEY}.{name}.second 2 1700000000"));
    }
    udp_to(
        daemon.address("statsd"),
        "\u{feff}sample.a:1|g\n\0sample.b:2|g\n\0",
    );
    let statsd = TcpStream::connect(daemon.address("statsd")).expect("a StatsD listener");
    say_and_hang_up(statsd, "\u{feff}sample.c:1|g\n\0sample.d:2|g\0");
    for name in ["a", "b", "c", "d"] {
        upstream.find("a sample", |line| {
            line.starts_with(&format!("{KEY}.stats.gauges.sample.{name} "))
        });
    }
    assert_rejected(&daemon, []);
}

#[test]
fn the_last_line_needs_no_newline() {
    let (upstream, daemon) = start();
    daemon.udp("last.udp.first 1 1700000000\nlast.udp.end 2 1700000000");
    upstream.expect(&format!("{KEY}.last.udp.end 2 1700000000"));
    daemon.tcp("last.tcp.first 1 1700000000\nlast.tcp.end 2 1700000000");
    upstream.expect(&format!("{KEY}.last.tcp.end 2 1700000000"));
    assert_rejected(&daemon, []);
    // Not a line that can be read whole.
    daemon.tcp("last.tcp.half");
    assert_rejected(&daemon, [("fields", 1)]);
    daemon.stop();
    assert_eq!(upstream.finish().len(), 4);
}

#[test]
fn half_a_line_of_a_broken_connection_is_no_line() {
    let (upstream, daemon) = start();
    let mut stream = daemon.connect();
    // The rest of the value is on its way and never comes.
    stream
        .write_all(b"broken.whole 1 1700000000\nbroken.half 12")
        .expect("the daemon reads");
    upstream.expect(&format!("{KEY}.broken.whole 1 1700000000"));
    reset(stream);
    daemon.wait_received(2);
    assert_rejected(&daemon, [("truncated", 1)]);
    daemon.stop();
    assert_eq!(
        upstream.finish(),
        [format!("{KEY}.broken.whole 1 1700000000")]
    );
}

#[test]
fn a_line_that_is_too_long_is_skipped_and_its_neighbours_are_not() {
    let (upstream, daemon) = start();
    let mut lengths = vec![4097, 5000, 20_000, 60_000];
    for (number, length) in lengths.iter().enumerate() {
        let neighbours = [
            format!("long.udp.{number}.before 1 1700000000"),
            format!("long.udp.{number}.after 1 1700000000"),
        ];
        let long = too_long(*length);
        daemon.udp(format!("{}\n{long}\n{}\n", neighbours[0], neighbours[1]));
        upstream.expect_all(keyed(&neighbours).iter().map(String::as_str));
    }
    lengths.push(1_000_000);
    // One connection for all: it is not closed over a long line.
    let mut stream = daemon.connect();
    for (number, length) in lengths.iter().enumerate() {
        let neighbours = [
            format!("long.tcp.{number}.before 1 1700000000"),
            format!("long.tcp.{number}.after 1 1700000000"),
        ];
        let long = too_long(*length);
        let bytes = format!("{}\n{long}\n{}\n", neighbours[0], neighbours[1]);
        stream
            .write_all(bytes.as_bytes())
            .expect("the daemon reads");
        upstream.expect_all(keyed(&neighbours).iter().map(String::as_str));
    }
    assert_rejected(&daemon, [("too_long", 9)]);
    assert_eq!(upstream.len(), 18);

    // The longest line that may pass does.
    let name = "x".repeat(4096 - " 1 1700000000".len());
    daemon.tcp(format!("{name} 1 1700000000\n"));
    upstream.expect(&format!("{KEY}.{name} 1 1700000000"));
}

fn keyed(lines: &[String; 2]) -> [String; 2] {
    lines.each_ref().map(|line| format!("{KEY}.{line}"))
}

/// It would be a good line if it were shorter.
fn too_long(length: usize) -> String {
    let rest = " 1 1700000000";
    "x".repeat(length - rest.len()) + rest
}

#[test]
fn a_line_may_come_byte_by_byte() {
    let (upstream, daemon) = start();
    let mut stream = daemon.connect();
    for byte in b"small.writes 12.75 1700000000\r\nsmall.second 2 1700000000\n" {
        stream.write_all(&[*byte]).expect("the daemon reads");
    }
    upstream.expect(&format!("{KEY}.small.second 2 1700000000"));
    // Cut inside a character of two bytes.
    for part in [&b"small.gr\xc3"[..], b"\xb6\xc3\x9fe 3 17000", b"00000\n"] {
        stream.write_all(part).expect("the daemon reads");
    }
    upstream.expect(&format!("{KEY}.small.größe 3 1700000000"));
    stream
        .shutdown(Shutdown::Write)
        .expect("an open connection");
    closes_silently(&mut stream);
    daemon.stop();
    assert_eq!(upstream.finish().len(), 3);
}

#[test]
fn another_protocol_is_recognised_and_its_connection_closed() {
    // Python: struct.batch("!L", len(p)) + p, for
    // p = pickle.dumps([("a.b", (1700000000, 1.0))], protocol=2)
    const PICKLE: &[u8] =
        b"\0\0\0%\x80\x02]q\0X\x03\0\0\0a.bq\x01J\0\xf1SeG?\xf0\0\0\0\0\0\0\x86q\x02\x86q\x03a.";
    const TLS_HELLO: &[u8] = b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03\n123456\n789";
    const HTTP: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n";
    const POST: &[u8] =
        b"POST /api/v1/sink HTTP/1.1\r\nContent-Length: 20\r\n\r\nin.body 1 1700000000\n";

    let (upstream, daemon) = start();
    for (number, bytes) in [PICKLE, TLS_HELLO, HTTP, POST].into_iter().enumerate() {
        let mut stream = daemon.connect();
        // It may be closed before all is written.
        let _ = stream.write_all(bytes);
        // We leave the connection open: the daemon has to close it.
        closes_silently(&mut stream);
        assert_rejected(&daemon, [("protocol", number as u64 + 1)]);
    }
    daemon.tcp("protocol.next 1 1700000000\n");
    upstream.expect(&format!("{KEY}.protocol.next 1 1700000000"));
    assert_eq!(upstream.len(), 1);
    // An operator can find out what to change. The later ones may be left out
    // of the log, which is rate-limited.
    daemon.log.find("pickle", |line| line.contains("pickle"));
}

#[test]
fn a_cut_datagram_keeps_its_whole_lines() {
    let upstream = Upstream::tcp();
    let daemon = Daemon::start(&Config::to(upstream.url()).with_unix_listeners());
    // 37 bytes each, so that no power of two ends one.
    let sent: Vec<String> = (0..2200)
        .map(|number| format!("cut.at.the.limit.{number:06} 1 1700000000"))
        .collect();
    assert!(sent.iter().all(|line| line.len() == 36));
    let datagram = sent.join("\n");
    assert!(datagram.len() > 70_000 && 65_536 % 37 != 0);
    let socket = std::os::unix::net::UnixDatagram::unbound().expect("a client's socket");
    socket2::SockRef::from(&socket)
        .set_send_buffer_size(512 * 1024)
        .expect("room for a large datagram");
    let path = daemon.config().path("datagram.sock");
    socket
        .send_to(datagram.as_bytes(), &path)
        .expect("a large datagram");

    let whole = 65_536 / 37;
    daemon.wait_received(whole + 1);
    assert_rejected(&daemon, [("truncated", 1)]);
    let arrived = upstream.expect_lines(whole);
    for (arrived, sent) in arrived.iter().zip(&sent) {
        assert_eq!(*arrived, format!("{KEY}.{sent}"));
    }
}
