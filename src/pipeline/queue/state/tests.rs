use std::time::SystemTime;

use proptest::prelude::*;

use super::*;
use crate::config::{ApiKey, NameRule};
use crate::pipeline::line::Rules;

const LISTENER: ListenerId = ListenerId(0);

fn limits(block_bytes: usize, queue_bytes: usize) -> Limits {
    Limits {
        block_bytes,
        queue_bytes,
        linger: Duration::ZERO,
    }
}

fn pack(lines: impl IntoIterator<Item = impl AsRef<str>>) -> Pack {
    let rules = Rules {
        names: NameRule::Any,
        max_line_bytes: 4096,
        key: ApiKey::none().into(),
    };
    let mut pack = Pack::default();
    pack.begin(SystemTime::now());
    for line in lines {
        pack.add(line.as_ref().as_bytes(), &rules);
    }
    pack
}

fn numbered(numbers: std::ops::Range<u32>) -> Pack {
    pack(numbers.map(|number| format!("m.{number} {number} 5")))
}

fn drain(state: &mut State) -> String {
    let mut out = String::new();
    while let Some(mut block) = state.lend(Instant::now()) {
        out += std::str::from_utf8(block.bytes()).unwrap();
        let all = block.bytes().len();
        state.settle(&mut block, all);
        state.give_back(block);
    }
    out
}

#[test]
fn lines_come_out_as_they_went_in() {
    let mut state = State::new(limits(64, 1 << 20));
    let all = numbered(0..100);
    state.push(LISTENER, &all, Instant::now());
    assert!(state.waiting.iter().all(|block| block.bytes().len() <= 64));
    assert_eq!(drain(&mut state).as_bytes(), all.bytes());
    assert_eq!(state.ledger().delivered(), 100);
    assert_eq!(state.ledger().imbalance(), 0);
}

#[test]
fn the_oldest_go_first_and_are_counted() {
    let mut state = State::new(limits(1024, 16 * 1024));
    let mut dropped = 0;
    for number in 0..4000 {
        dropped += state.push(LISTENER, &numbered(number..number + 1), Instant::now());
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
    let mut first = state.lend(Instant::now()).unwrap();
    let second = state.lend(Instant::now()).unwrap();
    let line = memchr(b'\n', first.bytes()).unwrap() + 1;
    state.settle(&mut first, line);
    // Whichever comes back first, the order holds.
    state.give_back(first);
    state.give_back(second);
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
    assert!(state.lend(now).is_none());
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
    let all = pack(["short 1 5", "a.name.longer.than.a.block 1 5", "x 1 5"]);
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
        let mut block = state.lend(Instant::now()).unwrap();
        state.send(&mut block, 0..sent * line);
        state.settle(&mut block, settled * line);
        assert_eq!(state.ledger().resent(), expected);
        state.give_back(block);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Push(u32),
    Lend,
    SettleLine,
    GiveUpLine,
    GiveBack(usize),
    Resize(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..60_u32).prop_map(Step::Push),
        2 => Just(Step::Lend),
        2 => Just(Step::SettleLine),
        1 => Just(Step::GiveUpLine),
        2 => (0..4_usize).prop_map(Step::GiveBack),
        1 => (4096..16_384_usize).prop_map(Step::Resize),
    ]
}

proptest! {
    /// Whatever happens: the sum holds, the bytes are within the bound (less
    /// what is lent, when the bound shrinks under it), and what is lent or
    /// waits is in order.
    #[test]
    fn the_ledger_balances_and_the_bound_holds(steps in proptest::collection::vec(step(), 1..80)) {
        let mut state = State::new(limits(512, 8192));
        let mut lent: Vec<Block> = Vec::new();
        let mut next = 0;
        for step in steps {
            match step {
                Step::Push(count) => {
                    state.push(LISTENER, &numbered(next..next + count), Instant::now());
                    next += count;
                }
                Step::Lend if lent.len() < 4 => lent.extend(state.lend(Instant::now())),
                Step::Lend => {}
                Step::SettleLine | Step::GiveUpLine => {
                    if let Some(block) = lent.first_mut()
                        && let Some(newline) = memchr(b'\n', block.bytes())
                    {
                        match step {
                            Step::SettleLine => state.settle(block, newline + 1),
                            _ => state.give_up(block, newline + 1, DropReason::TooLarge),
                        }
                    }
                }
                Step::GiveBack(index) if index < lent.len() => {
                    state.give_back(lent.remove(index));
                }
                Step::GiveBack(_) => {}
                Step::Resize(bytes) => {
                    state.set_limits(limits(512, bytes));
                }
            }
            let held: usize = lent.iter().map(Block::allocated).sum();
            prop_assert!(state.allocated() <= state.limits().queue_bytes.max(held));
            prop_assert_eq!(state.ledger().imbalance(), 0);
            let places: Vec<(u64, u64)> = state.waiting.iter().map(|block| block.place).collect();
            prop_assert!(places.is_sorted());
            let counted: u64 = state.waiting.iter().chain(&state.open).map(Block::lines).sum();
            prop_assert_eq!(counted, state.ledger().queued());
        }
        for block in lent {
            state.give_back(block);
        }
        let left = drain(&mut state);
        let numbers: Vec<u32> = left
            .lines()
            .map(|line| line.split(' ').nth(1).unwrap().parse().unwrap())
            .collect();
        prop_assert!(numbers.is_sorted());
        prop_assert_eq!(state.ledger().imbalance(), 0);
        prop_assert_eq!(state.ledger().in_flight(), 0);
    }
}
