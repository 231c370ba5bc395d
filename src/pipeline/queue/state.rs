//! What the queue decides, without locks, clocks or tasks.
//!
//! See the drawing in `queue.rs`. Every method leaves two things true: the
//! bytes allocated are within the bound, and the ledger is balanced. Here is
//! what there is and what comes back; where lines that come in are put is in
//! `state/store.rs`, what has to go in `state/room.rs`, which lines go out next in
//! `state/lease.rs`, which go out of turn in `state/probe_line.rs`, which are compressed in
//! `state/compressor.rs`, which leave for another process in `state/handover.rs`.

mod compress;
mod evict;
mod handover;
mod probe_line;
mod schedule;
mod store;

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::pipeline::batch::Batch;
use crate::stats::{Delays, DropReason, Ledger, ListenerId};

use super::block::Block;
use super::history::{History, Mark};
use super::lane::Lane;
use super::rate_limit::RateLimiter;
use super::rates::{Meter, Outlook, Totals};

pub use compress::Job;
use compress::{RunningJob, WorkerState};
pub use schedule::{Leased, Readiness};

/// What a byte of a line takes when it is compressed, until one was: less by far
/// in practice, but a horizon should not promise too much.
const UNKNOWN_DENSITY: f64 = 0.25;

/// Blocks of our own lines are numbered from here on.
const OWN_NUMBERS: u64 = 1 << 63;

/// The part of the queue that our own lines may take.
const OWN_PART: usize = 64;

/// The sizes that the configuration sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A block is full at this number of bytes; `batch.bytes`.
    pub block_bytes: usize,
    /// The bound of all memory of queued lines; `queue.bytes`.
    pub queue_bytes: usize,
    /// How long lines may gather before they are lent; `batch.linger`.
    pub linger: Duration,
    /// Blocks that are not full are lent no more often than this: lines that
    /// come one by one gather under load, and leave at once when it is quiet.
    pub gather: Duration,
    /// The pace of the backlog; `sink.max_lines_per_second`.
    pub max_lines_per_second: Option<u32>,
}

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// How many older lines had to go.
    pub dropped: u64,
    /// Room is about to be made: a client that can wait should, for a moment.
    pub is_tight: bool,
    /// The relay should look.
    pub wakes_relay: bool,
}

/// The queue itself.
#[derive(Debug)]
pub struct State {
    limits: Limits,
    /// What waited when the upstream came back, or fell behind.
    backlog: Lane,
    /// What came since. Everything from this number on.
    live: Lane,
    live_from: u64,
    /// Lines of our own. They go before all others, and are the last to be
    /// dropped for others: what tells of trouble must not be lost in it.
    own: Lane,
    /// Takes the lines that arrive.
    open: Option<Block>,
    /// Full buffers of settled blocks, kept for the next open ones.
    spares: Vec<Vec<u8>>,
    /// Blocks that are being compressed, by another thread.
    running_job: Option<RunningJob>,
    worker: WorkerState,
    /// Memory of all of these, and of those that are lent.
    allocated: usize,
    /// How many blocks are lent, and their part of that memory.
    leased: usize,
    leased_bytes: usize,
    /// Memory of blocks that were frames, until they are settled.
    expanded_bytes: usize,
    /// The most that one of the frames will take when it is expanded.
    largest_frame: usize,
    next_number: u64,
    next_own: u64,
    closed: bool,
    /// What waits is about to leave for the next process.
    is_leaving: bool,
    /// Whether the upstream is down, and when after its return, in parts of a
    /// second, the backlog is to follow.
    down: Option<f64>,
    /// Not before then.
    backlog_from: Option<Instant>,
    rate_limit: RateLimiter,
    /// When a block was last lent that was not full.
    last_open_leased: Option<Instant>,
    /// When the relay will look by itself; until then only a full block is news.
    relay_sleeps_until: Option<Instant>,
    /// How many blocks were lent from the live lane while the backlog waited.
    live_in_a_row: u8,
    ledger: Ledger,
    delays: Delays,
    totals: Totals,
    long_meter: Meter,
    short_meter: Meter,
    history: History,
    /// Compressed bytes a byte, as it was lately.
    density: Option<f64>,
}

impl State {
    /// An empty queue.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            backlog: Lane::default(),
            live: Lane::default(),
            live_from: 0,
            own: Lane::default(),
            open: None,
            spares: Vec::new(),
            running_job: None,
            worker: WorkerState::default(),
            allocated: 0,
            leased: 0,
            leased_bytes: 0,
            expanded_bytes: 0,
            largest_frame: 0,
            next_number: 0,
            next_own: OWN_NUMBERS,
            closed: false,
            is_leaving: false,
            down: None,
            backlog_from: None,
            rate_limit: RateLimiter::new(limits.max_lines_per_second),
            last_open_leased: None,
            relay_sleeps_until: None,
            live_in_a_row: 0,
            ledger: Ledger::default(),
            delays: Delays::default(),
            totals: Totals::default(),
            long_meter: Meter::over(Duration::from_secs(15)),
            short_meter: Meter::over(Duration::from_secs(3)),
            history: History::default(),
            density: None,
        }
    }

    /// Takes the lines of one read and accounts for them.
    pub fn push(&mut self, listener: ListenerId, batch: &Batch, now: Instant) -> Pushed {
        self.keep_history(now);
        for (reason, lines) in batch.rejected() {
            self.ledger.reject(listener, reason, lines);
        }
        self.ledger.aggregate(listener, batch.aggregated());
        let no_room = batch.no_room();
        self.ledger
            .drop_received(listener, DropReason::QueueFull, no_room);
        self.ledger.accept(listener, batch.lines());
        self.take_in(batch.bytes(), batch.lines(), now)
    }

    /// Takes points that were made of samples, each with its newline. They wait
    /// among the lines that came in.
    pub fn push_points(&mut self, points: &[u8], count: u64, now: Instant) -> Pushed {
        self.keep_history(now);
        self.ledger.generate(count);
        self.take_in(points, count, now)
    }

    /// Stores lines that the account says are queued.
    fn take_in(&mut self, lines: &[u8], count: u64, now: Instant) -> Pushed {
        self.totals.lines_in += count;
        self.totals.bytes_in += lines.len() as u64;
        self.look(now);
        let before = self.ledger.dropped(DropReason::QueueFull);
        if self.closed {
            self.ledger.drop_queued(DropReason::Shutdown, count);
        } else {
            self.store(lines, count, now);
        }
        Pushed {
            dropped: self.ledger.dropped(DropReason::QueueFull) - before,
            is_tight: self.is_tight(),
            wakes_relay: self.wakes_relay(now),
        }
    }

    /// Takes lines that the daemon made itself, with their newlines. While the
    /// upstream is down, the oldest of them evict for the newest.
    pub fn generate(&mut self, lines: &[u8], count: u64, now: Instant) {
        if self.closed {
            return;
        }
        self.ledger.generate(count);
        let mut block = Block::open(self.next_own, now, Vec::new());
        self.next_own += 1;
        block.append(lines, count, lines.len(), now);
        if !self.evict_for(block.allocated()) {
            self.ledger.drop_queued(DropReason::QueueFull, count);
            return;
        }
        self.allocated += block.allocated();
        self.own.insert(block);
        while self.own.loose_bytes() > self.limits.queue_bytes / OWN_PART {
            let Some(oldest) = self.own.pop() else { break };
            self.allocated -= oldest.allocated();
            self.ledger
                .drop_queued(DropReason::QueueFull, oldest.lines());
        }
    }

    /// The first `bytes` of a lent block, whole lines, have reached the
    /// upstream.
    pub fn settle(&mut self, block: &mut Block, bytes: usize, now: Instant) {
        let longest = now.saturating_duration_since(block.opened);
        let lines = block.settle(bytes);
        let shortest = now.saturating_duration_since(block.opened);
        self.delays.note(lines, shortest, longest);
        self.ledger.deliver(lines);
        self.totals.lines_out += lines;
    }

    /// The first `bytes` of a lent block, whole lines, are dropped.
    pub fn give_up(&mut self, block: &mut Block, bytes: usize, reason: DropReason) {
        let lines = block.settle(bytes);
        self.ledger.drop_in_flight(reason, lines);
    }

    /// These bytes of a lent block, whole lines, were handed to a socket; those that were
    /// before count as resent.
    pub fn send(&mut self, block: &mut Block, range: Range<usize>) {
        self.ledger.resend(block.send(range));
    }

    /// Cuts a lent block in two, which are both lent.
    pub fn split_off(&mut self, block: &mut Block, at: usize) -> Block {
        let rest = block.split_off(at);
        // The first keeps its buffer.
        self.allocated += rest.allocated();
        self.leased_bytes += rest.allocated();
        if rest.stays_loose {
            self.expanded_bytes += rest.allocated();
        }
        self.leased += 1;
        rest
    }

    /// A lent block comes back. What is left of it returns to its place.
    pub fn release(&mut self, mut block: Block) {
        self.leased -= 1;
        self.leased_bytes -= block.allocated();
        self.allocated -= block.allocated();
        if std::mem::take(&mut block.stays_loose) {
            self.expanded_bytes -= block.allocated();
        }
        if block.is_empty() {
            self.keep_buffer(block.into_buffer());
            return;
        }
        if block.is_untouched() && block.place.0 < self.live_from {
            self.rate_limit.refund(block.lines());
        }
        block.shrink();
        self.allocated += block.allocated();
        self.ledger.release(block.lines());
        self.lane_of(block.place.0).insert(block);
        self.shed();
    }

    /// New limits, at a reload. How many lines had to go.
    pub fn set_limits(&mut self, limits: Limits) -> u64 {
        let before = self.ledger.dropped(DropReason::QueueFull);
        self.limits = limits;
        self.rate_limit.set_limit(limits.max_lines_per_second);
        self.evict_for(0);
        self.ledger.dropped(DropReason::QueueFull) - before
    }

    /// No more lines are taken; what is there is lent without lingering.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Whether [`State::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// An attempt to deliver has failed. `random`, from 0 to 1, is drawn for
    /// the moment at which the backlog will follow.
    pub fn upstream_down(&mut self, random: f64) {
        self.down.get_or_insert(random);
        self.rate_limit.failed();
        self.give_buffers_back();
    }

    /// Lines were delivered.
    pub fn upstream_up(&mut self) {
        self.down = None;
    }

    /// The same, and a pace that was halved recovers.
    pub fn request_succeeded(&mut self, now: Instant) {
        self.upstream_up();
        self.rate_limit.succeeded(now);
    }

    /// The upstream has asked for less.
    pub fn slow_down(&mut self, now: Instant) {
        self.look(now);
        self.rate_limit.halve(self.short_meter.rates().lines_out);
    }

    /// The account of all lines.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// How long lines took.
    pub fn delays(&self) -> &Delays {
        &self.delays
    }

    /// Memory of all queued lines or are lent.
    pub fn allocated(&self) -> usize {
        self.allocated
    }

    /// The limits in force.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// How long the queue lasts, and how long it takes to drain, as things go.
    pub fn outlook(&mut self, now: Instant) -> Outlook {
        self.look(now);
        let used = self.allocated + self.reserve();
        let free = self.limits.queue_bytes.saturating_sub(used);
        let waiting = if self.backlog.is_empty() && self.down.is_none() {
            0
        } else {
            self.ledger.queued() + self.ledger.in_flight()
        };
        let density = self.density.unwrap_or(UNKNOWN_DENSITY);
        Outlook {
            horizon: self.long_meter.rates().horizon(free, density),
            drain: self.drain(waiting),
        }
    }

    /// How long this number of lines waits. While the pace recovers, what was measured before
    /// says little.
    #[allow(clippy::cast_precision_loss)] // An estimate for people.
    fn drain(&self, waiting: u64) -> f64 {
        let measured = self.short_meter.rates().drain(waiting);
        self.rate_limit
            .drain(waiting as f64)
            .map_or(measured, |paced| paced.min(measured))
    }

    /// What the last minutes brought.
    pub fn history(&mut self, now: Instant) -> History {
        self.keep_history(now);
        self.history.clone()
    }

    /// To be called before a change at this time, wherever the time is known.
    fn keep_history(&mut self, now: Instant) {
        if self.history.is_due(now) {
            let mark = Mark {
                received: self.ledger.received_total(),
                delivered: self.ledger.delivered(),
                dropped: self.ledger.dropped_total(),
                bytes: self.allocated,
            };
            self.history.mark(mark, now);
        }
    }

    fn look(&mut self, now: Instant) {
        self.long_meter.look(self.totals, now);
        self.short_meter.look(self.totals, now);
    }

    fn lane_of(&mut self, number: u64) -> &mut Lane {
        if number >= OWN_NUMBERS {
            &mut self.own
        } else if number < self.live_from {
            &mut self.backlog
        } else {
            &mut self.live
        }
    }
}

#[cfg(test)]
mod tests;
