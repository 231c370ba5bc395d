//! A pickle's text and numbers as the text that a line is made of.

use std::io::Write;

use super::opcode::Leaf;

/// A number is written in full before it is cut: an f64 has 309 digits and a few more.
pub const MAX_OVERRUN: usize = 320;

/// What no double holds.
const INFINITE: &[u8] = b"inf";

/// In no text of UTF-8.
const NO_UTF8: u8 = 0xff;

/// Appends a value's text, but so much at most; whether it has any.
pub fn append(leaf: Leaf<'_>, room: usize, out: &mut Vec<u8>) -> bool {
    let before = out.len();
    match leaf {
        Leaf::Text(text) | Leaf::Digits(text) => {
            out.extend_from_slice(&text[..text.len().min(room)]);
        }
        Leaf::Literal(text) => append_literal(text, room, out),
        Leaf::Escaped(text) => append_escaped(text, room, out),
        Leaf::Int(number) => {
            out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        }
        Leaf::Long(bytes) => append_long(bytes, out),
        // As short as it can be while it stays the same double. Writing to
        // memory does not fail.
        Leaf::Float(number) => {
            let _ = write!(out, "{number:?}");
        }
        Leaf::Other => return false,
    }
    out.truncate(before + room);
    true
}

/// The inside of a Python string literal, with what `repr` escapes in it.
fn append_literal(mut text: &[u8], room: usize, out: &mut Vec<u8>) {
    let end = out.len() + room;
    while let [byte, rest @ ..] = text
        && out.len() < end
    {
        let escape = if *byte == b'\\' { escape(rest) } else { None };
        let (meant, length) = escape.unwrap_or((*byte, 0));
        out.push(meant);
        text = &rest[length..];
    }
}

/// The byte that is meant by what follows a backslash, and its length.
fn escape(text: &[u8]) -> Option<(u8, usize)> {
    Some(match text {
        [quoted @ (b'\\' | b'\'' | b'"'), ..] => (*quoted, 1),
        [b'n', ..] => (b'\n', 1),
        [b'r', ..] => (b'\r', 1),
        [b't', ..] => (b'\t', 1),
        [b'x', digits @ ..] => (u8::try_from(hex(digits, 2)?).ok()?, 3),
        _ => return None,
    })
}

/// Latin-1, where `\u` and `\U` escape other characters. Half of a surrogate
/// pair is no character: what is written for it is no UTF-8, and so refused.
fn append_escaped(mut text: &[u8], room: usize, out: &mut Vec<u8>) {
    let end = out.len() + room;
    while let [byte, rest @ ..] = text
        && out.len() < end
    {
        let escape = match rest {
            [b'u', digits @ ..] if *byte == b'\\' => hex(digits, 4).map(|code| (code, 5)),
            [b'U', digits @ ..] if *byte == b'\\' => hex(digits, 8).map(|code| (code, 9)),
            _ => None,
        };
        let (code, length) = escape.unwrap_or((u32::from(*byte), 0));
        match char::from_u32(code) {
            Some(character) => {
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            None => out.push(NO_UTF8),
        }
        text = &rest[length..];
    }
}

/// The number that this number of hexadecimal digits stand for.
fn hex(text: &[u8], digits: usize) -> Option<u32> {
    text.get(..digits)?.iter().try_fold(0, |number, digit| {
        Some(number << 4 | char::from(*digit).to_digit(16)?)
    })
}

/// A whole number in two's complement, lowest byte first, in decimal digits. No metric
/// has more than 38 of them, so a larger one counts as infinite.
fn append_long(bytes: &[u8], out: &mut Vec<u8>) {
    let sign = match bytes.last() {
        Some(highest) if highest & 0x80 != 0 => 0xff,
        _ => 0,
    };
    let mut wide = [sign; size_of::<i128>()];
    let (number, rest) = bytes.split_at(bytes.len().min(wide.len()));
    wide[..number.len()].copy_from_slice(number);
    let has_sign = wide
        .last()
        .is_some_and(|highest| highest & 0x80 == sign & 0x80);
    if !has_sign || rest.iter().any(|byte| *byte != sign) {
        return out.extend_from_slice(INFINITE);
    }
    let number = i128::from_le_bytes(wide);
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(leaf: Leaf<'_>) -> String {
        let mut out = Vec::new();
        assert!(append(leaf, 400, &mut out));
        out.escape_ascii().to_string()
    }

    #[test]
    fn strings() {
        for (leaf, expected) in [
            (Leaf::Text(b"a.b"), "a.b"),
            (Leaf::Literal(b"it\\'s"), "it\\\'s"),
            (Leaf::Literal(b"it's"), "it\\\'s"),
            (Leaf::Literal(b"a\\\\b"), "a\\\\b"),
            (Leaf::Literal(b"a\\n\\r\\tb"), "a\\n\\r\\tb"),
            (Leaf::Literal(b"\\xc3\\xa9"), "\\xc3\\xa9"),
            (Leaf::Literal(b"\\q\\x4"), "\\\\q\\\\x4"),
            (Leaf::Literal(b"\\"), "\\\\"),
            (
                Leaf::Escaped(b"a.\\u00e9.\\U0001f600"),
                "a.\\xc3\\xa9.\\xf0\\x9f\\x98\\x80",
            ),
            (Leaf::Escaped(b"a.\xe9"), "a.\\xc3\\xa9"),
            (Leaf::Escaped(b"a\\u005cb\\u000a\\u12"), "a\\\\b\\n\\\\u12"),
            (Leaf::Escaped(b"\\ud83d"), "\\xff"),
        ] {
            assert_eq!(text(leaf), expected, "{leaf:?}");
        }
        assert!(!append(Leaf::Other, 9, &mut Vec::new()));
    }

    #[test]
    fn numbers() {
        for (leaf, expected) in [
            (Leaf::Digits(b"007"), "007"),
            (Leaf::Int(-7), "-7"),
            (Leaf::Long(b""), "0"),
            (Leaf::Long(b"\xff"), "-1"),
            (Leaf::Long(b"\xff\x00"), "255"),
            (Leaf::Long(b"\0\0\0\0\x01"), "4294967296"),
            (Leaf::Float(0.1), "0.1"),
            (Leaf::Float(1.0), "1.0"),
            (Leaf::Float(1e22), "1e22"),
            (Leaf::Float(-1e-7), "-1e-7"),
            (Leaf::Float(f64::MAX), "1.7976931348623157e308"),
            (Leaf::Float(f64::NAN), "NaN"),
            (Leaf::Float(f64::NEG_INFINITY), "-inf"),
        ] {
            assert_eq!(text(leaf), expected, "{leaf:?}");
        }
        let most = i128::MAX.to_le_bytes();
        assert_eq!(text(Leaf::Long(&most)), i128::MAX.to_string());
        for beyond in [
            [&most[..15], &[0x80, 0]].concat(),
            [&[0; 25][..], &[1]].concat(),
            [&[0; 25][..], &[0xff]].concat(),
        ] {
            assert_eq!(text(Leaf::Long(&beyond)), "inf", "{beyond:?}");
        }
    }

    proptest! {
        /// No more than there is room for, and a beginning of the whole.
        #[test]
        fn no_text_is_longer_than_its_room(
            bytes in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..135),
                "(\\\\(x[0-9a-f]{0,2}|u[0-9a-f]{0,4}|U0001[0-9a-f]{0,4}|.)|[a-z]){0,9}".prop_map(String::into_bytes),
            ],
            room in 0..40_usize,
        ) {
            for leaf in [
                Leaf::Text(&bytes),
                Leaf::Literal(&bytes),
                Leaf::Escaped(&bytes),
                Leaf::Long(&bytes),
            ] {
                let (mut cut, mut whole) = (Vec::with_capacity(2 + room + MAX_OVERRUN), b"a ".to_vec());
                cut.extend_from_slice(&whole);
                append(leaf, room, &mut cut);
                append(leaf, 1000, &mut whole);
                prop_assert!(cut.len() <= 2 + room && whole.starts_with(&cut));
                prop_assert!(cut.capacity() <= 2 + room + MAX_OVERRUN);
                prop_assert!(cut.len() == 2 + room || cut == whole);
            }
        }

        /// As Rust's own numbers have it, where they reach.
        #[test]
        fn whole_numbers_are_written_in_full(number in any::<i128>(), padding in 0..4_usize) {
            let mut bytes = number.to_le_bytes().to_vec();
            bytes.resize(bytes.len() + padding, if number < 0 { 0xff } else { 0 });
            prop_assert_eq!(text(Leaf::Long(&bytes)), number.to_string());
        }

        #[test]
        fn a_float_stays_the_same_double(number in any::<f64>()) {
            let again: f64 = text(Leaf::Float(number)).parse().unwrap();
            prop_assert!(again.to_bits() == number.to_bits() || number.is_nan());
        }
    }
}
