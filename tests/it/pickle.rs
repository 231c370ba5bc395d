//! Carbon's pickle protocol: frames of points, in whatever reads they come, and
//! what else reaches such a port.

use std::io::Write;
use std::net::{Shutdown, TcpStream};

use crate::support::{
    Config, Daemon, KEY, Launch, Memory, Port, Upstream, assert_rejected, closes_silently,
    is_silent, now, reset, say_and_hang_up, wait_for,
};

const LABEL: &str = "pickle:localhost:0";

fn config(upstream: &Upstream) -> Config {
    Config::to(upstream.url())
        .set("listen.pickle", ["localhost:0"])
        .set("queue.bytes", "4MiB")
}

fn start() -> (Upstream, Daemon) {
    let upstream = Upstream::tcp();
    let daemon = Daemon::start(&config(&upstream));
    (upstream, daemon)
}

fn connect(daemon: &Daemon) -> TcpStream {
    let stream = TcpStream::connect(daemon.address("pickle")).expect("a pickle listener");
    stream.set_nodelay(true).expect("an open socket");
    stream
}

/// As Dropwizard's reporter writes it, byte for byte.
fn pickle(points: &[(&str, u32, &str)]) -> Vec<u8> {
    let mut pickle = b"(l".to_vec();
    for (name, timestamp, value) in points {
        write!(pickle, "(S'{name}'\n(L{timestamp}L\nS'{value}'\ntta").expect("memory");
    }
    pickle.push(b'.');
    pickle
}

/// With its length before it.
fn framed(pickle: &[u8]) -> Vec<u8> {
    let length = u32::try_from(pickle.len()).expect("a frame");
    [&length.to_be_bytes(), pickle].concat()
}

fn frame(points: &[(&str, u32, &str)]) -> Vec<u8> {
    framed(&pickle(points))
}

/// The next point arrives, over a connection of its own.
#[track_caller]
fn assert_well(daemon: &Daemon, upstream: &Upstream) {
    say_and_hang_up(
        connect(daemon),
        frame(&[("well.point", 1_700_000_000, "1")]),
    );
    upstream.expect(&format!("{KEY}.well.point 1 1700000000"));
}

#[test]
fn frames_arrive_however_they_are_cut() {
    let (upstream, daemon) = start();
    let mut stream = connect(&daemon);
    let mut write = |bytes: &[u8]| stream.write_all(bytes).expect("the daemon reads");
    // Two in a write, and the beginning of the third.
    let third = frame(&[("cut.third", 1_700_000_003, "3")]);
    let start = [
        frame(&[("cut.first", 1_700_000_001, "1.50")]),
        frame(&[
            ("cut.second", 1_700_000_002, "2"),
            ("cut.also", 1_700_000_002, "-1e-7"),
        ]),
        third[..9].to_vec(),
    ];
    write(&start.concat());
    upstream.expect(&format!("{KEY}.cut.also -1e-7 1700000002"));
    for byte in &third[9..] {
        write(&[*byte]);
    }
    upstream.expect(&format!("{KEY}.cut.third 3 1700000003"));
    // One that is many reads long: more than half a MiB.
    let names: Vec<String> = (0..15_000)
        .map(|number| format!("cut.large.{number:05}"))
        .collect();
    let points: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), 1_700_000_004, "4"))
        .collect();
    let large = frame(&points);
    assert!(large.len() > 600_000, "{}", large.len());
    write(&large);
    upstream.expect(&format!("{KEY}.cut.large.14999 4 1700000004"));
    assert!(is_silent(&mut stream));

    let received = format!("sidecarbon_lines_received_total{{listener=\"{LABEL}\"}}");
    assert_eq!(daemon.metric(&received), 15_004);
    assert_rejected(&daemon, []);
    let ledger = daemon.stop();
    assert_eq!((ledger.received, ledger.delivered), (15_004, 15_004));
}

#[test]
fn a_point_without_a_time_gets_ours_and_loses_our_key() {
    let (upstream, daemon) = start();
    // ("KEY.own", (-1, 7)) of Python 3, protocol 4.
    let name = format!("{KEY}.own");
    let length = u8::try_from(name.len()).expect("a short name");
    let pickle = [
        &b"\x80\x04]\x94\x8c"[..],
        &[length],
        name.as_bytes(),
        b"\x94J\xff\xff\xff\xffK\x07\x86\x94\x86\x94a.",
    ];
    say_and_hang_up(connect(&daemon), framed(&pickle.concat()));
    let line = upstream.find("the point", |line| {
        line.starts_with(&format!("{KEY}.own 7 "))
    });
    let stamp: u64 = line
        .rsplit(' ')
        .next()
        .and_then(|word| word.parse().ok())
        .expect("a time");
    assert!(stamp.abs_diff(now()) <= 30, "{line}");
}

#[test]
fn what_is_rejected_leaves_its_neighbours_alone() {
    let (upstream, daemon) = start();
    let mut stream = connect(&daemon);
    let bad = frame(&[
        ("bad.before", 1_700_000_000, "1"),
        ("bad name", 1_700_000_000, "1"),
        ("bad.line 1 5\\nbad.injected", 1_700_000_000, "1"),
        ("bad.value", 1_700_000_000, "True"),
        ("bad.nan", 1_700_000_000, "NaN"),
        ("bad.after", 1_700_000_000, "2"),
    ]);
    // One that would run a program, one that is none, one of over 1 MiB.
    let code = framed(b"cos\nsystem\n(S'touch /tmp/never'\ntR.");
    let mut large = (3_u32 << 20).to_be_bytes().to_vec();
    large.resize(4 + (3 << 20), b'.');
    for bytes in [&bad, &code, &framed(b"no pickle"), &large] {
        stream.write_all(bytes).expect("the daemon reads");
    }
    let last = frame(&[("bad.last", 1_700_000_000, "3")]);
    stream.write_all(&last).expect("the daemon reads");
    upstream.expect(&format!("{KEY}.bad.last 3 1700000000"));
    assert!(is_silent(&mut stream));
    assert_rejected(
        &daemon,
        [
            ("name", 2),
            ("not_finite", 1),
            ("protocol", 2),
            ("too_long", 1),
            ("value", 1),
        ],
    );
    daemon.stop();
    let stored = ["bad.before 1", "bad.after 2", "bad.last 3"];
    let stored = stored.map(|line| format!("{KEY}.{line} 1700000000"));
    assert_eq!(upstream.finish(), stored);
}

#[test]
fn another_protocol_is_recognised_and_its_connection_closed() {
    const TLS_HELLO: &[u8] = b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03\n123456\n789";
    const HTTP: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n";
    const LINES: &[u8] = b"plain.first 1 1700000000\nplain.second 2 1700000000\n";

    let (upstream, daemon) = start();
    for (number, bytes) in [LINES, TLS_HELLO, HTTP].into_iter().enumerate() {
        let mut stream = connect(&daemon);
        stream.write_all(bytes).expect("the daemon reads");
        // We leave the connection open: the daemon has to close it.
        closes_silently(&mut stream);
        assert_rejected(&daemon, [("protocol", number as u64 + 1)]);
    }
    let closed =
        format!("sidecarbon_connections_closed_total{{listener=\"{LABEL}\",reason=\"protocol\"}}");
    assert_eq!(daemon.metric(&closed), 3);
    assert_well(&daemon, &upstream);
    assert_eq!(upstream.len(), 1);
    daemon.log.find("where lines go", |line| {
        line.contains("line rejected") && line.contains(LABEL) && line.contains("listen.tcp")
    });

    // And the other way round.
    let mut stream = daemon.connect();
    let frame = frame(&[("astray", 1_700_000_000, "1")]);
    stream.write_all(&frame).expect("the daemon reads");
    closes_silently(&mut stream);
    assert_rejected(&daemon, [("protocol", 4)]);
    let told = daemon.try_get("/api/rejected").expect("an answer").text();
    assert!(told.contains("listen.pickle"), "{told}");
}

#[test]
fn half_a_frame_is_truncated_however_it_ends() {
    let (upstream, daemon) = start();
    let whole = frame(&[("half.whole", 1_700_000_000, "1")]);
    let half = frame(&[("half.cut", 1_700_000_000, "1")]);
    let half = &half[..half.len() - 3];
    say_and_hang_up(connect(&daemon), [&whole, half].concat());
    upstream.expect(&format!("{KEY}.half.whole 1 1700000000"));
    assert_rejected(&daemon, [("truncated", 1)]);

    let mut stream = connect(&daemon);
    stream.write_all(&whole).expect("the daemon reads");
    daemon.wait_received(3);
    stream.write_all(half).expect("the daemon reads");
    reset(stream);
    daemon.wait_received(4);
    assert_rejected(&daemon, [("truncated", 2)]);

    // And where the daemon ends first.
    let mut stream = connect(&daemon);
    stream.write_all(&whole).expect("the daemon reads");
    daemon.wait_received(5);
    stream.write_all(half).expect("the daemon reads");
    let ledger = daemon.stop();
    assert_eq!((ledger.received, ledger.rejected), (6, 3));
    assert_eq!(upstream.finish().len(), 3);
}

#[test]
fn a_reload_brings_it_takes_it_away_and_changes_what_a_port_speaks() {
    let upstream = Upstream::tcp();
    let port = Port::reserve();
    let at = port.address().to_string();
    let without = Config::to(upstream.url());
    let daemon = Daemon::start(&without);
    let with = without.clone().set("listen.pickle", [&at]);
    daemon.reload(&with);
    let mut stream = connect(&daemon);
    let send = |stream: &mut TcpStream, name: &str| {
        let frame = frame(&[(name, 1_700_000_000, "1")]);
        stream.write_all(&frame).expect("the daemon reads");
        upstream.expect(&format!("{KEY}.{name} 1 1700000000"));
    };
    send(&mut stream, "reload.added");
    // Another reload leaves its connections alone.
    daemon.reload(&with.clone().set("log.level", "info"));
    send(&mut stream, "reload.kept");
    assert!(is_silent(&mut stream));

    let without = without.set("listen.pickle", [""; 0]);
    daemon.reload(&without);
    closes_silently(&mut stream);
    wait_for("nobody to listen", || TcpStream::connect(&at).is_err());

    daemon.reload(&with);
    send(&mut connect(&daemon), "reload.back");
    let lines = without.clone().set("listen.tcp", ["localhost:0", &at]);
    daemon.reload(&lines);
    wait_for("lines at this port", || {
        let mut stream = TcpStream::connect(&at).expect("a listener");
        let _ = stream.write_all(b"reload.line 1 1700000000\n");
        let _ = stream.shutdown(Shutdown::Write);
        closes_silently(&mut stream);
        upstream
            .lines()
            .iter()
            .any(|line| line.contains("reload.line"))
    });
}

/// Both leave the port to the system, which gives each its own.
#[test]
fn a_reload_does_not_mix_it_up_with_lines() {
    let upstream = Upstream::tcp();
    let without = Config::to(upstream.url());
    let daemon = Daemon::start(&without);
    daemon.reload(&without.clone().set("listen.pickle", ["localhost:0"]));
    assert_ne!(daemon.address("pickle"), daemon.address("tcp"));
    for _ in 0..10 {
        assert_well(&daemon, &upstream);
        daemon.tcp("well.line 1 1700000000\n");
    }
    assert_rejected(&daemon, []);
}

#[test]
fn a_container_needs_no_file_for_it() {
    let upstream = Upstream::tcp();
    let daemon = Launch::bare()
        .env("SIDECARBON_SINK_URL", upstream.url())
        .env("SIDECARBON_API_KEY", KEY)
        .env("SIDECARBON_LISTEN_UDP", "")
        .env("SIDECARBON_LISTEN_TCP", "")
        .env("SIDECARBON_LISTEN_PICKLE", "127.0.0.1:0")
        .env("SIDECARBON_ADMIN_LISTEN", "localhost:0")
        .start();
    assert_well(&daemon, &upstream);
}

/// Frames that are begun by many and finished by nobody, and small ones that
/// say a lot: the memory is bounded, and others are served.
#[test]
fn clients_that_mean_harm() {
    const MEMORY: u64 = 128 << 20;
    let (upstream, daemon) = start();
    let mut begun = (1_u32 << 20).to_be_bytes().to_vec();
    begun.resize(1_000_000, b'(');
    let clients: Vec<TcpStream> = (0..60)
        .map(|_| {
            let mut stream = connect(&daemon);
            stream.write_all(&begun).expect("the daemon reads");
            stream
        })
        .collect();
    let closed =
        format!("sidecarbon_connections_closed_total{{listener=\"{LABEL}\",reason=\"limit\"}}");
    wait_for("the longest idle to give way", || {
        daemon.metric(&closed) >= 40
    });
    assert_well(&daemon, &upstream);
    drop(clients);
    wait_for("the others to be gone", || daemon.connections() == 0);

    let point = |name: &[u8], times| {
        let length = u32::try_from(name.len()).expect("a name");
        let point = [
            &b"](T"[..],
            &length.to_le_bytes(),
            name,
            b"K\x05K\x01\x86\x86q\0",
        ]
        .concat();
        framed(&[&point[..], &b"h\0".repeat(times), b"e."].concat())
    };
    let mut stream = connect(&daemon);
    for frame in [
        point(&[b'x'; 3000], 500_000),
        point(&vec![b'x'; 500_000], 200_000),
        framed(&[&b"]".repeat(500_000)[..], &b"a".repeat(499_999), b"."].concat()),
        framed(&b"(".repeat(1 << 20)),
        framed(b"]r\xff\xff\xff\x7f.").repeat(10_000),
        framed(b"]r\x00\x00\x08\x00.").repeat(10_000),
    ] {
        stream.write_all(&frame).expect("the daemon reads");
    }
    assert_well(&daemon, &upstream);
    wait_for("all frames to be read", || {
        daemon.received() > 700_000 && is_silent(&mut stream)
    });
    let peak = Memory::of(daemon.id()).peak();
    assert!(peak < MEMORY, "{peak} bytes resident");
    drop(stream);
    daemon.ledger();
}
