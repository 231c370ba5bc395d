//! Clients that mean harm, or might as well: afterwards the next good line
//! still arrives, and the memory is bounded.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::support::{
    Config, Daemon, KEY, Launch, Memory, Upstream, closes_silently, is_silent, numbered, payload,
    raise_open_files, reset, wait_for, wait_until,
};

/// Above what the daemon needs in a build without optimisation, and below what
/// it would take to keep what these tests send.
const MEMORY: u64 = 96 * 1024 * 1024;

fn start() -> (Upstream, Daemon) {
    let upstream = Upstream::tcp();
    let daemon = Daemon::start(&small_queue(&upstream));
    (upstream, daemon)
}

fn small_queue(upstream: &Upstream) -> Config {
    Config::to(upstream.url()).set("queue.bytes", "4MiB")
}

/// The next good lines arrive: over UDP and over a new TCP connection.
#[track_caller]
fn assert_well(daemon: &Daemon, upstream: &Upstream) {
    daemon.udp("well.udp 1 1700000000");
    upstream.expect(&format!("{KEY}.well.udp 1 1700000000"));
    daemon.tcp("well.tcp 1 1700000000\n");
    upstream.expect(&format!("{KEY}.well.tcp 1 1700000000"));
    let peak = Memory::of(daemon.id()).peak();
    assert!(peak < MEMORY, "{peak} bytes resident");
}

/// The same for every run: a failure can be looked at.
fn random_bytes(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    std::iter::repeat_with(|| random.u8(..))
        .take(length)
        .collect()
}

#[test]
fn datagrams_of_anything() {
    let (upstream, daemon) = start();
    for bytes in [
        random_bytes(1400),
        random_bytes(60_000),
        vec![b'x'; 65_000],
        vec![0; 65_000],
        vec![0xff],
    ] {
        let before = daemon.received();
        daemon.udp(bytes);
        // One by one: the socket's buffer holds few of the large ones.
        wait_for("something to be counted", || daemon.received() > before);
    }
    daemon.udp("");
    daemon.udp(vec![b'\n'; 10_000]);
    assert_well(&daemon, &upstream);
    assert!(daemon.metrics().rejected()["too_long"] >= 1);
}

#[test]
fn streams_of_anything() {
    let (upstream, daemon) = start();
    for bytes in [random_bytes(1_000_000), vec![0; 1_000_000], b"\0".repeat(3)] {
        let mut stream = daemon.connect();
        // The daemon may close a stream that it takes for another protocol.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        closes_silently(&mut stream);
    }
    assert_well(&daemon, &upstream);
}

#[test]
fn ten_megabytes_without_a_newline() {
    let (upstream, daemon) = start();
    let mut stream = daemon.connect();
    let part = vec![b'x'; 64 * 1024];
    for _ in 0..160 {
        stream.write_all(&part).expect("the daemon reads");
    }
    assert_well(&daemon, &upstream);
    // The connection is still good for the line behind it.
    stream
        .write_all(b"\nendless.next 1 1700000000\n")
        .expect("the daemon reads");
    upstream.expect(&format!("{KEY}.endless.next 1 1700000000"));
    let rejected = daemon.metrics().rejected();
    assert_eq!(
        (rejected["too_long"], rejected.values().sum::<u64>()),
        (1, 1)
    );
    assert!(is_silent(&mut stream));
}

#[test]
fn a_flood_of_bad_lines_is_counted_and_does_not_flood_the_log() {
    const LINES: usize = 50_000;
    let (upstream, daemon) = start();
    daemon.tcp("flood.bad oops 1700000000\n".repeat(LINES));
    daemon.wait_received(LINES);
    assert_eq!(daemon.metrics().rejected()["value"], LINES as u64);
    let lines = daemon.log.len();
    assert!(lines < 500, "{lines} lines in the log");
    assert_well(&daemon, &upstream);
}

#[test]
fn two_thousand_silent_connections() {
    // Ours and the daemon's; elsewhere more of them may not be possible.
    let limit = usize::try_from(raise_open_files()).unwrap_or(usize::MAX);
    let count = 2000.min(limit.saturating_sub(500));
    assert!(count > 1100, "this test needs more open files than {limit}");
    let (upstream, daemon) = start();
    let silent: Vec<TcpStream> = (0..count).map(|_| daemon.connect()).collect();
    assert_well(&daemon, &upstream);
    // The default limit; the others had to go, and it is on record.
    wait_for("the limit of connections", || {
        daemon.connections() <= 1024 && daemon.connections_closed() >= count as u64 - 1024
    });
    drop(silent);
    assert_well(&daemon, &upstream);
}

#[test]
fn at_the_limit_the_longest_idle_connection_gives_way() {
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url()).set("listen.max_connections", 10);
    let daemon = Daemon::start(&config);
    let mut clients = Vec::new();
    let speak = |client: &mut TcpStream, number: usize, word: &str| {
        let line = format!("limit.{number}.{word} 1 1700000000");
        client
            .write_all(format!("{line}\n").as_bytes())
            .expect("the daemon reads");
        upstream.expect(&format!("{KEY}.{line}"));
    };
    for number in 0..10 {
        let mut client = daemon.connect();
        speak(&mut client, number, "first");
        clients.push(client);
    }
    // The oldest is not the one that was silent for longest.
    speak(&mut clients[0], 0, "again");
    assert_eq!(daemon.connections_closed(), 0);

    let mut one_more = daemon.connect();
    closes_silently(&mut clients[1]);
    speak(&mut one_more, 10, "first");
    assert_eq!(daemon.connections_closed(), 1);
    assert_eq!(daemon.connections(), 10);
    clients.remove(1);
    for (number, client) in clients.iter_mut().enumerate() {
        assert!(is_silent(client), "client {number}");
        speak(client, number, "still");
    }
}

/// Connections that never send a line are evicted before any that does, however long that is
/// idle between its lines.
#[test]
fn a_storm_of_silent_connections_hurts_no_client_that_sends() {
    const LIMIT: u32 = 20;
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url()).set("listen.max_connections", LIMIT);
    let daemon = Daemon::start(&config);
    let mut client = daemon.connect();
    let mut storm = Vec::new();
    for round in 0..5 {
        let line = format!("storm.{round} 1 1700000000");
        client
            .write_all(format!("{line}\n").as_bytes())
            .expect("the daemon reads");
        upstream.expect(&format!("{KEY}.{line}"));
        for number in 0..2 * LIMIT {
            let mut silent = daemon.connect();
            // Some bring bytes, but no line.
            if number % 2 == 0 {
                silent.write_all(b"half").expect("a new connection");
            }
            storm.push(silent);
        }
        wait_for("the storm to be accepted", || {
            daemon.connections_closed() > storm.len() as u64 - u64::from(LIMIT)
        });
    }
    assert!(is_silent(&mut client));
    assert_eq!(daemon.connections(), u64::from(LIMIT));
    assert_eq!(daemon.stop().delivered, 5);
}

#[test]
fn clients_never_see_a_byte() {
    let (upstream, daemon) = start();
    // What makes other daemons answer.
    for bytes in [
        &b"\r\n"[..],
        b"help\n",
        b"QUIT\r\n",
        b"silent.good 1 1700000000\n",
        b"silent.bad oops\n",
        b"\xff\xff\xff\n",
        b"\0\0\0\n",
    ] {
        let mut stream = daemon.connect();
        stream.write_all(bytes).expect("the daemon reads");
        assert_well(&daemon, &upstream);
        assert!(is_silent(&mut stream), "{}", bytes.escape_ascii());
        stream
            .shutdown(Shutdown::Write)
            .expect("an open connection");
        closes_silently(&mut stream);
    }
}

#[test]
fn running_out_of_files_is_survived_without_spinning() {
    const FILES: u32 = 64;
    let upstream = Upstream::tcp();
    let daemon = Launch::with_open_files(&small_queue(&upstream), FILES).start();
    // The way to the upstream is open before there are no more files.
    assert_well(&daemon, &upstream);
    let silent: Vec<TcpStream> = (0..2 * FILES).map(|_| daemon.connect()).collect();

    let memory = Memory::of(daemon.id());
    let (started, ticks) = (Instant::now(), memory.ticks());
    let mut number = 0;
    let busy = wait_until("half a second of work", || {
        let line = format!("files.{number} 1 1700000000");
        daemon.udp(&line);
        upstream.expect(&format!("{KEY}.{line}"));
        number += 1;
        let passed = started.elapsed();
        let used = Duration::from_millis(10 * (memory.ticks() - ticks));
        (passed > Duration::from_millis(500)).then(|| used.as_secs_f64() / passed.as_secs_f64())
    });
    assert!(
        busy < 0.6,
        "{:.0} % of a processor for nothing",
        busy * 100.0
    );

    drop(silent);
    assert_well(&daemon, &upstream);
}

#[test]
fn a_client_that_breaks_off_hurts_nobody() {
    let (upstream, daemon) = start();
    let lines = payload(&numbered("broken", 1000));
    for cut in [1, 100, 5000, lines.len()] {
        let mut stream = daemon.connect();
        stream.write_all(&lines[..cut]).expect("the daemon reads");
        reset(stream);
    }
    wait_for("the connections to be gone", || daemon.connections() == 0);
    assert_well(&daemon, &upstream);
}

/// More bad lines than the log has room for: some of them, then how many more.
#[test]
fn a_flood_of_bad_lines_leaves_its_size_in_the_log() {
    const BAD: usize = 100_000;
    const LOG_LINES: usize = 40;
    let (upstream, daemon) = start();
    daemon.tcp("no.value\nno.number x\n".repeat(BAD / 2));
    daemon.wait_received(BAD);
    let summary = daemon.log.find("the summary", |line| {
        line.contains("similar log lines were suppressed")
    });
    assert!(summary.contains(&format!("rejected={BAD}")), "{summary}");
    let lines = daemon.log.lines().len();
    assert!(lines < LOG_LINES, "{lines} lines in the log");
    assert_well(&daemon, &upstream);
}
