//! A run of stored lines: the unit that waits, is lent and is dropped.

use std::ops::Range;
use std::time::{Duration, Instant};

use memchr::memchr_iter;

use crate::os;

use super::checkpoint::codec::{Fields, put};

/// Where a block stands among all blocks; older ones are lower. Blocks that
/// were one keep its number and are told apart by the second.
pub type Place = (u64, u64);

/// The smallest buffer that an open block begins with.
const FIRST_BYTES: usize = 4096;

/// Lines end to end, without the key, each with its newline.
#[derive(Debug)]
pub struct Block {
    /// Its place among all blocks.
    pub place: Place,
    /// When the first of its lines that are left arrived.
    pub opened: Instant,
    /// When the last of them did.
    latest: Instant,
    /// Not to be compressed: it was, and is about to be lent, or it becomes no
    /// smaller.
    pub stays_loose: bool,
    /// How many of [`Block::bytes`] may have reached a socket before.
    touched: usize,
    /// How many of [`Block::bytes`] were acknowledged on a connection before,
    /// and may still have died with the peer.
    acknowledged: usize,
    bytes: Vec<u8>,
    /// Where the lines that are still to be delivered begin.
    start: usize,
    lines: u64,
}

impl Block {
    /// An empty block that reuses a buffer.
    pub fn open(number: u64, now: Instant, mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Self {
            place: (number, 0),
            opened: now,
            latest: now,
            stays_loose: false,
            touched: 0,
            acknowledged: 0,
            bytes: buffer,
            start: 0,
            lines: 0,
        }
    }

    /// The lines that are still to be delivered.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// How many lines are still to be delivered.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Whether nothing is left to deliver.
    pub fn is_empty(&self) -> bool {
        self.lines == 0
    }

    /// The memory that it holds, as the allocator sees it.
    pub fn allocated(&self) -> usize {
        Self::allocated_for(self.bytes.capacity())
    }

    /// What a new block with this buffer would hold.
    pub fn allocated_for(capacity: usize) -> usize {
        os::allocated(capacity) + size_of::<Self>()
    }

    /// What is to be remembered of it while its lines are compressed.
    pub fn part(&self) -> Part {
        Part {
            place: self.place,
            opened: self.opened,
            latest: self.latest,
            touched: self.touched,
            acknowledged: self.acknowledged,
            bytes: self.bytes().len(),
            lines: self.lines,
        }
    }

    /// The block that a part was, with its lines again.
    pub fn restore(part: &Part, bytes: Vec<u8>) -> Self {
        Self {
            place: part.place,
            opened: part.opened,
            latest: part.latest,
            stays_loose: true,
            touched: part.touched,
            acknowledged: part.acknowledged,
            bytes,
            start: 0,
            lines: part.lines,
        }
    }

    /// The block that a part was in another process, waiting again.
    pub fn read_back(part: &Part, bytes: Vec<u8>) -> Option<Self> {
        let is_whole = bytes.len() == part.bytes && count_lines(&bytes) == part.lines;
        is_whole.then(|| Self {
            stays_loose: false,
            ..Self::restore(part, bytes)
        })
    }

    /// The capacity that holding `more` bytes takes. Grows by three eighths, so that
    /// a trickle never costs half more than its bytes, and to `full` at most, as
    /// long as the lines fit.
    pub fn capacity_for(&self, more: usize, full: usize) -> usize {
        let needed = self.bytes.len() + more;
        if needed <= self.bytes.capacity() {
            return self.bytes.capacity();
        }
        let grown = (self.bytes.capacity() / 8 * 11).max(FIRST_BYTES).min(full);
        grown.max(needed)
    }

    /// Appends whole lines, in a buffer of the given capacity.
    pub fn append(&mut self, lines: &[u8], count: u64, capacity: usize, now: Instant) {
        self.latest = now;
        self.bytes.reserve_exact(capacity - self.bytes.len());
        self.bytes.extend_from_slice(lines);
        self.lines += count;
    }

    /// Takes lines off the front: those in the first `bytes` bytes, which end
    /// with a newline. Says how many there were.
    pub fn settle(&mut self, bytes: usize) -> u64 {
        let settled = if bytes == self.bytes().len() {
            self.lines
        } else {
            count_lines(&self.bytes()[..bytes])
        };
        self.start += bytes;
        self.touched = self.touched.saturating_sub(bytes);
        self.acknowledged = self.acknowledged.saturating_sub(bytes);
        self.opened = self.arrival(settled);
        self.lines -= settled;
        settled
    }

    /// About when the line with this number among those that are left arrived:
    /// as if they had come evenly.
    fn arrival(&self, line: u64) -> Instant {
        let took = self.latest.saturating_duration_since(self.opened);
        if took.is_zero() || line >= self.lines {
            return self.latest;
        }
        #[expect(clippy::cast_precision_loss, reason = "an estimate anyway")]
        let part = line as f64 / self.lines as f64;
        self.opened + took.mul_f64(part)
    }

    /// These bytes, whole lines, are handed to a socket. Says how many of their
    /// lines may have reached one before.
    pub fn send(&mut self, range: Range<usize>) -> u64 {
        let again = range.start..range.end.min(self.touched).max(range.start);
        self.touched = self.touched.max(range.end);
        count_lines(&self.bytes()[again])
    }

    /// Whether none of its lines can have reached a socket.
    pub fn is_untouched(&self) -> bool {
        self.touched == 0
    }

    /// The first `end` bytes are acknowledged. Whether they all were before.
    pub fn acknowledge(&mut self, end: usize) -> bool {
        let before = self.acknowledged;
        self.acknowledged = before.max(end);
        end <= before
    }

    /// Cuts the lines from `at` on off, into a block that follows this one.
    #[must_use]
    pub fn split_off(&mut self, at: usize) -> Self {
        let bytes = self.bytes()[at..].to_vec();
        let before = count_lines(&self.bytes()[..at]);
        let parted = self.arrival(before);
        let rest = Self {
            place: (self.place.0, self.place.1 + before),
            opened: parted,
            latest: self.latest,
            stays_loose: self.stays_loose,
            touched: self.touched.saturating_sub(at),
            acknowledged: self.acknowledged.saturating_sub(at),
            start: 0,
            lines: self.lines - before,
            bytes,
        };
        self.latest = parted;
        self.bytes.truncate(self.start + at);
        self.touched = self.touched.min(at);
        self.acknowledged = self.acknowledged.min(at);
        self.lines -= rest.lines;
        rest
    }

    /// Gives memory back that a waiting block does not need. A full one keeps
    /// its buffer, which is then of the size for the next.
    pub fn shrink(&mut self) {
        self.bytes.drain(..self.start);
        self.start = 0;
        let unused = self.bytes.capacity() - self.bytes.len();
        if unused > self.bytes.capacity() / 8 {
            self.bytes.shrink_to_fit();
        }
    }

    /// The buffer, for the next block.
    pub fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }
}

/// A block without its lines.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// [`Block::place`].
    pub place: Place,
    /// Length of [`Block::bytes`].
    pub bytes: usize,
    /// [`Block::lines`].
    pub lines: u64,
    opened: Instant,
    latest: Instant,
    touched: usize,
    acknowledged: usize,
}

impl Part {
    /// Writes it into an image. Instants mean nothing to another process: the
    /// ages go in.
    pub fn write(&self, now: Instant, out: &mut Vec<u8>) {
        let age = |arrival| {
            let age = now.saturating_duration_since(arrival).as_millis();
            u64::try_from(age).unwrap_or(u64::MAX)
        };
        put(out, self.place.0);
        put(out, self.place.1);
        put(out, age(self.opened));
        put(out, age(self.latest));
        put(out, self.touched as u64);
        put(out, self.acknowledged as u64);
        put(out, self.bytes as u64);
        put(out, self.lines);
    }

    /// Reads it from an image. Its place follows those that are given out.
    pub fn read(fields: &mut Fields, now: Instant, first_number: u64) -> Option<Self> {
        let number = fields.number()?.checked_add(first_number)?;
        let place = (number, fields.number()?);
        let mut arrival = || {
            let age = Duration::from_millis(fields.number()?);
            Some(now.checked_sub(age).unwrap_or(now))
        };
        let (opened, latest) = (arrival()?, arrival()?);
        let part = Self {
            place,
            opened,
            latest,
            touched: fields.length()?,
            acknowledged: fields.length()?,
            bytes: fields.length()?,
            lines: fields.number()?,
        };
        let is_possible = part.touched <= part.bytes && part.acknowledged <= part.bytes;
        is_possible.then_some(part)
    }
}

/// How many lines a run of whole lines holds.
pub fn count_lines(bytes: &[u8]) -> u64 {
    memchr_iter(b'\n', bytes).count() as u64
}
