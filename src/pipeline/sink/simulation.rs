//! A deterministic simulation: the shipped queue, leases, relay, backoff and
//! window, under seeded schedules of faults, on a clock that only jumps.
//!
//! The network is played: a socket that accepts some bytes, a kernel at the
//! other end that acknowledges some of them, a peer that reads some of those.
//! Connections are refused, stall, end, or are reset between any two bytes,
//! with or without unread bytes at the peer. At the end of each schedule, what
//! the peer read is compared with the ledger.
//!
//! A failure names its seed; `SIDECARBON_SEED=… cargo test simulation` plays
//! that schedule alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use fastrand::Rng;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::config::{ApiKey, NameRule, RetrySettings};
use crate::pipeline::batch::Batch;
use crate::pipeline::line;
use crate::pipeline::queue::{Lease, Limits, Queue, count_lines};
use crate::pipeline::relay::{Relay, Replacement};
use crate::stats::{Counters, DropReason, FailureKind, ListenerId};

use super::encode::{Encoder, WireBuffer};
use super::failure::Failure;
use super::window::{Ending, Rules, Window};
use super::{Deliver, SinkEvent};

const SCHEDULES: u64 = 2000;
const PREFIX: &str = "some-key.";
/// What the peer's kernel keeps unread.
const ROOM: usize = 400;
const LOOK: Duration = Duration::from_millis(7);

/// What one schedule is like.
#[derive(Debug, Clone, Copy)]
struct Character {
    /// Chunks are records, of which half a one is nothing.
    is_tls: bool,
    tail: Duration,
    queue_bytes: usize,
    /// Of a hundred steps of a connection, how many end it.
    breaks: u8,
    /// Of a hundred attempts, how many are refused.
    refuses: u8,
    /// The peer reads all that arrived before it resets.
    reads_before_reset: bool,
}

impl Character {
    fn draw(rng: &mut Rng) -> Self {
        Self {
            is_tls: rng.bool(),
            tail: Duration::from_millis(if rng.bool() { 500 } else { 0 }),
            queue_bytes: *rng.choice(&[4096, 32 << 10, 1 << 20]).unwrap_or(&4096),
            breaks: rng.u8(0..30),
            refuses: rng.u8(0..60),
            reads_before_reset: rng.bool(),
        }
    }
}

/// The upstream, and what it has read.
struct Upstream {
    rng: Rng,
    character: Character,
    /// From now on nothing goes wrong.
    is_calm: bool,
    lines: Vec<u32>,
    at_risk: u64,
}

/// One connection, from both ends.
#[derive(Default)]
struct Wire {
    /// Every byte that our socket has accepted.
    accepted: Vec<u8>,
    /// How many of them the peer's kernel has acknowledged.
    acknowledged: usize,
    /// How many of those the peer has read.
    read: usize,
    /// Where records end; a peer can use whole ones only.
    records: Vec<usize>,
}

struct Simulated {
    upstream: Arc<Mutex<Upstream>>,
    encoder: Encoder,
    buffer: WireBuffer,
    connection: Option<(Window, Wire)>,
}

impl Upstream {
    fn happens(&mut self, of_hundred: u8) -> bool {
        !self.is_calm && self.rng.u8(..100) < of_hundred
    }

    fn up_to(&mut self, most: usize) -> usize {
        if self.is_calm {
            most
        } else {
            self.rng.usize(..=most)
        }
    }

    /// The network and the peer do some of what they have to do. The peer's
    /// kernel takes no more than it has room for.
    fn progress(&mut self, wire: &mut Wire) {
        wire.read += self.up_to(wire.acknowledged - wire.read);
        let fits = wire.accepted.len().min(wire.read + ROOM) - wire.acknowledged;
        wire.acknowledged += self.up_to(fits);
        wire.read += self.up_to(wire.acknowledged - wire.read);
    }

    /// What the peer has of a connection that is over.
    fn book(&mut self, wire: &Wire) {
        let usable = if self.character.is_tls {
            let whole = |end: &&usize| **end <= wire.read;
            wire.records.iter().rfind(whole).copied().unwrap_or(0)
        } else {
            wire.read
        };
        let text = std::str::from_utf8(&wire.accepted[..usable]).unwrap();
        for line in text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
        {
            let number = line
                .strip_prefix(PREFIX)
                .unwrap()
                .split(' ')
                .nth(1)
                .unwrap();
            self.lines.push(number.parse().unwrap());
        }
    }
}

impl Simulated {
    /// One step of the connection; it may be its last.
    fn step(&mut self, now: std::time::Instant) -> Result<bool, Failure> {
        let Some((window, wire)) = &mut self.connection else {
            return Ok(false);
        };
        let mut upstream = self.upstream.lock().unwrap();
        upstream.progress(wire);
        let breaks = upstream.character.breaks;
        if upstream.happens(breaks) {
            let ending = if upstream.rng.bool() {
                Ending::Reset
            } else {
                Ending::Clean
            };
            drop(upstream);
            return Err(self.die(ending, now));
        }
        Ok(window.acknowledge(wire.acknowledged as u64, ROOM as u64, now))
    }

    fn die(&mut self, ending: Ending, now: std::time::Instant) -> Failure {
        if let Some((mut window, mut wire)) = self.connection.take() {
            window.break_off(wire.accepted.len() as u64);
            let mut upstream = self.upstream.lock().unwrap();
            // A clean end, and some resets, come when all was read.
            if ending == Ending::Clean || upstream.character.reads_before_reset {
                wire.read = wire.acknowledged;
            }
            upstream.book(&wire);
            upstream.at_risk += window.end(wire.acknowledged as u64, ending, now);
        }
        Failure::unavailable(FailureKind::Closed, "simulated")
    }
}

impl Deliver for Simulated {
    async fn connect(&mut self) -> Result<(), Failure> {
        if self.connection.is_some() {
            return Ok(());
        }
        let mut upstream = self.upstream.lock().unwrap();
        let refuses = upstream.character.refuses;
        if upstream.happens(refuses) {
            return Err(Failure::unavailable(FailureKind::Connect, "simulated"));
        }
        let rules = Rules {
            line_overhead: (!upstream.character.is_tls).then(|| self.encoder.overhead()),
            tail: upstream.character.tail,
            unsent: 0,
        };
        self.connection = Some((Window::new(rules), Wire::default()));
        Ok(())
    }

    async fn deliver(&mut self, lease: Lease) -> Result<(), Failure> {
        let now = tokio::time::Instant::now().into_std();
        let (window, _) = self.connection.as_mut().expect("connected");
        window.begin(lease);
        while let Some((window, wire)) = &mut self.connection
            && !window.unwritten().is_empty()
        {
            let taken = self
                .encoder
                .encode(window.unwritten(), 200, &mut self.buffer);
            window.writing(taken, wire.accepted.len() as u64);
            let (partly, accepted) = {
                let mut upstream = self.upstream.lock().unwrap();
                let breaks = upstream.character.breaks;
                let partly = upstream.happens(breaks);
                let all = self.buffer.bytes().len();
                (
                    partly,
                    if partly {
                        upstream.rng.usize(..all)
                    } else {
                        all
                    },
                )
            };
            wire.accepted
                .extend_from_slice(&self.buffer.bytes()[..accepted]);
            if partly {
                self.upstream.lock().unwrap().progress(wire);
                return Err(self.die(Ending::Reset, now));
            }
            window.written(wire.accepted.len() as u64);
            wire.records.push(wire.accepted.len());
            self.step(now)?;
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.connection
            .as_ref()
            .is_none_or(|(window, _)| window.unacknowledged() < 2000)
    }

    async fn poll_acks(&mut self) -> Result<SinkEvent, Failure> {
        loop {
            let Some((window, _)) = &self.connection else {
                return std::future::pending().await;
            };
            let was_idle = window.is_empty();
            sleep(LOOK).await;
            match self.step(tokio::time::Instant::now().into_std()) {
                Ok(true) => return Ok(SinkEvent::Acknowledged),
                Ok(false) if was_idle => return std::future::pending().await,
                Ok(false) => {}
                Err(_) if was_idle => return Ok(SinkEvent::Ended),
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn close(mut self) {
        self.die(Ending::Clean, tokio::time::Instant::now().into_std());
    }
}

/// Pushes lines in bursts, with pauses, and then lets the relay drain.
async fn play(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let character = Character::draw(&mut rng);
    let upstream = Arc::new(Mutex::new(Upstream {
        rng: rng.fork(),
        character,
        is_calm: false,
        lines: Vec::new(),
        at_risk: 0,
    }));
    let queue = Queue::new(Limits {
        block_bytes: 512,
        queue_bytes: character.queue_bytes,
        linger: Duration::ZERO,
        max_lines_per_second: None,
        gather: Duration::ZERO,
    });
    let simulated = Simulated {
        upstream: upstream.clone(),
        encoder: Encoder::new(&ApiKey::parse(PREFIX.trim_end_matches('.')).unwrap()),
        buffer: WireBuffer::default(),
        connection: None,
    };
    let retry = RetrySettings {
        first: Duration::from_millis(20),
        max: Duration::from_secs(1),
    };
    let first = Replacement {
        sink: simulated,
        retry,
    };
    let (_replacements, incoming) = mpsc::unbounded_channel();
    let relay = Relay::new(
        queue.clone(),
        first,
        Arc::<Counters>::default(),
        incoming,
        mpsc::unbounded_channel().0,
    );
    let relay = tokio::spawn(relay.run());

    let mut sent = 0;
    for _ in 0..rng.u32(1..30) {
        sent += push(&queue, sent, rng.u32(1..80));
        sleep(Duration::from_millis(rng.u64(0..150))).await;
        if rng.bool() {
            queue.compress_waiting();
        }
        let snapshot = queue.snapshot();
        assert_eq!(snapshot.ledger.imbalance(), 0, "seed {seed}");
        assert!(
            snapshot.allocated <= character.queue_bytes,
            "seed {seed}: {snapshot:?}"
        );
    }
    upstream.lock().unwrap().is_calm = true;
    queue.close();
    tokio::time::timeout(Duration::from_secs(600), relay)
        .await
        .unwrap_or_else(|_| panic!("seed {seed}: the drain does not end, {character:?}"))
        .unwrap();
    judge(seed, character, &queue, &upstream.lock().unwrap(), sent);
}

fn push(queue: &Queue, from: u32, count: u32) -> u32 {
    let rules = line::Rules {
        names: NameRule::Any,
        max_line_bytes: 99,
        key: ApiKey::none().into(),
    };
    let mut batch = Batch::default();
    batch.reset(SystemTime::UNIX_EPOCH);
    for number in from..from + count {
        batch.add(format!("m {number} 5").as_bytes(), &rules);
    }
    assert_eq!(count_lines(batch.bytes()), u64::from(count));
    queue.push(ListenerId(0), &batch);
    count
}

fn judge(seed: u64, character: Character, queue: &Queue, upstream: &Upstream, sent: u32) {
    let ledger = queue.snapshot().ledger;
    let story = format!("seed {seed}, {character:?}, {ledger:?}");
    let mut times: HashMap<u32, u64> = HashMap::new();
    for number in &upstream.lines {
        assert!(*number < sent, "a line that was never sent: {story}");
        *times.entry(*number).or_default() += 1;
    }
    let arrived = times.len() as u64;
    let twice: u64 = times.values().map(|times| times - 1).sum();
    let dropped = ledger.dropped(DropReason::QueueFull);

    assert_eq!(ledger.imbalance(), 0, "{story}");
    assert_eq!((ledger.queued(), ledger.in_flight()), (0, 0), "{story}");
    assert_eq!(ledger.delivered() + dropped, u64::from(sent), "{story}");
    let lost = u64::from(sent).saturating_sub(arrived + dropped);
    assert!(
        lost <= upstream.at_risk,
        "{lost} lost of {} at risk: {story}",
        upstream.at_risk
    );
    assert!(twice <= ledger.resent(), "{twice} twice: {story}");
    if character.reads_before_reset {
        assert_eq!(lost, 0, "{story}");
        if !character.is_tls && character.tail.is_zero() {
            assert_eq!(twice, 0, "{story}");
            // Without repeats, order is what it was, in each of the two lanes.
            assert!(is_two_lanes(&upstream.lines), "{story}");
        }
    }
}

/// Whether two ordered rows could have been merged to this one.
fn is_two_lanes(numbers: &[u32]) -> bool {
    // The higher end takes what it can, so that the lower stays open for more.
    let (mut high, mut low) = (None, None);
    numbers.iter().all(|number| {
        let takes = |end: Option<u32>| end.is_none_or(|end| end < *number);
        let end = if takes(high) { &mut high } else { &mut low };
        let fits = takes(*end);
        *end = Some(*number);
        fits
    })
}

#[test]
fn no_schedule_of_faults_loses_or_doubles_a_line_unseen() {
    let seeds = match std::env::var("SIDECARBON_SEED") {
        Ok(seed) => vec![seed.parse().expect("a number")],
        Err(_) => (0..SCHEDULES).collect(),
    };
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        // The relay's own dice, of the same seed.
        fastrand::seed(seed);
        runtime.block_on(play(seed));
    }
}
