//! One client's stream, from its first byte to its end, or one datagram, in the
//! protocol of its listener: no I/O.

use std::ops::ControlFlow;

use crate::os;
use crate::pipeline::batch::LineHandler;
use crate::pipeline::line::{Reject, Rules};
use crate::stats::RejectReason;

mod detect;
mod lines;
mod pickle;
pub mod protocol;
mod split;

use lines::Lines;
pub use pickle::MOST_BYTES as PICKLE_BYTES;
use pickle::Pickles;
use protocol::Protocol;

/// Why the beginning of a line or frame was dropped.
pub const MEMORY_USED_UP: &str = "many clients have begun lines or frames and not finished them; the memory for these is a quarter of queue.bytes, 4 to 16 MiB";

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The client closed its side: what it wrote is whole.
    Clean,
    /// A reset, an error, or our own doing: what came last may be cut.
    Broken,
}

/// What a stream has brought so far.
#[derive(Debug)]
pub enum Decoder {
    /// Graphite's plain lines.
    Lines(Lines),
    /// StatsD's lines, cut and told from other protocols in the same way.
    Statsd(Lines),
    /// Frames of carbon's pickle protocol.
    Pickles(Pickles),
}

impl Decoder {
    /// A stream that has brought nothing yet.
    pub fn new(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Lines => Self::Lines(Lines::default()),
            Protocol::Statsd => Self::Statsd(Lines::default()),
            Protocol::Pickle => Self::Pickles(Pickles::default()),
        }
    }

    /// Whether what it brings are samples, to be aggregated.
    pub fn brings_samples(&self) -> bool {
        matches!(self, Self::Statsd(_))
    }

    /// Takes the next bytes. Breaks off when they are of another protocol,
    /// which is counted as one rejected line.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        rules: &Rules,
        batch: &mut impl LineHandler,
    ) -> ControlFlow<()> {
        match self {
            Self::Lines(lines) | Self::Statsd(lines) => lines.feed(bytes, rules, batch),
            Self::Pickles(pickles) => pickles.feed(bytes, rules, batch),
        }
    }

    /// How many of the last bytes must not stay where they were read, since they
    /// may hold our key: they are kept here until the rest comes, or nobody has
    /// looked at them.
    pub fn unseen(&self) -> usize {
        match self {
            Self::Lines(lines) | Self::Statsd(lines) => lines.unfinished(),
            // What a frame holds that is skipped, or refused as a whole.
            Self::Pickles(_) => usize::MAX,
        }
    }

    /// Bytes that are allocated for what is kept until the rest of it comes.
    pub fn held(&self) -> usize {
        let bytes = match self {
            Self::Lines(lines) | Self::Statsd(lines) => lines.held(),
            Self::Pickles(pickles) => pickles.held(),
        };
        if bytes == 0 { 0 } else { os::allocated(bytes) }
    }

    /// Drops what is kept. It counts as truncated; its rest is skipped when it comes.
    pub fn shed(&mut self, rules: &Rules, batch: &mut impl LineHandler) {
        match self {
            Self::Lines(lines) | Self::Statsd(lines) => lines.shed(rules, batch),
            Self::Pickles(pickles) => pickles.shed(rules, batch),
        }
    }

    /// The stream ended.
    pub fn finish(self, ending: Ending, rules: &Rules, batch: &mut impl LineHandler) {
        match self {
            Self::Lines(lines) | Self::Statsd(lines) => lines.finish(ending, rules, batch),
            // Half a frame is of no use, however it came to be half.
            Self::Pickles(pickles) => pickles.finish(rules, batch),
        }
    }
}

/// Takes one datagram, which may have been cut by the buffer that it was received
/// in.
pub fn datagram(
    protocol: Protocol,
    bytes: &[u8],
    truncated: bool,
    rules: &Rules,
    batch: &mut impl LineHandler,
) {
    match protocol {
        Protocol::Lines | Protocol::Statsd => lines::datagram(bytes, truncated, rules, batch),
        Protocol::Pickle => {
            // No key of the configuration asks for it.
            let hint = "the pickle protocol is spoken over TCP";
            batch.reject(Reject::new(RejectReason::Protocol, 0, hint), bytes, rules);
        }
    }
}
