//! One line, from the bytes that a client wrote to what may be stored.
//!
//! ```text
//!     servers.web1.load;dc=fra   0.75   1700000000  \r
//!     ^^^^^^^^^^^^^^^^^ ^^^^^^   ^^^^   ^^^^^^^^^^
//!     path              tags     value  timestamp, may be absent
//! ```
//!
//! In: the bytes between two newlines. Out: a [`Line`], nothing for a blank
//! line, or a [`Reject`] that says why and where. The specification is
//! docs/reference/lines.md; its rows are the tests below.
//! Splitting a stream into lines is left to `decode/split.rs`.

pub mod name;
pub mod number;
pub mod plain;

use std::ops::Range;

use crate::config::{NameRule, OwnKeys};
use crate::stats::RejectReason;

use name::Name;
pub use name::is_documented;
pub use number::Timestamp;

/// What the configuration says about lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Which names pass.
    pub names: NameRule,
    /// Longer lines are rejected; bytes, without the newline.
    pub max_line_bytes: usize,
    /// Our own key, stripped from names that carry it already.
    pub key: OwnKeys,
}

/// A line that may be stored: every field is valid and no byte of it can break
/// out of its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    name: Name<'a>,
    value: &'a [u8],
    timestamp: Timestamp,
}

/// Why a line was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reject {
    /// The account that it goes to.
    pub reason: RejectReason,
    /// Offset of the deciding byte in the line as it was written.
    pub at: usize,
    /// What is wrong, and what to write instead.
    pub hint: &'static str,
}

impl<'a> Line<'a> {
    /// Reads one line, given without its newline. `None` is a blank line.
    pub fn parse(raw: &'a [u8], rules: &Rules) -> Result<Option<Self>, Reject> {
        if raw.len() > rules.max_line_bytes {
            return Err(Reject::too_long(rules.max_line_bytes));
        }
        let content = content(raw);
        let mut fields = Fields {
            raw: &raw[..content.end],
            at: content.start,
        };
        let Some((name_at, name)) = fields.next() else {
            return Ok(None);
        };
        check_encoding(raw)?;
        let Some((value_at, value)) = fields.next() else {
            return Err(Reject::new(
                RejectReason::Fields,
                name_at + name.len(),
                "no value; write name value [timestamp]",
            ));
        };
        let timestamp = fields.next();
        if let Some((at, _)) = fields.next() {
            return Err(Reject::new(
                RejectReason::Fields,
                at,
                "more than three fields; write name value [timestamp], without blanks in the name",
            ));
        }

        let name = name::check(name, rules)
            .map_err(|bad| Reject::new(RejectReason::Name, name_at + bad.at, bad.hint))?;
        match number::value(value) {
            number::Value::Finite => {}
            number::Value::NotFinite => {
                return Err(Reject::new(
                    RejectReason::NotFinite,
                    value_at,
                    "not a finite number; leave such points out",
                ));
            }
            number::Value::NotANumber => {
                return Err(Reject::new(
                    RejectReason::Value,
                    value_at,
                    "not a number; write digits such as 42, -0.5 or 1e-7",
                ));
            }
        }
        let timestamp = match timestamp {
            None => Timestamp::Receipt,
            Some((at, text)) => number::timestamp(text)
                .map_err(|hint| Reject::new(RejectReason::Timestamp, at, hint))?,
        };
        Ok(Some(Self {
            name,
            value,
            timestamp,
        }))
    }

    /// Whether the client wrote our own key before the name.
    pub fn carried_key(&self) -> bool {
        self.name.carried_key
    }

    /// Appends `name value timestamp\n`. A line without a time of its own gets
    /// `receipt`, in seconds since 1970, as text.
    pub fn write(&self, receipt: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.name.text);
        out.push(b' ');
        out.extend_from_slice(self.value);
        out.push(b' ');
        match self.timestamp {
            Timestamp::At(seconds) => {
                out.extend_from_slice(itoa::Buffer::new().format(seconds).as_bytes());
            }
            Timestamp::Receipt => out.extend_from_slice(receipt),
        }
        out.push(b'\n');
    }
}

impl Reject {
    /// A rejection at a byte of the line.
    pub fn new(reason: RejectReason, at: usize, hint: &'static str) -> Self {
        Self { reason, at, hint }
    }

    /// The line is over the limit.
    pub fn too_long(limit: usize) -> Self {
        Self::new(
            RejectReason::TooLong,
            limit,
            "longer than listen.max_line_bytes",
        )
    }
}

/// Where the content of a line begins and ends. Around it may stand blanks, carriage
/// returns, and NULs: C programs that send `strlen + 1` bytes end a datagram with one, or
/// begin the next line of a stream. A byte order mark, with which editors and some
/// runtimes begin a text, is not part of a name either.
pub fn content(raw: &[u8]) -> Range<usize> {
    const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
    let is_outer = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | 0);
    let end = raw.iter().rposition(|byte| !is_outer(byte));
    let end = end.map_or(0, |last| last + 1);
    let mut rest = &raw[..end];
    loop {
        let outer = rest.iter().position(|byte| !is_outer(byte));
        rest = &rest[outer.unwrap_or(0)..];
        match rest.strip_prefix(BYTE_ORDER_MARK) {
            Some(behind) => rest = behind,
            None => return end - rest.len()..end,
        }
    }
}

/// The fields of a line's content, with the offset of each. Blanks and tabs separate.
struct Fields<'a> {
    raw: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = (usize, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let start = self.at + self.raw[self.at..].iter().position(|byte| !blank(byte))?;
        let end = memchr::memchr2(b' ', b'\t', &self.raw[start..])
            .map_or(self.raw.len(), |length| start + length);
        self.at = end;
        Some((start, &self.raw[start..end]))
    }
}

/// Control characters and broken UTF-8 never pass. The C1 controls count:
/// Python's `splitlines` ends a line at U+0085.
pub fn check_encoding(raw: &[u8]) -> Result<(), Reject> {
    if raw.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t')) {
        return Ok(());
    }
    let content = content(raw);
    let start = content.start;
    let reject = |at, hint| Err(Reject::new(RejectReason::Encoding, start + at, hint));
    match std::str::from_utf8(&raw[content]) {
        Err(error) => reject(error.valid_up_to(), "bytes that are no UTF-8"),
        Ok(text) => match text.find(|c: char| c.is_control() && c != '\t') {
            Some(at) => reject(at, "control character"),
            None => Ok(()),
        },
    }
}

#[cfg(test)]
mod tests;
