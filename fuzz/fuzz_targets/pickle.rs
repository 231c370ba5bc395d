//! Any bytes in frames, in any reads: whole, clean lines come of them, which do
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
    frames: Vec<Vec<u8>>,
    behind: Vec<u8>,
    cuts: Vec<u16>,
    clean: bool,
}

fuzz_target!(|input: Input| {
    let rules = Rules {
        names: NameRule::Any,
        max_line_bytes: 64,
        key: ApiKey::parse("fuzz.key").expect("a valid key").into(),
    };
    let ending = if input.clean { Ending::Clean } else { Ending::Broken };
    let mut bytes = Vec::new();
    for frame in &input.frames {
        let length = u32::try_from(frame.len()).expect("a small frame");
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(frame);
    }
    bytes.extend_from_slice(&input.behind);
    let stored = receive(&[&bytes], ending, &rules);
    let text = std::str::from_utf8(&stored).expect("what is stored is UTF-8");
    for line in text.lines() {
        assert_eq!(line.split(' ').count(), 3, "{line:?}");
        assert!(!line.contains(char::is_control), "{line:?}");
        assert!(!line.to_lowercase().starts_with("fuzz.key."), "{line:?}");
    }
    let mut cuts: Vec<usize> = input.cuts.iter().map(|cut| usize::from(*cut).min(bytes.len())).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    let reads: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
    assert_eq!(stored, receive(&reads, ending, &rules));
});

fn receive(reads: &[&[u8]], ending: Ending, rules: &Rules) -> Vec<u8> {
    let mut batch = Batch::default();
    batch.reset(UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    let mut client = Decoder::new(Protocol::Pickle);
    for read in reads {
        if client.feed(read, rules, &mut batch).is_break() {
            return batch.bytes().to_vec();
        }
    }
    client.finish(ending, rules, &mut batch);
    batch.bytes().to_vec()
}
