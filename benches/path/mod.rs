//! The stages that a line passes, each by itself, as the daemon calls them.
//! Shared by the benchmarks of time and of instructions.

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use memchr::memchr;
use sidecarbon::config::{ApiKey, NameRule};
use sidecarbon::pipeline::ingest::client::Client;
use sidecarbon::pipeline::line::Rules;
use sidecarbon::pipeline::pack::Pack;
use sidecarbon::pipeline::queue::{Limits, Queue};
use sidecarbon::pipeline::sink::encode::{Encoder, WireBuffer};
use sidecarbon::stats::ListenerId;

/// What a socket gives at once, at most.
const READ_BYTES: usize = 64 << 10;

/// Lines in one read, of some 65 bytes.
pub const LINES: usize = 1000;

const KEY: &str = "01234567-89ab-cdef-0123-456789abcdef";

/// One stage, ready to be run again and again.
pub struct Stage {
    pub name: &'static str,
    pub run: Box<dyn FnMut()>,
}

/// All of them. Each run is one read of [`LINES`] lines.
pub fn all() -> Vec<Stage> {
    vec![
        stage("floor", floor()),
        stage(
            "receive",
            receive(lines(|name, number| {
                format!("{name} {number} 1700000000\n")
            })),
        ),
        stage(
            "receive_timeless",
            receive(lines(|name, number| format!("{name} {number}\n"))),
        ),
        stage(
            "receive_odd",
            receive(lines(|name, number| {
                format!("{name};dc=fra\t{number}e1 1700000000\r\n")
            })),
        ),
        stage("queue", queue()),
        stage("encode", encode()),
    ]
}

fn stage(name: &'static str, run: impl FnMut() + 'static) -> Stage {
    Stage {
        name,
        run: Box::new(run),
    }
}

/// The least: newlines found, each line copied.
fn floor() -> impl FnMut() {
    let read = lines(|name, number| format!("{name} {number} 1700000000\n"));
    let mut out = Vec::with_capacity(2 * read.len());
    move || {
        out.clear();
        let mut rest = black_box(read.as_slice());
        while let Some(newline) = memchr(b'\n', rest) {
            out.extend_from_slice(&rest[..=newline]);
            rest = &rest[newline + 1..];
        }
        black_box(&out);
    }
}

/// Split, checked, stamped, packed.
fn receive(read: Vec<u8>) -> impl FnMut() {
    let rules = rules();
    let mut client = Client::default();
    let mut pack = Pack::default();
    move || {
        pack.begin(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        let fed = client.feed(black_box(&read), &rules, &mut pack);
        assert!(fed.is_continue() && pack.lines() == LINES as u64);
        black_box(&pack);
    }
}

/// Into the queue, out of it, settled.
fn queue() -> impl FnMut() {
    let queue = Queue::new(Limits {
        block_bytes: READ_BYTES,
        queue_bytes: 64 << 20,
        linger: Duration::ZERO,
        gather: Duration::ZERO,
        max_lines_per_second: None,
    });
    let pack = packed();
    move || {
        queue.push(ListenerId(0), black_box(&pack));
        while let Some(lease) = queue.lease() {
            lease.settle_all();
        }
    }
}

/// With the key, into the buffer of the socket, which is zeroed.
fn encode() -> impl FnMut() {
    let key = ApiKey::parse(KEY).expect("a key");
    let encoder = Encoder::new(&key);
    let mut out = WireBuffer::default();
    let pack = packed();
    move || {
        let taken = encoder.encode(black_box(pack.bytes()), usize::MAX, &mut out);
        assert_eq!(taken, pack.bytes().len());
        black_box(out.bytes());
        out.clear();
    }
}

fn packed() -> Pack {
    let mut pack = Pack::default();
    pack.begin(SystemTime::UNIX_EPOCH);
    pack.add_lines(
        &lines(|name, number| format!("{name} {number} 1700000000\n")),
        &rules(),
    );
    pack
}

fn rules() -> Rules {
    Rules {
        names: NameRule::Any,
        max_line_bytes: 4096,
        key: ApiKey::parse(KEY).expect("a key").into(),
    }
}

fn lines(line: impl Fn(&str, usize) -> String) -> Vec<u8> {
    (0..LINES)
        .map(|number| {
            let name = format!(
                "prod.eu-west-1.host{:03}.requests.http.2xx.rate",
                number % 100
            );
            line(&name, 1_000_000 + number * 7919)
        })
        .collect::<String>()
        .into_bytes()
}
