//! How the process ends.

use std::process::ExitCode;

/// The exit code; sysexits(3) where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything asked for was done, or dropped and said so.
    Done = 0,
    /// A question was asked, and the answer is no: a line that would be
    /// rejected, a daemon that does not answer.
    No = 1,
    /// The command line cannot be used.
    Usage = 64,
    /// The upstream cannot be used, as `probe` found out.
    Unavailable = 69,
    /// A defect of ours: a task died.
    Defect = 70,
    /// A socket cannot be bound.
    Bind = 71,
    /// The configuration cannot be used.
    Configuration = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
