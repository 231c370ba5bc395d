//! Lines that come in: into the open block, and a full one into the live lane.

use std::time::Instant;

use memchr::{memchr, memrchr};

use crate::os;
use crate::pipeline::queue::block::{Block, count_lines};
use crate::stats::DropReason;

use super::State;

impl State {
    /// Stores whole lines, of which there are this number of.
    pub(super) fn store(&mut self, mut lines: &[u8], mut count: u64, now: Instant) {
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
            self.append(part, part_count, now);
            count -= part_count;
            lines = rest;
        }
    }

    fn append(&mut self, part: &[u8], count: u64, now: Instant) {
        let full = self.limits.block_bytes;
        let Some(open) = &self.open else { return };
        let before = open.allocated();
        let capacity = open.capacity_for(part.len(), full);
        let after = Block::allocated_for(capacity);
        let growth = after.saturating_sub(before);
        // Without growth, too: a block is a little more than its buffer.
        if !self.evict_for(growth) && growth > 0 {
            // All memory is lent: the upstream has the older lines in hand.
            self.ledger.drop_queued(DropReason::QueueFull, count);
            self.discard_empty_open();
            return;
        }
        let Some(open) = &mut self.open else { return };
        open.append(part, count, capacity, now);
        self.allocated = self.allocated - before + open.allocated();
        if open.bytes().len() >= full {
            self.seal();
        }
    }

    fn open_block(&mut self, now: Instant) -> &Block {
        let Self { open, spares, .. } = self;
        open.get_or_insert_with(|| {
            let reused = spares.pop();
            if let Some(buffer) = &reused {
                self.allocated -= os::allocated(buffer.capacity());
            }
            let block = Block::open(self.next_number, now, reused.unwrap_or_default());
            self.next_number += 1;
            self.allocated += block.allocated();
            block
        })
    }

    /// The open block is full, or is not to wait until it is.
    pub(super) fn seal(&mut self) {
        let Some(mut open) = self.open.take() else {
            return;
        };
        self.allocated -= open.allocated();
        open.shrink();
        self.allocated += open.allocated();
        self.live.insert(open);
    }

    fn discard_empty_open(&mut self) {
        if let Some(open) = self.open.take_if(|open| open.is_empty()) {
            self.allocated -= open.allocated();
        }
    }
}
