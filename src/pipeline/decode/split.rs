//! Whole lines out of arbitrary reads.
//!
//! In: the bytes of a stream, cut anywhere, or one datagram. Out: calls with
//! one [`Piece`] each. Any cutting of the same bytes gives the same lines. Those
//! that lie whole in a read are borrowed from it, all together; only the line
//! that a read cuts is copied. Never more than the limit is kept, whatever
//! arrives.

use memchr::{memchr, memrchr};
use zeroize::Zeroize;

/// What comes out of the splitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Lines of any length, each with its newline.
    Lines(&'a [u8]),
    /// A line within the limit, without its newline.
    Line(&'a [u8]),
    /// The head of a line that is over the limit; the rest is skipped.
    TooLong(&'a [u8]),
}

/// Cuts one stream into lines.
#[derive(Debug, Default)]
pub struct Splitter {
    /// The beginning of the line that the last read cut.
    partial: Vec<u8>,
    /// Inside an over-long line that was counted already.
    skipping: bool,
}

impl Splitter {
    /// Takes the next bytes of the stream.
    pub fn feed(&mut self, mut bytes: &[u8], limit: usize, mut each: impl FnMut(Piece<'_>)) {
        if self.skipping {
            match memchr(b'\n', bytes) {
                Some(newline) => bytes = &bytes[newline + 1..],
                None => return,
            }
            self.skipping = false;
        }
        if !self.partial.is_empty() {
            match memchr(b'\n', bytes) {
                Some(newline) if self.partial.len() + newline <= limit => {
                    self.append(&bytes[..newline]);
                    each(Piece::Line(&self.partial));
                    self.forget();
                    bytes = &bytes[newline + 1..];
                }
                Some(newline) => {
                    self.give_up(&bytes[..newline], limit, &mut each);
                    self.skipping = false;
                    bytes = &bytes[newline + 1..];
                }
                None => {
                    self.keep(bytes, limit, &mut each);
                    return;
                }
            }
        }
        if let Some(newline) = memrchr(b'\n', bytes) {
            let (lines, rest) = bytes.split_at(newline + 1);
            each(Piece::Lines(lines));
            bytes = rest;
        }
        if !bytes.is_empty() {
            self.keep(bytes, limit, &mut each);
        }
    }

    /// The bytes of an unfinished line, which end with the stream. Nothing
    /// when the stream ended with a newline or inside a skipped line.
    pub fn unfinished(&self) -> Option<&[u8]> {
        (!self.partial.is_empty()).then_some(&self.partial)
    }

    /// Bytes that are allocated for it.
    pub fn held(&self) -> usize {
        self.partial.capacity()
    }

    /// Drops what is kept, and skips to the end of its line, which was counted.
    pub fn skip(&mut self) {
        self.skipping |= !self.partial.is_empty();
        self.forget();
    }

    /// Keeps the beginning of a line until the rest arrives.
    fn keep(&mut self, bytes: &[u8], limit: usize, each: &mut impl FnMut(Piece<'_>)) {
        if self.partial.len() + bytes.len() > limit {
            self.give_up(bytes, limit, each);
        } else {
            self.append(bytes);
        }
    }

    /// Appends without leaving the old memory behind as it was: a client may
    /// write our key.
    fn append(&mut self, bytes: &[u8]) {
        let mut grown = Vec::with_capacity(self.partial.len() + bytes.len());
        grown.extend_from_slice(&self.partial);
        grown.extend_from_slice(bytes);
        self.forget();
        self.partial = grown;
    }

    /// Drops what is kept, and its memory: an idle client holds none.
    pub fn forget(&mut self) {
        self.partial.zeroize();
        self.partial = Vec::new();
    }

    /// Counts the over-long line, once, and skips to its end.
    fn give_up(&mut self, bytes: &[u8], limit: usize, each: &mut impl FnMut(Piece<'_>)) {
        let room = limit.saturating_sub(self.partial.len()).min(bytes.len());
        self.append(&bytes[..room]);
        each(Piece::TooLong(&self.partial));
        self.forget();
        self.skipping = true;
    }
}

/// The whole lines of a datagram, and the last one without its newline: good
/// all the same, unless the datagram was cut by the receive buffer.
pub fn datagram(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = memrchr(b'\n', bytes).map_or(0, |newline| newline + 1);
    bytes.split_at(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 8;

    fn split(reads: &[&[u8]]) -> (Vec<String>, Option<String>) {
        let mut splitter = Splitter::default();
        let mut pieces = Vec::new();
        for read in reads {
            splitter.feed(read, LIMIT, |piece| show(piece, &mut pieces));
            assert!(splitter.partial.len() <= LIMIT);
        }
        let unfinished = splitter
            .unfinished()
            .map(|tail| tail.escape_ascii().to_string());
        (pieces, unfinished)
    }

    fn show(piece: Piece<'_>, shown: &mut Vec<String>) {
        match piece {
            Piece::Lines(lines) => {
                for line in lines
                    .strip_suffix(b"\n")
                    .unwrap()
                    .split(|byte| *byte == b'\n')
                {
                    match line.get(..LIMIT) {
                        Some(head) if line.len() > LIMIT => show(Piece::TooLong(head), shown),
                        _ => show(Piece::Line(line), shown),
                    }
                }
            }
            Piece::Line(line) => shown.push(line.escape_ascii().to_string()),
            Piece::TooLong(head) => shown.push(format!("!{}", head.escape_ascii())),
        }
    }

    #[test]
    fn lines_are_joined_over_reads() {
        let (pieces, unfinished) = split(&[b"a 1\nb", b" ", b"2\n\nc 3"]);
        assert_eq!(pieces, ["a 1", "b 2", ""]);
        assert_eq!(unfinished.as_deref(), Some("c 3"));
    }

    #[test]
    fn an_over_long_line_is_skipped_and_counted_once() {
        let (pieces, unfinished) = split(&[b"0123456789", b"xxxxxxxxxxxxxxxxxxxxxx", b"\nb 2\n"]);
        assert_eq!(pieces, ["!01234567", "b 2"]);
        assert_eq!(unfinished, None);
        let (pieces, _) = split(&[b"01234567\n0123", b"45678\nc 3\n"]);
        assert_eq!(pieces, ["01234567", "!01234567", "c 3"]);
    }

    #[test]
    fn a_datagram_may_lack_its_last_newline() {
        assert_eq!(datagram(b"a 1\nb 2"), (&b"a 1\n"[..], &b"b 2"[..]));
        assert_eq!(datagram(b"a 1\n"), (&b"a 1\n"[..], &b""[..]));
        assert_eq!(datagram(b"a 1"), (&b""[..], &b"a 1"[..]));
    }

    proptest! {
        #[test]
        fn any_cutting_gives_the_same_lines(
            bytes in "[ab\n]{0,60}".prop_map(String::into_bytes),
            cuts in proptest::collection::vec(0..60_usize, 0..12),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let reads: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            prop_assert_eq!(split(&reads), split(&[&bytes]));
        }
    }
}
