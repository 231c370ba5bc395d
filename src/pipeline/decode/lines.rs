//! Graphite's plain lines: the first bytes of a stream or a datagram tell whether
//! they are any, the splitter cuts them.

use std::ops::ControlFlow;

use zeroize::Zeroize;

use crate::pipeline::batch::LineHandler;
use crate::pipeline::line::{self, Reject, Rules};
use crate::stats::RejectReason;

use super::detect::{self, Opening};
use super::split::{self, Piece, Splitter};
use super::{Ending, MEMORY_USED_UP};

/// What a stream of lines has brought so far.
#[derive(Debug, Default)]
pub struct Lines {
    /// The first bytes, while they may still be of another protocol.
    opening: Vec<u8>,
    is_decided: bool,
    splitter: Splitter,
}

impl Lines {
    /// Takes the next bytes. Breaks off when they are of another protocol,
    /// which is counted as one rejected line.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        rules: &Rules,
        batch: &mut impl LineHandler,
    ) -> ControlFlow<()> {
        if self.is_decided {
            self.split(bytes, rules, batch);
            return ControlFlow::Continue(());
        }
        if !self.opening.is_empty() {
            self.opening.extend_from_slice(bytes);
        }
        let seen = if self.opening.is_empty() {
            bytes
        } else {
            &self.opening
        };
        match detect::opening(seen, rules.max_line_bytes) {
            Opening::OtherProtocol(foreign) => {
                let reject = Reject::new(RejectReason::Protocol, 0, foreign.hint());
                batch.reject(reject, seen, rules);
                self.opening.zeroize();
                return ControlFlow::Break(());
            }
            Opening::Undecided if self.opening.is_empty() => {
                self.opening.extend_from_slice(bytes);
            }
            Opening::Undecided => {}
            Opening::Lines => self.begin_lines(bytes, rules, batch),
        }
        ControlFlow::Continue(())
    }

    /// How many of the last bytes belong to a line that is not finished.
    pub fn unfinished(&self) -> usize {
        self.opening.len() + self.splitter.unfinished().map_or(0, <[u8]>::len)
    }

    /// Bytes that are allocated for it.
    pub fn held(&self) -> usize {
        self.opening.capacity() + self.splitter.held()
    }

    /// Drops the line that is not finished: it counts as truncated, and its rest is skipped.
    pub fn shed(&mut self, rules: &Rules, batch: &mut impl LineHandler) {
        if !self.is_decided {
            self.begin_lines(&[], rules, batch);
        }
        if let Some(line) = self.splitter.unfinished() {
            let reject = Reject::new(RejectReason::Truncated, line.len(), MEMORY_USED_UP);
            batch.reject(reject, line, rules);
        }
        self.splitter.skip();
    }

    /// The stream ended. A last line without newline counts after a clean end
    /// only: before a broken one it may have been cut.
    pub fn finish(mut self, ending: Ending, rules: &Rules, batch: &mut impl LineHandler) {
        if !self.is_decided {
            self.begin_lines(&[], rules, batch);
        }
        match (self.splitter.unfinished(), ending) {
            (None, _) => {}
            (Some(line), Ending::Clean) => batch.add(line, rules),
            // The NUL behind the last newline of a C program, or a blank.
            (Some(line), Ending::Broken) if line::content(line).is_empty() => {}
            (Some(line), Ending::Broken) => {
                let hint = "the stream broke before the end of this line";
                let reject = Reject::new(RejectReason::Truncated, line.len(), hint);
                batch.reject(reject, line, rules);
            }
        }
        self.splitter.forget();
    }

    fn begin_lines(&mut self, bytes: &[u8], rules: &Rules, batch: &mut impl LineHandler) {
        self.is_decided = true;
        let mut opening = std::mem::take(&mut self.opening);
        if opening.is_empty() {
            self.split(bytes, rules, batch);
        } else {
            self.split(&opening, rules, batch);
            opening.zeroize();
        }
    }

    fn split(&mut self, bytes: &[u8], rules: &Rules, batch: &mut impl LineHandler) {
        self.splitter.feed(bytes, rules.max_line_bytes, |piece| {
            add(piece, rules, batch);
        });
    }
}

/// Takes one datagram.
pub fn datagram(bytes: &[u8], truncated: bool, rules: &Rules, batch: &mut impl LineHandler) {
    if let Opening::OtherProtocol(foreign) = detect::opening(bytes, rules.max_line_bytes) {
        let reject = Reject::new(RejectReason::Protocol, 0, foreign.hint());
        return batch.reject(reject, bytes, rules);
    }
    let (lines, last) = split::datagram(bytes);
    batch.add_lines(lines, rules);
    if truncated {
        let hint = "the datagram is larger than 64 KiB; send smaller ones";
        let reject = Reject::new(RejectReason::Truncated, last.len(), hint);
        batch.reject(reject, last, rules);
    } else {
        batch.add(last, rules);
    }
}

fn add(piece: Piece<'_>, rules: &Rules, batch: &mut impl LineHandler) {
    match piece {
        Piece::Lines(lines) => batch.add_lines(lines, rules),
        Piece::Line(line) => batch.add(line, rules),
        Piece::TooLong(head) => batch.reject(Reject::too_long(rules.max_line_bytes), head, rules),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use proptest::prelude::*;

    use super::*;
    use crate::config::{ApiKey, NameRule};
    use crate::pipeline::batch::Batch;

    fn rules() -> Rules {
        Rules {
            names: NameRule::Any,
            max_line_bytes: 32,
            key: ApiKey::none().into(),
        }
    }

    /// What a stream leaves behind: its lines, its rejections, and whether it
    /// was broken off.
    fn outcome(reads: &[&[u8]], ending: Ending) -> (String, Vec<(RejectReason, u64)>, bool) {
        let mut batch = Batch::default();
        batch.reset(SystemTime::now());
        let mut lines = Lines::default();
        let broke_off = reads
            .iter()
            .any(|read| lines.feed(read, &rules(), &mut batch).is_break());
        if !broke_off {
            lines.finish(ending, &rules(), &mut batch);
        }
        let stored = String::from_utf8(batch.bytes().to_vec()).unwrap();
        (stored, batch.rejected().collect(), broke_off)
    }

    #[test]
    fn the_last_line_counts_after_a_clean_end_only() {
        let (lines, rejected, _) = outcome(&[b"a 1 5\nb 2 5"], Ending::Clean);
        assert_eq!((lines.as_str(), rejected), ("a 1 5\nb 2 5\n", vec![]));
        let (lines, rejected, _) = outcome(&[b"a 1 5\nb 2 5"], Ending::Broken);
        assert_eq!(
            (lines.as_str(), rejected),
            ("a 1 5\n", vec![(RejectReason::Truncated, 1)])
        );
        let (_, rejected, _) = outcome(&[b"a 1 5\nb"], Ending::Clean);
        assert_eq!(rejected, [(RejectReason::Fields, 1)]);
    }

    #[test]
    fn c_programs_may_send_their_nul() {
        for reads in [
            &[&b"a 1 5\0"[..]][..],
            &[b"a 1 5\n\0"],
            &[b"a 1 5\n", b"\0"],
            &[b"\xef\xbb\xbfa 1 5\n\0\0"],
            &[b"\xef", b"\xbb\xbfa 1 5", b"\0\n"],
        ] {
            let (lines, rejected, _) = outcome(reads, Ending::Clean);
            assert_eq!((lines.as_str(), rejected), ("a 1 5\n", vec![]), "{reads:?}");
        }
        let (lines, rejected, _) = outcome(&[b"a 1 5\n\0", b"b 2 5\n\0"], Ending::Broken);
        assert_eq!((lines.as_str(), rejected), ("a 1 5\nb 2 5\n", vec![]));
    }

    #[test]
    fn another_protocol_is_one_rejection() {
        for reads in [
            &[&b"\x16\x03\x01\x00\x05hello\nworld\n"[..]][..],
            &[b"\x16", b"\x03", b"\n\n"],
            &[b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"],
            &[b"GE", b"T / HTTP/1.", b"1\r\n"],
            &[b"\x00\x00\x0a\x0a", b"\x80\x02]q"],
        ] {
            let (lines, rejected, broke_off) = outcome(reads, Ending::Clean);
            assert!(broke_off && lines.is_empty());
            assert_eq!(rejected, [(RejectReason::Protocol, 1)]);
        }
    }

    #[test]
    fn what_only_began_like_another_protocol_is_lines() {
        let (lines, _, _) = outcome(&[b"GET", b" 1 5\nb 2 5\n"], Ending::Clean);
        assert_eq!(lines, "GET 1 5\nb 2 5\n");
        let (lines, _, _) = outcome(&[b"PUT 1 5"], Ending::Clean);
        assert_eq!(lines, "PUT 1 5\n");
        let (lines, _, _) = outcome(&[b"GET ", &[b'x'; 40], b"\nb 2 5\n"], Ending::Clean);
        assert_eq!(lines, "b 2 5\n");
    }

    #[test]
    fn a_cut_datagram_loses_its_cut_line_only() {
        let mut batch = Batch::default();
        batch.reset(SystemTime::now());
        datagram(b"a 1 5\nb 2 1234", true, &rules(), &mut batch);
        assert_eq!(batch.bytes(), b"a 1 5\n");
        assert_eq!(
            batch.rejected().collect::<Vec<_>>(),
            [(RejectReason::Truncated, 1)]
        );
    }

    proptest! {
        #[test]
        fn any_cutting_gives_the_same_outcome(
            bytes in prop_oneof![
                "[ab.]{1,3} [0-9]{1,2} 5\n?(\n|[ -~]{0,40}\n){0,6}[ab] ?1?".prop_map(String::into_bytes),
                "(GET|PUT|\u{16}|\u{0})[ /a\n\u{3}]{0,8}( HTTP/1\\.1\r\n)?[ab 1\n]{0,9}".prop_map(String::into_bytes),
                proptest::collection::vec(any::<u8>(), 0..40),
            ],
            cuts in proptest::collection::vec(0..60_usize, 0..12),
            clean in any::<bool>(),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let reads: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            let ending = if clean { Ending::Clean } else { Ending::Broken };
            prop_assert_eq!(outcome(&reads, ending), outcome(&[&bytes], ending));
        }
    }
}
