//! Systems that do not tell what was acknowledged: then a line counts as
//! delivered when it is written.

use std::time::Duration;

use super::config_for;
use crate::support::{
    Books, Config, Daemon, Fault, Faulty, Launch, Load, Sandbox, Site, numbered, payload, wait_for,
};

/// How long each connection lives.
const LIFE: Duration = Duration::from_millis(20);

/// More than goes out in a few of those.
const BACKLOG: usize = 100_000;

const BREAKS: usize = 6;

fn start(config: &Config) -> Daemon {
    Launch::with(config)
        .inside(Sandbox::NoAcknowledgements)
        .start()
}

#[test]
fn written_counts() {
    written_counts_at(&Site::tcp());
}

#[test]
fn written_counts_tls() {
    written_counts_at(&Site::tls());
}

/// Over several connections, and it is said once.
fn written_counts_at(site: &Site) {
    let upstream = Faulty::at(site, |_| Fault::Reads);
    let config = config_for(site);
    let daemon = start(&config);
    let sent = numbered("sandbox", 10_000);
    for (connections, lines) in (1..).zip(sent.chunks(2500)) {
        daemon.tcp(payload(lines));
        wait_for("these lines", || upstream.len() == connections * 2500);
        wait_for("another connection", || {
            upstream.connections() == connections
        });
        let age = format!("{}m", 10 + connections);
        daemon.reload(&config.clone().set("sink.max_connection_age", age.as_str()));
    }
    assert_is_said_once(&daemon);
    let books = Books::close(daemon, upstream, &sent);
    books.assert_exact();
    assert_eq!((books.said.resent, books.said.at_risk), (0, 0), "{books:?}");
}

#[track_caller]
fn assert_is_said_once(daemon: &Daemon) {
    let mode = |mode| daemon.metric(&format!("sidecarbon_sink_ack_mode{{mode=\"{mode}\"}}"));
    assert_eq!((mode("acknowledged"), mode("written")), (0, 1));
    let says_it = |line: &str| line.contains("written lines count as delivered");
    daemon.log.find("that it is said", says_it);
    let mut said = daemon.log.lines();
    said.retain(|line| says_it(line));
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains(" WARN "), "{said:?}");
}

#[test]
fn reset_by_a_peer_that_has_read_everything() {
    breaks(&Site::tcp(), Fault::Resets);
}

#[test]
fn reset_by_a_peer_that_has_read_everything_tls() {
    breaks(&Site::tls(), Fault::Resets);
}

#[test]
fn reset_with_lines_unread() {
    let books = breaks(&Site::tcp(), Fault::Dies);
    assert!(books.lost > 0, "a harmless fault: {books:?}");
}

#[test]
fn reset_with_lines_unread_tls() {
    let books = breaks(&Site::tls(), Fault::Dies);
    assert!(books.lost > 0, "a harmless fault: {books:?}");
}

#[test]
fn ended_again_and_again() {
    breaks(&Site::tcp(), Fault::Ends);
}

#[test]
fn ended_again_and_again_tls() {
    breaks(&Site::tls(), Fault::Ends);
}

/// Many lines are under way when a connection breaks. What was written and did
/// not arrive is at risk, every line of it.
fn breaks(site: &Site, fault: fn(Duration) -> Fault) -> Books {
    let daemon = start(&config_for(site));
    let mut sent = numbered("backlog", BACKLOG);
    daemon.tcp(payload(&sent));
    daemon.wait_received(BACKLOG);
    let upstream = Faulty::at(site, move |_| fault(LIFE));
    let load = Load::start(&daemon, "broken", 20_000);
    wait_for("the breaks", || upstream.ended() >= BREAKS);
    upstream.recover();
    sent.extend(load.stop());
    assert_is_said_once(&daemon);
    Books::close(daemon, upstream, &sent)
}
