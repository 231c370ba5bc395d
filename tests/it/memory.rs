//! The memory that `check` promises, and clients that want more of it.

use std::io::Write;
use std::net::TcpStream;

use crate::support::{
    Config, Daemon, Launch, Memory, Port, assert_rejected, udp_to, unix_datagram, unix_stream,
    wait_for,
};

/// What `check` says of a sum, in bytes.
#[track_caller]
fn promised(config: &Config, sum: &str) -> u64 {
    let outcome = Launch::bare()
        .args(["check", "--config"])
        .arg(config.file())
        .run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.said);
    let line = outcome.printed.iter().find(|line| line.contains(sum));
    let line = line.unwrap_or_else(|| panic!("no {sum} in {}", outcome.said));
    let number = line.trim_start_matches('#').split_whitespace().next();
    let mib: f64 = number
        .and_then(|number| number.parse().ok())
        .expect("a number");
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let bytes = (mib * 1024.0 * 1024.0) as u64;
    bytes
}

/// Lines whose names and values do not compress.
fn random_lines(random: &mut fastrand::Rng, bytes: usize) -> Vec<u8> {
    let mut lines = Vec::new();
    while lines.len() < bytes {
        writeln!(
            lines,
            "mem.{:016x}.{:016x} {}",
            random.u64(..),
            random.u64(..),
            random.u32(..)
        )
        .expect("memory");
    }
    lines
}

/// Unfinished lines and frames, large datagrams, odd pickles, samples of many names, and a queue
/// that is full behind an upstream that is down: together they stay within the sum.
#[test]
fn clients_of_every_protocol_stay_within_what_check_says() {
    let port = Port::reserve();
    let config = Config::to(port.url())
        .set("queue.bytes", "4MiB")
        .set("listen.statsd", ["localhost:0"])
        .set("listen.pickle", ["localhost:0"])
        .set("listen.max_line_bytes", "64KiB")
        .set("listen.max_connections", 500)
        .set("statsd.bytes", "1MiB")
        .set("statsd.interval", "1s")
        .set("shutdown.grace", "100ms")
        .with_unix_listeners();
    let daemon = Daemon::start(&config);
    let promised = promised(&config, "= process");
    let (stream, datagram) = (
        daemon.addresses("unix_stream").remove(0),
        daemon.addresses("unix_datagram").remove(0),
    );
    let connect = |kind: &str| TcpStream::connect(daemon.address(kind)).expect("a TCP listener");

    let mut random = fastrand::Rng::with_seed(7);
    let mut held: Vec<Box<dyn Write>> = Vec::new();
    let half = vec![b'x'; 60_000];
    let mut frame = (1_u32 << 20).to_be_bytes().to_vec();
    frame.resize(900_000, b'(');
    for number in 0..100 {
        let mut clients: Vec<(Box<dyn Write>, &[u8])> = vec![
            (Box::new(daemon.connect()), &half),
            (Box::new(unix_stream(&stream)), &half),
            (Box::new(connect("statsd")), &half),
            (Box::new(connect("pickle")), &frame),
        ];
        for (client, bytes) in &mut clients {
            client.write_all(bytes).expect("the daemon reads");
        }
        held.extend(clients.into_iter().map(|(client, _)| client));
        // Large datagrams, and small ones behind them.
        let large = random_lines(&mut random, 50_000);
        for _ in 0..4 {
            udp_to(daemon.address("udp"), &large);
            udp_to(daemon.address("udp"), b"small 1\n");
        }
        unix_datagram(&datagram, &large);
        let samples: String = (0..200)
            .map(|_| {
                format!(
                    "{:x}:{}|ms\n{:x}:1|c\n",
                    random.u16(..),
                    number,
                    random.u64(..)
                )
            })
            .collect();
        udp_to(daemon.address("statsd"), samples);
        daemon.tcp(random_lines(&mut random, 100_000));
    }
    // A client that has sent a good frame before may send large ones, whatever others hold.
    let mut pickler = connect("pickle");
    let good = b"(l(S'mem.good'\n(L1700000000L\nL1L\ntta.";
    let length = u32::try_from(good.len()).expect("a frame").to_be_bytes();
    let before = daemon.received();
    for bytes in [&length[..], good] {
        pickler.write_all(bytes).expect("the daemon reads");
    }
    wait_for("the good frame", || daemon.received() > before);
    for byte in *b"(]" {
        let mut frame = (1_u32 << 20).to_be_bytes().to_vec();
        frame.resize(4 + (1 << 20), byte);
        pickler.write_all(&frame).expect("the daemon reads");
    }
    wait_for("unfinished lines and frames to be dropped", || {
        let rejected = daemon.metrics().rejected();
        rejected["truncated"] > 300 && rejected["too_long"] >= 2
    });
    assert_eq!(daemon.connections_closed(), 100);
    let peak = Memory::of(daemon.id()).peak_of_its_own();
    assert!(peak < promised, "{peak} bytes of {promised}");
    drop(held);
    daemon.stop();
}

/// The last to hold anything are those that hold little: a client with a line of usual length is
/// not hurt by others that hold all there is.
#[test]
fn a_short_line_that_is_not_finished_stays_where_others_hold_much() {
    let port = Port::reserve();
    let config = Config::to(port.url())
        .set("queue.bytes", "1MiB")
        .set("listen.max_line_bytes", "64KiB")
        .set("shutdown.grace", "100ms");
    let daemon = Daemon::start(&config);
    let mut client = daemon.connect();
    client
        .write_all(b"short.first 1 1700000000\nshort.sec")
        .expect("the daemon reads");
    daemon.wait_received(1);
    let half = vec![b'x'; 60_000];
    let mut others: Vec<TcpStream> = (0..200).map(|_| daemon.connect()).collect();
    for other in &mut others {
        other.write_all(&half).expect("the daemon reads");
    }
    // 4 MiB are 69 of them.
    wait_for("most of the others to lose theirs", || {
        daemon.metrics().rejected()["truncated"] > 130
    });
    client
        .write_all(b"ond 2 1700000000\n")
        .expect("the daemon reads");
    drop(others);
    wait_for("the others to be gone", || daemon.connections() == 1);
    // Each of them counts once, whether it lost its line before or ended in it.
    wait_for("all to be counted", || daemon.received() == 202);
    assert_rejected(
        &daemon,
        [
            ("fields", 200 - truncated(&daemon)),
            ("truncated", truncated(&daemon)),
        ],
    );
}

#[track_caller]
fn truncated(daemon: &Daemon) -> u64 {
    daemon.metrics().rejected()["truncated"]
}
