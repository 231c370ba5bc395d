//! What one read yielded, packed: the accepted lines end to end, without the
//! key, and the tally of those rejected.
//!
//! In: raw lines. Out: one push to the queue a read, so that the queue's lock
//! is taken once a read and never once a line.

use std::time::{SystemTime, UNIX_EPOCH};

use memchr::memchr;

use crate::stats::RejectReason;

use super::line::plain::{self, Plain};
use super::line::{Line, Reject, Rules};

/// How much of a rejected line is kept for the log.
const SAMPLE_BYTES: usize = 200;

/// What takes the raw lines of a read: the daemon packs them, `explain` tells
/// about them.
pub trait Intake {
    /// A raw line, without its newline.
    fn add(&mut self, raw: &[u8], rules: &Rules);

    /// A line that never became one: cut, too long, no line at all.
    fn reject(&mut self, reject: Reject, raw: &[u8], rules: &Rules);

    /// Raw lines, each with its newline.
    fn add_lines(&mut self, lines: &[u8], rules: &Rules) {
        for line in lines
            .strip_suffix(b"\n")
            .unwrap_or(lines)
            .split(|byte| *byte == b'\n')
        {
            self.add(line, rules);
        }
    }
}

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

    /// Adds raw lines, each with its newline.
    pub fn add_lines(&mut self, mut lines: &[u8], rules: &Rules) {
        // Lines to be stored as they are gather here, and are copied together.
        let mut run = 0;
        while run < lines.len() {
            match plain::first(&lines[run..], rules) {
                Plain::Timed(length) => {
                    run += length;
                    self.lines += 1;
                    continue;
                }
                Plain::Timeless(length) => {
                    self.bytes.extend_from_slice(&lines[..run + length - 1]);
                    self.bytes.push(b' ');
                    self.bytes.extend_from_slice(self.receipt.as_bytes());
                    self.bytes.push(b'\n');
                    self.lines += 1;
                    lines = &lines[run + length..];
                }
                Plain::No => {
                    self.bytes.extend_from_slice(&lines[..run]);
                    lines = &lines[run..];
                    let end = memchr(b'\n', lines).unwrap_or(lines.len());
                    self.add(&lines[..end], rules);
                    lines = lines.get(end + 1..).unwrap_or_default();
                }
            }
            run = 0;
        }
        self.bytes.extend_from_slice(&lines[..run]);
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

impl Intake for Pack {
    fn add(&mut self, raw: &[u8], rules: &Rules) {
        Self::add(self, raw, rules);
    }

    fn reject(&mut self, reject: Reject, raw: &[u8], rules: &Rules) {
        Self::reject(self, reject, raw, rules);
    }

    fn add_lines(&mut self, lines: &[u8], rules: &Rules) {
        Self::add_lines(self, lines, rules);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{ApiKey, NameRule};

    /// What a pack holds, in a form to be compared.
    fn outcome(add: impl FnOnce(&mut Pack, &Rules)) -> (String, u64, Vec<(RejectReason, u64)>) {
        let rules = Rules {
            names: NameRule::Any,
            max_line_bytes: 40,
            key: ApiKey::parse("key").unwrap().into(),
        };
        let mut pack = Pack::default();
        pack.begin(UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000));
        add(&mut pack, &rules);
        let bytes = String::from_utf8(pack.bytes().to_vec()).unwrap();
        (bytes, pack.lines(), pack.rejected().collect())
    }

    proptest! {
        /// Whatever passes at a glance is what a close look makes of it.
        #[test]
        fn lines_together_are_as_lines_one_by_one(
            lines in proptest::collection::vec(
                prop_oneof![
                    "[a-c;.é\t ]{0,5}( |  |\t)[-+0-9.eE]{0,5}( [0-9]{9,11}|)(|\r| )",
                    "(key.|)[a-c]{1,3}\\.[a-c]{1,3} -?[0-9]{1,9}(\\.[0-9]{0,3}|) 1[0-9]{9}",
                    "[a-c]{30,45} [0-9] 1[0-9]{9}",
                    "[a-z.]{1,20} [0-9]{1,3}",
                    "[ -~]{0,45}",
                ],
                0..20,
            )
        ) {
            let together = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
            prop_assert_eq!(
                outcome(|pack, rules| pack.add_lines(together.as_bytes(), rules)),
                outcome(|pack, rules| lines.iter().for_each(|line| pack.add(line.as_bytes(), rules)))
            );
        }
    }
}
