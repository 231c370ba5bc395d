use std::time::SystemTime;

use super::*;
use crate::config::{ApiKey, NameRule};
use crate::pipeline::batch::Batch;
use crate::pipeline::line;
use crate::pipeline::queue::{Limits, Queue};
use crate::stats::ListenerId;

/// Each line is ten bytes in its block, `mNN 1 5555\n` less the key.
const LINE: usize = 11;
const KEY: usize = 4;
/// Eleven bytes and the key.
const ON_THE_WIRE: u64 = (LINE + KEY) as u64;

fn queue_of(lines: u32) -> Queue {
    let rules = line::Rules {
        names: NameRule::Any,
        max_line_bytes: 99,
        key: ApiKey::none().into(),
    };
    let queue = Queue::new(Limits {
        block_bytes: 1024,
        queue_bytes: 1 << 20,
        linger: Duration::ZERO,
        max_lines_per_second: None,
        gather: Duration::ZERO,
    });
    let mut batch = Batch::default();
    batch.reset(SystemTime::now());
    for number in 0..lines {
        batch.add(format!("m{number:02} 1 5555").as_bytes(), &rules);
    }
    assert_eq!(batch.bytes().len(), lines as usize * LINE);
    queue.push(ListenerId(0), &batch);
    queue
}

/// A connection without TLS.
fn plain(tail: Duration) -> Window {
    Window::new(Rules {
        line_overhead: Some(KEY),
        tail,
        unsent: 0,
    })
}

/// Writes all lines of the queue in chunks of `lines`; where the last one ends.
fn write(window: &mut Window, queue: &Queue, lines: usize) -> u64 {
    window.begin(queue.lease().unwrap());
    let mut offset = 0;
    while !window.unwritten().is_empty() {
        let bytes = window.unwritten().len().min(lines * LINE);
        window.writing(bytes, offset);
        offset += (bytes / LINE) as u64 * ON_THE_WIRE;
        window.written(offset);
    }
    offset
}

fn account(queue: &Queue) -> (u64, u64, u64) {
    let ledger = queue.snapshot().ledger;
    assert_eq!(ledger.imbalance(), 0);
    (ledger.delivered(), ledger.queued(), ledger.in_flight())
}

#[test]
fn chunks_are_settled_as_they_are_acknowledged() {
    let queue = queue_of(10);
    let mut window = plain(Duration::ZERO);
    let end = write(&mut window, &queue, 4);
    let now = Instant::now();
    assert!(!window.acknowledge(4 * ON_THE_WIRE - 1, 0, now));
    assert_eq!(account(&queue), (0, 0, 10));
    assert!(window.acknowledge(4 * ON_THE_WIRE, 0, now));
    assert_eq!(account(&queue), (4, 0, 6));
    assert_eq!(window.unacknowledged(), 6 * LINE);
    assert!(window.acknowledge(end, 0, now));
    assert!(window.is_empty());
    assert_eq!(account(&queue), (10, 0, 0));
}

#[test]
fn at_the_end_the_line_decides() {
    for (offset, delivered) in [
        (0, 0),
        (ON_THE_WIRE - 1, 0),
        (ON_THE_WIRE, 1),
        (7 * ON_THE_WIRE + 3, 7),
        (10 * ON_THE_WIRE, 10),
    ] {
        let queue = queue_of(10);
        let mut window = plain(Duration::ZERO);
        write(&mut window, &queue, 4);
        window.end(offset, Ending::Reset, Instant::now());
        assert_eq!(account(&queue), (delivered, 10 - delivered, 0), "{offset}");
    }
}

#[test]
fn records_arrive_whole_or_not_at_all() {
    let queue = queue_of(10);
    let mut window = Window::new(Rules::default());
    write(&mut window, &queue, 4);
    window.end(7 * ON_THE_WIRE, Ending::Reset, Instant::now());
    assert_eq!(account(&queue), (4, 6, 0));
}

#[test]
fn a_chunk_that_was_not_written_whole_counts_by_its_lines() {
    let queue = queue_of(10);
    let mut window = plain(Duration::ZERO);
    window.begin(queue.lease().unwrap());
    window.writing(10 * LINE, 0);
    window.break_off(5 * ON_THE_WIRE + 1);
    window.end(3 * ON_THE_WIRE + 1, Ending::Reset, Instant::now());
    assert_eq!(account(&queue), (3, 7, 0));
    assert_eq!(queue.snapshot().ledger.resent(), 0);
    let mut again = plain(Duration::ZERO);
    write(&mut again, &queue, 100);
    // The sixth line was begun, those behind it were not.
    assert_eq!(queue.snapshot().ledger.resent(), 3);
}

/// However often it is tried.
#[test]
fn lines_of_which_no_byte_was_accepted_do_not_count_as_sent() {
    let queue = queue_of(10);
    for (start, accepted) in [(0, 0), (2500, 2500), (7, 7)] {
        for overhead in [Some(KEY), None] {
            let mut window = plain(Duration::ZERO);
            window.rules.line_overhead = overhead;
            window.begin(queue.lease().unwrap());
            window.writing(10 * LINE, start);
            window.break_off(accepted);
            window.end(0, Ending::Reset, Instant::now());
        }
    }
    write(&mut plain(Duration::ZERO), &queue, 100);
    assert_eq!(queue.snapshot().ledger.resent(), 0);
}

#[test]
fn a_line_is_begun_with_its_first_byte() {
    for (accepted, begun) in [
        (0, 0),
        (1, LINE),
        (LINE + KEY, LINE),
        (LINE + KEY + 1, 2 * LINE),
        (2 * (LINE + KEY), 2 * LINE),
        (999, 2 * LINE),
    ] {
        let lines = b"m00 1 5555\nm01 1 5555\n";
        assert_eq!(begun_lines(lines, KEY, accepted), begun, "{accepted}");
    }
}

#[test]
fn what_the_peer_may_not_have_read_is_at_risk() {
    for (room, unsent, at_risk) in [
        (0, 0, 0),
        (ON_THE_WIRE, 0, 2),
        (ON_THE_WIRE, 3 * ON_THE_WIRE, 5),
        (1 << 20, 0, 10),
    ] {
        let queue = queue_of(10);
        let mut window = plain(Duration::ZERO);
        window.rules.unsent = unsent;
        let end = write(&mut window, &queue, 1);
        window.acknowledge(end, room, Instant::now());
        assert_eq!(window.end(end, Ending::Reset, Instant::now()), at_risk);
    }
    let queue = queue_of(10);
    let mut window = plain(Duration::ZERO);
    let end = write(&mut window, &queue, 1);
    window.acknowledge(end, 1 << 20, Instant::now());
    assert_eq!(window.end(end, Ending::Clean, Instant::now()), 0);
}

#[test]
fn the_tail_is_kept_and_comes_back_after_a_reset() {
    let tail = Duration::from_millis(500);
    let start = Instant::now();
    let queue = queue_of(10);
    let mut window = plain(tail);
    let end = write(&mut window, &queue, 2);
    window.acknowledge(4 * ON_THE_WIRE, 1 << 20, start);
    window.acknowledge(end, 1 << 20, start + tail);
    // The first four are old enough, the others are not.
    assert_eq!(account(&queue), (4, 0, 6));
    assert_eq!(window.end(end, Ending::Reset, start + tail), 4);
    assert_eq!(account(&queue), (4, 6, 0));

    // Once is enough: the second acknowledgement settles at once.
    let mut window = plain(tail);
    let end = write(&mut window, &queue, 2);
    window.acknowledge(end, 1 << 20, start + tail);
    assert_eq!(account(&queue), (10, 0, 0));
    assert_eq!(queue.snapshot().ledger.resent(), 6);
}

#[test]
fn a_clean_end_settles_the_tail() {
    let queue = queue_of(10);
    let mut window = plain(Duration::from_secs(60));
    let end = write(&mut window, &queue, 2);
    window.acknowledge(end, 1 << 20, Instant::now());
    assert_eq!(account(&queue), (0, 0, 10));
    window.end(end, Ending::Clean, Instant::now());
    assert_eq!(account(&queue), (10, 0, 0));
}
