//! One client's stream, from its first byte to its end, or one datagram, in the
//! dialect of its listener: no I/O.

use std::ops::ControlFlow;

use crate::os;
use crate::pipeline::line::{Reject, Rules};
use crate::pipeline::pack::Intake;
use crate::stats::RejectReason;

use super::dialect::Dialect;
use super::lines::{self, Lines};
use super::pickle::Pickles;

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
pub enum Client {
    /// Graphite's plain lines.
    Lines(Lines),
    /// StatsD's lines, cut and told from other protocols in the same way.
    Statsd(Lines),
    /// Frames of carbon's pickle protocol.
    Pickles(Pickles),
}

impl Client {
    /// A stream that has brought nothing yet.
    pub fn new(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Lines => Self::Lines(Lines::default()),
            Dialect::Statsd => Self::Statsd(Lines::default()),
            Dialect::Pickle => Self::Pickles(Pickles::default()),
        }
    }

    /// Whether what it brings are samples, to be aggregated.
    pub fn brings_samples(&self) -> bool {
        matches!(self, Self::Statsd(_))
    }

    /// Takes the next bytes. Breaks off when they are of another protocol,
    /// which is counted as one rejected line.
    pub fn feed(&mut self, bytes: &[u8], rules: &Rules, pack: &mut impl Intake) -> ControlFlow<()> {
        match self {
            Self::Lines(lines) | Self::Statsd(lines) => lines.feed(bytes, rules, pack),
            Self::Pickles(pickles) => pickles.feed(bytes, rules, pack),
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
    pub fn shed(&mut self, rules: &Rules, pack: &mut impl Intake) {
        match self {
            Self::Lines(lines) | Self::Statsd(lines) => lines.shed(rules, pack),
            Self::Pickles(pickles) => pickles.shed(rules, pack),
        }
    }

    /// The stream ended.
    pub fn finish(self, ending: Ending, rules: &Rules, pack: &mut impl Intake) {
        match self {
            Self::Lines(lines) | Self::Statsd(lines) => lines.finish(ending, rules, pack),
            // Half a frame is of no use, however it came to be half.
            Self::Pickles(pickles) => pickles.finish(rules, pack),
        }
    }
}

/// Takes one datagram, which may have been cut by the buffer that it was received
/// in.
pub fn datagram(
    dialect: Dialect,
    bytes: &[u8],
    truncated: bool,
    rules: &Rules,
    pack: &mut impl Intake,
) {
    match dialect {
        Dialect::Lines | Dialect::Statsd => lines::datagram(bytes, truncated, rules, pack),
        Dialect::Pickle => {
            // No key of the configuration asks for it.
            let hint = "the pickle protocol is spoken over TCP";
            pack.reject(Reject::new(RejectReason::Protocol, 0, hint), bytes, rules);
        }
    }
}
