//! Whole frames out of arbitrary reads.
//!
//! ```text
//!     00 00 01 10   80 02 5d 71 01 …
//!     ^^^^^^^^^^^   ^^^^^^^^^^^^^^^^
//!     length        a pickle of this number of bytes
//! ```
//!
//! In: the bytes of a stream, cut anywhere. Out: calls with one [`Piece`] each.
//! Any cutting of the same bytes gives the same pieces. A frame that lies whole
//! in a read is borrowed from it; of one that reads cut, no more is kept than has
//! come, in memory of at most twice that.

use std::ops::ControlFlow;

use zeroize::Zeroize;

/// Carbon takes no larger frame either (`MAX_LENGTH` of its receiver), and its
/// clients write 500 points into one, some 30 KiB.
pub const MAX_FRAME: usize = 1 << 20;

/// A length that is only too large is one still: this number of bytes are skipped, and
/// the frames behind them come to no harm. From 16 MiB on its first byte is not
/// 0, as that of text and of other protocols, and nobody knows any more where
/// a frame begins.
const FIRST_BYTE: u8 = 0;

/// Bytes of a frame's length.
const HEADER: usize = 4;

/// Whether a stream that begins with this byte may be one of frames.
pub fn may_begin_with(byte: u8) -> bool {
    byte == FIRST_BYTE
}

/// What comes out of the cutter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// The inside of a frame.
    Frame(&'a [u8]),
    /// The length of a frame that is too large, and is skipped.
    TooLong(&'a [u8]),
    /// What is no length of a frame; the rest of the stream is lost.
    NoFrame(&'a [u8]),
}

/// Cuts one stream into frames.
#[derive(Debug, Default)]
pub struct Frames {
    /// The beginning of the frame that the last read cut, with its length.
    partial: Vec<u8>,
    /// So much of a frame that is too large is still to come.
    skipping: usize,
}

impl Frames {
    /// Takes the next bytes of the stream. Breaks off where no frame begins.
    pub fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(Piece<'_>)) -> ControlFlow<()> {
        while !bytes.is_empty() {
            if self.skipping > 0 {
                let skipped = self.skipping.min(bytes.len());
                self.skipping -= skipped;
                bytes = &bytes[skipped..];
            } else if self.partial.is_empty()
                && let Some((frame, rest)) = first(bytes)
            {
                each(Piece::Frame(frame));
                bytes = rest;
            } else {
                let (next, rest) = bytes.split_at(self.missing().min(bytes.len()));
                self.append(next);
                bytes = rest;
                self.judge(&mut each)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// The bytes of an unfinished frame, its length first, which end with the
    /// stream.
    pub fn unfinished(&self) -> Option<&[u8]> {
        (!self.partial.is_empty()).then_some(&self.partial)
    }

    /// Bytes that are allocated for it.
    pub fn held(&self) -> usize {
        self.partial.capacity()
    }

    /// The same, where it is known how long the rest is.
    pub fn skippable(&self) -> Option<&[u8]> {
        matches!(length(&self.partial), Some(Length::Of(_))).then_some(&self.partial)
    }

    /// Drops such a frame, and skips its rest.
    pub fn skip(&mut self) {
        self.skipping = self.missing();
        self.forget();
    }

    /// Drops what is kept, and its memory: an idle client holds none.
    pub fn forget(&mut self) {
        self.partial.zeroize();
        self.partial = Vec::new();
    }

    /// Looks at what has come of a frame that reads cut.
    fn judge(&mut self, each: &mut impl FnMut(Piece<'_>)) -> ControlFlow<()> {
        match length(&self.partial) {
            None => return ControlFlow::Continue(()),
            Some(Length::None) => {
                each(Piece::NoFrame(&self.partial));
                self.forget();
                return ControlFlow::Break(());
            }
            Some(Length::TooLong(length)) => {
                each(Piece::TooLong(&self.partial));
                self.skipping = length;
            }
            Some(Length::Of(_)) if self.missing() > 0 => return ControlFlow::Continue(()),
            Some(Length::Of(_)) => each(Piece::Frame(&self.partial[HEADER..])),
        }
        self.forget();
        ControlFlow::Continue(())
    }

    /// How many bytes complete the length, or the frame behind it.
    fn missing(&self) -> usize {
        self.wanted() - self.partial.len()
    }

    fn wanted(&self) -> usize {
        match length(&self.partial) {
            Some(Length::Of(length)) => HEADER + length,
            _ => HEADER,
        }
    }

    /// Appends without leaving the old memory behind as it was: a client may
    /// write our key.
    fn append(&mut self, bytes: &[u8]) {
        let needed = self.partial.len() + bytes.len();
        if needed > self.partial.capacity() {
            let twice = (2 * self.partial.capacity()).min(self.wanted());
            let mut grown = Vec::with_capacity(needed.max(twice));
            grown.extend_from_slice(&self.partial);
            self.forget();
            self.partial = grown;
        }
        self.partial.extend_from_slice(bytes);
    }
}

/// What the first bytes of a frame say of its length.
enum Length {
    Of(usize),
    TooLong(usize),
    None,
}

fn length(frame: &[u8]) -> Option<Length> {
    let header: [u8; HEADER] = *frame.first_chunk()?;
    let length = u32::from_be_bytes(header) as usize;
    Some(if header[0] != FIRST_BYTE {
        Length::None
    } else if length > MAX_FRAME {
        Length::TooLong(length)
    } else {
        Length::Of(length)
    })
}

/// The frame that some bytes begin with, and what is behind it.
fn first(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    match length(bytes)? {
        Length::Of(length) => bytes[HEADER..].split_at_checked(length),
        Length::TooLong(_) | Length::None => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The pieces of a stream, what is left at its end, and whether it was
    /// broken off.
    fn cut(reads: &[&[u8]]) -> (Vec<String>, Option<String>, bool) {
        let mut frames = Frames::default();
        let mut pieces = Vec::new();
        let mut came = 0;
        let broke_off = reads.iter().any(|read| {
            let broke_off = frames.feed(read, |piece| pieces.push(format!("{piece:?}")));
            came += read.len();
            assert!(frames.held() <= 2 * came.min(HEADER + MAX_FRAME));
            broke_off.is_break()
        });
        let unfinished = frames
            .unfinished()
            .map(|partial| partial.escape_ascii().to_string());
        (pieces, unfinished, broke_off)
    }

    fn frame(text: &str) -> String {
        format!("{:?}", Piece::Frame(text.as_bytes()))
    }

    #[test]
    fn frames_are_joined_over_reads() {
        let reads: [&[u8]; 5] = [
            b"\0\0\0\x02ab\0\0",
            b"\0",
            b"\x03c",
            b"de\0\0\0\0\0\0\0\x01",
            b"f\0\0\0\x05gh",
        ];
        let (pieces, unfinished, broke_off) = cut(&reads);
        assert_eq!(pieces, ["ab", "cde", "", "f"].map(frame));
        assert_eq!(unfinished.as_deref(), Some("\\x00\\x00\\x00\\x05gh"));
        assert!(!broke_off);
    }

    #[test]
    fn nothing_is_held_between_frames() {
        let mut frames = Frames::default();
        for read in [&b"\0\0\0\x04ab"[..], b"cd"] {
            assert!(frames.feed(read, |_| {}).is_continue());
        }
        assert_eq!((frames.unfinished(), frames.held()), (None, 0));
    }

    #[test]
    fn a_frame_that_is_too_large_is_skipped() {
        let large = u32::try_from(MAX_FRAME + 1).unwrap().to_be_bytes();
        let mut stream = [&b"\0\0\0\x01a"[..], &large].concat();
        stream.resize(stream.len() + MAX_FRAME + 1, b'x');
        stream.extend_from_slice(b"\0\0\0\x01b");
        let expected = [
            frame("a"),
            format!("{:?}", Piece::TooLong(&large)),
            frame("b"),
        ];
        let reads: Vec<&[u8]> = stream.chunks(64 << 10).collect();
        assert_eq!(cut(&reads), (expected.to_vec(), None, false));

        let mut largest = u32::try_from(MAX_FRAME).unwrap().to_be_bytes().to_vec();
        largest.resize(HEADER + MAX_FRAME, b'x');
        let reads: Vec<&[u8]> = largest.chunks(1000).collect();
        assert_eq!(cut(&reads).0, [frame(&"x".repeat(MAX_FRAME))]);
    }

    #[test]
    fn a_frame_that_is_dropped_is_skipped_to_its_end() {
        for cut in 0..10 {
            let stream = b"\0\0\0\x06abcdef\0\0\0\x01g";
            let (first, rest) = stream.split_at(cut);
            let mut frames = Frames::default();
            let mut pieces = Vec::new();
            assert!(frames.feed(first, |_| {}).is_continue());
            let is_dropped = frames.skippable().is_some();
            assert_eq!(is_dropped, (HEADER..10).contains(&cut));
            if is_dropped {
                frames.skip();
                assert_eq!(frames.held(), 0);
            }
            let fed = frames.feed(rest, |piece| pieces.push(format!("{piece:?}")));
            assert!(fed.is_continue());
            let expected = [frame("abcdef"), frame("g")];
            assert_eq!(pieces, expected[usize::from(is_dropped)..]);
        }
    }

    #[test]
    fn what_is_no_length_ends_the_stream() {
        let (pieces, unfinished, broke_off) = cut(&[b"\0\0\0\x01aa.b 1 5\n\0\0\0\x01b"]);
        let nothing = format!("{:?}", Piece::NoFrame(b"a.b "));
        assert_eq!(pieces, [frame("a"), nothing]);
        assert!(unfinished.is_none() && broke_off);
    }

    proptest! {
        #[test]
        fn any_cutting_gives_the_same_frames(
            frames in proptest::collection::vec(
                prop_oneof![
                    4 => "[a-z]{0,9}".prop_map(|text| [&[0, 0, 0, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()),
                    1 => proptest::collection::vec(any::<u8>(), 0..9),
                ],
                0..6,
            ),
            cuts in proptest::collection::vec(0..60_usize, 0..12),
        ) {
            let bytes = frames.concat();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let reads: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            prop_assert_eq!(cut(&reads), cut(&[&bytes]));
        }
    }
}
