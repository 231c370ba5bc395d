//! Carbon's pickle protocol: frames, each a pickled list of points.
//!
//! In: the bytes of a stream. Out: the points, each as a line, under the same
//! rules as lines. What is no point is rejected by itself, a frame that is no
//! list of points as a whole, and the frames behind it are read.
//!
//! A pickle is a program for a machine that can load and call code. The machine
//! here knows text, numbers, tuples and lists, takes 20 MiB at most for a frame,
//! and does not recurse. `serde-pickle`, the crate for all of the format, is made
//! for pickles of friends: a frame of 1 MiB that says `(` all through takes 4 GB of
//! it, and one of nested lists ends the process by overflowing its stack. It
//! brings numbers of any size, dictionaries and classes, which no point has, and
//! leaves in memory what it has read, where our key may be.

mod frames;
mod machine;
mod opcode;
mod point;
mod text;

use std::ops::ControlFlow;

use zeroize::Zeroize;

use crate::pipeline::batch::LineHandler;
use crate::pipeline::line::{Reject, Rules};
use crate::stats::RejectReason;

use super::MEMORY_USED_UP;
use super::detect::{self, Opening, OtherProtocol};
use frames::{Frames, Piece};
use opcode::Unreadable;
use point::Writer;

/// What one frame takes at most while it is read: the machine, the frame in memory that is being
/// enlarged, and the lines of it.
pub const MOST_BYTES: usize = machine::MOST_BYTES + 2 * frames::MAX_FRAME;

/// What a stream of frames has brought so far.
#[derive(Debug, Default)]
pub struct Pickles {
    /// The first bytes, when they are of another protocol: until it is known
    /// which.
    opening: Vec<u8>,
    has_begun: bool,
    /// They were dropped: whatever follows is of no use.
    is_given_up: bool,
    frames: Frames,
}

impl Pickles {
    /// Takes the next bytes. Breaks off when they are of another protocol,
    /// which is counted as one rejected line.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        rules: &Rules,
        batch: &mut impl LineHandler,
    ) -> ControlFlow<()> {
        if self.is_given_up {
            return ControlFlow::Break(());
        }
        if !self.has_begun {
            match bytes.first() {
                None => return ControlFlow::Continue(()),
                Some(first) if self.opening.is_empty() && frames::may_begin_with(*first) => {
                    self.has_begun = true;
                }
                Some(_) => return self.turn_away(bytes, rules, batch),
            }
        }
        self.frames.feed(bytes, |piece| take(piece, rules, batch))
    }

    /// Bytes that are allocated for a frame that is not whole.
    pub fn held(&self) -> usize {
        self.opening.capacity() + self.frames.held()
    }

    /// Drops the frame that is not whole: it counts as truncated, and its rest is skipped.
    pub fn shed(&mut self, rules: &Rules, batch: &mut impl LineHandler) {
        if !self.opening.is_empty() {
            batch.reject(not_ours(told(&self.opening)), &self.opening, rules);
            self.is_given_up = true;
            self.forget_opening();
        }
        if let Some(frame) = self.frames.skippable() {
            let reject = Reject::new(RejectReason::Truncated, frame.len(), MEMORY_USED_UP);
            batch.reject(reject, frame, rules);
            self.frames.skip();
        }
    }

    fn forget_opening(&mut self) {
        self.opening.zeroize();
        self.opening = Vec::new();
    }

    /// The stream ended. What is not whole by then is of no use: a pickle shows
    /// what it is at its last byte.
    pub fn finish(mut self, rules: &Rules, batch: &mut impl LineHandler) {
        if let Some(frame) = self.frames.unfinished() {
            let hint = "the stream ended before the end of this frame";
            let reject = Reject::new(RejectReason::Truncated, frame.len(), hint);
            batch.reject(reject, frame, rules);
        }
        if !self.opening.is_empty() {
            batch.reject(not_ours(told(&self.opening)), &self.opening, rules);
        }
        self.frames.forget();
        self.opening.zeroize();
    }

    /// Waits until it is clear what these bytes are instead.
    fn turn_away(
        &mut self,
        bytes: &[u8],
        rules: &Rules,
        batch: &mut impl LineHandler,
    ) -> ControlFlow<()> {
        self.opening.extend_from_slice(bytes);
        let hint = match detect::opening(&self.opening, rules.max_line_bytes) {
            Opening::Undecided => return ControlFlow::Continue(()),
            Opening::OtherProtocol(OtherProtocol::Http) => HTTP,
            Opening::OtherProtocol(OtherProtocol::Tls) => TLS,
            Opening::OtherProtocol(OtherProtocol::Pickle) | Opening::Lines => told(&self.opening),
        };
        batch.reject(not_ours(hint), &self.opening, rules);
        self.opening.zeroize();
        ControlFlow::Break(())
    }
}

const HTTP: &str = "an HTTP request on a pickle port; only frames of pickled points are read here";
const TLS: &str =
    "a TLS handshake on a pickle port; send frames of pickled points here, without TLS";
const LINES: &str =
    "plain lines on a pickle port; send them to an address of listen.tcp, by custom port 2003";
const NO_FRAME: &str = "no frame, which begins with its length in four bytes";

fn not_ours(hint: &'static str) -> Reject {
    Reject::new(RejectReason::Protocol, 0, hint)
}

/// What bytes are that are no frame and no other protocol that is known.
fn told(bytes: &[u8]) -> &'static str {
    match bytes {
        [b'\t' | b'\r' | b'\n' | b' '..=b'~', ..] => LINES,
        _ => NO_FRAME,
    }
}

fn take(piece: Piece<'_>, rules: &Rules, batch: &mut impl LineHandler) {
    match piece {
        Piece::Frame(frame) => take_frame(frame, rules, batch),
        Piece::TooLong(length) => {
            let hint = "a frame of over 1 MiB; write fewer points into one";
            batch.reject(Reject::new(RejectReason::TooLong, 0, hint), length, rules);
        }
        Piece::NoFrame(length) => batch.reject(not_ours(NO_FRAME), length, rules),
    }
}

/// Takes the points of one frame, or none of them.
fn take_frame(frame: &[u8], rules: &Rules, batch: &mut impl LineHandler) {
    let unpickled = match machine::run(frame) {
        Ok(unpickled) => unpickled,
        Err(unreadable) => return batch.reject(refusal(unreadable), frame, rules),
    };
    let Some(points) = unpickled.parts() else {
        return batch.reject(refusal(Unreadable::Odd), frame, rules);
    };
    let mut writer = Writer::new(&unpickled, rules.max_line_bytes);
    for point in points {
        match writer.write(point) {
            Ok(()) => batch.add(writer.line(), rules),
            Err(reject) => batch.reject(reject, writer.line(), rules),
        }
    }
}

/// Why a whole frame is rejected.
fn refusal(unreadable: Unreadable) -> Reject {
    let (reason, hint) = match unreadable {
        Unreadable::Cut => (
            RejectReason::Protocol,
            "the pickle does not end where its frame does",
        ),
        Unreadable::Code => (
            RejectReason::Protocol,
            "the pickle names code, and none is ever loaded; send a list of (name, (timestamp, value))",
        ),
        Unreadable::Odd => (
            RejectReason::Protocol,
            "no pickle of points; send a list of (name, (timestamp, value)), of text and numbers",
        ),
        Unreadable::TooMuch => (
            RejectReason::TooLong,
            "a pickle of over 524,288 values; write fewer points into one",
        ),
    };
    Reject::new(reason, 0, hint)
}

#[cfg(test)]
mod tests;
