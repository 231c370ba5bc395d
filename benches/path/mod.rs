//! The stages that a line passes, each by itself, as the daemon calls them.
//! Shared by the benchmarks of time and of instructions.

use std::hint::black_box;
use std::iter;
use std::time::{Duration, Instant, SystemTime};

use hyper::Method;
use memchr::memchr;
use sidecarbon::config::{ApiKey, Endpoint, NameRule};
use sidecarbon::pipeline::batch::Batch;
use sidecarbon::pipeline::decode::Decoder;
use sidecarbon::pipeline::decode::protocol::Protocol;
use sidecarbon::pipeline::line::Rules;
use sidecarbon::pipeline::queue::{Block, Compressor, Expander, Limits, Queue};
use sidecarbon::pipeline::sink::Target;
use sidecarbon::pipeline::sink::encode::{Encoder, WireBuffer};
use sidecarbon::stats::ListenerId;

/// What a socket gives at once, at most.
const READ_BYTES: usize = 64 << 10;

/// Lines in one read, of some 65 bytes.
const LINES: usize = 1000;

/// Blocks that are compressed together, each of one read.
const BLOCKS: usize = 8;

const KEY: &str = "01234567-89ab-cdef-0123-456789abcdef";

/// One stage, ready to be run again and again.
pub struct Stage {
    pub name: &'static str,
    /// Lines in a run.
    pub lines: usize,
    pub run: Box<dyn FnMut()>,
}

/// All of them. Each run is one read, or one piece of what waits.
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
        stage("http", http()),
        stage_of(BLOCKS, "compress", compress()),
        stage_of(BLOCKS, "expand", expand()),
    ]
}

fn stage(name: &'static str, run: impl FnMut() + 'static) -> Stage {
    stage_of(1, name, run)
}

fn stage_of(reads: usize, name: &'static str, run: impl FnMut() + 'static) -> Stage {
    Stage {
        name,
        lines: reads * LINES,
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
    let mut client = Decoder::new(Protocol::Lines);
    let mut batch = Batch::default();
    move || {
        batch.reset(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        let fed = client.feed(black_box(&read), &rules, &mut batch);
        assert!(fed.is_continue() && batch.lines() == LINES as u64);
        black_box(&batch);
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
    let batch = packed();
    move || {
        queue.push(ListenerId(0), black_box(&batch));
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
    let batch = packed();
    move || {
        let taken = encoder.encode(black_box(batch.bytes()), usize::MAX, &mut out);
        assert_eq!(taken, batch.bytes().len());
        black_box(out.bytes());
        out.clear();
    }
}

/// Bare, as the body of a request, whose head has the key.
fn http() -> impl FnMut() {
    let endpoint = Endpoint::parse("www.example.com", Some(443)).expect("an endpoint");
    let key = ApiKey::parse(KEY).expect("a key");
    let target = Target::new(true, &endpoint, "/api/v1/sink", &key);
    let batch = packed();
    move || {
        let lines = iter::once(black_box(batch.bytes()));
        let request = target.request(Method::POST, lines);
        black_box(request.is_ok_and(|request| !request.headers().is_empty()));
    }
}

/// As waiting blocks are, half a MiB at once.
fn compress() -> impl FnMut() {
    let mut compressor = Compressor::new().expect("memory");
    let blocks = blocks();
    move || {
        let frame = compressor.compress(black_box(&blocks)).expect("memory");
        black_box(frame.compressed());
    }
}

/// When their turn comes.
fn expand() -> impl FnMut() {
    let frame = Compressor::new().and_then(|mut compressor| compressor.compress(&blocks()));
    let frame = frame.expect("memory");
    let mut expander = Expander::new().expect("memory");
    move || {
        let blocks = expander.expand(black_box(&frame)).expect("what it was");
        assert_eq!(blocks.len(), BLOCKS);
        black_box(&blocks);
    }
}

/// A few hundred names again and again, with values that look random.
fn blocks() -> Vec<Block> {
    let scattered = |number: usize| (number as u64 * 0x9E37_79B1) & 0xFFFF_FFFF;
    let of_read = |read: usize| {
        let lines = lines(|name, number| {
            let value = scattered(number + read);
            format!("{name} {value} {}\n", 1_700_000_000 + read)
        });
        let mut block = Block::open(read as u64, Instant::now(), Vec::new());
        block.append(&lines, LINES as u64, lines.len(), Instant::now());
        block
    };
    (0..BLOCKS).map(of_read).collect()
}

fn packed() -> Batch {
    let mut batch = Batch::default();
    batch.reset(SystemTime::UNIX_EPOCH);
    batch.add_lines(
        &lines(|name, number| format!("{name} {number} 1700000000\n")),
        &rules(),
    );
    batch
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
