//! What one read yielded, packed: the accepted lines end to end, without the
//! key, and the tally of those rejected.
//!
//! In: raw lines. Out: one push to the queue a read, so that the queue's lock
//! is taken once a read and never once a line.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::stats::RejectReason;

use super::line::{Line, Reject, Rules};

/// How much of a rejected line is kept for the log.
const SAMPLE_BYTES: usize = 200;

/// The lines of one read.
#[derive(Debug, Default)]
pub struct Pack {
    bytes: Vec<u8>,
    lines: u64,
    rejected: [u64; RejectReason::ALL.len()],
    sample: Option<Sample>,
    receipt: String,
    carried_key: bool,
}

/// The first rejected line of a read, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Why it was rejected.
    pub reject: Reject,
    /// Its first 200 bytes, the key masked.
    pub line: Vec<u8>,
}

impl Pack {
    /// Empties the pack for the next read, whose lines are stamped `now` where
    /// they have no time of their own. Keeps the memory.
    pub fn begin(&mut self, now: SystemTime) {
        self.bytes.clear();
        self.lines = 0;
        self.rejected = Default::default();
        self.sample = None;
        self.carried_key = false;
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.receipt.clear();
        self.receipt.push_str(itoa::Buffer::new().format(seconds));
    }

    /// Adds a raw line, given without its newline. A blank one leaves no trace.
    pub fn add(&mut self, raw: &[u8], rules: &Rules) {
        match Line::parse(raw, rules) {
            Ok(Some(line)) => {
                line.write(self.receipt.as_bytes(), &mut self.bytes);
                self.lines += 1;
                self.carried_key |= line.carried_key();
            }
            Ok(None) => {}
            Err(reject) => self.reject(reject, raw, rules),
        }
    }

    /// Counts a line that never became one: cut, too long, no line at all.
    pub fn reject(&mut self, reject: Reject, raw: &[u8], rules: &Rules) {
        self.rejected[reject.reason as usize] += 1;
        if self.sample.is_none() {
            // Masked before it is cut, or half a key would be left at the end.
            let mut line = raw[..raw.len().min(SAMPLE_BYTES + rules.key.longest())].to_vec();
            rules.key.mask(&mut line);
            line.truncate(SAMPLE_BYTES);
            self.sample = Some(Sample { reject, line });
        }
    }

    /// The accepted lines, each with its newline.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many lines were accepted.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// How many lines were rejected, for each reason that occurred.
    pub fn rejected(&self) -> impl Iterator<Item = (RejectReason, u64)> {
        RejectReason::ALL
            .into_iter()
            .map(|reason| (reason, self.rejected[reason as usize]))
            .filter(|(_, lines)| *lines > 0)
    }

    /// The first rejected line.
    pub fn take_sample(&mut self) -> Option<Sample> {
        self.sample.take()
    }

    /// Whether a client wrote our key into this read, whose buffer should then
    /// not keep it.
    pub fn carried_key(&self) -> bool {
        self.carried_key || self.sample.is_some()
    }

    /// Whether a line was rejected.
    pub fn has_sample(&self) -> bool {
        self.sample.is_some()
    }

    /// Whether the read left nothing to account for.
    pub fn is_empty(&self) -> bool {
        self.lines == 0 && self.sample.is_none()
    }
}
