//! A read's lines in portions for the queue: one, nearly always. Only a pickle
//! can be so much shorter than its lines that they would not fit into a batch.

use crate::pipeline::batch::{BYTES_A_PUSH, Batch, LineHandler};
use crate::pipeline::line::{Reject, Rules};

/// A batch that is handed on whenever it has become large.
#[derive(Debug)]
pub struct Portions<'a, H> {
    batch: &'a mut Batch,
    hand_on: H,
}

impl<'a, H: FnMut(&Batch)> Portions<'a, H> {
    /// Hands a batch, which has begun, to `hand_on`.
    pub fn of(batch: &'a mut Batch, hand_on: H) -> Self {
        Self { batch, hand_on }
    }

    /// The batch, for those who fill it by themselves.
    pub fn batch(&mut self) -> &mut Batch {
        self.batch
    }

    /// Hands on what is left.
    pub fn finish(mut self) {
        (self.hand_on)(self.batch);
    }

    fn settle(&mut self) {
        if self.batch.bytes().len() >= BYTES_A_PUSH {
            (self.hand_on)(self.batch);
            self.batch.clear();
        }
    }
}

impl<H: FnMut(&Batch)> LineHandler for Portions<'_, H> {
    fn add(&mut self, raw: &[u8], rules: &Rules) {
        self.batch.add(raw, rules);
        self.settle();
    }

    fn reject(&mut self, reject: Reject, raw: &[u8], rules: &Rules) {
        self.batch.reject(reject, raw, rules);
    }

    fn add_lines(&mut self, lines: &[u8], rules: &Rules) {
        self.batch.add_lines(lines, rules);
        self.settle();
    }
}
