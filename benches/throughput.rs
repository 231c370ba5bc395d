//! The whole daemon between a load and an upstream of its own, over loopback:
//! lines a second, processor time a million lines, memory, losses.
//!
//! `cargo bench --bench throughput`, or `… -- tcp 8` for one scenario: `tcp`,
//! `udp` and how many connections, or lines in a datagram.
//!
//! Load, daemon and upstream share the machine, and on loopback the kernel does
//! the receiver's work in the sender's time: compare with figures of the same
//! machine only.
#![allow(
    missing_docs,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic
)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

const LINES: u64 = 4_000_000;

/// Slow enough that the kernel drops none.
const DATAGRAMS_A_SECOND: u64 = 50_000;

/// What the kernel counts processor time in.
const TICKS_A_SECOND: f64 = 100.0;

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    println!("| load | lines/s | CPU s a million lines | resident MiB, at most | lost |");
    println!("|---|---|---|---|---|");
    match arguments.as_slice() {
        [kind, number] => run(kind, number.parse().expect("how many")),
        _ => {
            for (kind, number) in [("tcp", 1), ("tcp", 8), ("udp", 15), ("udp", 1)] {
                run(kind, number);
            }
        }
    }
}

fn run(kind: &str, number: u64) {
    let upstream = Upstream::start();
    let daemon = Daemon::start(&upstream.url);
    let begun = Instant::now();
    let (what, sent) = match kind {
        "tcp" => (
            format!("TCP, {number} connections"),
            stream(&daemon, number),
        ),
        "udp" => (
            format!("UDP, {number} lines a datagram"),
            datagrams(&daemon, number),
        ),
        _ => panic!("tcp or udp"),
    };
    let arrived = upstream.wait_for(sent);
    let seconds = begun.elapsed().as_secs_f64();
    let (processor, memory) = daemon.cost();
    println!(
        "| {what} | {:.0} | {:.3} | {memory:.1} | {} |",
        arrived as f64 / seconds,
        processor / (arrived as f64 / 1e6),
        sent - arrived
    );
}

/// As fast as they are taken.
fn stream(daemon: &Daemon, connections: u64) -> u64 {
    let piece = lines(1000);
    let pieces = LINES / 1000 / connections;
    thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let mut stream = TcpStream::connect(&daemon.tcp).expect("the daemon");
                for _ in 0..pieces {
                    stream.write_all(piece.as_bytes()).expect("it reads");
                }
            });
        }
    });
    pieces * connections * 1000
}

/// At a steady rate.
fn datagrams(daemon: &Daemon, lines_each: u64) -> u64 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(&daemon.udp).expect("the daemon");
    let datagram = lines(lines_each);
    let count = DATAGRAMS_A_SECOND * 5;
    let begun = Instant::now();
    for number in 0..count {
        if number % 50 == 0 {
            let due = Duration::from_secs_f64(number as f64 / DATAGRAMS_A_SECOND as f64);
            thread::sleep(due.saturating_sub(begun.elapsed()));
        }
        socket.send(datagram.as_bytes()).expect("it listens");
    }
    count * lines_each
}

fn lines(count: u64) -> String {
    (0..count)
        .map(|number| {
            let host = number % 100;
            format!("prod.eu-west-1.host{host:03}.requests.http.2xx.rate {number}.25 1700000000\n")
        })
        .collect()
}

/// Counts newlines.
struct Upstream {
    url: String,
    arrived: Arc<AtomicU64>,
}

impl Upstream {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let arrived = Arc::new(AtomicU64::new(0));
        let counter = arrived.clone();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut buffer = vec![0; 256 << 10];
                while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    let lines = memchr::memchr_iter(b'\n', &buffer[..read]).count();
                    counter.fetch_add(lines as u64, Relaxed);
                }
            }
        });
        Self {
            url: format!("tcp://{address}"),
            arrived,
        }
    }

    /// Waits until all have arrived, or none does any more.
    fn wait_for(&self, lines: u64) -> u64 {
        let mut before = (0, Instant::now());
        loop {
            let arrived = self.arrived.load(Relaxed);
            if arrived != before.0 {
                before = (arrived, Instant::now());
            }
            if arrived >= lines || before.1.elapsed() > Duration::from_secs(2) {
                return arrived;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

struct Daemon {
    child: Child,
    tcp: String,
    udp: String,
}

impl Daemon {
    fn start(url: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sidecarbon"))
            .args([
                "--sink",
                url,
                "--tcp",
                "127.0.0.1:0",
                "--udp",
                "127.0.0.1:0",
            ])
            .env("SIDECARBON_ADMIN_LISTEN", "")
            .env("SIDECARBON_API_KEY", "01234567-89ab-cdef-0123-456789abcdef")
            .env("SIDECARBON_LOG_FORMAT", "text")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the daemon");
        let mut log = BufReader::new(child.stderr.take().expect("its log")).lines();
        let (mut tcp, mut udp) = (None, None);
        while tcp.is_none() || udp.is_none() {
            let line = log.next().expect("it says where it listens").expect("text");
            let address = line
                .rsplit_once("address=")
                .map(|(_, address)| address.to_owned());
            if line.contains("listener=tcp") {
                tcp = address;
            } else if line.contains("listener=udp") {
                udp = address;
            }
        }
        thread::spawn(move || log.for_each(drop));
        Self {
            child,
            tcp: tcp.expect("an address"),
            udp: udp.expect("an address"),
        }
    }

    /// Seconds of processor time so far, and the most memory that was resident.
    fn cost(&self) -> (f64, f64) {
        let read = |file| {
            fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).expect("proc(5)")
        };
        let stat = read("stat");
        // Behind the name, which may hold anything: user and system time.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split(' ').collect();
        let ticks: f64 = fields[12..14]
            .iter()
            .map(|ticks| ticks.parse::<f64>().expect("ticks"))
            .sum();
        let status = read("status");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib: f64 = peak
            .and_then(|text| text.trim().strip_suffix(" kB"))
            .and_then(|text| text.parse().ok())
            .expect("a size");
        (ticks / TICKS_A_SECOND, kib / 1024.0)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }
}
