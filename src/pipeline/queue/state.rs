//! What the queue decides, without locks, clocks or tasks.
//!
//! See the drawing in `queue.rs`. Every method leaves two things true: the
//! bytes allocated are within the bound, and the ledger is balanced.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use memchr::{memchr, memrchr};

use crate::pipeline::pack::Pack;
use crate::stats::{DropReason, Ledger, ListenerId};

use super::block::{Block, count_lines};

/// The sizes that the configuration sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A block is full at so many bytes; `batch.bytes`.
    pub block_bytes: usize,
    /// The bound of all memory of waiting lines; `queue.bytes`.
    pub queue_bytes: usize,
    /// How long lines may gather before they are lent; `batch.linger`.
    pub linger: Duration,
}

/// When the queue next has something to lend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Now.
    Ready,
    /// At this moment, if nothing else happens: lines linger.
    At(Instant),
    /// When lines come.
    Idle,
    /// Never: the queue is closed and empty, and nothing is lent.
    Finished,
}

/// The queue itself.
#[derive(Debug)]
pub struct State {
    limits: Limits,
    /// Sealed, in the order of their places; the oldest is in front.
    waiting: VecDeque<Block>,
    /// Takes the lines that arrive.
    open: Option<Block>,
    /// A full buffer of a settled block, kept for the next open one.
    spare: Option<Vec<u8>>,
    /// Memory of the blocks above and of those that are lent.
    allocated: usize,
    /// How many blocks are lent.
    lent: usize,
    next_sequence: u64,
    closed: bool,
    ledger: Ledger,
}

impl State {
    /// An empty queue.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            waiting: VecDeque::new(),
            open: None,
            spare: None,
            allocated: 0,
            lent: 0,
            next_sequence: 0,
            closed: false,
            ledger: Ledger::default(),
        }
    }

    /// Takes the lines of one read and accounts for them. Says how many older
    /// lines had to go for them.
    pub fn push(&mut self, listener: ListenerId, pack: &Pack, now: Instant) -> u64 {
        for (reason, lines) in pack.rejected() {
            self.ledger.reject(listener, reason, lines);
        }
        self.ledger.accept(listener, pack.lines());
        if self.closed {
            self.ledger.drop_queued(DropReason::Shutdown, pack.lines());
            return 0;
        }
        let before = self.ledger.dropped(DropReason::QueueFull);
        self.store(pack.bytes(), pack.lines(), now);
        self.ledger.dropped(DropReason::QueueFull) - before
    }

    /// When there is something to lend.
    pub fn readiness(&self, now: Instant) -> Readiness {
        if !self.waiting.is_empty() {
            return Readiness::Ready;
        }
        match &self.open {
            Some(_) if self.closed => Readiness::Ready,
            Some(open) => {
                let due = open.opened + self.limits.linger;
                if due <= now {
                    Readiness::Ready
                } else {
                    Readiness::At(due)
                }
            }
            // What is lent may still come back.
            None if self.closed && self.lent == 0 => Readiness::Finished,
            None => Readiness::Idle,
        }
    }

    /// Lends the oldest block, if one is ready.
    pub fn lend(&mut self, now: Instant) -> Option<Block> {
        if self.readiness(now) != Readiness::Ready {
            return None;
        }
        let block = self.waiting.pop_front().or_else(|| self.open.take())?;
        self.lent += 1;
        self.ledger.lend(block.lines());
        Some(block)
    }

    /// The first `bytes` of a lent block, whole lines, have reached the
    /// upstream.
    pub fn settle(&mut self, block: &mut Block, bytes: usize) {
        let lines = block.settle(bytes);
        self.ledger.deliver(lines);
    }

    /// The first `bytes` of a lent block, whole lines, are given up.
    pub fn give_up(&mut self, block: &mut Block, bytes: usize, reason: DropReason) {
        let lines = block.settle(bytes);
        self.ledger.drop_in_flight(reason, lines);
    }

    /// These bytes of a lent block, whole lines, are about to be handed to a
    /// socket; those that were before count as resent.
    pub fn send(&mut self, block: &mut Block, range: Range<usize>) {
        self.ledger.resend(block.send(range));
    }

    /// Cuts a lent block in two, which are both lent.
    pub fn split_off(&mut self, block: &mut Block, at: usize) -> Block {
        self.allocated -= block.allocated();
        let rest = block.split_off(at);
        self.allocated += block.allocated() + rest.allocated();
        self.lent += 1;
        rest
    }

    /// A lent block comes back. What is left of it returns to its place.
    pub fn give_back(&mut self, mut block: Block) {
        self.lent -= 1;
        self.allocated -= block.allocated();
        if block.is_empty() {
            self.keep_buffer(block.into_buffer());
            return;
        }
        block.shrink();
        self.allocated += block.allocated();
        self.ledger.give_back(block.lines());
        let place = self
            .waiting
            .partition_point(|other| other.place < block.place);
        self.waiting.insert(place, block);
        self.make_room(0);
    }

    /// New limits, at a reload. How many lines had to go.
    pub fn set_limits(&mut self, limits: Limits) -> u64 {
        let before = self.ledger.dropped(DropReason::QueueFull);
        self.limits = limits;
        self.make_room(0);
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

    /// The account of all lines.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Memory of all lines that wait or are lent.
    pub fn allocated(&self) -> usize {
        self.allocated
    }

    /// The limits in force.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    fn store(&mut self, mut lines: &[u8], mut count: u64, now: Instant) {
        while !lines.is_empty() {
            let taken = self.open_block(now).bytes().len();
            let room = self.limits.block_bytes.saturating_sub(taken);
            let fitting = if lines.len() <= room {
                lines.len()
            } else if let Some(newline) = memrchr(b'\n', &lines[..room]) {
                newline + 1
            } else if taken > 0 {
                self.seal();
                continue;
            } else {
                // One line larger than a block is a block of its own.
                memchr(b'\n', lines).map_or(lines.len(), |newline| newline + 1)
            };
            let (part, rest) = lines.split_at(fitting);
            let part_count = if rest.is_empty() {
                count
            } else {
                count_lines(part)
            };
            self.append(part, part_count);
            count -= part_count;
            lines = rest;
        }
    }

    fn append(&mut self, part: &[u8], count: u64) {
        let full = self.limits.block_bytes;
        let Some(open) = &self.open else { return };
        let before = open.allocated();
        let capacity = open.capacity_for(part.len(), full);
        let after = Block::allocated_for(capacity);
        let growth = after.saturating_sub(before);
        if growth > 0 && !self.make_room(growth) {
            // All memory is lent: the upstream has the older lines in hand.
            self.ledger.drop_queued(DropReason::QueueFull, count);
            self.discard_empty_open();
            return;
        }
        let Some(open) = &mut self.open else { return };
        open.append(part, count, capacity);
        self.allocated = self.allocated - before + open.allocated();
        if open.bytes().len() >= full {
            self.seal();
        }
    }

    fn open_block(&mut self, now: Instant) -> &Block {
        let Self { open, spare, .. } = self;
        open.get_or_insert_with(|| {
            let reused = spare.take();
            if let Some(buffer) = &reused {
                self.allocated -= buffer.capacity();
            }
            let block = Block::open(self.next_sequence, now, reused.unwrap_or_default());
            self.next_sequence += 1;
            self.allocated += block.allocated();
            block
        })
    }

    fn seal(&mut self) {
        let Some(mut open) = self.open.take() else {
            return;
        };
        self.allocated -= open.allocated();
        open.shrink();
        self.allocated += open.allocated();
        self.waiting.push_back(open);
    }

    fn discard_empty_open(&mut self) {
        if let Some(open) = self.open.take_if(|open| open.is_empty()) {
            self.allocated -= open.allocated();
        }
    }

    /// Drops what can be spared until `more` bytes fit: first the spare
    /// buffer, then the oldest lines.
    fn make_room(&mut self, more: usize) -> bool {
        while self.allocated + more > self.limits.queue_bytes {
            if let Some(buffer) = self.spare.take() {
                self.allocated -= buffer.capacity();
            } else if let Some(oldest) = self.waiting.pop_front() {
                self.allocated -= oldest.allocated();
                self.ledger
                    .drop_queued(DropReason::QueueFull, oldest.lines());
            } else {
                return false;
            }
        }
        true
    }

    fn keep_buffer(&mut self, buffer: Vec<u8>) {
        let useful = buffer.capacity() == self.limits.block_bytes;
        let fits = self.allocated + buffer.capacity() <= self.limits.queue_bytes;
        if useful && fits && self.spare.is_none() {
            self.allocated += buffer.capacity();
            self.spare = Some(buffer);
        }
    }
}

#[cfg(test)]
mod tests;
