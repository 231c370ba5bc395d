//! The daemon ends: what is delivered before, and how long that may take.

use std::io::Write;
use std::net::UdpSocket;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{
    Config, Daemon, KEY, Launch, Memory, Port, Upstream, assert_same_lines, keyed, numbered,
    payload, say_and_hang_up, unix_datagram, unix_stream, wait_for,
};

#[test]
fn everything_that_waits_is_delivered_first() {
    drains(Signal::TERM);
}

#[test]
fn an_interrupt_drains_just_the_same() {
    drains(Signal::INT);
}

fn drains(signal: Signal) {
    const LINES: usize = 50_000;
    let port = Port::reserve();
    let daemon = Daemon::start(&Config::to(port.url()));
    let sent = numbered("drain", LINES);
    daemon.tcp(payload(&sent));
    daemon.wait_received(LINES);
    let upstream = Upstream::tcp_slow_at(&port);
    daemon.signal(signal);
    let ended = daemon.wait_end();
    assert_eq!(ended.code, Some(0));
    let ledger = ended.ledger.expect("a ledger line");
    assert_eq!(ledger.received, LINES as u64);
    assert_eq!(
        (ledger.delivered, ledger.dropped, ledger.left()),
        (LINES as u64, 0, 0)
    );
    assert_same_lines(&upstream.finish(), &keyed(&sent));
}

#[test]
fn a_dead_upstream_is_given_up_at_the_grace() {
    const GRACE: Duration = Duration::from_secs(1);
    // The rest is for a busy machine; the default grace is 8 s, our own 30 s.
    const SLACK: Duration = Duration::from_secs(5);
    let port = Port::reserve();
    let config = Config::to(port.url()).set("shutdown.grace", "1s");
    let daemon = Daemon::start(&config);
    daemon.tcp(payload(&numbered("dead", 5000)));
    daemon.wait_received(5000);
    daemon.signal(Signal::TERM);
    let ended = daemon.wait_end();
    assert_eq!(ended.code, Some(0));
    assert!(ended.took < GRACE + SLACK, "took {:?}", ended.took);
    let ledger = ended.ledger.expect("a ledger line");
    assert_eq!((ledger.received, ledger.delivered), (5000, 0));
    assert_eq!((ledger.left(), ledger.dropped), (5000, 0), "{ledger:?}");
}

#[test]
fn a_second_signal_stops_at_once() {
    for second in [Signal::TERM, Signal::INT] {
        let port = Port::reserve();
        // Longer than the test waits for anything.
        let config = Config::to(port.url()).set("shutdown.grace", "5m");
        let daemon = Daemon::start(&config);
        daemon.udp("second.line 1");
        daemon.wait_received(1);
        daemon.signal(Signal::TERM);
        wait_for("the drain", || {
            daemon
                .try_get("/readyz")
                .is_none_or(|answer| answer.word(1) == "503")
        });
        daemon.signal(second);
        daemon.wait_end();
    }
}

#[test]
fn an_idle_daemon_stops_without_waiting() {
    let port = Port::reserve();
    let config = Config::to(port.url()).set("shutdown.grace", "5m");
    let ledger = Daemon::start(&config).stop();
    assert_eq!((ledger.received, ledger.left()), (0, 0));
}

#[test]
fn what_clients_have_written_already_is_still_read() {
    const CLIENTS: usize = 4;
    const LINES: usize = 1500;
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url()).with_unix_listeners();
    let daemon = Daemon::start(&config);
    let address = daemon.addresses("unix_stream").remove(0);
    let mut clients: Vec<Box<dyn Write>> = vec![Box::new(unix_stream(&address))];
    for _ in 1..CLIENTS {
        clients.push(Box::new(daemon.connect()));
    }
    wait_for("all clients to be accepted", || {
        daemon.connections() == CLIENTS as u64
    });

    // Nobody reads while it is stopped, so the lines wait in the sockets.
    daemon.signal(Signal::STOP);
    let memory = Memory::of(daemon.id());
    wait_for("the daemon to stand still", || memory.is_stopped());
    let mut sent = Vec::new();
    for (number, client) in clients.iter_mut().enumerate() {
        let lines = numbered(&format!("buffered.{number}"), LINES);
        client
            .write_all(&payload(&lines))
            .expect("room in the socket");
        sent.extend(lines);
    }
    daemon.signal(Signal::TERM);
    daemon.signal(Signal::CONT);
    let ended = daemon.wait_end();
    assert_eq!(ended.code, Some(0));
    let ledger = ended.ledger.expect("a ledger line");
    assert_eq!(ledger.delivered, (CLIENTS * LINES) as u64, "{ledger:?}");

    // In order for each client; the clients among each other have none.
    let mut arrived = upstream.finish();
    arrived.sort();
    assert_same_lines(&arrived, &keyed(&sent));
}

/// Nor are those uncounted that the kernel had no room for.
#[test]
fn datagrams_are_read_even_when_streams_are_given_up() {
    // More than the buffer holds.
    const DATAGRAMS: usize = 40_000;
    let upstream = Upstream::tcp();
    // A client that says nothing is waited for longer.
    let config = Config::to(upstream.url()).set("shutdown.grace", "100ms");
    let daemon = Daemon::start(&config);
    let (log, to) = (Arc::clone(&daemon.log), daemon.address("udp"));
    let _silent = daemon.connect();
    wait_for("the client to be accepted", || daemon.connections() == 1);
    daemon.signal(Signal::STOP);
    let memory = Memory::of(daemon.id());
    wait_for("the daemon to stand still", || memory.is_stopped());
    let sender = UdpSocket::bind("127.0.0.1:0").expect("a port");
    for number in 0..DATAGRAMS {
        let line = format!("crowd.{number} 1 1700000000");
        sender.send_to(line.as_bytes(), to).expect("a datagram");
    }
    daemon.signal(Signal::TERM);
    daemon.signal(Signal::CONT);
    let ended = daemon.wait_end();
    assert_eq!(ended.code, Some(0));
    log.find("the drops", |line| {
        line.contains("the kernel dropped datagrams")
    });
    log.find("streams to be given up", |line| {
        line.contains("takes too long; the rest is not read")
    });
}

#[test]
fn a_client_that_has_just_connected_may_still_say_why() {
    let upstream = Upstream::tcp();
    let daemon = Daemon::start(&Config::to(upstream.url()));
    let mut client = daemon.connect();
    wait_for("the client to be accepted", || daemon.connections() == 1);
    daemon.signal(Signal::TERM);
    daemon
        .log
        .find("the stop", |line| line.contains(" stopping "));
    writeln!(client, "first.word 1 1700000000").expect("an open connection");
    drop(client);
    let ended = daemon.wait_end();
    assert_eq!(ended.code, Some(0));
    assert_eq!(
        upstream.finish(),
        [format!("{KEY}.first.word 1 1700000000")]
    );
}

#[test]
fn a_standard_output_that_nobody_reads_holds_up_nothing() {
    // Much more than the pipe takes.
    const LINES: usize = 10_000;
    let config = Config::to("stdout:").set("shutdown.grace", "1s");
    let daemon = Launch::with(&config).nobody_reads_stdout().start();
    daemon.tcp(payload(&numbered("blocked", LINES)));
    daemon.wait_received(LINES);
    daemon.udp("blocked.later 1\nblocked.last 2\n");
    daemon.wait_received(LINES + 2);
    assert_eq!(daemon.get("/healthz"), 200);
    assert!(daemon.waiting() > 0, "a pipe that takes everything");

    daemon.signal(Signal::TERM);
    let ended = daemon.wait_end();
    assert_eq!(ended.code, Some(0));
    assert!(
        ended.took < Duration::from_secs(10),
        "took {:?}",
        ended.took
    );
    let ledger = ended.ledger.expect("a ledger line");
    assert!(ledger.left() > 0, "{ledger:?}");
}

#[test]
fn a_last_line_just_before_the_signal_arrives() {
    let upstream = Upstream::tcp();
    let daemon = Daemon::start(&Config::to(upstream.url()));
    daemon.tcp("last.word 1 1700000000\n");
    let ledger = daemon.stop();
    assert_eq!((ledger.received, ledger.delivered), (1, 1));
    assert_eq!(upstream.finish(), [format!("{KEY}.last.word 1 1700000000")]);
}

/// The daemon is told to stop while it goes on taking lines.
fn is_draining(daemon: &Daemon) -> bool {
    daemon
        .try_get("/readyz")
        .is_some_and(|answer| answer.word(1) == "503")
}

#[test]
fn last_words_after_the_signal_are_forwarded() {
    const SPOKEN: Duration = Duration::from_secs(2);
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url())
        .with_unix_listeners()
        .set("shutdown.quiet", "1500ms");
    let daemon = Daemon::start(&config);
    let datagrams = daemon.addresses("unix_datagram").remove(0);
    let streams = daemon.addresses("unix_stream").remove(0);
    let mut open = daemon.connect();
    let mut said = 0;
    daemon.signal(Signal::TERM);
    let signalled = Instant::now();
    wait_for("the signal to be heard", || is_draining(&daemon));
    // An application that ends speaks now and then, over whatever it has.
    while signalled.elapsed() < SPOKEN {
        let line = |way: &str| format!("last.{way} {said} 1700000000\n");
        open.write_all(line("open").as_bytes())
            .expect("a stream that is still read");
        daemon.tcp(line("new"));
        daemon.udp(line("udp"));
        say_and_hang_up(unix_stream(&streams), line("stream"));
        unix_datagram(&datagrams, line("datagram"));
        said += 1;
        wait_for("the lines", || daemon.received() == 5 * said);
        let next = signalled + Duration::from_millis(400) * u32::try_from(said).expect("a few");
        wait_for("the next words", || Instant::now() >= next);
    }
    assert_eq!(daemon.get("/healthz"), 200);
    let ended = daemon.wait_end();
    assert_eq!(ended.code, Some(0));
    let ledger = ended.ledger.expect("a ledger line");
    assert_eq!(
        (ledger.received, ledger.delivered, ledger.left()),
        (5 * said, 5 * said, 0)
    );
    let arrived = upstream.finish();
    for way in ["open", "new", "udp", "stream", "datagram"] {
        let of_it = arrived
            .iter()
            .filter(|line| line.contains(&format!(".last.{way} ")));
        assert_eq!(of_it.count() as u64, said, "{way}");
    }
}

#[test]
fn without_last_words_it_is_gone_soon() {
    const QUIET: Duration = Duration::from_secs(2);
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url())
        .set("shutdown.quiet", "2s")
        // Longer than a test waits for the end.
        .set("shutdown.grace", "60s");
    let daemon = Daemon::start(&config);
    // A client that stays without a word is no reason to stay.
    let _silent = daemon.connect();
    daemon.udp("quiet.before 1 1700000000");
    upstream.expect(&format!("{KEY}.quiet.before 1 1700000000"));
    daemon.signal(Signal::TERM);
    let ended = daemon.wait_end();
    assert_eq!(ended.code, Some(0));
    assert!(ended.took >= QUIET, "took {:?}", ended.took);
}

#[test]
fn a_client_that_never_ends_does_not_outlast_the_grace() {
    const GRACE: Duration = Duration::from_secs(3);
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url())
        .set("shutdown.quiet", "1s")
        .set("shutdown.grace", "3s");
    let daemon = Daemon::start(&config);
    let address = daemon.address("udp");
    let log = Arc::clone(&daemon.log);
    daemon.signal(Signal::TERM);
    // Nobody listens there in the end.
    let speaker = thread::spawn(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let signalled = Instant::now();
        wait_for("the end of listening", || {
            let sent = socket.send_to(b"endless.talk 1 1700000000", address);
            sent.is_err() || signalled.elapsed() > 2 * GRACE
        });
    });
    let ended = daemon.wait_end();
    speaker.join().expect("a speaker that ends");
    assert_eq!(ended.code, Some(0));
    // Half of a short grace is the drain's, which needs none of it here.
    assert!(
        ended.took >= GRACE / 2 && ended.took < GRACE,
        "took {:?}",
        ended.took
    );
    let ledger = ended.ledger.expect("a ledger line");
    assert_eq!(ledger.left(), 0, "{ledger:?}");
    assert!(ledger.received > 10, "{ledger:?}");
    log.find("a word on it", |line| {
        line.contains("clients go on sending")
    });
}

#[test]
fn an_upstream_that_comes_back_gets_everything_before_the_end() {
    let port = Port::reserve();
    // Only the hurry of the end makes it try again in time.
    let config = Config::to(port.url())
        .set("retry.first", "5m")
        .set("retry.max", "5m")
        .set("shutdown.quiet", "3s");
    let daemon = Daemon::start(&config);
    daemon.udp("hurry.before 1 1700000000");
    wait_for("an attempt that failed", || {
        daemon.total("sidecarbon_sink_errors_total") > 0
    });
    daemon.signal(Signal::TERM);
    wait_for("the signal to be heard", || is_draining(&daemon));
    let upstream = Upstream::tcp_at(&port);
    upstream.expect(&format!("{KEY}.hurry.before 1 1700000000"));
    daemon.udp("hurry.after 2 1700000000");
    upstream.expect(&format!("{KEY}.hurry.after 2 1700000000"));
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_end().code, Some(0));
}

#[test]
fn a_second_signal_ends_the_wait_for_last_words() {
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url())
        .set("shutdown.quiet", "2m")
        .set("shutdown.grace", "5m");
    let daemon = Daemon::start(&config);
    daemon.signal(Signal::TERM);
    wait_for("the signal to be heard", || is_draining(&daemon));
    daemon.udp("second.line 1 1700000000");
    upstream.expect(&format!("{KEY}.second.line 1 1700000000"));
    daemon.signal(Signal::TERM);
    let ended = daemon.wait_end();
    assert_eq!(ended.code, Some(0));
    assert!(
        ended.took < Duration::from_secs(10),
        "took {:?}",
        ended.took
    );
}
