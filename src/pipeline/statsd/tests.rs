//! Lines in, points and accounts out, without sockets and clocks.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;
use crate::config::{ApiKey, NameRule, Percentile};
use crate::pipeline::decode::protocol::Protocol;
use crate::pipeline::decode::{Decoder, Ending};
use crate::pipeline::line::Line;
use crate::pipeline::queue::{Limits, Queue};
use crate::stats::{DropReason, ListenerId, RejectReason};

fn settings(bytes: usize) -> StatsdSettings {
    StatsdSettings {
        interval: Duration::from_secs(10),
        percentiles: vec![Percentile::parse("90").unwrap()],
        prefix: "stats".into(),
        bytes,
    }
}

fn rules() -> Rules {
    Rules {
        names: NameRule::Any,
        max_line_bytes: 200,
        key: ApiKey::parse("s3cret").unwrap().into(),
    }
}

fn queue() -> Queue {
    Queue::new(Limits {
        block_bytes: 64 << 10,
        queue_bytes: 16 << 20,
        linger: Duration::ZERO,
        gather: Duration::ZERO,
        max_lines_per_second: None,
    })
}

fn statsd(bytes: usize) -> Statsd {
    Statsd::new(&settings(bytes), Arc::default())
}

fn take(statsd: &Statsd, queue: &Queue, lines: &str) {
    let mut batch = Batch::default();
    batch.reset(SystemTime::now());
    statsd
        .read()
        .fold(&mut batch)
        .add_lines(lines.as_bytes(), &rules());
    queue.push(ListenerId(0), &batch);
}

/// All that waits, without the second of the flush.
fn waiting(queue: &Queue) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(lease) = queue.lease() {
        let text = String::from_utf8(lease.bytes().to_vec()).unwrap();
        for line in text.lines() {
            let parsed = Line::parse(line.as_bytes(), &rules());
            assert!(matches!(parsed, Ok(Some(_))), "{line}: {parsed:?}");
            lines.push(line.rsplit_once(' ').unwrap().0.to_owned());
        }
        lease.settle_all();
    }
    lines.sort();
    lines
}

#[test]
fn each_value_is_in_one_account() {
    let (statsd, queue) = (statsd(1 << 20), queue());
    take(
        &statsd,
        &queue,
        "a:1|c\na:2|c:5|g\n\ns3cret.b:1:x:3|ms\nb:1|c|T1700000000\n_sc|x|0\nbad\n",
    );
    let ledger = queue.snapshot().ledger;
    assert_eq!(ledger.received_total(), 9);
    assert_eq!(ledger.aggregated(), 5);
    assert_eq!(ledger.rejected(RejectReason::Value), 1);
    assert_eq!(ledger.rejected(RejectReason::Protocol), 1);
    assert_eq!(ledger.rejected(RejectReason::Fields), 1);
    assert_eq!((ledger.queued(), ledger.imbalance()), (1, 0));

    statsd.flush_now(&queue, |_| {});
    let lines = waiting(&queue);
    for line in [
        "stats.counters.a.count 3",
        "stats.counters.a.rate 0.3",
        "stats.counters.b.count 1",
        "stats.gauges.a 5",
        "stats.timers.b.sum 4",
        "stats.timers.b.upper_90 3",
    ] {
        assert!(lines.contains(&line.to_owned()), "{line} in {lines:?}");
    }
    let ledger = queue.snapshot().ledger;
    assert_eq!(ledger.generated() + 1, lines.len() as u64);
    assert_eq!(ledger.imbalance(), 0);
}

#[test]
fn what_finds_no_room_is_dropped_and_counted() {
    let (statsd, queue) = (statsd(64 << 10), queue());
    let lines: String = (0..2000).map(|name| format!("n.{name}:1|c\n")).collect();
    take(&statsd, &queue, &lines);
    let ledger = queue.snapshot().ledger;
    let dropped = ledger.dropped(DropReason::QueueFull);
    assert!(dropped > 500, "{dropped}");
    assert_eq!(ledger.aggregated() + dropped, 2000);
    assert_eq!((ledger.received_total(), ledger.imbalance()), (2000, 0));
}

#[test]
fn our_own_key_before_a_name_leaves_a_mark() {
    let (statsd, mut batch) = (statsd(1 << 20), Batch::default());
    for (line, carries) in [("a:1|c", false), ("S3CRET.a:1|c", true)] {
        batch.reset(SystemTime::now());
        statsd
            .read()
            .fold(&mut batch)
            .add(line.as_bytes(), &rules());
        assert_eq!(batch.carried_key(), carries, "{line}");
    }
}

#[test]
fn short_lines_do_not_become_many_long_ones() {
    let statsd = statsd(1 << 20);
    let rules = Rules {
        max_line_bytes: 64 << 10,
        ..rules()
    };
    let line = format!(
        "{}:1{}|c|T1700000000",
        "n".repeat(30_000),
        ":1".repeat(15_000)
    );
    let mut batch = Batch::default();
    batch.reset(SystemTime::now());
    statsd.read().fold(&mut batch).add(line.as_bytes(), &rules);
    assert_eq!((batch.lines(), batch.aggregated()), (1, 15_000));
    let count = b".count 15001 1700000000\n";
    assert!(batch.bytes().ends_with(count) && batch.bytes().len() < 31_000);
}

/// The seconds of all points that wait.
fn seconds(queue: &Queue) -> Vec<u64> {
    let mut seconds = Vec::new();
    while let Some(lease) = queue.lease() {
        let text = std::str::from_utf8(lease.bytes()).unwrap();
        let of_line = |line: &str| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap();
        seconds.extend(text.lines().map(of_line));
        lease.settle_all();
    }
    seconds
}

#[test]
fn a_flush_before_its_time_takes_no_points_place() {
    let (statsd, queue) = (statsd(1 << 20), queue());
    take(&statsd, &queue, "a:1|c\n");
    // As at the end of an interval, whose points are of its end.
    let before = schedule::second(SystemTime::now());
    assert!(!statsd.go_on(&mut None, &queue, &|_| {}));
    let after = schedule::second(SystemTime::now());
    let regular = seconds(&queue);
    assert!(regular.iter().all(|second| second % 10 == 0), "{regular:?}");
    assert!(
        before - 10 < regular[0] && regular[0] <= after,
        "{regular:?}"
    );
    // As at a stop.
    take(&statsd, &queue, "a:1|c\n");
    statsd.flush_now(&queue, |_| {});
    let early = seconds(&queue);
    assert!(early.iter().all(|second| second % 10 == 0), "{early:?}");
    assert!(early[0] > regular[0] && early[0] > after - 10, "{early:?}");
}

#[test]
fn a_flush_that_somebody_else_has_finished_does_not_go_on() {
    let (statsd, queue) = (statsd(8 << 20), queue());
    let names: String = (0..1000).map(|name| format!("n.{name}:1|c\n")).collect();
    take(&statsd, &queue, &names);
    let mut begun = None;
    assert!(statsd.go_on(&mut begun, &queue, &|_| {}));
    // Other names for the points: all of it leaves at once.
    let mut other = settings(8 << 20);
    other.prefix = "other".into();
    statsd.reconfigure(&other, &queue, |_| {});
    assert_eq!(waiting(&queue).len(), 2000);
    take(&statsd, &queue, "n.0:1|c\n");
    assert!(!statsd.go_on(&mut begun, &queue, &|_| {}));
    assert_eq!(waiting(&queue), [""; 0]);
}

#[test]
fn settings_that_change_no_name_flush_nothing() {
    let (statsd, queue) = (statsd(1 << 20), queue());
    take(&statsd, &queue, "a:1|ms\na:3|ms\n");
    let mut other = settings(64 << 10);
    other.percentiles = vec![Percentile::parse("50").unwrap()];
    other.interval = Duration::from_secs(2);
    statsd.reconfigure(&other, &queue, |_| {});
    assert_eq!(waiting(&queue), [""; 0]);
    take(&statsd, &queue, "a:2|ms\n");
    statsd.flush_now(&queue, |_| {});
    let lines = waiting(&queue);
    for line in ["stats.timers.a.sum 6", "stats.timers.a.count_ps 1.5"] {
        assert!(lines.contains(&line.to_owned()), "{line} in {lines:?}");
    }
    assert!(lines.iter().any(|line| line.contains("upper_50 ")));
    assert!(!lines.iter().any(|line| line.contains("upper_90 ")));
}

#[test]
fn gauges_that_are_forgotten_are_counted() {
    let (statsd, queue) = (statsd(64 << 10), queue());
    let lines = |kind: &str, count: usize| -> String {
        (0..count)
            .map(|name| format!("n.{name}:1|{kind}\n"))
            .collect()
    };
    take(&statsd, &queue, &lines("g", 100));
    statsd.flush_now(&queue, |_| {});
    let forgotten = || statsd.counters.statsd_gauges_forgotten.load(Relaxed);
    assert_eq!(forgotten(), 0);
    take(&statsd, &queue, &lines("c", 2000));
    let gone = forgotten();
    assert!(gone > 0 && gone <= 100, "{gone}");
}

#[test]
fn other_names_begin_with_nothing_lost() {
    let (statsd, queue) = (statsd(1 << 20), queue());
    take(&statsd, &queue, "a:1|c\n");
    let mut other = settings(1 << 20);
    other.prefix = String::new();
    other.interval = Duration::from_secs(2);
    statsd.reconfigure(&other, &queue, |_| {});
    take(&statsd, &queue, "a:3|c\n");
    statsd.reconfigure(&other, &queue, |_| {});
    assert_eq!(
        waiting(&queue),
        ["stats.counters.a.count 1", "stats.counters.a.rate 0.1"]
    );
    statsd.flush_now(&queue, |_| {});
    assert_eq!(
        waiting(&queue),
        ["counters.a.count 3", "counters.a.rate 1.5"]
    );
}

/// Received, aggregated, generated, and rejected by reason.
fn account(queue: &Queue) -> (u64, u64, u64, Vec<u64>) {
    let ledger = queue.snapshot().ledger;
    let rejected = RejectReason::ALL.map(|reason| ledger.rejected(reason));
    (
        ledger.received_total(),
        ledger.aggregated(),
        ledger.generated(),
        rejected.to_vec(),
    )
}

/// The sums of all counters.
fn sums(lines: &[String]) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for line in lines {
        let (name, value) = line.split_once(' ').unwrap();
        if name.starts_with("stats.counters.") && name.rsplit('.').next() == Some("count") {
            *sums.entry(name.to_owned()).or_default() += value.parse::<f64>().unwrap();
        }
    }
    sums
}

proptest! {
    /// Whatever comes when, counters add up and the account is right.
    #[test]
    fn counters_add_up_over_any_schedule(
        reads in proptest::collection::vec(
            (proptest::collection::vec((0..5_u8, -9..9_i32), 0..6), any::<bool>()),
            0..40,
        )
    ) {
        let (statsd, queue) = (statsd(1 << 20), queue());
        let mut expected = BTreeMap::<String, f64>::new();
        for (samples, flushes) in reads {
            let mut lines = String::new();
            for (name, value) in samples {
                lines += &format!("n{name}:{value}|c\n");
                *expected.entry(format!("stats.counters.n{name}.count")).or_default() += f64::from(value);
            }
            take(&statsd, &queue, &lines);
            if flushes {
                statsd.flush_now(&queue, |_| {});
            }
            prop_assert_eq!(queue.snapshot().ledger.imbalance(), 0);
        }
        statsd.flush_now(&queue, |_| {});
        prop_assert_eq!(sums(&waiting(&queue)), expected);
    }

    /// However a stream is cut into reads, and whenever a flush comes between.
    #[test]
    fn any_cutting_gives_the_same_outcome(
        bytes in "([ab](:-?[0-9]){1,3}\\|(c|g|ms|x)(\\|@0\\.5|\\|#t:[ab]|)\n|[ -~]{0,9}\n){0,6}([ab]:1\\|c)?",
        cuts in proptest::collection::vec(0..100_usize, 0..9),
        clean in any::<bool>(),
    ) {
        let ending = if clean { Ending::Clean } else { Ending::Broken };
        let outcome = |reads: &[&[u8]]| {
            let (statsd, queue) = (statsd(1 << 20), queue());
            let mut client = Decoder::new(Protocol::Statsd);
            let mut batch = Batch::default();
            for read in reads {
                batch.reset(SystemTime::UNIX_EPOCH);
                let fed = client.feed(read, &rules(), &mut statsd.read().fold(&mut batch));
                queue.push(ListenerId(0), &batch);
                if fed.is_break() {
                    return (waiting(&queue), account(&queue));
                }
            }
            batch.reset(SystemTime::UNIX_EPOCH);
            client.finish(ending, &rules(), &mut statsd.read().fold(&mut batch));
            queue.push(ListenerId(0), &batch);
            statsd.flush_now(&queue, |_| {});
            (waiting(&queue), account(&queue))
        };
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let bytes = bytes.as_bytes();
        let reads: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
        prop_assert_eq!(outcome(&reads), outcome(&[bytes]));
    }

    /// Whatever is sent, what leaves are good lines.
    #[test]
    fn any_bytes_leave_good_lines_only(
        lines in proptest::collection::vec(
            prop_oneof![
                ".{0,30}:-?[0-9]{1,4}(\\.[0-9]|)\\|(c|g|ms|h|d|s)(\\|@0\\.[1-9]|)(\\|#.{0,20}|)",
                "(s3cret\\.|)[a-c.;= ]{0,9}:[0-9:]{1,5}\\|(c|ms|s)(\\|#[a-c:;,~ ]{0,9}|)(\\|T[0-9]{1,11}|)",
                ".{0,60}",
            ],
            0..20,
        )
    ) {
        let (statsd, queue) = (statsd(1 << 20), queue());
        take(&statsd, &queue, &format!("{}\n", lines.join("\n")));
        statsd.flush_now(&queue, |_| {});
        // Each is parsed, and without our key.
        let left = waiting(&queue);
        prop_assert!(!left.iter().any(|line| line.contains(".s3cret.")));
        prop_assert_eq!(queue.snapshot().ledger.imbalance(), 0);
    }
}

/// Part of `.ci/long`, in a release build: CPU time of the thread, not wall time.
#[test]
#[ignore = "measures the processor time of steps, which needs a release build"]
#[expect(clippy::print_stdout, reason = "prints figures")]
fn the_longest_step_of_a_flush() {
    const VALUES: u64 = 20_000_000;
    const LONGEST_STEP: Duration = Duration::from_millis(5);
    let cpu = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(
            now.tv_sec.unsigned_abs(),
            now.tv_nsec.unsigned_abs().try_into().unwrap(),
        )
    };
    let mut random = fastrand::Rng::with_seed(7);
    for kind in ["ms", "s", "c"] {
        let (statsd, queue) = (statsd(256 << 20), queue());
        let mut longest_read = Duration::ZERO;
        let mut taken = 0;
        while taken < VALUES && statsd.lock().aggregates.allocated() < 250 << 20 {
            let mut lines = String::new();
            while lines.len() < 60_000 {
                let value = random.u32(..);
                lines += &match kind {
                    "c" => format!("some.name.{value}:1|c\n"),
                    _ => format!("t:{value}|{kind}\n"),
                };
                taken += 1;
            }
            let before = cpu();
            take(&statsd, &queue, &lines);
            longest_read = longest_read.max(cpu().saturating_sub(before));
        }
        let (mut begun, mut steps, mut longest, mut all) =
            (None, 0, Duration::ZERO, Duration::ZERO);
        loop {
            let before = cpu();
            let has_more = statsd.go_on(&mut begun, &queue, &|_| {});
            let took = cpu().saturating_sub(before);
            (steps, longest, all) = (steps + 1, longest.max(took), all + took);
            if !has_more {
                break;
            }
        }
        let figures = format!(
            "{kind}: {taken} values, longest read {longest_read:?}; {steps} steps, {all:?}, longest {longest:?}"
        );
        assert!(longest < LONGEST_STEP, "{figures}");
        println!("{figures}");
    }
}
