//! Blocks and frames that wait, in the order of their places.
//!
//! Blocks and frames are in rows of their own: whichever of the two in front
//! is older is the lane's front.

use std::collections::VecDeque;
use std::ops::Range;

use super::block::{Block, Place};
use super::frame::Frame;

/// What waits in one order.
#[derive(Debug, Default)]
pub struct Lane {
    blocks: VecDeque<Block>,
    frames: VecDeque<Frame>,
    /// Bytes of the blocks that may be compressed.
    loose_bytes: usize,
}

/// One thing that waits.
#[derive(Debug)]
pub enum Waiting {
    /// Lines as they are.
    Block(Block),
    /// Lines compressed.
    Frame(Frame),
}

impl Waiting {
    /// How many lines it holds.
    pub fn lines(&self) -> u64 {
        match self {
            Self::Block(block) => block.lines(),
            Self::Frame(frame) => frame.lines(),
        }
    }

    /// The memory that it holds.
    pub fn allocated(&self) -> usize {
        match self {
            Self::Block(block) => block.allocated(),
            Self::Frame(frame) => frame.allocated(),
        }
    }
}

impl Lane {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.frames.is_empty()
    }

    /// Whether the oldest lines are compressed.
    pub fn frame_in_front(&self) -> Option<&Frame> {
        let frame = self.frames.front()?;
        let is_first = self
            .blocks
            .front()
            .is_none_or(|block| frame.place() < block.place);
        is_first.then_some(frame)
    }

    /// The oldest block, where its lines are the oldest.
    pub fn block_in_front(&self) -> Option<&Block> {
        let block = self.blocks.front()?;
        self.frame_in_front().is_none().then_some(block)
    }

    /// The place of the oldest.
    pub fn place(&self) -> Option<Place> {
        let block = self.blocks.front().map(|block| block.place);
        let frame = self.frames.front().map(Frame::place);
        block.into_iter().chain(frame).min()
    }

    /// Takes the oldest.
    pub fn pop(&mut self) -> Option<Waiting> {
        if self.frame_in_front().is_some() {
            self.frames.pop_front().map(Waiting::Frame)
        } else {
            let block = self.blocks.pop_front()?;
            self.forget(&block);
            Some(Waiting::Block(block))
        }
    }

    /// Puts a block in its place.
    pub fn insert(&mut self, block: Block) {
        let before = |other: &Block| other.place < block.place;
        // A new block, or one that was in front: mostly at an end.
        let at = if self.blocks.back().is_none_or(before) {
            self.blocks.len()
        } else {
            self.blocks.partition_point(before)
        };
        if !block.stays_loose {
            self.loose_bytes += block.bytes().len();
        }
        self.blocks.insert(at, block);
    }

    /// Puts a frame in its place.
    pub fn insert_frame(&mut self, frame: Frame) {
        let at = self
            .frames
            .partition_point(|other| other.place() < frame.place());
        self.frames.insert(at, frame);
    }

    /// Puts another lane behind this one.
    pub fn append(&mut self, later: &mut Self) {
        self.blocks.append(&mut later.blocks);
        self.frames.append(&mut later.frames);
        self.loose_bytes += std::mem::take(&mut later.loose_bytes);
    }

    /// The blocks, the oldest first.
    pub fn blocks(&self) -> impl DoubleEndedIterator<Item = &Block> {
        self.blocks.iter()
    }

    /// The frames, the oldest first.
    pub fn frames(&self) -> &VecDeque<Frame> {
        &self.frames
    }

    /// The blocks that would make a frame: the first that follow each other
    /// after `skip` bytes, until `enough` bytes. Fewer will do where they cannot
    /// become more, as a frame follows. The last `keep` blocks stay.
    pub fn run(&self, skip: usize, enough: usize, keep: usize) -> Option<Range<usize>> {
        let end = self.blocks.len().saturating_sub(keep);
        let mut skipped = 0;
        let mut start = 0;
        while start < end && skipped < skip {
            skipped += self.blocks[start].bytes().len();
            start += 1;
        }
        while start < end {
            let next_frame = self.frame_after(self.blocks[start].place);
            let follows = |block: &&Block| {
                !block.stays_loose && next_frame.is_none_or(|frame| block.place < frame)
            };
            let mut bytes = 0;
            let mut stop = start;
            for block in self.blocks.range(start..end).take_while(follows) {
                bytes += block.bytes().len();
                stop += 1;
                if bytes >= enough {
                    return Some(start..stop);
                }
            }
            let may_grow = stop == end && next_frame.is_none();
            if !may_grow && stop > start + 1 {
                return Some(start..stop);
            }
            start = stop.max(start + 1);
        }
        None
    }

    /// One of the blocks.
    pub fn block(&self, at: usize) -> Option<&Block> {
        self.blocks.get(at)
    }

    /// Takes the block at a place out.
    pub fn take_block(&mut self, place: Place) -> Option<Block> {
        let at = self.blocks.partition_point(|block| block.place < place);
        let block = self.blocks.remove(at)?;
        self.forget(&block);
        Some(block)
    }

    /// Takes a run of blocks out.
    pub fn take(&mut self, run: Range<usize>) -> Vec<Block> {
        let taken: Vec<Block> = self.blocks.drain(run).collect();
        for block in &taken {
            self.forget(block);
        }
        taken
    }

    /// Bytes of lines that could be compressed.
    pub fn loose_bytes(&self) -> usize {
        self.loose_bytes
    }

    fn forget(&mut self, block: &Block) {
        if !block.stays_loose {
            self.loose_bytes -= block.bytes().len();
        }
    }

    fn frame_after(&self, place: Place) -> Option<Place> {
        let at = self.frames.partition_point(|frame| frame.place() < place);
        self.frames.get(at).map(Frame::place)
    }
}
