use std::time::SystemTime;

use memchr::memchr;
use proptest::prelude::*;

use super::*;
use crate::config::{ApiKey, NameRule};
use crate::pipeline::line::Rules;
use crate::pipeline::queue::frame::{Compressor, Frame};

const LISTENER: ListenerId = ListenerId(0);

fn limits(block_bytes: usize, queue_bytes: usize) -> Limits {
    Limits {
        block_bytes,
        queue_bytes,
        linger: Duration::ZERO,
        max_lines_per_second: None,
        gather: Duration::ZERO,
    }
}

fn batch(lines: impl IntoIterator<Item = impl AsRef<str>>) -> Batch {
    let rules = Rules {
        names: NameRule::Any,
        max_line_bytes: 4096,
        key: ApiKey::none().into(),
    };
    let mut batch = Batch::default();
    batch.reset(SystemTime::now());
    for line in lines {
        batch.add(line.as_ref().as_bytes(), &rules);
    }
    batch
}

fn numbered(numbers: std::ops::Range<u32>) -> Batch {
    batch(numbers.map(|number| format!("m.{number} {number} 5")))
}

/// Lends a block, and expands the frame that it may be in.
fn lease(state: &mut State, now: Instant) -> Option<Block> {
    loop {
        match state.lease(now)? {
            Leased::Block(block) => return Some(block),
            Leased::Frame(frame) => state.expanded(&frame, frame.expand()),
        }
    }
}

/// Compresses what there is to compress.
fn compressor(state: &mut State, now: Instant) {
    let mut compressor = Compressor::new().unwrap();
    while let Job::Compressor(blocks) = state.next_job(now) {
        let frame = compressor.compress(&blocks).unwrap();
        state.finish_job(blocks, Some(frame));
    }
}

fn numbers(text: &str) -> Vec<u32> {
    text.lines()
        .map(|line| line.split(' ').nth(1).unwrap().parse().unwrap())
        .collect()
}

fn drain(state: &mut State) -> String {
    let mut out = String::new();
    while let Some(mut block) = lease(state, Instant::now()) {
        out += std::str::from_utf8(block.bytes()).unwrap();
        let all = block.bytes().len();
        state.settle(&mut block, all, Instant::now());
        state.release(block);
    }
    out
}

#[test]
fn lines_come_out_as_they_went_in() {
    let mut state = State::new(limits(64, 1 << 20));
    let all = numbered(0..100);
    state.push(LISTENER, &all, Instant::now());
    assert!(state.live.blocks().all(|block| block.bytes().len() <= 64));
    assert_eq!(drain(&mut state).as_bytes(), all.bytes());
    assert_eq!(state.ledger().delivered(), 100);
    assert_eq!(state.ledger().imbalance(), 0);
}

#[test]
fn the_oldest_go_first_and_are_counted() {
    let mut state = State::new(limits(1024, 16 * 1024));
    let mut dropped = 0;
    for number in 0..4000 {
        let one = numbered(number..number + 1);
        dropped += state.push(LISTENER, &one, Instant::now()).dropped;
        assert!(state.allocated() <= 16 * 1024);
    }
    assert_eq!(dropped, state.ledger().dropped(DropReason::QueueFull));
    let left = drain(&mut state);
    assert!(
        left.starts_with(&format!("m.{dropped} ")),
        "{}",
        &left[..20]
    );
    assert!(left.ends_with("m.3999 3999 5\n"));
    assert_eq!(dropped + state.ledger().delivered(), 4000);
}

#[test]
fn a_trickle_costs_at_most_half_more_than_its_bytes() {
    let mut state = State::new(limits(64 * 1024, 64 << 20));
    let mut bytes = 0;
    for number in 0..12_000 {
        let one = numbered(number..number + 1);
        bytes += one.bytes().len();
        state.push(LISTENER, &one, Instant::now());
        // Below a page, the page is what it costs.
        assert!(
            state.allocated() <= (bytes + bytes / 2).max(8192),
            "{} for {bytes}",
            state.allocated()
        );
    }
}

#[test]
fn what_is_not_settled_returns_to_its_place() {
    let mut state = State::new(limits(32, 1 << 20));
    let all = numbered(0..20);
    state.push(LISTENER, &all, Instant::now());
    let mut first = lease(&mut state, Instant::now()).unwrap();
    let second = lease(&mut state, Instant::now()).unwrap();
    let line = memchr(b'\n', first.bytes()).unwrap() + 1;
    state.settle(&mut first, line, Instant::now());
    // Whichever comes back first, the order holds.
    state.release(first);
    state.release(second);
    assert_eq!(drain(&mut state).as_bytes(), &all.bytes()[line..]);
}

#[test]
fn lines_linger_until_they_are_due_or_the_drain_begins() {
    let mut state = State::new(Limits {
        linger: Duration::from_millis(500),
        ..limits(1024, 1 << 20)
    });
    let now = Instant::now();
    assert_eq!(state.readiness(now), Readiness::Idle);
    state.push(LISTENER, &numbered(0..1), now);
    let due = now + Duration::from_millis(500);
    assert_eq!(state.readiness(now), Readiness::At(due));
    assert!(lease(&mut state, now).is_none());
    assert_eq!(state.readiness(due), Readiness::Ready);
    state.close();
    assert_eq!(state.readiness(now), Readiness::Ready);
    drain(&mut state);
    assert_eq!(state.readiness(now), Readiness::Finished);
    state.push(LISTENER, &numbered(0..3), now);
    assert_eq!(state.ledger().dropped(DropReason::Shutdown), 3);
    assert_eq!(state.readiness(now), Readiness::Finished);
}

#[test]
fn a_line_larger_than_a_block_is_a_block() {
    let mut state = State::new(limits(16, 1 << 20));
    let all = batch(["short 1 5", "a.name.longer.than.a.block 1 5", "x 1 5"]);
    state.push(LISTENER, &all, Instant::now());
    assert_eq!(drain(&mut state).as_bytes(), all.bytes());
}

#[test]
fn lines_sent_again_are_counted() {
    let mut state = State::new(limits(1024, 1 << 20));
    state.push(LISTENER, &numbered(0..5), Instant::now());
    let line = memchr(b'\n', numbered(0..1).bytes()).unwrap() + 1;
    // Two lines reach a socket, then three, of which one is settled.
    for (sent, settled, expected) in [(2, 0, 0), (3, 1, 2), (4, 0, 4)] {
        let mut block = lease(&mut state, Instant::now()).unwrap();
        state.send(&mut block, 0..sent * line);
        state.settle(&mut block, settled * line, Instant::now());
        assert_eq!(state.ledger().resent(), expected);
        state.release(block);
    }
}

#[test]
fn what_waits_is_compressed_and_comes_out_as_it_went_in() {
    let mut state = State::new(limits(64 << 10, 64 << 20));
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let all: Vec<Batch> = (0..100)
        .map(|n| numbered(n * 1000..n * 1000 + 1000))
        .collect();
    for batch in &all {
        state.push(LISTENER, batch, start);
    }
    // Young lines are left alone, and while lines go, so are the next to go.
    assert!(matches!(state.next_job(start), Job::At(due) if due == at(1)));
    assert!(matches!(state.next_job(at(2)), Job::At(due) if due == at(3)));
    state.upstream_down(0.0);
    let before = state.allocated();
    compressor(&mut state, at(2));
    assert!(state.allocated() < before / 2, "{}", state.allocated());
    assert_eq!(state.ledger().queued(), 100_000);
    assert_eq!(state.live.frames().len(), 2);

    // All of it is the backlog now, and goes out in order.
    assert_eq!(
        numbers(&drain(&mut state)),
        (0..100_000).collect::<Vec<_>>()
    );
    assert_eq!(state.ledger().delivered(), 100_000);
    assert_eq!((state.reserve(), state.expanded_bytes), (0, 0));
}

#[test]
fn a_full_queue_keeps_the_newest_lines_compressed_or_not() {
    let limit = 256 << 10;
    let mut state = State::new(limits(4096, limit));
    let start = Instant::now();
    state.upstream_down(0.0);
    for round in 0..1000 {
        state.push(LISTENER, &numbered(round * 100..round * 100 + 100), start);
        compressor(&mut state, start);
        assert!(state.allocated() <= limit);
    }
    let dropped = state.ledger().dropped(DropReason::QueueFull);
    let first = u32::try_from(dropped).unwrap();
    assert!((1000..85_000).contains(&first), "{first}");
    state.close();
    // Nothing has to go for what is expanded.
    let left = drain(&mut state);
    assert_eq!(numbers(&left), (first..100_000).collect::<Vec<_>>());
}

#[test]
fn a_frame_that_went_bad_is_lost_alone_and_counted() {
    let mut state = State::new(limits(4096, 1 << 20));
    let start = Instant::now();
    let later = start + Duration::from_secs(2);
    state.upstream_down(0.0);
    state.push(LISTENER, &numbered(0..20_000), start);
    compressor(&mut state, later);
    state.close();
    let Some(Leased::Frame(mut frame)) = state.lease(later) else {
        panic!("the oldest lines are compressed");
    };
    let lost = frame.lines();
    frame.damage(frame.compressed_bytes() / 2);
    state.expanded(&frame, frame.expand());
    assert_eq!(state.ledger().dropped(DropReason::Corrupt), lost);
    let left = numbers(&drain(&mut state));
    assert_eq!(
        left,
        (u32::try_from(lost).unwrap()..20_000).collect::<Vec<_>>()
    );
    assert_eq!(state.ledger().imbalance(), 0);
}

#[test]
fn new_lines_pass_the_backlog_which_has_one_turn_in_four() {
    let mut state = State::new(limits(64, 1 << 20));
    let start = Instant::now();
    let later = start + Duration::from_secs(5);
    state.push(LISTENER, &numbered(0..400), start);
    state.upstream_down(0.5);
    // The upstream is back: the backlog waits for its moment, new lines do not.
    assert!(lease(&mut state, later).is_none());
    let moment = later + Duration::from_millis(500);
    assert_eq!(state.readiness(later), Readiness::At(moment));
    state.upstream_up();
    state.push(LISTENER, &numbered(1000..1400), later);
    let mut lanes = Vec::new();
    let mut out = String::new();
    for _ in 0..40 {
        let mut block = lease(&mut state, moment).unwrap();
        let text = std::str::from_utf8(block.bytes()).unwrap().to_owned();
        lanes.push(numbers(&text)[0] >= 1000);
        out += &text;
        state.settle(&mut block, text.len(), moment);
        state.release(block);
    }
    assert_eq!(lanes.iter().filter(|is_live| **is_live).count(), 30);
    let (live, backlog): (Vec<u32>, Vec<u32>) = numbers(&out)
        .into_iter()
        .partition(|number| *number >= 1000);
    assert!(live.is_sorted() && backlog.is_sorted());
}

#[test]
fn a_lease_returns_to_its_own_lane() {
    let mut state = State::new(limits(64, 1 << 20));
    let start = Instant::now();
    let later = start + Duration::from_secs(5);
    state.push(LISTENER, &numbered(0..20), start);
    state.upstream_down(0.0);
    let backlog = lease(&mut state, later).unwrap();
    state.upstream_up();
    state.push(LISTENER, &numbered(100..120), later);
    let live = lease(&mut state, later).unwrap();
    assert!(backlog.place < live.place);
    let (backlog_place, live_place) = (backlog.place, live.place);
    state.release(live);
    state.release(backlog);
    assert_eq!(state.backlog.place(), Some(backlog_place));
    assert_eq!(state.live.place(), Some(live_place));
}

#[test]
fn the_backlog_keeps_its_pace_and_live_lines_do_not_care() {
    let mut state = State::new(Limits {
        max_lines_per_second: Some(100),
        ..limits(1 << 20, 8 << 20)
    });
    let start = Instant::now();
    state.push(LISTENER, &numbered(0..2000), start);
    state.upstream_down(0.0);
    let mut now = start + Duration::from_secs(5);
    assert!(lease(&mut state, now).is_some_and(|block| {
        state.release(block);
        true
    }));
    state.upstream_up();
    let end = now + Duration::from_secs(10);
    let (mut live, mut backlog) = (0, 0);
    while now < end {
        state.push(LISTENER, &numbered(5000..5050), now);
        live += 50;
        while let Some(mut block) = lease(&mut state, now) {
            let text = std::str::from_utf8(block.bytes()).unwrap().to_owned();
            backlog += numbers(&text)
                .iter()
                .filter(|number| **number < 5000)
                .count();
            state.settle(&mut block, text.len(), now);
            state.release(block);
        }
        now += Duration::from_millis(5);
    }
    assert!((950..=1050).contains(&backlog), "{backlog}");
    assert_eq!(state.ledger().delivered(), live + backlog as u64);
}

/// A hundred lines that have waited long enough, of which this number of may go a second.
fn paced_backlog(lines_per_second: u32, block_bytes: usize) -> (State, Instant) {
    let mut state = State::new(Limits {
        max_lines_per_second: Some(lines_per_second),
        ..limits(block_bytes, 8 << 20)
    });
    let start = Instant::now();
    state.push(LISTENER, &numbered(0..100), start);
    state.upstream_down(0.0);
    (state, start + Duration::from_secs(5))
}

#[test]
fn a_witness_is_any_line_whatever_its_turn() {
    let (mut state, now) = paced_backlog(1, 64);
    let first = lease(&mut state, now).expect("one a second");
    assert_eq!(first.bytes(), b"m.0 0 5\n");
    assert!(lease(&mut state, now).is_none());
    for (at, expected) in [(1.0, 99), (0.5, 50), (0.0, 1), (1.0, 98)] {
        let line = state.lease_probe_line(at).expect("lines that wait");
        let number = numbers(std::str::from_utf8(line.bytes()).unwrap());
        assert_eq!((number, line.lines()), (vec![expected], 1), "{at}");
    }
    assert_eq!(state.ledger().in_flight(), 5);
}

#[test]
fn live_lines_are_news_while_the_backlog_is_paced() {
    let (mut state, now) = paced_backlog(1, 1 << 20);
    let first = lease(&mut state, now).expect("one a second");
    state.release(first);
    let first = lease(&mut state, now).expect("the same again");
    state.upstream_up();
    assert!(matches!(state.relay_readiness(now), Readiness::At(due) if due > now));
    let pushed = state.push(LISTENER, &numbered(100..101), now);
    assert!(pushed.wakes_relay);
    assert_eq!(state.readiness(now), Readiness::Ready);
    drop(first);
}

#[test]
fn lines_that_come_back_unsent_have_not_used_the_pace() {
    let (mut state, now) = paced_backlog(20, 1 << 20);
    for _ in 0..2 {
        let block = lease(&mut state, now).expect("what may go at once");
        assert!(lease(&mut state, now).is_none());
        state.release(block);
    }
    let mut block = lease(&mut state, now).expect("the same again");
    let bytes = block.bytes().len();
    state.send(&mut block, 0..bytes);
    state.release(block);
    assert!(lease(&mut state, now).is_none());
}

#[test]
fn what_is_lent_leaves_room_for_what_comes() {
    let mut state = State::new(limits(4096, 64 << 10));
    let now = Instant::now();
    state.push(LISTENER, &numbered(0..3000), now);
    let mut leased: Vec<Block> = std::iter::from_fn(|| lease(&mut state, now)).collect();
    let held: usize = leased.iter().map(Block::allocated).sum();
    assert!((16 << 10..24 << 10).contains(&held), "{held}");
    let first = leased.remove(0);
    state.release(first);
    assert_eq!(state.readiness(now), Readiness::Ready);
}

#[test]
fn our_own_lines_go_first_and_survive_a_full_queue() {
    let mut state = State::new(limits(512, 16_384));
    let now = Instant::now();
    state.push(LISTENER, &numbered(100..2000), now);
    state.upstream_down(0.5);
    for number in 0..3 {
        state.generate(numbered(number..number + 1).bytes(), 1, now);
    }
    let dropped = state.push(LISTENER, &numbered(2000..4000), now).dropped;
    assert!(dropped > 1000, "{dropped}");
    state.upstream_up();
    for number in 0..3 {
        let mut block = lease(&mut state, now).unwrap();
        assert_eq!(block.bytes(), numbered(number..number + 1).bytes());
        let all = block.bytes().len();
        state.settle(&mut block, all, now);
        state.release(block);
    }
    let others = lease(&mut state, now).unwrap();
    assert!(others.bytes().starts_with(b"m.3"), "{others:?}");
    state.release(others);
    assert_eq!(
        (state.ledger().generated(), state.ledger().imbalance()),
        (3, 0)
    );
}

#[test]
fn our_own_lines_do_not_crowd_out_the_others() {
    let mut state = State::new(limits(512, 16_384));
    let now = Instant::now();
    state.push(LISTENER, &numbered(0..100), now);
    for _ in 0..1000 {
        state.generate(numbered(7..8).bytes(), 1, now);
    }
    let ledger = state.ledger();
    assert!(state.own.loose_bytes() <= 16_384 / OWN_PART);
    assert_eq!(ledger.queued() + ledger.dropped_total(), 1100);
    assert_eq!(
        state.live.blocks().map(Block::lines).sum::<u64>()
            + state.open.as_ref().map_or(0, Block::lines),
        100
    );
}

#[derive(Debug, Clone)]
enum Step {
    Push(u32),
    Generate,
    Lease,
    /// In hundredths of what waits.
    LeaseProbeLine(u8),
    SettleLine,
    GiveUpLine,
    GiveBack(usize),
    Resize(usize),
    Wait(u64),
    Down,
    Up,
    /// Takes what is to be compressed, or brings it back.
    Compressor,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..60_u32).prop_map(Step::Push),
        1 => Just(Step::Generate),
        3 => Just(Step::Lease),
        2 => (0..=100_u8).prop_map(Step::LeaseProbeLine),
        2 => Just(Step::SettleLine),
        1 => Just(Step::GiveUpLine),
        2 => (0..4_usize).prop_map(Step::GiveBack),
        1 => (4096..32_768_usize).prop_map(Step::Resize),
        3 => (0..3000_u64).prop_map(Step::Wait),
        1 => Just(Step::Down),
        1 => Just(Step::Up),
        4 => Just(Step::Compressor),
    ]
}

proptest! {
    /// Whatever happens: the sum holds, the bytes are within the bound (less
    /// what is lent, being compressed or just arriving, when the bound shrinks
    /// under it), and each lane is in order.
    #[test]
    fn the_ledger_balances_and_the_bound_holds(steps in proptest::collection::vec(step(), 1..120)) {
        let mut state = State::new(limits(512, 16_384));
        let mut compressors = Compressor::new().unwrap();
        let mut leased: Vec<Block> = Vec::new();
        let mut running_job: Option<Vec<Block>> = None;
        let mut next = 0;
        let mut now = Instant::now();
        for step in steps {
            match step {
                Step::Push(count) => {
                    state.push(LISTENER, &numbered(next..next + count), now);
                    next += count;
                }
                // Sorted before all others, as they go before them.
                Step::Generate => state.generate(numbered(0..1).bytes(), 1, now),
                Step::Lease if leased.len() < 4 => leased.extend(lease(&mut state, now)),
                Step::LeaseProbeLine(at) if leased.len() < 4 => {
                    let probe_line = state.lease_probe_line(f64::from(at) / 100.0);
                    prop_assert!(probe_line.as_ref().is_none_or(|line| line.lines() == 1));
                    leased.extend(probe_line);
                }
                Step::Lease | Step::LeaseProbeLine(_) => {}
                Step::SettleLine | Step::GiveUpLine => {
                    if let Some(block) = leased.first_mut()
                        && let Some(newline) = memchr(b'\n', block.bytes())
                    {
                        match step {
                            Step::SettleLine => state.settle(block, newline + 1, Instant::now()),
                            _ => state.give_up(block, newline + 1, DropReason::TooLarge),
                        }
                    }
                }
                Step::GiveBack(index) if index < leased.len() => {
                    state.release(leased.remove(index));
                }
                Step::GiveBack(_) => {}
                Step::Resize(bytes) => {
                    state.set_limits(limits(512, bytes));
                }
                Step::Wait(milliseconds) => now += Duration::from_millis(milliseconds),
                Step::Down => state.upstream_down(0.5),
                Step::Up => state.upstream_up(),
                Step::Compressor => match running_job.take() {
                    Some(blocks) => {
                        let frame = compressors.compress(&blocks).unwrap();
                        state.finish_job(blocks, Some(frame));
                    }
                    None => {
                        if let Job::Compressor(blocks) = state.next_job(now) {
                            running_job = Some(blocks);
                        }
                    }
                },
            }
            let leased_bytes: usize = leased.iter().map(Block::allocated).sum();
            let finish_job: usize = running_job.iter().flatten().map(Block::allocated).sum();
            let open: usize = state.open.iter().map(Block::allocated).sum();
            let held = leased_bytes + finish_job + open;
            prop_assert!(state.allocated() <= state.limits().queue_bytes.max(held));
            prop_assert_eq!(state.leased_bytes, leased_bytes);
            prop_assert_eq!(state.ledger().imbalance(), 0);
            let mut queued: u64 = state.open.iter().map(Block::lines).sum();
            queued += state.running_job.iter().filter(|p| !p.is_void).map(|p| p.lines).sum::<u64>();
            for lane in [&state.own, &state.backlog, &state.live] {
                prop_assert!(lane.blocks().map(|block| block.place).is_sorted());
                prop_assert!(lane.frames().iter().map(Frame::place).is_sorted());
                queued += lane.blocks().map(Block::lines).sum::<u64>();
                queued += lane.frames().iter().map(Frame::lines).sum::<u64>();
                let loose = lane.blocks().filter(|block| !block.stays_loose);
                prop_assert_eq!(lane.loose_bytes(), loose.map(|block| block.bytes().len()).sum::<usize>());
            }
            prop_assert!(state.backlog.blocks().all(|block| block.place.0 < state.live_from));
            prop_assert!(state.live.blocks().all(|block| block.place.0 >= state.live_from));
            prop_assert_eq!(queued, state.ledger().queued());
        }
        for block in leased {
            state.release(block);
        }
        if let Some(blocks) = running_job {
            let frame = compressors.compress(&blocks).unwrap();
            state.finish_job(blocks, Some(frame));
        }
        state.close();
        state.part_lanes(now + Duration::from_secs(60));
        prop_assert!(numbers(&drain(&mut state)).is_sorted());
        prop_assert_eq!(state.ledger().imbalance(), 0);
        prop_assert_eq!((state.ledger().in_flight(), state.ledger().queued()), (0, 0));
        prop_assert_eq!((state.expanded_bytes, state.leased_bytes, state.largest_frame), (0, 0, 0));
        prop_assert_eq!(state.readiness(now), Readiness::Finished);
    }
}

#[test]
fn a_line_that_waited_counts_its_own_time() {
    let second = Duration::from_secs(1);
    let begun = Instant::now();
    let mut state = State::new(limits(64 << 10, 1 << 20));
    for number in 0..10 {
        let arrives = begun + second * number;
        state.push(LISTENER, &numbered(number..number + 1), arrives);
    }
    let mut block = lease(&mut state, begun + second * 10).unwrap();
    let line = block.bytes().len() / 10;
    state.settle(&mut block, line, begun + second * 10);
    let mut rest = state.split_off(&mut block, 4 * line);
    for block in [&mut rest, &mut block] {
        let all = block.bytes().len();
        state.settle(block, all, begun + second * 10);
    }
    let delays = state.delays();
    assert_eq!(delays.lines(), 10);
    // From ten seconds down to one, five and a half on average.
    assert!((delays.seconds() - 55.0).abs() < 0.01, "{delays:?}");
    for block in [block, rest] {
        state.release(block);
    }
}
