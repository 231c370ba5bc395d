//! One line of those that wait, whatever their turn: it is asked for where an
//! upstream refuses lines, to see whether it takes any.

use memchr::{memchr, memrchr};

use crate::pipeline::queue::block::Block;

use super::State;

impl State {
    /// Lends one line. `at` says which: 0 is the oldest, 1 the newest of those that
    /// are not compressed. The pace and the bound of what is lent do not count for
    /// it: without an answer, nothing would go at all.
    pub fn lease_probe_line(&mut self, at: f64) -> Option<Block> {
        if self.open.as_ref().is_some_and(|open| !open.is_empty()) {
            self.seal();
        }
        let blocks = || self.backlog.blocks().chain(self.live.blocks());
        let bytes: usize = blocks().map(|block| block.bytes().len()).sum();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "any line near it will do"
        )]
        let mut left = ((bytes as f64 * at) as usize).min(bytes.checked_sub(1)?);
        let place = blocks().find_map(|block| {
            let length = block.bytes().len();
            if left < length {
                return Some(block.place);
            }
            left -= length;
            None
        })?;
        let block = self.lane_of(place.0).take_block(place)?;
        let line = self.cut_out(block, left);
        self.leased += 1;
        self.leased_bytes += line.allocated();
        self.ledger.lease(line.lines());
        // Each of the pieces is a block.
        self.shed();
        Some(line)
    }

    /// The line around a byte of a block; what is before and behind it stays.
    fn cut_out(&mut self, mut block: Block, at: usize) -> Block {
        let begin = memrchr(b'\n', &block.bytes()[..at]).map_or(0, |newline| newline + 1);
        let mut line = if begin == 0 {
            block
        } else {
            let line = self.cut_off(&mut block, begin);
            self.put_back(block);
            line
        };
        let end = memchr(b'\n', line.bytes()).map_or(line.bytes().len(), |newline| newline + 1);
        if end < line.bytes().len() {
            let rest = self.cut_off(&mut line, end);
            self.put_back(rest);
            // Its buffer was that of all.
            self.shrink(&mut line);
        }
        line
    }

    fn cut_off(&mut self, block: &mut Block, at: usize) -> Block {
        let rest = block.split_off(at);
        self.allocated += rest.allocated();
        if rest.stays_loose {
            self.expanded_bytes += rest.allocated();
        }
        rest
    }

    fn put_back(&mut self, mut block: Block) {
        self.shrink(&mut block);
        self.lane_of(block.place.0).insert(block);
    }

    fn shrink(&mut self, block: &mut Block) {
        let before = block.allocated();
        block.shrink();
        let after = block.allocated();
        self.allocated = self.allocated - before + after;
        if block.stays_loose {
            self.expanded_bytes = self.expanded_bytes - before + after;
        }
    }
}
