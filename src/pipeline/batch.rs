//! What one read yielded, packed: the accepted lines end to end, without the
//! key, and the tally of those rejected, or folded into aggregates.
//!
//! In: raw lines. Out: one push to the queue a read, so that the queue's lock
//! is taken once a read and never once a line.

use std::time::{SystemTime, UNIX_EPOCH};

use memchr::memchr;

use crate::config::mask_uuids_in;
use crate::format::is_deceptive;
use crate::stats::RejectReason;

use super::line::plain::{self, Plain};
use super::line::{Line, Reject, Rules};

/// Larger batches are handed to the queue in pieces.
pub const BYTES_A_PUSH: usize = 256 << 10;

/// How much of a rejected line is kept for the log.
const SAMPLE_BYTES: usize = 200;

/// How much of that is shown to whoever asks over the network.
const EXCERPT_BYTES: usize = 80;

/// Memory that is kept for the lines of the next read.
const KEPT_BYTES: usize = 128 << 10;

/// What takes the raw lines of a read: the daemon packs them, `explain` tells
/// about them.
pub trait LineHandler {
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
pub struct Batch {
    bytes: Vec<u8>,
    lines: u64,
    rejected: [u64; RejectReason::ALL.len()],
    aggregated: u64,
    no_room: u64,
    samples: Vec<Sample>,
    receipt: String,
    carried_key: bool,
}

/// The first line of a read that was rejected for a reason, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Why it was rejected.
    pub reject: Reject,
    /// Its first 200 bytes, the key masked.
    pub line: Vec<u8>,
}

impl Sample {
    /// Its beginning, such that it can be shown anywhere: in a few bytes, without
    /// control characters and those that change the direction of what follows.
    /// Of other protocols, which have headers, the first line.
    pub fn excerpt(&self) -> String {
        let mut line = self.line.clone();
        mask_uuids_in(&mut line);
        let text = String::from_utf8_lossy(&line);
        let text = match self.reject.reason {
            RejectReason::Protocol => text.split(['\r', '\n']).next().unwrap_or_default(),
            _ => &text,
        };
        let mut excerpt = String::with_capacity(EXCERPT_BYTES + 3);
        for character in text.chars() {
            let before = excerpt.len();
            if is_deceptive(character) {
                excerpt.extend(character.escape_default());
            } else {
                excerpt.push(character);
            }
            if excerpt.len() > EXCERPT_BYTES {
                excerpt.truncate(before);
                excerpt.push('…');
                break;
            }
        }
        excerpt
    }
}

impl Batch {
    /// Empties the batch for the next read, whose lines are stamped `now` where
    /// they have no time of their own. Keeps the memory.
    pub fn reset(&mut self, now: SystemTime) {
        self.clear();
        self.carried_key = false;
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.receipt.clear();
        self.receipt.push_str(itoa::Buffer::new().format(seconds));
    }

    /// Empties the batch, and gives back what a rare large read has taken.
    pub fn shrink(&mut self) {
        self.clear();
        self.bytes.shrink_to(KEPT_BYTES);
    }

    /// Empties the batch, which was pushed, for more lines of the same read.
    pub fn clear(&mut self) {
        self.carried_key = self.carried_key();
        self.bytes.clear();
        self.lines = 0;
        self.rejected = Default::default();
        self.aggregated = 0;
        self.no_room = 0;
        self.samples.clear();
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
        let lines = &mut self.rejected[reject.reason as usize];
        *lines += 1;
        if *lines == 1 {
            // Masked before it is cut, or half a key would be left at the end.
            let mut line = raw[..raw.len().min(SAMPLE_BYTES + rules.key.longest())].to_vec();
            rules.key.mask(&mut line);
            line.truncate(SAMPLE_BYTES);
            self.samples.push(Sample { reject, line });
        }
    }

    /// Counts values that are part of an aggregate, or of another value, now.
    pub fn note_aggregated(&mut self, values: u64) {
        self.aggregated += values;
    }

    /// Counts a value for which no aggregate had room.
    pub fn note_no_room(&mut self) {
        self.no_room += 1;
    }

    /// Adds a line that was made of what a client wrote, with its newline.
    pub fn add_made(&mut self, line: &[u8]) {
        self.bytes.extend_from_slice(line);
        self.lines += 1;
    }

    /// A client wrote our key into this read.
    pub fn note_key(&mut self) {
        self.carried_key = true;
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

    /// How many values are part of aggregates.
    pub fn aggregated(&self) -> u64 {
        self.aggregated
    }

    /// How many values no aggregate had room for.
    pub fn no_room(&self) -> u64 {
        self.no_room
    }

    /// The first line that was rejected for each reason that occurred.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Whether a client wrote our key into this read, whose buffer should then
    /// not keep it.
    pub fn carried_key(&self) -> bool {
        self.carried_key || !self.samples.is_empty()
    }

    /// Whether the read left nothing to account for.
    pub fn is_empty(&self) -> bool {
        self.lines + self.aggregated + self.no_room == 0 && self.samples.is_empty()
    }
}

impl LineHandler for Batch {
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

    /// What a batch holds, in a form to be compared.
    fn outcome(add: impl FnOnce(&mut Batch, &Rules)) -> (String, u64, Vec<(RejectReason, u64)>) {
        let rules = Rules {
            names: NameRule::Any,
            max_line_bytes: 40,
            key: ApiKey::parse("key").unwrap().into(),
        };
        let mut batch = Batch::default();
        batch.reset(UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000));
        add(&mut batch, &rules);
        let bytes = String::from_utf8(batch.bytes().to_vec()).unwrap();
        (bytes, batch.lines(), batch.rejected().collect())
    }

    #[test]
    fn an_excerpt_is_short_and_printable() {
        let excerpt = |reason, line: &[u8]| {
            let reject = Reject::new(reason, 0, "");
            let line = line.to_vec();
            Sample { reject, line }.excerpt()
        };
        for (line, shown) in [
            (&b"a <script> 1"[..], "a <script> 1"),
            (b"a\x1b[31m\t\x00 x", "a\\u{1b}[31m\\t\\u{0} x"),
            ("a.é 1\u{202e}2".as_bytes(), "a.é 1\\u{202e}2"),
            (b"a\xff 1", "a\u{fffd} 1"),
            (b"6f1c2a9e-0d4b-4c57-9a3e-5b8e7d2f1a60.a x", "<key>.a x"),
        ] {
            assert_eq!(excerpt(RejectReason::Value, line), shown);
        }
        let long = excerpt(RejectReason::Value, &[b'x'; 200]);
        assert_eq!(long, format!("{}…", "x".repeat(EXCERPT_BYTES)));
        assert!(excerpt(RejectReason::Encoding, &[1; 200]).len() < EXCERPT_BYTES + 4);
        let http = b"GET / HTTP/1.1\r\nAuthorization: Basic x\r\n";
        assert_eq!(excerpt(RejectReason::Protocol, http), "GET / HTTP/1.1");
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
                outcome(|batch, rules| batch.add_lines(together.as_bytes(), rules)),
                outcome(|batch, rules| lines.iter().for_each(|line| batch.add(line.as_bytes(), rules)))
            );
        }
    }
}
