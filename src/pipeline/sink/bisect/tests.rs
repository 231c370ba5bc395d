use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;
use crate::config::{ApiKey, NameRule};
use crate::pipeline::batch::Batch;
use crate::pipeline::line::Rules;
use crate::pipeline::queue::{Limits, Queue};
use crate::stats::{DropReason, ListenerId};

const LINES_A_BLOCK: u32 = 64;

fn queue_of(blocks: u32) -> Queue {
    paced_queue_of(blocks, 1_000_000_000)
}

fn paced_queue_of(blocks: u32, max_lines_per_second: u32) -> Queue {
    let rules = Rules {
        names: NameRule::Any,
        max_line_bytes: 99,
        key: ApiKey::none().into(),
    };
    let queue = Queue::new(Limits {
        block_bytes: LINES_A_BLOCK as usize * "m000 1 5\n".len(),
        queue_bytes: 1 << 20,
        linger: Duration::ZERO,
        max_lines_per_second: Some(max_lines_per_second),
        gather: Duration::ZERO,
    });
    let mut batch = Batch::default();
    batch.reset(SystemTime::now());
    for number in 0..blocks * LINES_A_BLOCK {
        batch.add(format!("m{number:03} 1 5").as_bytes(), &rules);
    }
    queue.push(ListenerId(0), &batch);
    queue
}

fn numbers(lease: &Lease) -> Vec<u32> {
    let text = std::str::from_utf8(lease.bytes()).unwrap();
    text.lines()
        .map(|line| line[1..4].parse().unwrap())
        .collect()
}

/// What an upstream that refuses any batch with a line of `bad` ends with.
#[derive(Debug, Default)]
struct Outcome {
    delivered: Vec<u32>,
    refused: Vec<u32>,
    requests: u32,
    held: bool,
}

fn run(queue: &Queue, bad: impl Fn(u32) -> bool) -> Outcome {
    let mut outcome = Outcome::default();
    while !outcome.held
        && let Some(lease) = queue.lease()
    {
        deliver(lease, &bad, &mut outcome);
    }
    let ledger = queue.snapshot().ledger;
    assert_eq!((ledger.imbalance(), ledger.in_flight()), (0, 0));
    assert_eq!(ledger.delivered(), outcome.delivered.len() as u64);
    assert_eq!(
        ledger.dropped(DropReason::Refused),
        outcome.refused.len() as u64
    );
    outcome
}

fn deliver(lease: Lease, bad: &impl Fn(u32) -> bool, outcome: &mut Outcome) {
    outcome.requests += 1;
    if !numbers(&lease).into_iter().any(bad) {
        outcome.delivered.extend(numbers(&lease));
        return lease.settle_all();
    }
    let mut bisection = Bisection::new(vec![lease], "no".into());
    loop {
        match bisection.next() {
            Next::Try(piece) => {
                outcome.requests += 1;
                if !numbers(&piece).into_iter().any(bad) {
                    outcome.delivered.extend(numbers(&piece));
                    piece.settle_all();
                    bisection.accepted();
                } else if let Some(rejected_line) = bisection.refused(piece, "no".into()) {
                    outcome.refused.extend(numbers(&rejected_line.lease));
                    rejected_line.lease.give_up_all(DropReason::Refused);
                }
            }
            Next::Done => return,
            Next::RefusesEverything(_) | Next::NobodyElse(_) => {
                outcome.held = true;
                return;
            }
        }
    }
}

#[test]
fn one_culprit_is_found_within_the_bound() {
    for rejected_line in 0..LINES_A_BLOCK {
        let outcome = run(&queue_of(1), |number| number == rejected_line);
        assert_eq!(outcome.refused, [rejected_line]);
        assert_eq!(outcome.delivered.len(), 63);
        assert!(
            outcome.requests <= 2 * LINES_A_BLOCK.ilog2() + 2,
            "{outcome:?}"
        );
        assert!(outcome.delivered.is_sorted());
    }
}

#[test]
fn an_upstream_that_refuses_everything_costs_no_line() {
    for blocks in [1, 3] {
        let queue = queue_of(blocks);
        let outcome = run(&queue, |_| true);
        assert!(outcome.held && outcome.refused.is_empty() && outcome.delivered.is_empty());
        assert!(outcome.requests <= 2 * 7 + 2 + 4 + STRANGERS, "{outcome:?}");
        // All are back, in order.
        let back = run(&queue, |_| false);
        assert_eq!(
            back.delivered,
            (0..blocks * LINES_A_BLOCK).collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_block_of_culprits_goes_when_another_lease_is_accepted() {
    let outcome = run(&queue_of(2), |number| number < LINES_A_BLOCK);
    assert!(!outcome.held);
    assert_eq!(outcome.refused.len(), LINES_A_BLOCK as usize);
    assert_eq!(outcome.delivered.len(), LINES_A_BLOCK as usize);
}

#[test]
fn a_block_of_culprits_alone_is_held() {
    let outcome = run(&queue_of(1), |_| true);
    assert!(outcome.held);
}

/// As one client can bring them in a moment.
#[test]
fn a_long_run_of_culprits_does_not_hold_what_comes_after_it() {
    let is_bad = |number| (10..500).contains(&number);
    let queue = queue_of(15);
    let mut outcome = Outcome::default();
    let mut attempts = 0;
    // As the relay does: what is held is tried again.
    while outcome.delivered.len() + outcome.refused.len() < 960 {
        attempts += 1;
        assert!(attempts < 1000, "{outcome:?}");
        let Some(lease) = queue.lease() else { continue };
        deliver(lease, &is_bad, &mut outcome);
    }
    outcome.refused.sort_unstable();
    assert_eq!(outcome.refused, (10..500).collect::<Vec<_>>());
    assert!(attempts < 100, "{attempts}");
}

/// A queue so small that a block is a quarter of it, and a pace of one line at
/// a time: neither keeps probe linees away.
#[test]
fn a_block_of_culprits_goes_whatever_else_may() {
    let outcome = run(&paced_queue_of(4, 1), |number| number == 0);
    assert_eq!((outcome.refused, outcome.held), (vec![0], false));
}

proptest! {
    /// However the rejected lines lie: they are refused, the others are delivered
    /// once, unless everything was refused.
    #[test]
    fn culprits_and_no_others_are_refused(
        bad in proptest::collection::btree_set(0..3 * LINES_A_BLOCK, 0..60),
    ) {
        let outcome = run(&queue_of(3), |number| bad.contains(&number));
        prop_assert!(!outcome.held);
        let mut refused = outcome.refused;
        refused.sort_unstable();
        prop_assert_eq!(refused, bad.iter().copied().collect::<Vec<_>>());
        let mut delivered = outcome.delivered;
        delivered.sort_unstable();
        let good: Vec<u32> = (0..3 * LINES_A_BLOCK).filter(|n| !bad.contains(n)).collect();
        prop_assert_eq!(delivered, good);
    }
}
