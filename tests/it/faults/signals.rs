//! SIGTERM and SIGHUP while an upstream of lines misbehaves.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::config_for;
use crate::support::{
    Books, Config, Daemon, Fault, Faulty, Load, Site, Witness, cut_off, numbered, payload, wait_for,
};

/// More than goes out on the connections that break.
const LINES: usize = 200_000;

/// How long a connection lives.
const LIFE: Duration = Duration::from_millis(10);

/// How many connections break.
const BREAKS: usize = 5;

/// What is read of a connection before it stalls, behind its handshake.
const SIP: usize = 1024;

/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(600);

const TERM: Signal = Signal::TERM;
const HUP: Signal = Signal::HUP;

/// A test for each signal and each way to the upstream.
macro_rules! rows {
    ($($test:ident: $row:ident($signal:expr, $site:expr);)*) => {
        $(
            #[test]
            fn $test() {
                $row($signal, &$site);
            }
        )*
    };
}
pub(super) use rows;

rows! {
    term_among_resets: exact_among_resets(TERM, Site::tcp());
    term_among_resets_tls: among_resets(TERM, Site::tls());
    hang_up_among_resets: exact_among_resets(HUP, Site::tcp());
    hang_up_among_resets_tls: among_resets(HUP, Site::tls());
    term_among_ends: among_ends(TERM, Site::tcp());
    term_among_ends_tls: among_ends(TERM, Site::tls());
    hang_up_among_ends: among_ends(HUP, Site::tcp());
    hang_up_among_ends_tls: among_ends(HUP, Site::tls());
    term_among_resets_with_lines_unread: among_deaths(TERM, Site::tcp());
    term_among_resets_with_lines_unread_tls: among_deaths(TERM, Site::tls());
    hang_up_among_resets_with_lines_unread: among_deaths(HUP, Site::tcp());
    hang_up_among_resets_with_lines_unread_tls: among_deaths(HUP, Site::tls());
}

fn exact_among_resets(signal: Signal, site: &Site) {
    among(signal, site, Fault::Resets).assert_exact();
}

fn among_resets(signal: Signal, site: &Site) {
    among(signal, site, Fault::Resets);
}

fn among_ends(signal: Signal, site: &Site) {
    let books = among(signal, site, Fault::Ends);
    assert_eq!((books.lost, books.said.dropped), (0, 0), "{books:?}");
}

fn among_deaths(signal: Signal, site: &Site) {
    among(signal, site, Fault::Dies);
}

/// One connection after the other breaks, before and after the signal.
fn among(signal: Signal, site: &Site, fault: fn(Duration) -> Fault) -> Books {
    if signal == TERM {
        term_among(site, fault)
    } else {
        hang_up_among(site, fault)
    }
}

fn term_among(site: &Site, fault: fn(Duration) -> Fault) -> Books {
    let (daemon, sent) = with_backlog(&config_for(site));
    // The last connection takes its time, so that the daemon can be asked what
    // the others have cost.
    let upstream = Faulty::at(site, move |number| {
        if number < BREAKS {
            fault(LIFE)
        } else {
            Fault::Sips(32 * 1024, Duration::from_millis(2))
        }
    });
    wait_for("two breaks", || upstream.ended() >= 2);
    daemon.signal(TERM);
    wait_for("all the breaks", || upstream.ended() >= BREAKS);
    Books::of_stopping(daemon, upstream, &sent)
}

fn hang_up_among(site: &Site, fault: fn(Duration) -> Fault) -> Books {
    let upstream = Faulty::at(site, move |_| fault(LIFE * 10));
    let daemon = Daemon::start(&config_for(site));
    let load = Load::start(&daemon, "reload", 10_000);
    for breaks in 1..=BREAKS {
        wait_for("another break", || upstream.ended() >= breaks);
        reload_sink(&daemon, breaks);
    }
    upstream.recover();
    let sent = load.stop();
    Books::close(daemon, upstream, &sent)
}

// Upstreams that take nothing for a while

rows! {
    term_in_a_stall: in_a_stall(TERM, Site::tcp());
    term_in_a_stall_tls: in_a_stall(TERM, Site::tls());
    hang_up_in_a_stall: in_a_stall(HUP, Site::tcp());
    hang_up_in_a_stall_tls: in_a_stall(HUP, Site::tls());
    hang_up_in_a_stall_that_lasts: in_a_stall_that_lasts(HUP, Site::tcp());
    hang_up_in_a_stall_that_lasts_tls: in_a_stall_that_lasts(HUP, Site::tls());
    term_in_a_handshake: in_a_handshake(TERM, Site::tls());
    hang_up_in_a_handshake: in_a_handshake(HUP, Site::tls());
    term_as_the_network_goes_away: as_the_network_goes_away(TERM, Site::tcp());
    term_as_the_network_goes_away_tls: as_the_network_goes_away(TERM, Site::tls());
    hang_up_as_the_network_goes_away: as_the_network_goes_away(HUP, Site::tcp());
    hang_up_as_the_network_goes_away_tls: as_the_network_goes_away(HUP, Site::tls());
    term_while_refused: while_refused(TERM, Site::tcp());
    term_while_refused_tls: while_refused(TERM, Site::tls());
    hang_up_while_refused: while_refused(HUP, Site::tcp());
    hang_up_while_refused_tls: while_refused(HUP, Site::tls());
    term_while_unanswered: while_unanswered(TERM, Site::tcp());
    hang_up_while_unanswered: while_unanswered(HUP, Site::tcp());
}

fn in_a_stall(signal: Signal, site: &Site) {
    let (daemon, upstream, sent) = stalled(site);
    say(signal, &daemon);
    upstream.behave();
    close(signal, daemon, upstream, &sent).assert_exact();
}

/// The old connection is given up, and its lines are the new one's.
fn in_a_stall_that_lasts(signal: Signal, site: &Site) {
    let (daemon, upstream, sent) = stalled(site);
    say(signal, &daemon);
    wait_for("another connection", || upstream.connections() >= 2);
    upstream.behave();
    close(signal, daemon, upstream, &sent).assert_exact();
}

fn in_a_handshake(signal: Signal, site: &Site) {
    let upstream = Faulty::at(site, |_| Fault::Stalls);
    let (daemon, sent) = with_backlog(&config_for(site));
    wait_for("the handshake", || upstream.connections() == 1);
    say(signal, &daemon);
    upstream.behave();
    let books = close(signal, daemon, upstream, &sent);
    books.assert_exact();
    assert_eq!((books.said.resent, books.said.at_risk), (0, 0), "{books:?}");
}

fn as_the_network_goes_away(signal: Signal, site: &Site) {
    let upstream = Faulty::at(site, |number| match number {
        0 => Fault::Vanishes(LIFE),
        _ => Fault::Reads,
    });
    let (daemon, sent) = with_backlog(&config_for(site).set("sink.write_timeout", "1s"));
    wait_for("the first lines", || upstream.len() > 0);
    say(signal, &daemon);
    wait_for("another connection", || upstream.connections() >= 2);
    close(signal, daemon, upstream, &sent).assert_exact();
}

fn while_refused(signal: Signal, site: &Site) {
    down_and_up(signal, site, "refused");
}

fn while_unanswered(signal: Signal, site: &Site) {
    // Somebody listens, and hears nothing.
    let deaf = site.port().listen(None);
    cut_off(&deaf);
    down_and_up(signal, site, deaf);
}

/// The upstream appears after the signal, when whatever was in its place has
/// gone.
fn down_and_up<T>(signal: Signal, site: &Site, in_its_place: T) {
    let config = config_for(site).set("sink.connect_timeout", "100ms");
    let (daemon, sent) = with_backlog(&config);
    let attempts = || daemon.metric("sidecarbon_sink_errors_total{kind=\"connect\"}");
    wait_for("some attempts", || attempts() >= 3);
    say(signal, &daemon);
    let so_far = attempts();
    wait_for("some more", || attempts() >= so_far + 2);
    drop(in_its_place);
    let upstream = Faulty::at(site, |_| Fault::Reads);
    let books = close(signal, daemon, upstream, &sent);
    books.assert_exact();
    assert_eq!((books.said.resent, books.said.at_risk), (0, 0), "{books:?}");
}

// And for longer than the daemon may wait

#[test]
fn term_in_a_stall_for_longer_than_the_grace() {
    longer_than_the_grace(&Site::tcp(), STALL);
}

#[test]
fn term_in_a_stall_for_longer_than_the_grace_tls() {
    longer_than_the_grace(&Site::tls(), STALL);
}

#[test]
fn term_in_a_handshake_for_longer_than_the_grace() {
    let books = longer_than_the_grace(&Site::tls(), Fault::Stalls);
    assert_eq!((books.lost, books.said.delivered), (books.sent, 0));
}

/// What the daemon says that it has not delivered is what the upstream has
/// not.
fn longer_than_the_grace(site: &Site, fault: Fault) -> Books {
    const GRACE: Duration = Duration::from_secs(1);
    let upstream = Faulty::at(site, move |_| fault);
    let (daemon, sent) = with_backlog(&config_for(site).set("shutdown.grace", "1s"));
    wait_for("a connection", || upstream.connections() == 1);
    let asked = Instant::now();
    say(TERM, &daemon);
    let books = Books::of_stopping(daemon, upstream, &sent);
    let took = asked.elapsed();
    assert!(took >= GRACE && took < GRACE * 8, "gave up after {took:?}");
    assert!(books.said.left > 0, "{books:?}");
    assert_eq!((books.lost, books.twice), (books.said.left, 0), "{books:?}");
    books
}

// What the rows are made of

/// A handshake is read, and hardly more.
const STALL: Fault = Fault::Sips(SIP, FOR_EVER);

/// A daemon that can get rid of nothing more.
fn stalled(site: &Site) -> (Daemon, Faulty, Vec<String>) {
    let upstream = Faulty::at(site, |_| STALL);
    let (daemon, sent) = with_backlog(&config_for(site));
    wait_for("lines in flight", || daemon.ledger().in_flight > 0);
    (daemon, upstream, sent)
}

/// A daemon with lines that it could not send yet, or not all.
pub(super) fn with_backlog(config: &Config) -> (Daemon, Vec<String>) {
    let daemon = Daemon::start(config);
    let sent = numbered("backlog", LINES);
    daemon.tcp(payload(&sent));
    daemon.wait_received(LINES);
    (daemon, sent)
}

/// Sends the signal, and returns when it is understood. A reload changes the
/// way to the upstream.
pub(super) fn say(signal: Signal, daemon: &Daemon) {
    if signal == HUP {
        reload_sink(daemon, 1);
    } else {
        daemon.signal(signal);
        daemon
            .log
            .find("the drain", |line| line.contains(" stopping "));
    }
}

/// A reload that differs from the others by its number.
fn reload_sink(daemon: &Daemon, number: usize) {
    let age = format!("{}m", 10 + number);
    let config = daemon.config().clone();
    daemon.reload(&config.set("sink.max_connection_age", age.as_str()));
}

/// Counts, after a signal.
pub(super) fn close<W: Witness>(
    signal: Signal,
    daemon: Daemon,
    upstream: W,
    sent: &[String],
) -> Books {
    if signal == TERM {
        Books::of_stopping(daemon, upstream, sent)
    } else {
        Books::close(daemon, upstream, sent)
    }
}
