//! Numbers as Graphite clients write them: the value and the timestamp.
//!
//! Text is checked, never reprinted, since a reprint changes it
//! (`9007199254740993` through a double becomes `…992`).

/// A double holds every plain integer of this number of digits, so only longer ones
/// and exponents need to be looked at for an overflow.
const SURELY_FINITE_DIGITS: usize = 300;

/// Ten digits reach the year 2286; more are milliseconds, or nonsense.
const MAX_TIMESTAMP_DIGITS: usize = 10;

/// What a text that should be a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// A finite number.
    Finite,
    /// NaN or infinite, spelled out or by overflow.
    NotFinite,
    /// No number.
    NotANumber,
}

/// When a point was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timestamp {
    /// Seconds since 1970, as the client said.
    At(u64),
    /// The client left it to us: when the line was received.
    Receipt,
}

/// The parts of `[+-]digits[.digits][(e|E)[+-]digits]`.
struct Number<'a> {
    negative: bool,
    integer: &'a [u8],
    fraction: &'a [u8],
    has_exponent: bool,
}

/// Tells whether a value is one that can be stored.
pub fn value(text: &[u8]) -> Value {
    match Number::parse(text) {
        Some(number) if number.is_surely_finite() => Value::Finite,
        Some(_) if double(text).is_finite() => Value::Finite,
        Some(_) => Value::NotFinite,
        None if spells_not_finite(text) => Value::NotFinite,
        None => Value::NotANumber,
    }
}

/// Reads a timestamp, or says what is wrong with it.
pub fn timestamp(text: &[u8]) -> Result<Timestamp, &'static str> {
    if text == b"N" {
        return Ok(Timestamp::Receipt);
    }
    let number = Number::parse(text).ok_or("not a time; write whole seconds since 1970")?;
    let whole = number.whole_seconds(text)?;
    match (number.negative, whole) {
        (false, whole) => Ok(Timestamp::At(whole)),
        // Carbon's way of saying "now".
        (true, 1) => Ok(Timestamp::Receipt),
        (true, _) => Err("before 1970; only -1, for now, may be negative"),
    }
}

impl<'a> Number<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        let (integer, rest) = digits(rest);
        let (fraction, rest) = match rest {
            [b'.', rest @ ..] => digits(rest),
            rest => (&rest[..0], rest),
        };
        if integer.is_empty() && fraction.is_empty() {
            return None;
        }
        let has_exponent = match rest {
            [] => false,
            [b'e' | b'E', rest @ ..] => {
                let rest = match rest {
                    [b'+' | b'-', rest @ ..] => rest,
                    rest => rest,
                };
                let (exponent, rest) = digits(rest);
                if exponent.is_empty() || !rest.is_empty() {
                    return None;
                }
                true
            }
            _ => return None,
        };
        Some(Self {
            negative,
            integer,
            fraction,
            has_exponent,
        })
    }

    fn is_surely_finite(&self) -> bool {
        !self.has_exponent && self.integer.len() <= SURELY_FINITE_DIGITS
    }

    fn whole_seconds(&self, text: &[u8]) -> Result<u64, &'static str> {
        const MILLISECONDS: &str = "milliseconds; write whole seconds";
        const TOO_LONG: &str = "too far in the future; write whole seconds since 1970";
        if self.has_exponent {
            let seconds = double(text).abs();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "not negative, below 10^10, and meant to be cut to whole seconds"
            )]
            return if seconds < 1e10 {
                Ok(seconds as u64)
            } else if (1e12..1e13).contains(&seconds) {
                Err(MILLISECONDS)
            } else {
                Err(TOO_LONG)
            };
        }
        let zeros = self
            .integer
            .iter()
            .take_while(|byte| **byte == b'0')
            .count();
        match &self.integer[zeros..] {
            significant if significant.len() <= MAX_TIMESTAMP_DIGITS => Ok(significant
                .iter()
                .fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'))),
            significant if significant.len() == 13 && self.fraction.is_empty() => Err(MILLISECONDS),
            _ => Err(TOO_LONG),
        }
    }
}

fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// The double that a text of the grammar above stands for; infinite when it
/// overflows.
pub fn double(text: &[u8]) -> f64 {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(f64::NAN)
}

/// `nan`, `-NaN`, `nan(0x1)`, `+Inf`, `Infinity`, and `1.#INF` of old Windows
/// runtimes.
fn spells_not_finite(text: &[u8]) -> bool {
    let unsigned = match text {
        [b'-' | b'+', rest @ ..] => rest,
        rest => rest,
    };
    let starts_with = |word: &[u8]| {
        unsigned
            .get(..word.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(word))
    };
    let is = |word: &[u8]| unsigned.eq_ignore_ascii_case(word);
    is(b"nan")
        || is(b"inf")
        || is(b"infinity")
        || (starts_with(b"nan(") && unsigned.ends_with(b")"))
        || starts_with(b"1.#INF")
        || starts_with(b"1.#IND")
        || starts_with(b"1.#QNAN")
        || starts_with(b"1.#SNAN")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        for text in [
            "0",
            "-0",
            "1",
            "+1",
            "1.",
            ".5",
            "-.5",
            "1e-07",
            "1E+22",
            "1e300",
            "1e-400",
            "9007199254740993",
            "00012",
            "3.14159",
        ] {
            assert_eq!(value(text.as_bytes()), Value::Finite, "{text}");
        }
        for text in [
            "nan",
            "NaN",
            "-nan",
            "NAN",
            "nan(0x8)",
            "inf",
            "+Inf",
            "-Infinity",
            "1e400",
            "-1e400",
            "1.#INF",
            "-1.#IND",
            "1.#QNAN0",
        ] {
            assert_eq!(value(text.as_bytes()), Value::NotFinite, "{text}");
        }
        assert_eq!(value("9".repeat(400).as_bytes()), Value::NotFinite);
        assert_eq!(value("0".repeat(400).as_bytes()), Value::Finite);
        for text in [
            "", "+", "-", ".", "-.", "e5", "1e", "1e+", "1_000", "0x10", "True", "1,5", "1.2.3",
            "--1", "٣", "1f", "infin", "nanny",
        ] {
            assert_eq!(value(text.as_bytes()), Value::NotANumber, "{text}");
        }
    }

    #[test]
    fn timestamps() {
        for (text, seconds) in [
            ("1700000000", 1_700_000_000),
            ("0", 0),
            ("42", 42),
            ("+7", 7),
            ("0001700000000", 1_700_000_000),
            ("1700000000.999", 1_700_000_000),
            ("1700000000.", 1_700_000_000),
            (".5", 0),
            ("1e9", 1_000_000_000),
            ("1.7e9", 1_700_000_000),
            ("9999999999", 9_999_999_999),
        ] {
            assert_eq!(
                timestamp(text.as_bytes()),
                Ok(Timestamp::At(seconds)),
                "{text}"
            );
        }
        for text in ["N", "-1", "-1.0", "-1.5"] {
            assert_eq!(timestamp(text.as_bytes()), Ok(Timestamp::Receipt), "{text}");
        }
        for text in [
            "n",
            "now",
            "-2",
            "-5",
            "-0",
            "10000000000",
            "1700000000123",
            "17000000001234567",
            "1e10",
            "1e400",
            "inf",
            "nan",
            "-inf",
            "0x5",
            "17x5",
            "1.7e12",
            "True",
            "-",
        ] {
            assert!(timestamp(text.as_bytes()).is_err(), "{text}");
        }
        assert!(
            timestamp(b"1700000000123")
                .unwrap_err()
                .contains("milliseconds")
        );
    }
}
