use std::io::Read;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;
use crate::config::{ApiKey, NameRule};
use crate::pipeline::batch::Batch;
use crate::pipeline::line::Rules;
use crate::pipeline::queue::frame::Compressor;
use crate::pipeline::queue::state::{Job, Leased, Limits};
use crate::stats::RejectReason;

const QUEUE_BYTES: usize = 1 << 20;

fn state(queue_bytes: usize) -> State {
    State::new(Limits {
        block_bytes: 256,
        queue_bytes,
        linger: Duration::ZERO,
        max_lines_per_second: None,
        gather: Duration::ZERO,
    })
}

fn numbered(numbers: std::ops::Range<u32>) -> Batch {
    let rules = Rules {
        names: NameRule::Any,
        max_line_bytes: 4096,
        key: ApiKey::none().into(),
    };
    let mut batch = Batch::default();
    batch.reset(SystemTime::now());
    for number in numbers {
        batch.add(format!("m.{number} {number} 5").as_bytes(), &rules);
    }
    batch
}

/// A run in which lines came at two listeners and some were delivered: some of
/// those that wait are compressed, some lie open.
fn former(counters: &Counters, count: u32, delivered: usize, compresses: bool) -> State {
    let now = Instant::now();
    let mut state = state(QUEUE_BYTES);
    let first = counters
        .listener(ListenerKind::Udp, "udp:localhost:2003")
        .id;
    let second = counters
        .listener(ListenerKind::Tcp, "tcp:localhost:2003")
        .id;
    state.push(first, &numbered(0..count / 2), now);
    for _ in 0..delivered {
        if let Some(Leased::Block(mut block)) = state.lease(now) {
            let all = block.bytes().len();
            state.settle(&mut block, all, Instant::now());
            state.release(block);
        }
    }
    if compresses {
        state.upstream_down(0.0);
        let mut compressor = Compressor::new().unwrap();
        while let Job::Compressor(blocks) = state.next_job(now + Duration::from_secs(1)) {
            let frame = compressor.compress(&blocks).unwrap();
            state.finish_job(blocks, Some(frame));
        }
    }
    state.push(second, &numbered(count / 2..count), now);
    counters.lines_at_risk.store(3, Relaxed);
    state
}

fn image(mut state: State, counters: &Counters) -> Vec<u8> {
    let mut bytes = Vec::new();
    let waiting = state.ledger().queued();
    assert!(state.settles_down());
    let (written, result) = write(&mut state, counters, Instant::now(), &mut bytes);
    result.unwrap();
    assert_eq!(written, waiting);
    bytes
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// All lines in the order in which they leave.
fn drain(state: &mut State) -> Vec<u32> {
    let mut numbers = Vec::new();
    while let Some(leased) = state.lease(Instant::now()) {
        match leased {
            Leased::Frame(frame) => state.expanded(&frame, frame.expand()),
            Leased::Block(mut block) => {
                let text = std::str::from_utf8(block.bytes()).unwrap();
                let number = |line: &str| line.split(' ').nth(1).unwrap().parse::<u32>().unwrap();
                numbers.extend(text.lines().map(number));
                let all = block.bytes().len();
                state.settle(&mut block, all, Instant::now());
                state.release(block);
            }
        }
    }
    numbers
}

/// Adopts an image, checks the sum at every step, and answers with the lines.
fn survivors(bytes: &[u8], queue_bytes: usize) -> (Restored, Vec<u32>, Ledger) {
    let counters = Counters::default();
    // Another order than that of the former run.
    counters.listener(ListenerKind::Tcp, "tcp:localhost:2003");
    let mut state = state(queue_bytes);
    let restored = restore(&mut state, &counters, Instant::now(), &file(bytes));
    assert_eq!(state.ledger().imbalance(), 0, "{restored:?}");
    assert!(state.allocated() <= queue_bytes);
    let before = state.ledger().clone();
    state.close();
    let numbers = drain(&mut state);
    assert_eq!(state.ledger().imbalance(), 0);
    assert_eq!(state.ledger().queued(), 0);
    (restored, numbers, before)
}

#[test]
fn what_waits_survives_with_its_account() {
    let counters = Counters::default();
    let was = former(&counters, 20_000, 3, true);
    let before = was.ledger().clone();
    let bytes = image(was, &counters);
    let (restored, numbers, ledger) = survivors(&bytes, QUEUE_BYTES);
    assert_eq!((restored.lines, restored.lost), (before.queued(), 0));
    assert_eq!(restored.damage, None);
    let delivered = u32::try_from(before.delivered()).unwrap();
    assert_eq!(numbers, (delivered..20_000).collect::<Vec<_>>());
    // Listeners are found again by their labels.
    assert_eq!(ledger.received(ListenerId(0)), 10_000);
    assert_eq!(ledger.received_total(), 20_000);
    assert_eq!(ledger.delivered(), before.delivered());
}

#[test]
fn our_own_lines_go_along() {
    let counters = Counters::default();
    let mut state = former(&counters, 40, 0, false);
    state.generate(numbered(40..41).bytes(), 1, Instant::now());
    let bytes = image(state, &counters);
    let (restored, numbers, ledger) = survivors(&bytes, QUEUE_BYTES);
    assert_eq!((restored.lines, restored.lost), (41, 0));
    assert_eq!(numbers, (0..41).collect::<Vec<u32>>());
    assert_eq!(ledger.generated(), 1);
}

#[test]
fn memory_goes_as_lines_leave() {
    let mut state = former(&Counters::default(), 20_000, 3, true);
    let before = state.allocated();
    let mut gone = 0;
    while let Some(waiting) = state.take_oldest() {
        gone += waiting.allocated();
        assert!(state.allocated() + gone <= before);
    }
    assert!(gone > before / 2);
    assert_eq!(state.allocated(), 0);
}

#[test]
fn compressed_lines_stay_compressed() {
    let counters = Counters::default();
    let bytes = image(former(&counters, 30_000, 0, true), &counters);
    let chunks = chunk::survey(&file(&bytes), PREFIX as u64).unwrap();
    let frames = chunks.iter().filter(|chunk| chunk.kind == Kind::Frame);
    assert!(frames.count() > 1);
}

#[test]
fn lines_that_came_meanwhile_are_live_and_the_others_keep_their_order() {
    let counters = Counters::default();
    let bytes = image(former(&counters, 400, 0, false), &counters);
    let mut state = state(QUEUE_BYTES);
    let listener = counters
        .listener(ListenerKind::Udp, "udp:localhost:2003")
        .id;
    restore(&mut state, &counters, Instant::now(), &file(&bytes));
    state.push(listener, &numbered(1000..1010), Instant::now());
    // A second image follows the first.
    let mut again = Vec::new();
    write(&mut state, &counters, Instant::now(), &mut again)
        .1
        .unwrap();
    let (_, numbers, ledger) = survivors(&again, QUEUE_BYTES);
    assert_eq!(numbers, (0..400).chain(1000..1010).collect::<Vec<_>>());
    assert_eq!(ledger.received_total(), 410);
}

#[test]
fn a_smaller_queue_keeps_the_newest() {
    let counters = Counters::default();
    let bytes = image(former(&counters, 20_000, 0, false), &counters);
    let (restored, numbers, ledger) = survivors(&bytes, 64 << 10);
    assert_eq!((restored.lines, restored.lost), (20_000, 0));
    let dropped = u32::try_from(ledger.dropped(DropReason::QueueFull)).unwrap();
    assert!(dropped > 0);
    assert_eq!(numbers, (dropped..20_000).collect::<Vec<_>>());
}

#[test]
fn another_version_is_lost_as_a_whole_and_counted() {
    let counters = Counters::default();
    let mut bytes = image(former(&counters, 100, 0, false), &counters);
    bytes[..4].copy_from_slice(&7_u32.to_le_bytes());
    let (restored, numbers, ledger) = survivors(&bytes, QUEUE_BYTES);
    assert_eq!(restored.damage, Some(Damage::Version(7)));
    assert_eq!((restored.lines, restored.lost, numbers.len()), (0, 100, 0));
    assert_eq!(ledger.dropped(DropReason::Corrupt), 100);
}

#[test]
fn what_is_no_image_is_nothing() {
    for bytes in [&b""[..], b"hello", &[0xff; 5000]] {
        let (restored, numbers, ledger) = survivors(bytes, QUEUE_BYTES);
        assert_eq!((restored.lines, restored.lost, numbers.len()), (0, 0, 0));
        assert!(restored.damage.is_some());
        assert_eq!(ledger.received_total(), 0);
    }
}

#[test]
fn an_output_that_breaks_leaves_what_was_written() {
    let counters = Counters::default();
    let mut room = [0; 4000];
    let mut state = former(&counters, 1000, 0, false);
    let mut out = &mut room[..];
    let (written, result) = write(&mut state, &counters, Instant::now(), &mut out);
    assert!(result.is_err() && written > 0);
    let (restored, numbers, _) = survivors(&room, QUEUE_BYTES);
    assert_eq!((restored.lines, numbers.len() as u64), (written, written));
    assert_eq!(restored.lost, 1000 - written);
}

#[test]
fn the_file_is_empty_afterwards() {
    let counters = Counters::default();
    let mut file = file(&image(former(&counters, 1000, 0, false), &counters));
    restore(
        &mut state(QUEUE_BYTES),
        &counters,
        Instant::now(),
        &file.try_clone().unwrap(),
    );
    let mut left = Vec::new();
    file.read_to_end(&mut left).unwrap();
    let account = PREFIX + 500;
    assert!(file.metadata().unwrap().len() < account as u64);
}

#[test]
fn doubts_go_on_being_counted() {
    let counters = Counters::default();
    let mut was = former(&counters, 10, 0, false);
    let mut batch = numbered(0..0);
    let rules = Rules {
        names: NameRule::Any,
        max_line_bytes: 4096,
        key: ApiKey::none().into(),
    };
    batch.add(b"not-a-line", &rules);
    was.push(ListenerId(0), &batch, Instant::now());
    let file = file(&image(was, &counters));
    let next = Counters::default();
    next.lines_at_risk.store(1, Relaxed);
    let mut state = state(QUEUE_BYTES);
    restore(&mut state, &next, Instant::now(), &file);
    assert_eq!(next.lines_at_risk.load(Relaxed), 4);
    assert_eq!(state.ledger().rejected(RejectReason::Fields), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn any_cut_costs_the_tail(
        count in 2..1500_u32,
        delivered in 0..4_usize,
        compresses in any::<bool>(),
        cut in 0.0..1.0,
    ) {
        let counters = Counters::default();
        let was = former(&counters, count, delivered, compresses);
        let before = was.ledger().clone();
        let bytes = image(was, &counters);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let length = (bytes.len() as f64 * cut) as usize;
        let (restored, numbers, ledger) = survivors(&bytes[..length], QUEUE_BYTES);
        prop_assert_eq!(restored.lines, numbers.len() as u64);
        prop_assert_eq!(restored.damage, Some(Damage::Changed));
        let first = u32::try_from(before.delivered()).unwrap();
        let last = first + u32::try_from(restored.lines).unwrap();
        prop_assert_eq!(numbers, (first..last).collect::<Vec<_>>());
        if restored.lines > 0 {
            prop_assert_eq!(restored.lines + restored.lost, before.queued());
            prop_assert_eq!(ledger.received_total(), before.received_total());
        }
    }

    #[test]
    fn any_changed_byte_costs_what_follows_it_at_most(
        count in 2..1500_u32,
        compresses in any::<bool>(),
        at in any::<prop::sample::Index>(),
        change in 1..=255_u8,
    ) {
        let counters = Counters::default();
        let was = former(&counters, count, 0, compresses);
        let before = was.ledger().clone();
        let mut bytes = image(was, &counters);
        let chunks = chunk::survey(&file(&bytes), PREFIX as u64).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        let (restored, numbers, ledger) = survivors(&bytes, QUEUE_BYTES);
        let is_hit = |chunk: &&chunk::Chunk| chunk.end() > at as u64;
        let kept: u64 = match at {
            // The version.
            0..4 => 0,
            // The number of lines, which the account has, too.
            4..PREFIX => before.queued(),
            _ if chunks[0].end() > at as u64 => 0,
            _ => chunks.iter().take_while(|chunk| !is_hit(chunk)).map(|chunk| chunk.lines).sum(),
        };
        prop_assert_eq!((restored.lines, restored.lost), (kept, before.queued() - kept));
        prop_assert_eq!(restored.damage.is_some(), !(4..PREFIX).contains(&at));
        prop_assert_eq!(numbers, (0..u32::try_from(kept).unwrap()).collect::<Vec<_>>());
        prop_assert_eq!(ledger.dropped(DropReason::Corrupt), before.queued() - kept);
        if kept > 0 {
            prop_assert_eq!(ledger.received_total(), before.received_total());
        }
    }

    #[test]
    fn any_bytes_are_read_without_harm(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        has_version in any::<bool>(),
    ) {
        let mut bytes = bytes;
        if has_version && bytes.len() > PREFIX {
            bytes[..4].copy_from_slice(&VERSION.to_le_bytes());
        }
        survivors(&bytes, QUEUE_BYTES);
    }
}
