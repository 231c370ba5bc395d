//! Lines that need nothing done to them, told at a glance.
//!
//! Nearly all lines are written just as they are stored: a name of printable
//! ASCII without tags or needless dots, one blank, a number without exponent,
//! one blank, ten digits. They pass in one go, and are copied together.
//! Whatever is not surely of that kind is left to [`super::Line::parse`], which
//! alone knows what else is good: a test compares the two.

use wide::u8x16;

use crate::config::NameRule;

use super::Rules;

/// Bytes that are looked at together: a register of any processor of today.
const TOGETHER: usize = 16;

/// As many hold what follows a name, with few exceptions: a blank, a number of
/// nineteen characters, another blank, ten digits, a newline.
const TAIL: usize = 2 * TOGETHER;

/// Until the year 2286, and since 2001.
const TIMESTAMP_DIGITS: usize = 10;

/// What lines begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plain {
    /// A line to be stored as it is: this number of bytes, its newline among them.
    Timed(usize),
    /// A line that only lacks its time.
    Timeless(usize),
    /// A line to be looked at closely.
    No,
}

/// Looks at the first of some lines.
pub fn first(lines: &[u8], rules: &Rules) -> Plain {
    let Some(name) = name(lines) else {
        return Plain::No;
    };
    let is_plain = name + TAIL <= rules.max_line_bytes
        && rules.names == NameRule::Any
        && rules.key.strip_from(&lines[..name]).is_none();
    if !is_plain {
        return Plain::No;
    }
    match tail(&lines[name + 1..]) {
        Some(Tail::Timed(bytes)) => Plain::Timed(name + 1 + bytes),
        Some(Tail::Timeless(bytes)) => Plain::Timeless(name + 1 + bytes),
        None => Plain::No,
    }
}

/// The length of the name that these bytes begin with, if a blank ends it:
/// printable, without tags, dots only between nodes.
fn name(bytes: &[u8]) -> Option<usize> {
    let mut length = 0;
    // A node begins where the name does, and after each dot. No dot may stand
    // there, nor the blank: a node is never empty.
    let mut begins = 1;
    loop {
        let seen = Seen::at(bytes.get(length..)?);
        let blank = seen.is(b' ').to_bitmask();
        let dots = seen.is(b'.').to_bitmask();
        let odd = (seen.is(b';') | !seen.is_within(b' ', b'~')).to_bitmask();
        begins |= dots << 1;
        // All bits up to the first blank, or all.
        let until_blank = blank ^ blank.wrapping_sub(1);
        if (odd | begins & (dots | blank)) & until_blank & ALL != 0 {
            return None;
        }
        if blank != 0 {
            return Some(length + blank.trailing_zeros() as usize);
        }
        begins >>= TOGETHER;
        length += TOGETHER;
    }
}

/// What follows a name and its blank, to the end of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// A value and a time: this number of bytes, the newline among them.
    Timed(usize),
    /// A value alone.
    Timeless(usize),
}

/// Digits, perhaps with a minus before them and one point among them; then
/// perhaps a blank and ten digits, the first of which is not 0.
fn tail(bytes: &[u8]) -> Option<Tail> {
    let first = Seen::at(bytes);
    let second = Seen::at(bytes.get(TOGETHER..).unwrap_or_default());
    let digits = first.is_within(b'0', b'9').to_bitmask()
        | second.is_within(b'0', b'9').to_bitmask() << TOGETHER;
    let points = first.is(b'.').to_bitmask() | second.is(b'.').to_bitmask() << TOGETHER;

    let sign = u32::from(bytes.first() == Some(&b'-'));
    let length = ((digits | points) >> sign).trailing_ones();
    let end = (sign + length) as usize;
    if end >= TAIL {
        return None;
    }
    let points = (points & ((1 << end) - 1)).count_ones();
    if points > 1 || length == points {
        return None;
    }
    match bytes.get(end)? {
        b'\n' => Some(Tail::Timeless(end + 1)),
        b' ' => {
            let time = end + 1;
            let time_end = time + TIMESTAMP_DIGITS;
            let is_time = time_end < TAIL
                && digits >> time & TEN == TEN
                && bytes.get(time) != Some(&b'0')
                && bytes.get(time_end) == Some(&b'\n');
            is_time.then_some(Tail::Timed(time_end + 1))
        }
        _ => None,
    }
}

/// A bit for each byte that is looked at.
const ALL: u32 = (1 << TOGETHER) - 1;

/// A bit for each digit of a time.
const TEN: u32 = (1 << TIMESTAMP_DIGITS) - 1;

/// Some bytes. Behind the end of a read follow zeroes, which nothing holds.
struct Seen(u8x16);

impl Seen {
    fn at(bytes: &[u8]) -> Self {
        let together = bytes.first_chunk().copied().unwrap_or_else(|| {
            let mut padded = [0; TOGETHER];
            padded[..bytes.len()].copy_from_slice(bytes);
            padded
        });
        Self(u8x16::new(together))
    }

    /// Which of them are this byte.
    fn is(&self, byte: u8) -> u8x16 {
        self.0.simd_eq(u8x16::splat(byte))
    }

    /// Which of them are in a range.
    fn is_within(&self, low: u8, high: u8) -> u8x16 {
        let above_low = self.0 - u8x16::splat(low);
        above_low.min(u8x16::splat(high - low)).simd_eq(above_low)
    }
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
