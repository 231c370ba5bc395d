//! The key enters the bytes: `name value time` becomes `KEY.name value time`.
//!
//! One of the two places where the key is exposed. The buffers that it passes
//! through are zeroed after use, so that no copy of it lies in memory beside a
//! name (docs/architecture.md).

use std::sync::atomic::{Ordering::SeqCst, compiler_fence};

use memchr::memchr;
use zeroize::Zeroizing;

use crate::config::ApiKey;
use crate::os::Secret;

/// Puts the key before each name.
pub struct Encoder {
    prefix: Secret,
}

/// Bytes on their way to a socket. Zeroed when emptied, and when dropped.
#[derive(Default)]
pub struct WireBuffer {
    /// Zeroes behind the bytes that are in use.
    space: Zeroizing<Vec<u8>>,
    used: usize,
}

impl Encoder {
    /// Writes `KEY.` before each name, or nothing where there is no key.
    pub fn new(key: &ApiKey) -> Self {
        let prefix = if key.is_empty() {
            Secret::default()
        } else {
            Secret::of(&[key.expose(), b"."])
        };
        Self { prefix }
    }

    /// Writes `<key>.` before each name, for people to look at.
    pub fn masked() -> Self {
        Self {
            prefix: Secret::of(&[b"<key>."]),
        }
    }

    /// How much longer each line becomes.
    pub fn overhead(&self) -> usize {
        self.prefix.len()
    }

    /// Fills an empty buffer with as many whole lines as `limit` holds, but
    /// with one at least. Answers how many bytes of `lines` went in.
    pub fn encode(&self, lines: &[u8], limit: usize, out: &mut WireBuffer) -> usize {
        out.clear();
        let mut taken = 0;
        while let Some(newline) = memchr(b'\n', &lines[taken..]) {
            let end = taken + newline + 1;
            let encoded = self.prefix.len() + newline + 1;
            if out.used > 0 && out.used + encoded > limit {
                break;
            }
            let space = out.space_for(encoded, limit);
            let (prefix, line) = space.split_at_mut(self.prefix.len());
            prefix.copy_from_slice(&self.prefix);
            line.copy_from_slice(&lines[taken..end]);
            taken = end;
        }
        taken
    }
}

impl WireBuffer {
    /// What is to be written.
    pub fn bytes(&self) -> &[u8] {
        &self.space[..self.used]
    }

    /// Zeroes what was written.
    pub fn clear(&mut self) {
        // `zeroize` goes byte by byte, which is most of what a line costs here.
        // Memory that lives on is not optimised away either; what is freed, is
        // zeroed by `Zeroizing`.
        self.space[..self.used].fill(0);
        compiler_fence(SeqCst);
        self.used = 0;
    }

    /// So many bytes more, to be filled.
    fn space_for(&mut self, bytes: usize, limit: usize) -> &mut [u8] {
        let from = self.used;
        self.used += bytes;
        if self.space.len() < self.used {
            self.grow(limit);
        }
        &mut self.space[from..self.used]
    }

    /// Makes room without letting the old memory go as it is.
    #[cold]
    fn grow(&mut self, limit: usize) {
        let size = (self.space.len() * 2).min(limit).max(self.used);
        let mut grown = Zeroizing::new(vec![0; size]);
        grown[..self.space.len()].copy_from_slice(&self.space);
        self.space = grown;
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Encoder")
    }
}

impl std::fmt::Debug for WireBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WireBuffer({} bytes)", self.used)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(encoder: &Encoder, mut lines: &[u8], limit: usize) -> Vec<Vec<u8>> {
        let mut out = WireBuffer::default();
        let mut chunks = Vec::new();
        while !lines.is_empty() {
            let taken = encoder.encode(lines, limit, &mut out);
            chunks.push(out.bytes().to_vec());
            lines = &lines[taken..];
        }
        chunks
    }

    #[test]
    fn each_line_gets_the_key() {
        let encoder = Encoder::new(&ApiKey::parse("K").unwrap());
        assert_eq!(
            all(&encoder, b"a 1 5\nb 2 5\n", 99),
            [b"K.a 1 5\nK.b 2 5\n"]
        );
        let bare = Encoder::new(&ApiKey::none());
        assert_eq!(all(&bare, b"a 1 5\n", 99), [b"a 1 5\n"]);
        assert_eq!(all(&Encoder::masked(), b"a 1 5\n", 99), [b"<key>.a 1 5\n"]);
    }

    #[test]
    fn lines_are_never_cut() {
        let encoder = Encoder::new(&ApiKey::parse("K").unwrap());
        assert_eq!(
            all(
                &encoder,
                b"a 1 5\nlonger.than.the.limit 1 5\nb 1 5\nc 1 5\n",
                16
            ),
            [
                &b"K.a 1 5\n"[..],
                b"K.longer.than.the.limit 1 5\n",
                b"K.b 1 5\nK.c 1 5\n"
            ]
        );
    }

    proptest! {
        #[test]
        fn taking_the_key_off_gives_the_lines_back(
            lines in "([a-c]{1,9} 1 5\n){0,30}",
            limit in 1..200_usize,
        ) {
            let encoder = Encoder::new(&ApiKey::parse("some.key").unwrap());
            let chunks = all(&encoder, lines.as_bytes(), limit);
            for chunk in &chunks {
                prop_assert!(chunk.ends_with(b"\n"));
                let one_line = memchr::memchr_iter(b'\n', chunk).count() == 1;
                prop_assert!(chunk.len() <= limit || one_line);
            }
            let joined = String::from_utf8(chunks.concat()).unwrap();
            let stripped: String = joined
                .lines()
                .map(|line| format!("{}\n", line.strip_prefix("some.key.").unwrap()))
                .collect();
            prop_assert_eq!(stripped, lines);
        }
    }
}
