//! The records of an image, one after the other. Each says what it is, and can be
//! checked by itself. Reading stops at the first that is damaged: the file is sealed
//! memory, so damage means bad RAM, and what follows cannot be trusted either.
//!
//! ```text
//!   kind  head  body  lines  CRC-32 of the contents  CRC-32 of this  head …  body …
//!   1     4     4     8      4                       4
//! ```

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use crc32fast::Hasher;

/// Before the contents.
const HEADER: usize = 1 + 4 + 4 + 8 + 4 + 4;

/// What a chunk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The account of all lines.
    Account,
    /// Lines as they are.
    Block,
    /// Lines compressed.
    Frame,
}

/// A chunk in a file: what its header says.
#[derive(Debug, Clone, Copy)]
pub struct Chunk {
    /// What it holds.
    pub kind: Kind,
    /// How many lines.
    pub lines: u64,
    /// Where it begins.
    pub at: u64,
    head: u32,
    body: u32,
    check: u32,
}

/// Writes one chunk.
pub fn write(
    out: &mut impl Write,
    kind: Kind,
    lines: u64,
    head: &[u8],
    body: &[u8],
) -> io::Result<()> {
    let too_large = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let mut header = vec![kind as u8];
    header.extend(u32::try_from(head.len()).map_err(too_large)?.to_le_bytes());
    header.extend(u32::try_from(body.len()).map_err(too_large)?.to_le_bytes());
    header.extend(lines.to_le_bytes());
    header.extend(check(&[head, body]).to_le_bytes());
    header.extend(check(&[&header]).to_le_bytes());
    out.write_all(&header)?;
    out.write_all(head)?;
    out.write_all(body)
}

/// The chunks up to the first whose header is damaged or whose contents are cut off.
pub fn survey(file: &File, from: u64) -> io::Result<Vec<Chunk>> {
    let end = file.metadata()?.len();
    let mut chunks = Vec::new();
    let mut at = from;
    while at + HEADER as u64 <= end {
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, at)?;
        let chunk = Chunk::read(&header, at).filter(|chunk| chunk.end() <= end);
        let Some(chunk) = chunk else { break };
        at = chunk.end();
        chunks.push(chunk);
    }
    Ok(chunks)
}

impl Chunk {
    /// Where the next one begins.
    pub fn end(&self) -> u64 {
        self.at + HEADER as u64 + u64::from(self.head) + u64::from(self.body)
    }

    /// Its contents, head and body, if they are what was written.
    pub fn contents(&self, file: &File) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut head = vec![0; usize::try_from(self.head).ok()?];
        let mut body = vec![0; usize::try_from(self.body).ok()?];
        let at = self.at + HEADER as u64;
        file.read_exact_at(&mut head, at).ok()?;
        file.read_exact_at(&mut body, at + u64::from(self.head))
            .ok()?;
        (check(&[&head, &body]) == self.check).then_some((head, body))
    }

    fn read(header: &[u8; HEADER], at: u64) -> Option<Self> {
        let (checked, checksum) = header.split_last_chunk::<4>()?;
        if check(&[checked]).to_le_bytes() != *checksum {
            return None;
        }
        let (kind, rest) = checked.split_first()?;
        let (head, rest) = rest.split_first_chunk()?;
        let (body, rest) = rest.split_first_chunk()?;
        let (lines, contents) = rest.split_first_chunk()?;
        Some(Self {
            kind: [Kind::Account, Kind::Block, Kind::Frame]
                .into_iter()
                .find(|known| *known as u8 == *kind)?,
            lines: u64::from_le_bytes(*lines),
            at,
            head: u32::from_le_bytes(*head),
            body: u32::from_le_bytes(*body),
            check: u32::from_le_bytes(contents.try_into().ok()?),
        })
    }
}

/// CRC-32, which misses no damage of fewer than five bytes in a row.
fn check(pieces: &[&[u8]]) -> u32 {
    let mut hasher = Hasher::new();
    for piece in pieces {
        hasher.update(piece);
    }
    hasher.finalize()
}
