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
    let value_end = value_length(&rest[1..]);
    let (value, rest) = rest[1..].split_at(value_end);
    let (plain, end) = match rest {
        [b'\n', ..] => (Plain::Timeless as fn(usize) -> Plain, 1),
        [b' ', rest @ ..] if is_timestamp(rest) => {
            (Plain::Timed as fn(usize) -> Plain, TIMESTAMP_DIGITS + 2)
        }
        _ => return Plain::No,
    };
    let length = name_end + 1 + value.len() + end;
    let is_plain = length <= rules.max_line_bytes
        && rules.names == NameRule::Any
        && is_name(name)
        && is_value(value)
        && rules.key.strip_from(name).is_none();
    if is_plain { plain(length) } else { Plain::No }
}

/// Printable, without tags, dots only between nodes.
fn is_name(name: &[u8]) -> bool {
    let [first, .., last] = name else {
        return matches!(name, [b'!'..=b'-' | b'/'..=b':' | b'<'..=b'~']);
    };
    // Without branches, so that many bytes are looked at together.
    let odd = name.iter().fold(false, |odd, byte| {
        odd | !(b'!'..=b'~').contains(byte) | (*byte == b';')
    });
    let needless = name
        .iter()
        .zip(&name[1..])
        .fold(false, |needless, pair| needless | (pair == (&b'.', &b'.')));
    !odd && !needless && *first != b'.' && *last != b'.'
}

/// How far digits, signs and points reach.
fn value_length(text: &[u8]) -> usize {
    let text = &text[..text.len().min(MAX_VALUE_BYTES)];
    let end = text.iter().position(|byte| !matches!(byte, b'-'..=b'9'));
    end.unwrap_or(text.len())
}

/// Digits, perhaps with a minus before them and one point among them.
fn is_value(value: &[u8]) -> bool {
    let unsigned = value.strip_prefix(b"-").unwrap_or(value);
    let (digits, points) = unsigned.iter().fold((0, 0), |(digits, points), byte| {
        (
            digits + usize::from(byte.is_ascii_digit()),
            points + usize::from(*byte == b'.'),
        )
    });
    digits > 0 && points <= 1 && digits + points == unsigned.len()
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
