//! Any bytes, in any reads: what comes of samples are whole, clean lines, every
//! value is in one account, and neither depends on how the bytes were cut.

#![no_main]

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sidecarbon::config::{ApiKey, NameRule, Percentile, StatsdSettings};
use sidecarbon::pipeline::decode::{Decoder, Ending};
use sidecarbon::pipeline::decode::protocol::Protocol;
use sidecarbon::pipeline::statsd::Statsd;
use sidecarbon::pipeline::line::{Line, Rules};
use sidecarbon::pipeline::batch::Batch;
use sidecarbon::pipeline::queue::{Limits, Queue};
use sidecarbon::stats::{Counters, ListenerId};

#[derive(Debug, Arbitrary)]
struct Input {
    reads: Vec<Vec<u8>>,
    names: u8,
    clean: bool,
}

fuzz_target!(|input: Input| {
    let rules = Rules {
        names: [NameRule::Any, NameRule::Sanitize, NameRule::Strict][usize::from(input.names % 3)],
        max_line_bytes: 128,
        key: ApiKey::parse("fuzzkey").expect("a valid key").into(),
    };
    let ending = if input.clean { Ending::Clean } else { Ending::Broken };
    let reads: Vec<&[u8]> = input.reads.iter().map(Vec::as_slice).collect();
    let (lines, account) = receive(&reads, ending, &rules);
    for line in &lines {
        let unbound = Rules { max_line_bytes: 1 << 16, names: NameRule::Any, ..rules.clone() };
        let parsed = Line::parse(line.as_bytes(), &unbound);
        assert!(matches!(parsed, Ok(Some(_))), "{line:?}: {parsed:?}");
        let name = line.splitn(3, '.').nth(2).expect("prefix, kind and name");
        assert!(!name.to_lowercase().starts_with("fuzzkey."), "{line:?}");
    }
    let whole = input.reads.concat();
    assert_eq!((lines, account), receive(&[&whole], ending, &rules));
});

/// The points, without their second, and the account.
fn receive(reads: &[&[u8]], ending: Ending, rules: &Rules) -> (Vec<String>, [u64; 3]) {
    let settings = StatsdSettings {
        interval: Duration::from_secs(10),
        percentiles: vec![Percentile::parse("90").expect("a percentile")],
        prefix: "p".to_owned(),
        bytes: 1 << 20,
    };
    let statsd = Statsd::new(&settings, Arc::new(Counters::default()));
    let queue = Queue::new(Limits {
        block_bytes: 64 << 10,
        queue_bytes: 16 << 20,
        linger: Duration::ZERO,
        gather: Duration::ZERO,
        max_lines_per_second: None,
    });
    let mut batch = Batch::default();
    let mut client = Decoder::new(Protocol::Statsd);
    let is_broken_off = reads.iter().any(|read| {
        batch.reset(UNIX_EPOCH);
        let fed = client.feed(read, rules, &mut statsd.read().fold(&mut batch));
        queue.push(ListenerId(0), &batch);
        fed.is_break()
    });
    if !is_broken_off {
        batch.reset(UNIX_EPOCH);
        client.finish(ending, rules, &mut statsd.read().fold(&mut batch));
        queue.push(ListenerId(0), &batch);
    }
    statsd.flush_now(&queue, |_| {});
    let ledger = queue.snapshot().ledger;
    assert_eq!(ledger.imbalance(), 0);
    let mut lines = Vec::new();
    while let Some(lease) = queue.lease() {
        let text = std::str::from_utf8(lease.bytes()).expect("lines are UTF-8");
        let points = text.lines().filter_map(|line| line.rsplit_once(' '));
        lines.extend(points.map(|(point, _)| point.to_owned()));
        lease.settle_all();
    }
    lines.sort();
    (lines, [ledger.received_total(), ledger.aggregated(), ledger.rejected_total()])
}
