//! Blocks that wait long, compressed together.
//!
//! ```text
//!   a.b 17 1700000000⏎        a.b ·c.d ·a.b ·        names
//!   c.d 4.5 1700000000⏎   ─▶  17 ·4.5 ·18 ·       values     ─▶ zstd, level 1
//!   a.b 18 1700000000⏎        1700000000⏎…           times
//! ```
//!
//! Names repeat, values hardly do. Told apart, the names of one round become
//! one long match with those of the round before, and the values' digits have
//! a code of their own: a third smaller than the same lines in one piece, and
//! faster (docs/queue.md). What a block was besides its lines is kept
//! beside it, so that it comes back as it went.

use std::fmt;
use std::io;
use std::time::Instant;

use memchr::memchr;
use zstd::bulk::{self, Decompressor};
use zstd::zstd_safe::compress_bound;

use crate::os;

use super::block::{Block, Part, Place};
use super::checkpoint::codec::{Fields, put};

/// Higher levels find little more in such text, at twice the time.
const LEVEL: i32 = 1;

/// What ends each of a line's fields.
const ENDS: [u8; 3] = [b' ', b' ', b'\n'];

/// Stands for the lengths of columns, in an image, where there are none.
const AS_LINES: u64 = u64::MAX;

/// Adjacent blocks, compressed. Never empty.
pub struct Frame {
    parts: Box<[Part]>,
    layout: Layout,
    compressed: Box<[u8]>,
}

/// How lines lie in a frame before it is compressed.
#[derive(Debug, Clone, Copy)]
enum Layout {
    /// All names, then all values, then all times.
    Columns {
        /// Bytes of the first column.
        names: usize,
        /// Bytes of the second.
        values: usize,
    },
    /// As they are.
    Lines,
}

/// A frame that is not what it was: memory has gone bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Corrupt;

/// The memory that compressing takes, to be used again.
pub struct Compressor {
    zstd: bulk::Compressor<'static>,
    columns: [Vec<u8>; 3],
    compressed: Vec<u8>,
}

/// The memory that expanding takes, to be used again.
pub struct Expander {
    zstd: Decompressor<'static>,
    source: Vec<u8>,
}

impl Expander {
    /// Allocates what zstd needs.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            zstd: Decompressor::new()?,
            source: Vec::new(),
        })
    }

    /// The blocks of a frame again.
    pub fn expand(&mut self, frame: &Frame) -> Result<Vec<Block>, Corrupt> {
        let bytes = frame.bytes();
        self.source.clear();
        self.source.reserve_exact(bytes);
        let found = self
            .zstd
            .decompress_to_buffer(&frame.compressed, &mut self.source);
        // A frame that is damaged may say that it is larger than it was.
        if !matches!(found, Ok(found) if found == bytes) {
            return Err(Corrupt);
        }
        frame.blocks_from(&self.source).ok_or(Corrupt)
    }
}

impl Compressor {
    /// Allocates what zstd needs.
    pub fn new() -> io::Result<Self> {
        let mut zstd = bulk::Compressor::new(LEVEL)?;
        zstd.include_checksum(true)?;
        Ok(Self {
            zstd,
            columns: Default::default(),
            compressed: Vec::new(),
        })
    }

    /// Compresses blocks that follow each other, the oldest first.
    pub fn compress(&mut self, blocks: &[Block]) -> io::Result<Frame> {
        let layout = self.lay_out(blocks);
        let [source, ..] = &self.columns;
        self.compressed.clear();
        self.compressed.reserve(compress_bound(source.len()));
        self.zstd.compress_to_buffer(source, &mut self.compressed)?;
        Ok(Frame {
            parts: blocks.iter().map(Block::part).collect(),
            layout,
            compressed: Box::from(self.compressed.as_slice()),
        })
    }

    /// How much smaller these lines become, without keeping them: compressed
    /// bytes a byte.
    pub fn density(&mut self, blocks: &[Block]) -> io::Result<f64> {
        let frame = self.compress(blocks)?;
        Ok(ratio(frame.compressed.len(), frame.bytes()))
    }

    /// Puts the lines into the first column, in the order to be compressed.
    fn lay_out(&mut self, blocks: &[Block]) -> Layout {
        self.columns.iter_mut().for_each(Vec::clear);
        for block in blocks {
            let mut lines = block.bytes();
            let mut rows = 0;
            while !lines.is_empty() {
                let Some(rest) = self.take_line(lines) else {
                    return self.lay_out_lines(blocks);
                };
                lines = rest;
                rows += 1;
            }
            // A line without its blanks would have taken its neighbour's.
            if rows != block.lines() {
                return self.lay_out_lines(blocks);
            }
        }
        let [names, values, times] = &mut self.columns;
        let layout = Layout::Columns {
            names: names.len(),
            values: values.len(),
        };
        names.append(values);
        names.append(times);
        layout
    }

    /// Takes the first line apart. `None` where it has not three fields.
    fn take_line<'a>(&mut self, mut lines: &'a [u8]) -> Option<&'a [u8]> {
        for (column, end) in self.columns.iter_mut().zip(ENDS) {
            let (field, rest) = lines.split_at(memchr(end, lines)? + 1);
            column.extend_from_slice(field);
            lines = rest;
        }
        Some(lines)
    }

    fn lay_out_lines(&mut self, blocks: &[Block]) -> Layout {
        let [all, ..] = &mut self.columns;
        all.clear();
        for block in blocks {
            all.extend_from_slice(block.bytes());
        }
        Layout::Lines
    }
}

impl fmt::Debug for Expander {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expander").finish_non_exhaustive()
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Press").finish_non_exhaustive()
    }
}

impl Frame {
    /// The place of its oldest block.
    pub fn place(&self) -> Place {
        self.parts.first().map_or((0, 0), |part| part.place)
    }

    /// How many lines it holds.
    pub fn lines(&self) -> u64 {
        self.parts.iter().map(|part| part.lines).sum()
    }

    /// How many bytes its lines are.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// How many bytes they are compressed.
    pub fn compressed_bytes(&self) -> usize {
        self.compressed.len()
    }

    /// The memory that it holds.
    pub fn allocated(&self) -> usize {
        os::allocated(self.compressed.len())
            + os::allocated(size_of_val(&*self.parts))
            + size_of::<Self>()
    }

    /// The memory that its blocks will hold.
    pub fn allocated_expanded(&self) -> usize {
        let parts = self.parts.iter();
        parts.map(|part| Block::allocated_for(part.bytes)).sum()
    }

    fn blocks_from(&self, source: &[u8]) -> Option<Vec<Block>> {
        match self.layout {
            Layout::Columns { names, values } => self.join(source, names, values),
            Layout::Lines => self.cut(source),
        }
    }

    fn join(&self, source: &[u8], names: usize, values: usize) -> Option<Vec<Block>> {
        let (names, rest) = source.split_at_checked(names)?;
        let (values, times) = rest.split_at_checked(values)?;
        let mut columns = [names, values, times];
        let mut blocks = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let mut bytes = Vec::with_capacity(part.bytes);
            for _ in 0..part.lines {
                for (column, end) in columns.iter_mut().zip(ENDS) {
                    let (field, rest) = column.split_at(memchr(end, column)? + 1);
                    bytes.extend_from_slice(field);
                    *column = rest;
                }
            }
            if bytes.len() != part.bytes {
                return None;
            }
            blocks.push(Block::restore(part, bytes));
        }
        Some(blocks)
    }

    fn cut(&self, mut source: &[u8]) -> Option<Vec<Block>> {
        let mut blocks = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let (bytes, rest) = source.split_at_checked(part.bytes)?;
            blocks.push(Block::restore(part, bytes.to_vec()));
            source = rest;
        }
        Some(blocks)
    }

    /// The blocks again.
    #[cfg(test)]
    pub fn expand(&self) -> Result<Vec<Block>, Corrupt> {
        Expander::new().map_err(|_| Corrupt)?.expand(self)
    }

    /// Writes what it is besides [`Frame::compressed`] into an image.
    pub fn write(&self, now: Instant, out: &mut Vec<u8>) {
        let (names, values) = match self.layout {
            Layout::Columns { names, values } => (names as u64, values as u64),
            Layout::Lines => (AS_LINES, AS_LINES),
        };
        put(out, names);
        put(out, values);
        for part in &self.parts {
            part.write(now, out);
        }
    }

    /// Its compressed lines.
    pub fn compressed(&self) -> &[u8] {
        &self.compressed
    }

    /// Reads it from an image.
    pub fn read(
        mut fields: Fields,
        compressed: Vec<u8>,
        now: Instant,
        first_number: u64,
    ) -> Option<Self> {
        let layout = match (fields.number()?, fields.number()?) {
            (AS_LINES, AS_LINES) => Layout::Lines,
            (names, values) => Layout::Columns {
                names: usize::try_from(names).ok()?,
                values: usize::try_from(values).ok()?,
            },
        };
        let mut parts = Vec::new();
        while !fields.is_empty() {
            parts.push(Part::read(&mut fields, now, first_number)?);
        }
        (!parts.is_empty()).then(|| Self {
            parts: parts.into_boxed_slice(),
            layout,
            compressed: compressed.into_boxed_slice(),
        })
    }

    /// The place of its newest block.
    pub fn last_place(&self) -> Place {
        self.parts.last().map_or((0, 0), |part| part.place)
    }

    /// Changes one byte, as bad memory would.
    #[cfg(test)]
    pub fn damage(&mut self, at: usize) {
        let at = at % self.compressed.len();
        self.compressed[at] ^= 0x10;
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("place", &self.place())
            .field("lines", &self.lines())
            .field("compressed", &self.compressed.len())
            .finish_non_exhaustive()
    }
}

/// One length as a part of another.
#[allow(clippy::cast_precision_loss)] // An estimate for people.
pub fn ratio(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(number: u64, lines: &str) -> Block {
        let mut block = Block::open(number, Instant::now(), Vec::new());
        let count = lines.lines().count() as u64;
        block.append(lines.as_bytes(), count, lines.len(), Instant::now());
        block
    }

    #[test]
    fn blocks_come_back_as_they_went() {
        let mut first = block(3, "a.b 17 5\nc.d 4.5e3 6\n");
        first.send(0..9);
        first.acknowledge(9);
        let blocks = [first, block(4, "a.b 18 7\n")];
        let frame = Compressor::new().unwrap().compress(&blocks).unwrap();
        assert_eq!((frame.place(), frame.lines()), ((3, 0), 3));
        let expanded = frame.expand().unwrap();
        assert_eq!(expanded.len(), 2);
        for (mut was, mut is) in blocks.into_iter().zip(expanded) {
            assert!(is.stays_loose);
            assert_eq!(
                (is.place, is.bytes(), is.lines()),
                (was.place, was.bytes(), was.lines())
            );
            let end = was.bytes().len();
            assert_eq!(is.acknowledge(9), was.acknowledge(9));
            assert_eq!(is.send(0..end), was.send(0..end));
        }
    }

    #[test]
    fn lines_of_another_shape_are_kept_as_they_are() {
        let blocks = [block(0, "a b c\nonly two\n"), block(1, "one\n")];
        let frame = Compressor::new().unwrap().compress(&blocks).unwrap();
        assert!(matches!(frame.layout, Layout::Lines));
        let lines: Vec<u8> = frame
            .expand()
            .unwrap()
            .iter()
            .flat_map(|block| block.bytes().to_vec())
            .collect();
        assert_eq!(lines, b"a b c\nonly two\none\n");
    }

    #[test]
    fn a_damaged_byte_is_noticed_wherever_it_is() {
        let lines: String = (0..500)
            .map(|number| format!("some.name.{} {number}.25 1700000000\n", number % 7))
            .collect();
        let mut frame = Compressor::new()
            .unwrap()
            .compress(&[block(0, &lines)])
            .unwrap();
        for at in 0..frame.compressed.len() {
            frame.damage(at);
            // Bits that mean nothing may change, lines never do.
            if let Ok(blocks) = frame.expand() {
                assert_eq!(blocks[0].bytes(), lines.as_bytes());
            }
            frame.damage(at);
        }
        frame.damage(frame.compressed.len() / 2);
        assert_eq!(frame.expand().unwrap_err(), Corrupt);
    }

    proptest! {
        #[test]
        fn any_lines_come_back(
            lines in proptest::collection::vec("[^\n]{0,30}\n", 1..60),
            columns in proptest::bool::ANY,
        ) {
            let text = if columns {
                lines.iter().map(|line| format!("n{} {} 5\n", line.len(), line.len())).collect()
            } else {
                lines.concat()
            };
            let frame = Compressor::new().unwrap().compress(&[block(0, &text)]).unwrap();
            let expanded = frame.expand().unwrap();
            prop_assert_eq!(expanded[0].bytes(), text.as_bytes());
        }
    }
}
