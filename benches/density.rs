//! How small waiting lines become, and how fast: the figures of docs/queue.md.
//!
//! `cargo bench --bench density`

#![allow(
    missing_docs,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    clippy::expect_used
)]

use std::time::{Duration, Instant, SystemTime};

use sidecarbon::config::{ApiKey, NameRule};
use sidecarbon::pipeline::batch::Batch;
use sidecarbon::pipeline::line::Rules;
use sidecarbon::pipeline::queue::{Compressing, Limits, Queue};
use sidecarbon::stats::ListenerId;

const LINES: u64 = 1_000_000;

/// What lines are like: their name and their fields by their number.
type Kind = (&'static str, fn(u64) -> String);

const KINDS: [Kind; 3] = [
    ("4096 series in turn, random integers", |number| {
        format!(
            "{} {} 1700000000",
            name(number % 4096),
            1_000_000_000 + (scramble(number) & ((1 << 33) - 1))
        )
    }),
    ("1000 series in turn, floats, 100 lines/s", |number| {
        let value = (scramble(number) >> 44) as f64 / 1e6 + (number % 1000) as f64;
        format!(
            "{} {value:.6} {}",
            name(number % 1000),
            1_700_000_000 + number / 100
        )
    }),
    ("random names, random floats", |number| {
        let value = (scramble(number) >> 40) as f64 / 1e3;
        format!(
            "app.{:016x}.{:016x} {value:.3} 1700000000",
            scramble(number),
            scramble(!number)
        )
    }),
];

fn main() {
    println!(
        "| lines | raw | lz4, 64 KiB | zstd-1, 64 KiB | columns, 64 KiB | columns, 512 KiB | in the queue |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (what, line) in KINDS {
        let lines: Vec<String> = (0..LINES).map(|number| line(number) + "\n").collect();
        let raw: usize = lines.iter().map(String::len).sum();
        let cells = [
            ratio(raw),
            pieces(&lines, 64, |lines| {
                lz4_flex::compress(lines.concat().as_bytes()).len()
            }),
            pieces(&lines, 64, |lines| zstd(lines.concat().as_bytes())),
            pieces(&lines, 64, |lines| zstd(&columns(lines))),
            pieces(&lines, 512, |lines| zstd(&columns(lines))),
            queued(&lines),
        ];
        println!("| {what} | {} |", cells.join(" | "));
    }
    println!("\nBytes a line, and nanoseconds a line to compress it.");
}

/// Lines cut into pieces of so many KiB, each compressed by itself.
fn pieces(lines: &[String], kib: usize, compress: impl Fn(&[String]) -> usize) -> String {
    let begun = Instant::now();
    let mut compressed = 0;
    let mut rest = lines;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |line: &&String| {
            bytes += line.len();
            bytes <= kib << 10
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (piece, after) = rest.split_at(count);
        compressed += compress(piece);
        rest = after;
    }
    let nanoseconds = begun.elapsed().as_nanos() as u64 / LINES;
    format!("{} · {nanoseconds} ns", ratio(compressed))
}

/// All memory of the shipped queue, once it has compressed what it will.
fn queued(lines: &[String]) -> String {
    let queue = Queue::new(Limits {
        block_bytes: 64 << 10,
        queue_bytes: 1 << 30,
        linger: Duration::ZERO,
        max_lines_per_second: None,
        gather: Duration::ZERO,
    });
    let _compressing = Compressing::start(&queue).expect("a thread");
    queue.upstream_down();
    let rules = Rules {
        names: NameRule::Any,
        max_line_bytes: 4096,
        key: ApiKey::none().into(),
    };
    let mut batch = Batch::default();
    for some in lines.chunks(1000) {
        batch.reset(SystemTime::now());
        for line in some {
            batch.add(line.trim_end().as_bytes(), &rules);
        }
        queue.push(ListenerId(0), &batch);
    }
    let mut before = 0;
    loop {
        let allocated = queue.snapshot().allocated;
        if allocated == before {
            return ratio(allocated);
        }
        before = allocated;
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn ratio(bytes: usize) -> String {
    format!("{:.1}", bytes as f64 / LINES as f64)
}

fn zstd(bytes: &[u8]) -> usize {
    zstd::bulk::compress(bytes, 1).expect("memory").len()
}

fn columns(lines: &[String]) -> Vec<u8> {
    let mut columns: [Vec<u8>; 3] = Default::default();
    for line in lines {
        for (column, field) in columns.iter_mut().zip(line.split_inclusive([' ', '\n'])) {
            column.extend_from_slice(field.as_bytes());
        }
    }
    columns.concat()
}

fn name(number: u64) -> String {
    const REGIONS: [&str; 4] = ["eu-west-1", "us-east-1", "ap-south", "prod"];
    const METRICS: [&str; 8] = [
        "cpu.total.user",
        "cpu.total.iowait",
        "memory.available",
        "network.eth0.rx_bytes",
        "disk.root.free_percent",
        "load.01",
        "requests.http.status.2xx.rate",
        "timers.query.upper_95",
    ];
    let host = number / 8;
    format!(
        "{}.host{host:03}.{}",
        REGIONS[(host % 4) as usize],
        METRICS[(number % 8) as usize]
    )
}

/// Looks random, and is the same in every run.
fn scramble(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB)
}
