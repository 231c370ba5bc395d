//! Which lines go out next.
//!
//! After an outage new lines go out at once and the backlog follows beside
//! them: at least one block in four, at its own pace. Order holds within each
//! of the two lanes.

use std::time::{Duration, Instant};

use memchr::memchr_iter;

use crate::pipeline::queue::block::{Block, Place};
use crate::pipeline::queue::frame::{Corrupt, Frame};
use crate::pipeline::queue::lane::Waiting;
use crate::stats::DropReason;

use super::State;

/// Lines that have waited so long when the upstream is back are its backlog, and
/// so are that many, however long they have. Fewer go at once, in order: a
/// connection that breaks is no outage.
const OUTAGE: Duration = Duration::from_secs(1);
const OUTAGE_BYTES: usize = 1 << 20;

/// Lines that have waited so long without an outage, too: the upstream is slow.
const LAG: Duration = Duration::from_secs(5);

/// So many live blocks may go before one of the backlog has its turn.
const LIVE_IN_A_ROW: u8 = 3;

/// When the queue next has something to lend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Now.
    Ready,
    /// At this moment, if nothing else happens.
    At(Instant),
    /// When lines come, or come back.
    Idle,
    /// Never: the queue is closed and empty, and nothing is lent.
    Finished,
}

/// What is lent.
#[derive(Debug)]
pub enum Leased {
    /// Lines.
    Block(Block),
    /// Lines that have to be expanded first, and be given to
    /// [`State::expanded`].
    Frame(Frame),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Own,
    Backlog,
    Live,
}

impl State {
    /// When there is something to lend.
    pub fn readiness(&self, now: Instant) -> Readiness {
        match self.next(now) {
            Ok(_) => Readiness::Ready,
            Err(readiness) => readiness,
        }
    }

    /// As [`State::readiness`], for the relay, which waits accordingly.
    pub fn relay_readiness(&mut self, now: Instant) -> Readiness {
        self.keep_history(now);
        let readiness = self.readiness(now);
        self.relay_sleeps_until = match readiness {
            Readiness::At(due) => Some(due),
            _ => None,
        };
        readiness
    }

    /// Whether there is something that the relay will not notice by itself.
    pub(super) fn wakes_relay(&self, now: Instant) -> bool {
        let Some(until) = self.relay_sleeps_until.filter(|until| now < *until) else {
            return true;
        };
        // It may sleep until the backlog may go on, which is nothing to live lines.
        match self.live_readiness(now) {
            Readiness::Ready => true,
            Readiness::At(due) => due < until,
            Readiness::Idle | Readiness::Finished => false,
        }
    }

    /// Lends the block whose turn it is, if one is ready.
    pub fn lease(&mut self, now: Instant) -> Option<Leased> {
        self.keep_history(now);
        self.part_lanes(now);
        let block = match self.next(now).ok()? {
            Source::Own => match self.own.pop()? {
                Waiting::Block(block) => block,
                Waiting::Frame(frame) => return Some(Leased::Frame(frame)),
            },
            Source::Live => self.next_live(now)?,
            Source::Backlog => match self.backlog.pop()? {
                Waiting::Block(block) => self.keep_rate(block, now),
                Waiting::Frame(frame) => return Some(Leased::Frame(frame)),
            },
        };
        self.leased += 1;
        self.leased_bytes += block.allocated();
        self.ledger.lease(block.lines());
        Some(Leased::Block(block))
    }

    /// The blocks of a frame that was lent to be expanded are in its place.
    pub fn expanded(&mut self, frame: &Frame, blocks: Result<Vec<Block>, Corrupt>) {
        self.allocated -= frame.allocated();
        match blocks {
            Ok(blocks) => {
                for block in blocks {
                    self.allocated += block.allocated();
                    self.expanded_bytes += block.allocated();
                    self.lane_of(block.place.0).insert(block);
                }
            }
            Err(Corrupt) => self.ledger.drop_queued(DropReason::Corrupt, frame.lines()),
        }
        self.note_frame(None);
        self.shed();
    }

    /// Memory kept free to expand a frame in, so that no line has to go for it.
    pub(super) fn reserve(&self) -> usize {
        self.largest_frame.saturating_sub(self.expanded_bytes)
    }

    /// A frame has come or gone.
    pub(super) fn note_frame(&mut self, came: Option<&Frame>) {
        if let Some(frame) = came {
            self.largest_frame = self.largest_frame.max(frame.allocated_expanded());
        } else if !self.has_frames() {
            self.largest_frame = 0;
        }
    }

    /// Whether anything that waits is compressed.
    pub fn has_frames(&self) -> bool {
        !self.backlog.frames().is_empty() || !self.live.frames().is_empty()
    }

    /// What waited too long becomes the backlog; what comes from now on is live.
    pub(super) fn part_lanes(&mut self, now: Instant) {
        let lag = if self.down.is_some() { OUTAGE } else { LAG };
        let oldest = self.live.block_in_front().or(self.open.as_ref());
        let is_late = oldest.is_some_and(|oldest| oldest.opened + self.limits.linger + lag <= now);
        let is_much = self.down.is_some() && self.live.loose_bytes() > OUTAGE_BYTES;
        if !is_late && !is_much && self.live.frame_in_front().is_none() {
            return;
        }
        if self.open.as_ref().is_some_and(|open| !open.is_empty()) {
            self.seal();
        }
        self.backlog.append(&mut self.live);
        self.live_from = self.next_number;
        if let Some(random) = self.down {
            self.backlog_from = Some(now + Duration::from_secs(1).mul_f64(random));
        }
    }

    /// Whose turn it is, or when it is somebody's.
    fn next(&self, now: Instant) -> Result<Source, Readiness> {
        if !self.own.is_empty() {
            return Ok(Source::Own);
        }
        if self.leased > 0 && self.leased_bytes >= self.limits.queue_bytes / 4 {
            return Err(Readiness::Idle);
        }
        let backlog = self.backlog_readiness(now);
        let live = self.live_readiness(now);
        match (backlog, live) {
            (Readiness::Ready, Readiness::Ready) if self.live_in_a_row < LIVE_IN_A_ROW => {
                Ok(Source::Live)
            }
            (Readiness::Ready, _) => Ok(Source::Backlog),
            (_, Readiness::Ready) => Ok(Source::Live),
            (Readiness::At(one), Readiness::At(other)) => Err(Readiness::At(one.min(other))),
            (Readiness::At(due), _) | (_, Readiness::At(due)) => Err(Readiness::At(due)),
            _ if self.is_finished() => Err(Readiness::Finished),
            _ => Err(Readiness::Idle),
        }
    }

    fn backlog_readiness(&self, now: Instant) -> Readiness {
        let Some(place) = self.backlog.place() else {
            return Readiness::Idle;
        };
        if self.is_compressed_before(place) || !self.can_expand() {
            return Readiness::Idle;
        }
        if let Some(from) = self.backlog_from.filter(|from| now < *from && !self.closed) {
            return Readiness::At(from);
        }
        match self.rate_limit.allowance(now) {
            Ok(_) => Readiness::Ready,
            Err(due) => Readiness::At(due),
        }
    }

    fn live_readiness(&self, now: Instant) -> Readiness {
        let place = self
            .live
            .place()
            .or(self.open.as_ref().map(|open| open.place));
        if place.is_none_or(|place| self.is_compressed_before(place)) {
            return Readiness::Idle;
        }
        match &self.open {
            Some(open) if self.live.is_empty() && !self.closed => {
                let lingered = open.opened + self.limits.linger;
                let gathered = self.last_open_leased.map(|last| last + self.limits.gather);
                let due = gathered.map_or(lingered, |gathered| gathered.max(lingered));
                if due <= now {
                    Readiness::Ready
                } else {
                    Readiness::At(due)
                }
            }
            _ => Readiness::Ready,
        }
    }

    /// Whether older lines of the same lane are being compressed.
    fn is_compressed_before(&self, place: Place) -> bool {
        self.running_job.as_ref().is_some_and(|running_job| {
            let same_lane = (running_job.place.0 < self.live_from) == (place.0 < self.live_from);
            same_lane && running_job.place < place
        })
    }

    /// Whether the backlog's front has room for its lines. With nothing lent it
    /// has: see [`State::reserve`].
    fn can_expand(&self) -> bool {
        self.leased == 0
            || self.backlog.frame_in_front().is_none_or(|frame| {
                let expanded = self.allocated - frame.allocated() + frame.allocated_expanded();
                expanded <= self.limits.queue_bytes
            })
    }

    fn is_finished(&self) -> bool {
        let is_empty = self.own.is_empty()
            && self.backlog.is_empty()
            && self.live.is_empty()
            && self.open.is_none();
        // What is lent may still come back.
        self.closed && is_empty && self.leased == 0 && self.running_job.is_none()
    }

    fn next_live(&mut self, now: Instant) -> Option<Block> {
        if self.backlog.is_empty() {
            self.live_in_a_row = 0;
        } else {
            self.live_in_a_row = self.live_in_a_row.saturating_add(1);
        }
        match self.live.pop() {
            Some(Waiting::Block(block)) => Some(block),
            // Frames are never live: they have waited.
            Some(Waiting::Frame(frame)) => {
                self.backlog.insert_frame(frame);
                None
            }
            None => {
                self.last_open_leased = Some(now);
                self.open.take()
            }
        }
    }

    /// As much of a block as may go at once.
    fn keep_rate(&mut self, mut block: Block, now: Instant) -> Block {
        self.live_in_a_row = 0;
        let most = self.rate_limit.allowance(now).unwrap_or(0).max(1);
        if most < block.lines() {
            let nth = usize::try_from(most).unwrap_or(usize::MAX) - 1;
            if let Some(newline) = memchr_iter(b'\n', block.bytes()).nth(nth) {
                let rest = block.split_off(newline + 1);
                self.allocated += rest.allocated();
                if rest.stays_loose {
                    self.expanded_bytes += rest.allocated();
                }
                self.backlog.insert(rest);
            }
        }
        self.rate_limit.spend(block.lines(), now);
        block
    }
}
