//! Connections that are refused, reset, ended and half-closed, again and again
//! while lines flow.

use std::time::Duration;

use super::config;
use crate::support::{
    Books, Certs, Config, Daemon, Fault, Faulty, Load, Port, Upstream, numbered, payload, wait_for,
};

/// How long each connection lives.
const LIFE: Duration = Duration::from_millis(100);

/// The same where a part of each is sent again.
const LONGER_LIFE: Duration = Duration::from_millis(200);

/// How many of them are broken.
const BREAKS: usize = 6;

/// Lines a second.
const RATE: usize = 20_000;

/// The most lines that a batch of the tests holds: 64 KiB of them.
const BATCH: u64 = 3000;

#[test]
fn refused() {
    let port = Port::reserve();
    refused_at(&config(port.url()), || Upstream::tcp_at(&port));
}

#[test]
fn refused_tls() {
    let certs = Certs::new();
    let port = Port::reserve();
    refused_at(&trusting(port.tls_url(), &certs), || {
        Upstream::tls_at(&port, &certs)
    });
}

fn refused_at(config: &Config, come_up: impl FnOnce() -> Upstream) {
    let daemon = Daemon::start(config);
    let load = Load::start(&daemon, "refused", RATE);
    wait_for("some attempts", || {
        daemon.metric("sidecarbon_sink_errors_total{kind=\"connect\"}") >= 5
    });
    let upstream = come_up();
    daemon.log.find("the news", |line| line.contains("is back"));
    let sent = load.stop();
    let books = Books::close(daemon, upstream, &sent);
    books.assert_exact();
    assert_eq!((books.said.resent, books.said.at_risk), (0, 0), "{books:?}");
}

#[test]
fn reset_by_a_peer_that_has_read_everything() {
    let upstream = Faulty::tcp(|_| Fault::Resets(LIFE));
    let books = under_load(&config(upstream.url()), upstream);
    books.assert_exact();
}

#[test]
fn reset_tls() {
    let certs = Certs::new();
    let upstream = Faulty::tls(&certs, |_| Fault::Resets(LIFE));
    let books = under_load(&trusting(upstream.url(), &certs), upstream);
    let most = BREAKS as u64 * 2 * BATCH;
    assert!(books.lost <= most && books.twice <= most, "{books:?}");
}

/// A peer that has just shaken hands holds acknowledgements back; a reset would
/// overtake the one for a line that it has read.
#[test]
fn reset_right_after_a_line_was_read_tls() {
    const LINES: usize = 4;
    let certs = Certs::new();
    let upstream = Faulty::tls(&certs, |_| Fault::ResetsAfterReads(LINES));
    let daemon = Daemon::start(&trusting(upstream.url(), &certs));
    let sent = numbered("read", LINES);
    for (number, line) in sent.iter().enumerate() {
        daemon.udp(line);
        wait_for("the line", || upstream.lines().len() > number);
    }
    wait_for("the reset", || upstream.ended() == 1);
    upstream.behave();
    Books::close(daemon, upstream, &sent).assert_exact();
}

#[test]
fn reset_with_lines_unread() {
    let upstream = Faulty::tcp(|_| Fault::Dies(LIFE));
    let books = under_load(&config(upstream.url()), upstream);
    // The peer's kernel had them, which is all that can be known.
    assert!(books.lost > 0, "a harmless fault: {books:?}");
}

#[test]
fn reset_with_lines_unread_tls() {
    let certs = Certs::new();
    let upstream = Faulty::tls(&certs, |_| Fault::Dies(LIFE));
    let books = under_load(&trusting(upstream.url(), &certs), upstream);
    assert!(books.lost > 0, "a harmless fault: {books:?}");
}

#[test]
fn reset_with_lines_unread_and_the_tail_sent_again() {
    tail_is_sent_again(Faulty::tcp(|_| Fault::Dies(LONGER_LIFE)));
}

#[test]
fn reset_with_lines_unread_and_the_tail_sent_again_tls() {
    let certs = Certs::new();
    let upstream = Faulty::tls(&certs, |_| Fault::Dies(LONGER_LIFE));
    let config = trusting(upstream.url(), &certs);
    tail_is_sent_again_by(config, upstream);
}

#[test]
fn reset_by_a_peer_that_has_read_everything_and_the_tail_sent_again() {
    tail_is_sent_again(Faulty::tcp(|_| Fault::Resets(LONGER_LIFE)));
}

#[test]
fn reset_by_a_peer_with_much_room_and_the_tail_sent_again() {
    // Its window bounds nothing here.
    tail_is_sent_again(Faulty::tcp_roomy(|_| Fault::Resets(LONGER_LIFE)));
}

fn tail_is_sent_again(upstream: Faulty) {
    tail_is_sent_again_by(config(upstream.url()), upstream);
}

/// Nothing is lost, and that costs at most as much again.
fn tail_is_sent_again_by(config: Config, upstream: Faulty) {
    let config = config.set("sink.resend_tail", "500ms");
    let books = under_load(&config, upstream);
    assert_eq!(books.lost, 0, "{books:?}");
    assert!(books.twice <= books.sent, "{books:?}");
}

#[test]
fn ended_again_and_again() {
    let upstream = Faulty::tcp(|_| Fault::Ends(LIFE));
    under_load(&config(upstream.url()), upstream).assert_exact();
}

#[test]
fn ended_again_and_again_without_close_notify() {
    let certs = Certs::new();
    let upstream = Faulty::tls(&certs, |_| Fault::Ends(LIFE));
    let books = under_load(&trusting(upstream.url(), &certs), upstream);
    assert_eq!(books.lost, 0, "{books:?}");
}

#[test]
fn half_closed_and_read_on() {
    let upstream = Faulty::tcp(|_| Fault::HalfCloses(LIFE));
    under_load(&config(upstream.url()), upstream).assert_exact();
}

#[test]
fn half_closed_and_read_on_tls() {
    let certs = Certs::new();
    let upstream = Faulty::tls(&certs, |_| Fault::HalfCloses(LIFE));
    under_load(&trusting(upstream.url(), &certs), upstream).assert_exact();
}

/// Lines flow while one connection after the other breaks, and after that.
fn under_load(config: &Config, upstream: Faulty) -> Books {
    let daemon = Daemon::start(config);
    let load = Load::start(&daemon, "broken", RATE);
    wait_for("the breaks", || upstream.ended() >= BREAKS);
    upstream.recover();
    let sent = load.stop();
    Books::close(daemon, upstream, &sent)
}

#[test]
fn accepted_and_closed_at_once_for_long() {
    let upstream = Faulty::tcp(|_| Fault::Closes);
    // What is written before the close is noticed was acknowledged by nobody
    // but a kernel.
    let config = config(upstream.url()).set("sink.resend_tail", "5s");
    let daemon = Daemon::start(&config);
    let sent = numbered("closed", 5000);
    daemon.tcp(payload(&sent));
    wait_for("many attempts", || upstream.ended() >= BREAKS);
    upstream.behave();
    let books = Books::close(daemon, upstream, &sent);
    assert_eq!(books.lost, 0, "{books:?}");
}

#[test]
fn accepted_and_ended_at_once_for_long() {
    let upstream = Faulty::tcp(|_| Fault::Ends(Duration::ZERO));
    under_load(&config(upstream.url()), upstream).assert_exact();
}

#[test]
fn ended_when_idle_just_as_a_line_comes() {
    let upstream = Faulty::tcp(|_| Fault::EndsIdle(IDLE));
    now_and_then(&config(upstream.url()), upstream);
}

#[test]
fn ended_when_idle_just_as_a_line_comes_tls() {
    let certs = Certs::new();
    let upstream = Faulty::tls(&certs, |_| Fault::EndsIdle(IDLE));
    now_and_then(&trusting(upstream.url(), &certs), upstream);
}

const IDLE: Duration = Duration::from_millis(20);

/// A line every now and then: some before the upstream has had enough, some
/// after, some in that very moment.
#[expect(
    clippy::disallowed_methods,
    reason = "the moment is what this is about"
)]
fn now_and_then(config: &Config, upstream: Faulty) {
    let daemon = Daemon::start(config);
    let mut sent = Vec::new();
    for (number, line) in numbered("rare", 1000).into_iter().enumerate() {
        daemon.udp(&line);
        sent.push(line);
        let step = u32::try_from(number % 20).expect("a small number");
        std::thread::sleep(IDLE * (30 + step) / 40);
        if upstream.ended() >= BREAKS {
            break;
        }
    }
    Books::close(daemon, upstream, &sent).assert_exact();
}

fn trusting(url: impl AsRef<str>, certs: &Certs) -> Config {
    config(url).set("sink.tls.ca_file", &certs.ca_file())
}
