//! Any bytes, in any reads: what is stored is whole, clean lines, and they do
//! not depend on how the bytes were cut.

#![no_main]

use std::time::{Duration, UNIX_EPOCH};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sidecarbon::config::{ApiKey, NameRule};
use sidecarbon::pipeline::decode::{Decoder, Ending};
use sidecarbon::pipeline::decode::protocol::Protocol;
use sidecarbon::pipeline::line::Rules;
use sidecarbon::pipeline::batch::Batch;

#[derive(Debug, Arbitrary)]
struct Input {
    reads: Vec<Vec<u8>>,
    names: u8,
    clean: bool,
}

fuzz_target!(|input: Input| {
    let rules = Rules {
        names: [NameRule::Any, NameRule::Sanitize, NameRule::Strict][usize::from(input.names % 3)],
        max_line_bytes: 64,
        key: ApiKey::parse("fuzz.key").expect("a valid key").into(),
    };
    let ending = if input.clean { Ending::Clean } else { Ending::Broken };
    let reads: Vec<&[u8]> = input.reads.iter().map(Vec::as_slice).collect();
    let stored = receive(&reads, ending, &rules);
    let text = std::str::from_utf8(&stored).expect("what is stored is UTF-8");
    for line in text.lines() {
        assert_eq!(line.split(' ').count(), 3, "{line:?}");
        assert!(!line.contains(char::is_control), "{line:?}");
        assert!(!line.to_lowercase().starts_with("fuzz.key."), "{line:?}");
    }
    assert_eq!(stored, receive(&[&input.reads.concat()], ending, &rules));
});

fn receive(reads: &[&[u8]], ending: Ending, rules: &Rules) -> Vec<u8> {
    let mut batch = Batch::default();
    batch.reset(UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    let mut client = Decoder::new(Protocol::Lines);
    for read in reads {
        if client.feed(read, rules, &mut batch).is_break() {
            return batch.bytes().to_vec();
        }
    }
    client.finish(ending, rules, &mut batch);
    batch.bytes().to_vec()
}
