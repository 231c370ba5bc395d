//! Lines that need nothing done to them, told at a glance.
//!
//! Nearly all lines are written just as they are stored: a name of printable
//! ASCII without tags or needless dots, one blank, a number without exponent,
//! one blank, ten digits. They pass in one go, and are copied together.
//! Whatever is not surely of that kind is left to [`super::Line::parse`], which
//! alone knows what else is good: a test compares the two.

use memchr::memchr2;

use crate::config::NameRule;

use super::Rules;

/// No plain value is longer, so that none overflows a double.
const MAX_VALUE_BYTES: usize = 64;

/// Bytes that fit into one register of any processor of today.
const TOGETHER: usize = 16;

/// Until the year 2286, and since 2001.
const TIMESTAMP_DIGITS: usize = 10;

/// What lines begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plain {
    /// A line to be stored as it is: so many bytes, its newline among them.
    Timed(usize),
    /// A line that only lacks its time.
    Timeless(usize),
    /// A line to be looked at closely.
    No,
}

/// Looks at the first of some lines.
pub fn first(lines: &[u8], rules: &Rules) -> Plain {
    let limit = lines.len().min(rules.max_line_bytes);
    let Some(name_end) = memchr2(b' ', b'\n', &lines[..limit]) else {
        return Plain::No;
    };
    if lines[name_end] == b'\n' {
        return Plain::No;
    }
    let (name, rest) = lines.split_at(name_end);
    let Some(value_length) = value(&rest[1..]) else {
        return Plain::No;
    };
    let before_time = name_end + 1 + value_length;
    let plain = match &lines[before_time..] {
        [b'\n', ..] => Plain::Timeless(before_time + 1),
        [b' ', rest @ ..] if is_timestamp(rest) => Plain::Timed(before_time + TIMESTAMP_DIGITS + 2),
        _ => return Plain::No,
    };
    let is_plain = before_time + TIMESTAMP_DIGITS < rules.max_line_bytes
        && rules.names == NameRule::Any
        && is_name(name)
        && rules.key.strip_from(name).is_none();
    if is_plain { plain } else { Plain::No }
}

/// Printable, without tags, dots only between nodes.
fn is_name(name: &[u8]) -> bool {
    let ends = name.first().zip(name.last());
    let is_framed = ends.is_some_and(|(first, last)| *first != b'.' && *last != b'.');
    is_framed && !any(name, is_odd) && !any_pair(name)
}

fn is_odd(byte: u8) -> u8 {
    u8::from(byte.wrapping_sub(b'!') > b'~' - b'!') | u8::from(byte == b';')
}

/// Whether a byte is of a kind. So many are looked at together, without
/// branches; the last ones may overlap those before.
fn any(bytes: &[u8], is: impl Fn(u8) -> u8) -> bool {
    let (chunks, _) = bytes.as_chunks::<TOGETHER>();
    let Some(last) = bytes.last_chunk::<TOGETHER>() else {
        return bytes.iter().any(|byte| is(*byte) != 0);
    };
    let mut found = [0; TOGETHER];
    for chunk in chunks.iter().chain([last]) {
        for (found, byte) in found.iter_mut().zip(chunk) {
            *found |= is(*byte);
        }
    }
    found.contains(&1)
}

/// Whether two dots stand side by side; in the same way.
fn any_pair(bytes: &[u8]) -> bool {
    let Some((_, after)) = bytes.split_first() else {
        return false;
    };
    let before = &bytes[..after.len()];
    let lasts = before
        .last_chunk::<TOGETHER>()
        .zip(after.last_chunk::<TOGETHER>());
    let Some((last_before, last_after)) = lasts else {
        return before.iter().zip(after).any(|pair| pair == (&b'.', &b'.'));
    };
    let (chunks_before, _) = before.as_chunks::<TOGETHER>();
    let (chunks_after, _) = after.as_chunks::<TOGETHER>();
    let mut found = [0; TOGETHER];
    let pairs = chunks_before.iter().zip(chunks_after);
    for (before, after) in pairs.chain([(last_before, last_after)]) {
        for (found, pair) in found.iter_mut().zip(before.iter().zip(after)) {
            *found |= u8::from(*pair.0 == b'.') & u8::from(*pair.1 == b'.');
        }
    }
    found.contains(&1)
}

/// The length of a value: digits, perhaps with a minus before them and one
/// point among them.
fn value(text: &[u8]) -> Option<usize> {
    let sign = usize::from(text.first() == Some(&b'-'));
    let (mut length, mut points) = (sign, 0);
    for byte in text.iter().skip(sign).take(MAX_VALUE_BYTES) {
        match byte {
            b'0'..=b'9' => {}
            b'.' => points += 1,
            _ => break,
        }
        length += 1;
    }
    (points <= 1 && length > sign + points).then_some(length)
}

/// Ten digits and a newline.
fn is_timestamp(text: &[u8]) -> bool {
    let Some((digits, [b'\n', ..])) = text.split_first_chunk::<TIMESTAMP_DIGITS>() else {
        return false;
    };
    digits[0] != b'0'
        && digits
            .iter()
            .fold(true, |all, byte| all & byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ApiKey;

    fn rules() -> Rules {
        Rules {
            names: NameRule::Any,
            max_line_bytes: 60,
            key: ApiKey::parse("key").unwrap().into(),
        }
    }

    #[test]
    fn plain_lines_are_known() {
        for (line, expected) in [
            ("a.b 1 1700000000\n", Plain::Timed(17)),
            ("a -0.5 1700000000\nb 1 1700000000\n", Plain::Timed(18)),
            ("a .5 1700000000\n", Plain::Timed(16)),
            ("a 5. 1700000000\n", Plain::Timed(16)),
            ("a.b 1\n", Plain::Timeless(6)),
            ("keyed.a 1\n", Plain::Timeless(10)),
        ] {
            assert_eq!(first(line.as_bytes(), &rules()), expected, "{line}");
        }
    }

    #[test]
    fn all_others_are_left_alone() {
        for line in [
            "",
            "\n",
            "a\n",
            "a\n1\n",
            "a \n",
            "a 1",
            "a 1 1700000000",
            " a 1\n",
            "a  1\n",
            "a\t1\n",
            "a 1 \n",
            "a 1\r\n",
            "a 1 1700000000\r\n",
            "a 1 170000000\n",
            "a 1 0700000000\n",
            "a 1 17000000000\n",
            "a 1 1700000000 2\n",
            "a 1e5\n",
            "a +1\n",
            "a 1.2.3\n",
            "a 1-2\n",
            "a -\n",
            "a .\n",
            "a 1/2\n",
            "a nan\n",
            ".a 1\n",
            "a. 1\n",
            "a..b 1\n",
            ". 1\n",
            "a;b=c 1\n",
            "; 1\n",
            "é 1\n",
            "a\u{7f} 1\n",
            "a\0 1\n",
            "key.a 1\n",
            "KEY.a 1\n",
            "a.name.that.is.longer.than.the.limit.of.a.line.which.is.sixty 1\n",
        ] {
            assert_eq!(first(line.as_bytes(), &rules()), Plain::No, "{line:?}");
        }
    }
}
