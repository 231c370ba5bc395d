//! Numbers, times and sentences for people, and text that others wrote, made safe to
//! show.

use std::fmt::Write as _;
use std::time::Duration;

/// Whether a terminal, or a reader, could be deceived by a character: controls (C0, C1,
/// DEL), characters that change the direction of text (bidi), characters that nobody
/// sees, and line separators. Unicode Standard Annex #9; CVE-2021-42574.
pub fn is_deceptive(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Text that came from elsewhere, safe to print: deceptive characters as `\u{1b}`, bytes
/// that are not UTF-8 as `\xff`.
pub fn escape(text: impl AsRef<[u8]>) -> String {
    let text = text.as_ref();
    let mut escaped = String::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            if is_deceptive(character) {
                escaped.extend(character.escape_default());
            } else {
                escaped.push(character);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(escaped, "\\x{byte:02x}");
        }
    }
    escaped
}

/// JSON, safe to print: inside texts, deceptive characters as `\u001b`. Between them,
/// line breaks are left as they are.
pub fn escape_json(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '\n' | '\t' => escaped.push(character),
            // White space to JSON, and the start of the line to a terminal.
            '\r' => {}
            _ if is_deceptive(character) => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let _ = write!(escaped, "\\u{unit:04x}");
                }
            }
            _ => escaped.push(character),
        }
    }
    escaped
}

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
pub fn duration(time: Duration) -> String {
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

/// An estimate in words: its largest unit, of which there are two at least.
/// Nothing where there is none.
pub fn estimate(seconds: f64) -> Option<String> {
    const UNITS: [(f64, &str); 3] = [(86_400.0, "d"), (3600.0, "h"), (60.0, "min")];
    if seconds.is_nan() {
        return None;
    }
    if seconds > 365.0 * 86_400.0 {
        return Some("over a year".to_owned());
    }
    let unit = UNITS.iter().find(|(unit, _)| seconds >= 2.0 * unit);
    let (unit, name) = unit.copied().unwrap_or((1.0, "s"));
    Some(format!("{:.0} {name}", seconds / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every character that can move the cursor, hide, or turn text around.
    #[test]
    fn text_of_others_cannot_deceive() {
        let controls = ('\0'..='\u{1f}').chain('\u{7f}'..='\u{9f}');
        let bidi = ('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}');
        let marks = ['\u{200e}', '\u{200f}', '\u{61c}', '\u{2028}', '\u{2029}'];
        let unseen = ('\u{200b}'..='\u{200d}').chain(['\u{feff}', '\u{2060}', '\u{ad}']);
        for character in controls.chain(bidi).chain(marks).chain(unseen) {
            let text = format!("a{character}b");
            let escaped = escape(&text);
            assert!(!escaped.contains(character), "{character:?}");
            assert!(!escaped.chars().any(is_deceptive), "{escaped:?}");
            let json = escape_json(&serde_json::to_string(&text).unwrap());
            assert!(!json.contains(character), "{character:?}");
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
        for text in ["tür/x 1", "名前 値", "a\"b'c\\d <key>", "🙂", "é e\u{301}"] {
            assert_eq!(escape(text), text);
        }
        assert_eq!(escape(b"a\xffb\x1b"), r"a\xffb\u{1b}");
        assert_eq!(escape_json("{\r\n\t\"a\": 1}\r"), "{\n\t\"a\": 1}");
    }

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
        assert_eq!(duration(Duration::from_micros(300)), "less than 1 ms");
        assert_eq!(duration(Duration::from_millis(1234)), "1234 ms");
        assert_eq!(duration(Duration::from_secs(12)), "12 s");
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

    #[test]
    fn estimates_are_short() {
        let cases = [
            (0.0, "0 s"),
            (119.0, "119 s"),
            (120.0, "2 min"),
            (7199.0, "120 min"),
            (75_600.0, "21 h"),
            (864_000.0, "10 d"),
            (1e9, "over a year"),
            (f64::INFINITY, "over a year"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(estimate(seconds).as_deref(), Some(expected));
        }
        assert_eq!(estimate(f64::NAN), None);
    }
}
