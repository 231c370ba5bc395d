//! One client's stream, from its first byte to its end, or one datagram, in the
//! dialect of its listener: no I/O.

use std::ops::ControlFlow;

use crate::pipeline::line::Rules;
use crate::pipeline::pack::Intake;

use super::dialect::Dialect;
use super::lines::{self, Lines};

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
}

impl Client {
    /// A stream that has brought nothing yet.
    pub fn new(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Lines => Self::Lines(Lines::default()),
        }
    }

    /// Takes the next bytes. Breaks off when they are of another protocol,
    /// which is counted as one rejected line.
    pub fn feed(&mut self, bytes: &[u8], rules: &Rules, pack: &mut impl Intake) -> ControlFlow<()> {
        match self {
            Self::Lines(lines) => lines.feed(bytes, rules, pack),
        }
    }

    /// How many of the last bytes belong to something that is not finished, and
    /// are kept here until it is.
    pub fn unfinished(&self) -> usize {
        match self {
            Self::Lines(lines) => lines.unfinished(),
        }
    }

    /// The stream ended.
    pub fn finish(self, ending: Ending, rules: &Rules, pack: &mut impl Intake) {
        match self {
            Self::Lines(lines) => lines.finish(ending, rules, pack),
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
        Dialect::Lines => lines::datagram(bytes, truncated, rules, pack),
    }
}
