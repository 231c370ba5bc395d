//! Numbers, times and sentences for people.

use std::time::Duration;

/// `1234567` as `1,234,567`.
pub fn thousands(number: impl Into<i128>) -> String {
    let digits = number.into().to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) && grouped != "-" {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1536` as `1.5 KiB`.
pub fn bytes(bytes: usize) -> String {
    const UNITS: [(usize, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let Some((unit, name)) = UNITS.into_iter().find(|(unit, _)| bytes >= *unit) else {
        return format!("{bytes} B");
    };
    let tenths = bytes as u128 * 10 / unit as u128;
    if tenths.is_multiple_of(10) || tenths >= 1000 {
        format!("{} {name}", tenths / 10)
    } else {
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    }
}

/// A short time as it was measured.
pub fn took(time: Duration) -> String {
    match time.as_millis() {
        0 => "less than 1 ms".to_owned(),
        millis @ 1..10_000 => format!("{millis} ms"),
        millis => format!("{} s", millis / 1000),
    }
}

/// `3 lines`, `1 line`.
pub fn count(number: u64, one: &str, many: &str) -> String {
    let noun = if number == 1 { one } else { many };
    format!("{} {noun}", thousands(number))
}

/// The text in lines of at most `width` columns, broken at blanks; all but the
/// first are indented.
pub fn wrap(text: &str, width: usize, indent: usize) -> String {
    let mut wrapped = String::with_capacity(text.len());
    let mut column = 0;
    for (index, word) in text.split(' ').enumerate() {
        let length = visible(word);
        if column > indent && column + 1 + length > width {
            wrapped.push('\n');
            wrapped.extend(std::iter::repeat_n(' ', indent));
            column = indent;
        } else if index > 0 {
            wrapped.push(' ');
            column += 1;
        }
        wrapped += word;
        column += length;
    }
    wrapped
}

/// The width of a text on a terminal, without its colours.
pub fn visible(text: &str) -> usize {
    let plain = anstream::adapter::strip_str(text).to_string();
    unicode_width::UnicodeWidthStr::width(plain.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
            (-123_456, "-123,456"),
        ] {
            assert_eq!(thousands(number), text);
        }
    }

    #[test]
    fn sizes_and_times_are_short() {
        for (size, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (64 << 20, "64 MiB"),
            (150 << 20, "150 MiB"),
        ] {
            assert_eq!(bytes(size), text);
        }
        assert_eq!(took(Duration::from_micros(300)), "less than 1 ms");
        assert_eq!(took(Duration::from_millis(1234)), "1234 ms");
        assert_eq!(took(Duration::from_secs(12)), "12 s");
    }

    #[test]
    fn sentences_are_broken_at_blanks() {
        assert_eq!(wrap("one two three", 7, 2), "one two\n  three");
        assert_eq!(wrap("one two three", 80, 2), "one two three");
        assert_eq!(
            wrap("  indented twice over", 12, 4),
            "  indented\n    twice\n    over"
        );
        assert_eq!(
            wrap("a/very/long/word here", 5, 1),
            "a/very/long/word\n here"
        );
        assert_eq!(
            wrap("\u{1b}[31mone\u{1b}[0m two", 7, 0),
            "\u{1b}[31mone\u{1b}[0m two"
        );
    }
}
