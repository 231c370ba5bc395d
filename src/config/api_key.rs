//! The API key: a secret that cannot be printed.

mod known_keys;

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use zeroize::{Zeroize, Zeroizing};

use crate::os::Secret;

use super::permissions;
pub use known_keys::{mask, mask_json};

/// Far above any key in use (the vendor's is a UUID of 36 characters).
const MAX_BYTES: usize = 256;

const UUID_BYTES: usize = 36;

/// Shorter texts in base64 are found in words by chance.
const LEAST_BASE64: usize = 4;

/// A plain byte, or one that was percent-encoded up to four times.
const FORMS: usize = 5;

/// `\u0041` for one character.
const LONGEST_FORM: usize = 6;

/// A shorter beginning of the key tells nobody anything.
const TELLING_BYTES: usize = 6;

/// A valid API key, or the explicit absence of one.
///
/// There is no `Display`, `Debug` shows nothing, and the bytes are zeroed when
/// the last copy goes. Only `sink/encode.rs` and `sink/http.rs` call
/// [`ApiKey::expose`], where the key enters the bytes for the upstream.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(Arc<Secret>);

/// Why a text cannot be a key. The text itself is never part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// Nothing but white space.
    #[error("the key is empty")]
    Empty,
    /// White space inside.
    #[error("the key has white space inside; a key is one word")]
    WhiteSpace,
    /// Control characters, or no text at all.
    #[error("the key holds characters that cannot be printed")]
    Unprintable,
    /// It would make names such as `KEY..name`.
    #[error("the key begins or ends with a dot; leave the dot out, sidecarbon adds it")]
    Dot,
    /// More than 256 bytes.
    #[error("the key is longer than 256 bytes; is this the right file?")]
    TooLong,
}

/// A key that was read from a file.
#[derive(Debug)]
pub struct KeyFile {
    /// The key in it.
    pub key: ApiKey,
    /// Whether users other than its owner and group may read it.
    pub world_readable: bool,
    /// Who beside its owner may replace the key in it.
    pub other_writers: Option<String>,
}

/// Why a key file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be opened or read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// A directory, a device, a pipe.
    #[error("is not a regular file")]
    NotAFile,
    /// What it holds is no key.
    #[error("{0}")]
    BadKey(#[from] BadKey),
}

impl ApiKey {
    /// The key of an upstream that takes lines without one.
    pub fn none() -> Self {
        Self(Arc::default())
    }

    /// A key from its text; white space around it does not count.
    pub fn parse(text: &str) -> Result<Self, BadKey> {
        let key = text.trim_start_matches('\u{feff}').trim();
        if key.is_empty() {
            return Err(BadKey::Empty);
        }
        if key.len() > MAX_BYTES {
            return Err(BadKey::TooLong);
        }
        if key.contains(char::is_whitespace) {
            return Err(BadKey::WhiteSpace);
        }
        if key.contains(char::is_control) {
            return Err(BadKey::Unprintable);
        }
        if key.starts_with('.') || key.ends_with('.') {
            return Err(BadKey::Dot);
        }
        let key = Self(Arc::new(Secret::of(&[key.as_bytes()])));
        known_keys::remember(&key);
        Ok(key)
    }

    /// The key as it looks inside quotes (TOML, JSON, `Debug`), if that differs.
    pub fn in_quotes(&self) -> Option<Self> {
        let escaped = |byte: &u8| matches!(byte, b'"' | b'\\');
        let extra = self.0.iter().filter(|byte| escaped(byte)).count();
        if extra == 0 {
            return None;
        }
        // Of its final size at once, so that growing leaves no copy.
        let mut quoted = Zeroizing::new(Vec::with_capacity(self.len() + extra));
        for byte in self.0.iter() {
            if escaped(byte) {
                quoted.push(b'\\');
            }
            quoted.push(*byte);
        }
        Some(Self(Arc::new(Secret::of(&[&quoted]))))
    }

    /// The key in a regular file, which holds nothing else.
    pub fn read(path: &Path) -> Result<KeyFile, KeyFileError> {
        // Without O_NONBLOCK, opening a FIFO would wait for a writer for ever.
        let nonblock = rustix::fs::OFlags::NONBLOCK.bits();
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(nonblock.cast_signed())
            .open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(KeyFileError::NotAFile);
        }
        // Of fixed size, so that growing leaves no copies of the key behind.
        let mut buffer = Zeroizing::new([0_u8; MAX_BYTES + 8]);
        let mut filled = 0;
        let mut rest = file.take(buffer.len() as u64);
        loop {
            match rest.read(&mut buffer[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        let text = std::str::from_utf8(&buffer[..filled]).map_err(|_| BadKey::Unprintable)?;
        Ok(KeyFile {
            key: Self::parse(text)?,
            world_readable: metadata.mode() & 0o004 != 0,
            other_writers: permissions::other_writers(&metadata),
        })
    }

    /// Whether first lines delivered without a key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its length in bytes; 0 where there is none.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it looks like the keys that the vendor hands out.
    pub fn is_uuid_shaped(&self) -> bool {
        is_uuid(&self.0)
    }

    /// The secret itself.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The rest of a metric path that begins with this key, in any case, as
    /// one that a client prefixed itself does (docs/facts.md: Diamond lower-cases
    /// the key).
    pub fn strip_from<'a>(&self, path: &'a [u8]) -> Option<&'a [u8]> {
        let key = self.0.as_slice();
        if key.is_empty() || path.len() < key.len() {
            return None;
        }
        let (head, tail) = path.split_at(key.len());
        match tail.first() {
            None => head.eq_ignore_ascii_case(key).then_some(tail),
            Some(b'.') => head.eq_ignore_ascii_case(key).then(|| &tail[1..]),
            Some(_) => None,
        }
    }

    /// Replaces every occurrence of the key, in any case, by `<key>`; also where
    /// its characters are percent-encoded or escaped as in JSON, or where control
    /// characters stand between them, as the zeros of UTF-16 do; and in base64, in
    /// which HTTP's Basic authentication carries it.
    pub fn mask(&self, text: &mut Vec<u8>) {
        let key = self.0.as_slice();
        if key.is_empty() {
            return;
        }
        mask_with(text, |text| {
            find_disguised(text, key, |byte| byte.to_ascii_lowercase())
        });
        // Base64 encodes three bytes at a time, so there are three forms, depending on
        // how many bytes come before the key. Characters that also depend on a byte
        // before or behind it are left out.
        for before in 0..3 {
            let mut bytes = Zeroizing::new(vec![0; before]);
            bytes.extend_from_slice(key);
            let whole = bytes.len() / 3 * 3;
            let encoded = Zeroizing::new(BASE64_STANDARD.encode(&bytes[..whole]));
            let needle = encoded
                .as_bytes()
                .get(before * 4 / 3 + usize::from(before > 0)..);
            let Some(needle) = needle.filter(|needle| needle.len() >= LEAST_BASE64) else {
                continue;
            };
            mask_with(text, |text| {
                let found = find_disguised(text, needle, from_url_safe)?;
                let is_base64 =
                    |byte: &&u8| byte.is_ascii_alphanumeric() || b"+/=-_%\0".contains(byte);
                let length = text[found.end..].iter().take_while(is_base64).count();
                Some(found.start..found.end + length)
            });
        }
    }
}

/// The standard alphabet's character for one of the URL-safe alphabet (RFC 4648, 5).
fn from_url_safe(byte: u8) -> u8 {
    match byte {
        b'-' => b'+',
        b'_' => b'/',
        byte => byte,
    }
}

/// Where the text holds these bytes, folded alike, in any mixture of plain and
/// encoded characters and with control characters between them.
fn find_disguised(text: &[u8], needle: &[u8], fold: impl Fn(u8) -> u8) -> Option<Range<usize>> {
    let end_at = |start: usize| {
        // Several, as `%2541` can stand for `%2541`, `%41` or `A`.
        let mut ends = vec![start];
        for (index, wanted) in needle.iter().enumerate() {
            let mut next = Vec::new();
            while let Some(at) = ends.pop() {
                for (byte, length) in forms(&text[at..]).into_iter().flatten() {
                    if fold(byte) == fold(*wanted) {
                        next.push(at + length);
                    } else if index > 0 && byte.is_ascii_control() {
                        // Before the first they are no part of the key.
                        ends.push(at + length);
                    }
                }
            }
            next.sort_unstable();
            next.dedup();
            ends = next;
        }
        ends.pop()
    };
    let first = fold(*needle.first()?);
    let may_start = |byte: u8| byte == b'%' || byte == b'\\' || fold(byte) == first;
    (0..text.len())
        .filter(|start| may_start(text[*start]))
        .find_map(|start| Some(start..end_at(start)?))
}

/// What a text may begin with, and how long that is: a plain byte; `%41`, which may be
/// encoded again as `%2541`; `\u0041` or `\x41`.
fn forms(text: &[u8]) -> [Option<(u8, usize)>; FORMS] {
    let hex = |rest: &[u8]| {
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        // Without a sign, which the parser would take.
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let byte = u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?;
        Some((byte, text.len() - rest.len() + 2))
    };
    let mut forms = [None; FORMS];
    let Some((first, rest)) = text.split_first() else {
        return forms;
    };
    forms[0] = Some((*first, 1));
    if *first == b'%' {
        let mut rest = Some(rest);
        for form in &mut forms[1..] {
            *form = rest.and_then(hex);
            rest = rest.and_then(|rest| rest.strip_prefix(b"25"));
        }
    } else if *first == b'\\' {
        let rest = rest
            .strip_prefix(b"u00")
            .or_else(|| rest.strip_prefix(b"x"));
        forms[1] = rest.and_then(hex);
    }
    forms
}

/// All keys that lines may carry and logs must not: the one in force, and those
/// that it replaced, which clients may still use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnKeys(Vec<ApiKey>);

/// Clients that are this many rotations behind have other troubles.
const KEYS_REMEMBERED: usize = 4;

impl From<ApiKey> for OwnKeys {
    fn from(key: ApiKey) -> Self {
        Self(vec![key])
    }
}

impl OwnKeys {
    /// Takes over the keys that were in force before.
    pub fn remember(&mut self, former: &Self) {
        for key in &former.0 {
            if !self.0.contains(key) && self.0.len() < KEYS_REMEMBERED {
                self.0.push(key.clone());
            }
        }
    }

    /// See [`ApiKey::strip_from`].
    pub fn strip_from<'a>(&self, path: &'a [u8]) -> Option<&'a [u8]> {
        self.0.iter().find_map(|key| key.strip_from(path))
    }

    /// See [`ApiKey::mask`]; also the beginning of a key where the text ends.
    pub fn mask(&self, text: &mut Vec<u8>) {
        for key in &self.0 {
            key.mask(text);
            key.mask_cut_end(text);
        }
    }

    /// The length of the longest, in bytes, in a form that [`ApiKey::mask`] finds.
    pub fn longest(&self) -> usize {
        self.0.iter().map(ApiKey::len).max().unwrap_or(0) * LONGEST_FORM
    }
}

fn is_uuid(text: &[u8]) -> bool {
    text.len() == UUID_BYTES
        && text.iter().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// The text with everything that looks like the vendor's keys replaced by
/// `<key>`.
pub fn mask_uuids(text: &str) -> String {
    let mut masked = text.as_bytes().to_vec();
    mask_uuids_in(&mut masked);
    String::from_utf8_lossy(&masked).into_owned()
}

/// Replaces everything that looks like the vendor's keys by `<key>`.
pub fn mask_uuids_in(text: &mut Vec<u8>) {
    mask_with(text, |text| {
        let found = text.windows(UUID_BYTES).position(is_uuid)?;
        Some(found..found + UUID_BYTES)
    });
}

/// Replaces what is found, again and again, by `<key>`.
fn mask_with(text: &mut Vec<u8>, find: impl Fn(&[u8]) -> Option<Range<usize>>) {
    const MASK: &[u8] = b"<key>";
    let mut from = 0;
    while let Some(found) = find(&text[from..]) {
        let range = from + found.start..from + found.end;
        from = range.start + MASK.len();
        text[range.clone()].zeroize();
        text.splice(range, MASK.iter().copied());
    }
}

impl ApiKey {
    /// Replaces the beginning of the key at the end of a text that was cut.
    fn mask_cut_end(&self, text: &mut Vec<u8>) {
        let key = self.0.as_slice();
        let longest = key.len().min(text.len());
        let cut = (TELLING_BYTES..=longest)
            .rev()
            .find(|length| text[text.len() - length..].eq_ignore_ascii_case(&key[..*length]));
        if let Some(length) = cut {
            text.truncate(text.len() - length);
            text.extend_from_slice(b"<key>");
        }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() {
            "ApiKey(none)"
        } else {
            "ApiKey(…)"
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_one_printable_word() {
        for (text, error) in [
            ("", BadKey::Empty),
            (" \n", BadKey::Empty),
            ("a b", BadKey::WhiteSpace),
            ("a\u{1}b", BadKey::Unprintable),
            (".key", BadKey::Dot),
            ("key.", BadKey::Dot),
        ] {
            assert_eq!(ApiKey::parse(text), Err(error), "{text:?}");
        }
        assert_eq!(
            ApiKey::parse(&"k".repeat(257)).unwrap_err(),
            BadKey::TooLong
        );
        assert_eq!(
            ApiKey::parse("\u{feff}k.e:y\r\n").unwrap().expose(),
            b"k.e:y"
        );
    }

    #[test]
    fn debug_shows_nothing() {
        let key = ApiKey::parse("sesame").unwrap();
        assert_eq!(format!("{key:?}"), "ApiKey(…)");
    }

    #[test]
    fn own_key_is_stripped_in_any_case_and_only_as_a_whole_node() {
        let key = ApiKey::parse("Abc").unwrap();
        assert_eq!(key.strip_from(b"aBC.x.y"), Some(&b"x.y"[..]));
        assert_eq!(key.strip_from(b"ABC"), Some(&b""[..]));
        assert_eq!(key.strip_from(b"abcd.x"), None);
        assert_eq!(key.strip_from(b"ab"), None);
        assert_eq!(ApiKey::none().strip_from(b".x"), None);
    }

    #[test]
    fn masking_finds_every_occurrence() {
        let key = ApiKey::parse("abc").unwrap();
        let mut text = b"xabcABCy ab abc".to_vec();
        key.mask(&mut text);
        assert_eq!(text, b"x<key><key>y ab <key>");
        for name in ["abcd", "abcde", "abcdef"] {
            let key = ApiKey::parse(name).unwrap();
            let header = BASE64_STANDARD.encode(format!("{name}:"));
            let mut text = format!("Basic {header}, and so on").into_bytes();
            key.mask(&mut text);
            assert_eq!(text, b"Basic <key>, and so on");
        }
    }

    /// The text as UTF-16, the low or the high byte first.
    fn utf16(text: &str, low_first: bool) -> Vec<u8> {
        let unit = |unit: u16| {
            if low_first {
                unit.to_le_bytes()
            } else {
                unit.to_be_bytes()
            }
        };
        text.encode_utf16().flat_map(unit).collect()
    }

    #[test]
    fn masking_finds_every_disguise() {
        let uuid = "6f1C2a9E-0d4B-4c57-9A3e-5b8E7d2F1a60";
        for name in [uuid, "se.s+me/%41-x", "s\u{e9}same"] {
            let key = ApiKey::parse(name).unwrap();
            let every = |encode: &dyn Fn(u8) -> String| -> Vec<u8> {
                name.bytes()
                    .flat_map(|byte| encode(byte).into_bytes())
                    .collect()
            };
            let interleaved = |between: &[u8]| -> Vec<u8> {
                let mut bytes = Vec::new();
                for byte in name.bytes() {
                    bytes.push(byte);
                    bytes.extend_from_slice(between);
                }
                bytes
            };
            let mut disguises = vec![
                name.into(),
                every(&|byte| format!("%{byte:02x}")),
                every(&|byte| format!("%{byte:02X}")),
                every(&|byte| format!("%25{byte:02X}")),
                every(&|byte| format!("%2525{byte:02X}")),
                every(&|byte| format!("\\u00{byte:02x}")),
                every(&|byte| format!("\\x{byte:02x}")),
                every(&|byte| format!("%00%{byte:02x}")),
                interleaved(b"\0"),
                interleaved(b"\0\0\0"),
                interleaved(b"\r\n"),
                interleaved(b"%00"),
            ];
            if name.is_ascii() {
                disguises.push(name.to_uppercase().into());
                disguises.push(utf16(name, true));
                disguises.push(utf16(name, false));
                disguises.push(utf16(&name.to_lowercase(), false));
            }
            for before in ["", "a", "ab", "abc", "user:"] {
                let carried = format!("{before}{name}:");
                let encoded = BASE64_STANDARD.encode(&carried);
                disguises.push(encoded.replace('=', "%3D").replace('+', "%2b").into());
                disguises.push(encoded.replace('+', "-").replace('/', "_").into());
                disguises.push(utf16(&encoded, true));
            }
            for disguise in disguises {
                for (before, behind) in [("", ""), ("a=", "&b"), ("%", "%"), ("\\", "\\")] {
                    let mut text = [before.as_bytes(), &disguise, behind.as_bytes()].concat();
                    let shown = text.escape_ascii().to_string();
                    key.mask(&mut text);
                    let masked = String::from_utf8_lossy(&text);
                    assert!(masked.contains("<key>"), "{shown}: {masked:?}");
                    // A few characters of base64 also depend on what is before the key.
                    let left = masked.replace("<key>", "");
                    let left = left.replace(|c: char| c.is_control(), "");
                    assert!(
                        left.len() <= before.len() + behind.len() + 12,
                        "{shown}: {left:?}"
                    );
                }
            }
        }
    }

    proptest! {
        #[test]
        fn masking_finds_any_mixture(
            name in "[!-~]{8,40}",
            forms in prop::collection::vec((0..6_usize, 0..4_usize), 40),
        ) {
            let Ok(key) = ApiKey::parse(&name) else {
                return Ok(());
            };
            let mut text = b"x ".to_vec();
            for (byte, (form, control)) in name.bytes().zip(forms) {
                text.extend_from_slice(["", "\0", "%00", "\\u000a"][control].as_bytes());
                match form {
                    0 => text.extend_from_slice(format!("%{byte:02x}").as_bytes()),
                    1 => text.extend_from_slice(format!("%25{byte:02X}").as_bytes()),
                    2 => text.extend_from_slice(format!("\\u00{byte:02x}").as_bytes()),
                    3 => text.push(byte.to_ascii_uppercase()),
                    _ => text.push(byte),
                }
            }
            key.mask(&mut text);
            let is_masked = memchr::memmem::find(&text, b"<key>").is_some();
            prop_assert!(is_masked, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn masking_leaves_the_rest_alone() {
        let key = ApiKey::parse("sesame").unwrap();
        for text in [
            "",
            "%",
            "%7",
            "\\",
            "\\u00",
            "\\x7",
            "%25%25%2",
            "sesam",
            "s e s a m e",
            "%73esam",
        ] {
            let mut masked = text.as_bytes().to_vec();
            key.mask(&mut masked);
            assert_eq!(masked, text.as_bytes());
        }
    }

    #[test]
    fn keys_of_former_days_are_still_ours() {
        let mut keys = OwnKeys::from(ApiKey::parse("new").unwrap());
        keys.remember(&ApiKey::parse("old").unwrap().into());
        assert_eq!(keys.strip_from(b"OLD.x"), Some(&b"x"[..]));
        assert_eq!(keys.strip_from(b"new.x"), Some(&b"x"[..]));
        let mut text = b"old new".to_vec();
        keys.mask(&mut text);
        assert_eq!(text, b"<key> <key>");
    }

    #[test]
    fn a_key_that_was_cut_or_misplaced_is_masked_too() {
        let key = ApiKey::parse("sesame-and-more").unwrap();
        for (text, masked) in [("x SESAME-an", "x <key>"), ("x sesam", "x sesam")] {
            let mut text = text.as_bytes().to_vec();
            key.mask_cut_end(&mut text);
            assert_eq!(text, masked.as_bytes());
        }
        let uuid = "6f1c2a9e-0d4b-4c57-9a3e-5b8e7d2f1a60";
        assert_eq!(mask_uuids(&format!("a {uuid} b")), "a <key> b");
    }

    #[test]
    fn a_key_file_must_be_a_regular_file() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(
            ApiKey::read(directory.path()),
            Err(KeyFileError::NotAFile)
        ));
        let path = directory.path().join("key");
        std::fs::write(&path, "sesame\r\n").unwrap();
        assert_eq!(ApiKey::read(&path).unwrap().key.expose(), b"sesame");
        std::fs::write(&path, "k".repeat(5000)).unwrap();
        assert!(matches!(
            ApiKey::read(&path),
            Err(KeyFileError::BadKey(BadKey::TooLong))
        ));
    }
}
