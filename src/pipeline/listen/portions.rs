//! A read's lines in portions for the queue: one, nearly always. Only a pickle
//! can be so much shorter than its lines that they would not fit into a pack.

use crate::pipeline::batch::{BYTES_A_PUSH, Batch, LineHandler};
use crate::pipeline::line::{Reject, Rules};

/// A pack that is handed on whenever it has become large.
#[derive(Debug)]
pub struct Portions<'a, H> {
    pack: &'a mut Batch,
    hand_on: H,
}

impl<'a, H: FnMut(&Batch)> Portions<'a, H> {
    /// Hands a pack, which has begun, to `hand_on`.
    pub fn of(pack: &'a mut Batch, hand_on: H) -> Self {
        Self { pack, hand_on }
    }

    /// The pack, for those who fill it by themselves.
    pub fn pack(&mut self) -> &mut Batch {
        self.pack
    }

    /// Hands on what is left.
    pub fn finish(mut self) {
        (self.hand_on)(self.pack);
    }

    fn settle(&mut self) {
        if self.pack.bytes().len() >= BYTES_A_PUSH {
            (self.hand_on)(self.pack);
            self.pack.go_on();
        }
    }
}

impl<H: FnMut(&Batch)> LineHandler for Portions<'_, H> {
    fn add(&mut self, raw: &[u8], rules: &Rules) {
        self.pack.add(raw, rules);
        self.settle();
    }

    fn reject(&mut self, reject: Reject, raw: &[u8], rules: &Rules) {
        self.pack.reject(reject, raw, rules);
    }

    fn add_lines(&mut self, lines: &[u8], rules: &Rules) {
        self.pack.add_lines(lines, rules);
        self.settle();
    }
}
