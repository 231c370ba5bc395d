//! The bound of the memory, and what goes so that it holds: first buffers that are
//! kept for later, then the oldest lines.

use crate::os;
use crate::pipeline::queue::lane::{Lane, Waiting};
use crate::stats::DropReason;

use super::State;

/// Buffers of settled blocks that are kept for the next ones.
const SPARE_BYTES: usize = 1 << 20;

impl State {
    /// Makes room for `more` bytes, beside what is kept to expand a frame in.
    pub(super) fn evict_for(&mut self, more: usize) -> bool {
        while self.allocated + self.reserve() + more > self.limits.queue_bytes {
            if !self.drop_something() {
                return false;
            }
        }
        true
    }

    /// Goes back within the bound.
    pub(super) fn shed(&mut self) {
        while self.allocated > self.limits.queue_bytes && self.drop_something() {}
    }

    /// Drops what can be spared: first spare buffers, then the oldest lines.
    fn drop_something(&mut self) -> bool {
        if let Some(buffer) = self.spares.pop() {
            self.allocated -= os::allocated(buffer.capacity());
            return true;
        }
        self.drop_oldest()
    }

    fn drop_oldest(&mut self) -> bool {
        let oldest = self.backlog.place().or_else(|| self.live.place());
        let (lines, allocated) = if let Some(running_job) = self.job_before(oldest) {
            running_job.is_void = true;
            (running_job.lines, running_job.allocated)
        } else if let Some(waiting) = self.pop_oldest() {
            if let Waiting::Block(block) = &waiting
                && block.stays_loose
            {
                self.expanded_bytes -= block.allocated();
            }
            (waiting.lines(), waiting.allocated())
        } else {
            return false;
        };
        self.allocated -= allocated;
        self.note_frame(None);
        self.ledger.drop_queued(DropReason::QueueFull, lines);
        true
    }

    fn pop_oldest(&mut self) -> Option<Waiting> {
        let lanes = [&mut self.backlog, &mut self.live, &mut self.own];
        lanes.into_iter().find_map(Lane::pop)
    }

    /// Keeps the buffer of a settled block for the next one, if there is room.
    pub(super) fn keep_buffer(&mut self, buffer: Vec<u8>) {
        let bytes = os::allocated(buffer.capacity());
        let is_full_size = buffer.capacity() == self.limits.block_bytes;
        let fits = self.allocated + self.reserve() + bytes <= self.limits.queue_bytes;
        if is_full_size && fits && self.spares.len() < self.most_spares() {
            self.allocated += bytes;
            self.spares.push(buffer);
        }
    }

    /// Gives back buffers of which there are too many by now.
    pub(super) fn give_buffers_back(&mut self) {
        let kept = self.spares.len().min(self.most_spares());
        for buffer in self.spares.split_off(kept) {
            self.allocated -= os::allocated(buffer.capacity());
        }
    }

    /// While lines wait, memory is for them.
    fn most_spares(&self) -> usize {
        if self.down.is_some() {
            return 1;
        }
        let bytes = SPARE_BYTES.min(self.limits.queue_bytes / 8);
        (bytes / self.limits.block_bytes).max(1)
    }
}
