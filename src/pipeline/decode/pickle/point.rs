//! A point of a pickle as a line: `(name, (timestamp, value))`, as tuples or
//! lists.
//!
//! A field that could break out of its place in the line is refused here; all
//! else is left to the rules that hold for every line.

use zeroize::Zeroizing;

use crate::pipeline::line::Reject;
use crate::stats::RejectReason;

use super::machine::{Unpickled, Value};
use super::text;

/// Bytes that are read and written for the points of one frame, for each of its own and
/// in total. A frame can name the same long text a hundred thousand times, and all other
/// clients wait while it is read; points that share a name of 800 bytes pass.
const WORK_A_BYTE: usize = 64;
const MAX_WORK: usize = 16 << 20;

const NO_VALUE: &str = "not a number; write a float, a whole number, or its text";
const NO_TIMESTAMP: &str = "not a time; write whole seconds since 1970, or -1 for now";

/// Writes the points of one frame, one after the other, into one buffer that is
/// never moved and zeroed in the end: a client may write our key.
pub struct Writer<'a> {
    unpickled: &'a Unpickled<'a>,
    /// The longest line.
    limit: usize,
    line: Zeroizing<Vec<u8>>,
    /// Bytes that may still be read and written.
    work: usize,
}

impl<'a> Writer<'a> {
    /// Writes points as lines of at most this number of bytes.
    pub fn new(unpickled: &'a Unpickled<'a>, limit: usize) -> Self {
        Self {
            unpickled,
            limit,
            line: Zeroizing::new(Vec::with_capacity(limit + 1 + text::MAX_OVERRUN)),
            work: (WORK_A_BYTE * unpickled.length()).min(MAX_WORK),
        }
    }

    /// The point that was looked at last, as far as it was looked at.
    pub fn line(&self) -> &[u8] {
        &self.line
    }

    /// Writes a point as `name value timestamp`.
    pub fn write(&mut self, point: Value) -> Result<(), Reject> {
        self.line.clear();
        if self.work == 0 {
            let hint = "the points of this frame come to too much, by its size or over 16 MiB; write fewer into one";
            return Err(Reject::new(RejectReason::TooLong, 0, hint));
        }
        let parts = self
            .unpickled
            .pair(point)
            .and_then(|[name, inner]| Some((name, self.unpickled.pair(inner)?)));
        let Some((name, [timestamp, value])) = parts else {
            let hint = "no point; write (name, (timestamp, value))";
            return Err(Reject::new(RejectReason::Fields, 0, hint));
        };
        self.name(name)?;
        self.number(value, RejectReason::Value, NO_VALUE)?;
        self.number(timestamp, RejectReason::Timestamp, NO_TIMESTAMP)
    }

    fn name(&mut self, name: Value) -> Result<(), Reject> {
        let reject = |reason, at, hint| Err(Reject::new(reason, at, hint));
        if !self.append(name)? {
            return reject(RejectReason::Name, 0, "the name is no text");
        }
        if self.line.is_empty() {
            let hint = "empty name; write at least one node, such as app.requests";
            return reject(RejectReason::Name, 0, hint);
        }
        let odd = |byte: &u8| *byte == b' ' || byte.is_ascii_control();
        match self.line.iter().position(odd) {
            Some(at) if matches!(self.line[at], b' ' | b'\t') => {
                reject(RejectReason::Name, at, "white space; use _ in names")
            }
            Some(at) => reject(RejectReason::Encoding, at, "control character"),
            None => Ok(()),
        }
    }

    /// A number, or its text, behind a blank.
    fn number(
        &mut self,
        number: Value,
        reason: RejectReason,
        hint: &'static str,
    ) -> Result<(), Reject> {
        self.line.push(b' ');
        let start = self.line.len();
        let is_leaf = self.append(number)?;
        // Python's `float` takes blanks at both ends.
        let trimmed = self.line[start..].trim_ascii_end().len();
        self.line.truncate(start + trimmed);
        let blanks = trimmed - self.line[start..].trim_ascii_start().len();
        self.line.drain(start..start + blanks);
        let field = &self.line[start..];
        let breaks_out = |byte: &u8| *byte == b' ' || byte.is_ascii_control();
        if !is_leaf || field.is_empty() || field.iter().any(breaks_out) {
            return Err(Reject::new(reason, start, hint));
        }
        Ok(())
    }

    /// Whether the value has a text, which is now in the line.
    fn append(&mut self, value: Value) -> Result<bool, Reject> {
        let Some((leaf, length)) = self.unpickled.leaf(value) else {
            return Ok(false);
        };
        let before = self.line.len();
        let room = (self.limit + 1).saturating_sub(before);
        let has_text = text::append(leaf, room, &mut self.line);
        let work = length + self.line.len() - before;
        self.work = self.work.saturating_sub(work);
        if self.line.len() > self.limit {
            return Err(Reject::too_long(self.limit));
        }
        Ok(has_text)
    }
}
