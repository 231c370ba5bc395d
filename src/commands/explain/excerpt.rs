//! A line as it was written, with a caret under one of its bytes.
//!
//! ```text
//!     odd.one nan
//!             ^
//! ```

use crate::config::{OwnKeys, Settings, mask_uuids_in};
use crate::pipeline::line::Reject;

use crate::format::{escape, visible};

/// Before each line of an excerpt.
const INDENT: usize = 4;

/// What must not be shown.
#[derive(Debug)]
pub struct Mask {
    keys: OwnKeys,
    /// The key is not known, so whatever looks like one is masked.
    uuids: bool,
}

impl Mask {
    /// The key of these settings.
    pub fn of(settings: &Settings) -> Self {
        Self {
            keys: settings.sink.key.clone().into(),
            uuids: settings.sink.key_is_missing,
        }
    }

    /// The text without it.
    pub fn apply(&self, text: &[u8]) -> Vec<u8> {
        let mut text = text.to_vec();
        self.keys.mask(&mut text);
        if self.uuids {
            mask_uuids_in(&mut text);
        }
        text
    }

    /// The text in two parts, cut at a byte, or before the secret that the byte
    /// is part of.
    fn split(&self, text: &[u8], at: usize) -> (Vec<u8>, Vec<u8>) {
        let whole = self.apply(text);
        let cut = |at: usize| (self.apply(&text[..at]), self.apply(&text[at..]));
        (0..=at.min(text.len()))
            .rev()
            .map(cut)
            .find(|(head, tail)| whole.iter().eq(head.iter().chain(tail)))
            .unwrap_or_else(|| (Vec::new(), whole.clone()))
    }
}

/// Both lines of the excerpt, at most `width` columns of what is around the byte.
pub fn excerpt(raw: &[u8], at: usize, mask: &Mask, width: usize) -> String {
    let room = width.saturating_sub(INDENT).max(20);
    let (head, tail) = mask.split(raw, at);
    let (head, tail) = (escape(&head), escape(&tail));
    let head = last_columns(&head, room * 2 / 3);
    let tail = first_columns(&tail, room - visible(&head));
    let caret = " ".repeat(visible(&head));
    let indent = " ".repeat(INDENT);
    format!("{indent}{head}{tail}\n{indent}{caret}^\n")
}

/// Why a line is rejected, for commands that have a single one.
pub fn show_reject(reject: &Reject, raw: &[u8], mask: &Mask, width: usize) -> String {
    format!(
        "rejected, {}: {}\n{}",
        reject.reason.label(),
        reject.hint,
        excerpt(raw, reject.at, mask, width)
    )
}

fn first_columns(text: &str, columns: usize) -> String {
    if visible(text) <= columns {
        return text.to_owned();
    }
    let mut kept = String::new();
    for character in text.chars() {
        kept.push(character);
        if visible(&kept) + 1 > columns {
            kept.pop();
            break;
        }
    }
    kept + "…"
}

fn last_columns(text: &str, columns: usize) -> String {
    if visible(text) <= columns {
        return text.to_owned();
    }
    let backwards: String = text.chars().rev().collect();
    first_columns(&backwards, columns).chars().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ApiKey, NameRule};
    use crate::pipeline::line::{Line, Rules};

    fn mask() -> Mask {
        Mask {
            keys: ApiKey::parse("sesame-key").unwrap().into(),
            uuids: false,
        }
    }

    /// Each line with the caret that belongs under it.
    #[test]
    fn the_caret_is_under_the_byte_that_decides() {
        let rules = Rules {
            names: NameRule::Strict,
            max_line_bytes: 64,
            key: mask().keys,
        };
        for (raw, shown, caret) in [
            (&b"odd.one nan"[..], "odd.one nan", "        ^"),
            (b"  a  oops 5", "  a  oops 5", "     ^"),
            (b"a 1 5 6", "a 1 5 6", "      ^"),
            (b"lonely", "lonely", "      ^"),
            (b"a\t1\t-5", r"a\t1\t-5", "      ^"),
            (b"a\xff 1", r"a\xff 1", " ^"),
            ("a\u{202e}b nan".as_bytes(), r"a\u{202e}b nan", " ^"),
            (b"a\x1bb 1", r"a\u{1b}b 1", " ^"),
            ("tür/x 1".as_bytes(), "tür/x 1", " ^"),
            ("a;名=値 1".as_bytes(), "a;名=値 1", "  ^"),
            (b"sesame-key.a/b 1", "<key>.a/b 1", "       ^"),
            (b"SESAME-KEY. 1", "<key>. 1", "^"),
            (
                b"a 1700000000000 1700000000000",
                "a 1700000000000 1700000000000",
                "                ^",
            ),
        ] {
            let reject = Line::parse(raw, &rules).unwrap_err();
            let expected = format!("    {shown}\n    {caret}\n");
            let found = excerpt(raw, reject.at, &mask(), 80);
            assert_eq!(found, expected, "\n{found}");
        }
    }

    #[test]
    fn wide_characters_before_the_byte_take_two_columns() {
        let found = excerpt("名前 x".as_bytes(), 7, &mask(), 80);
        assert_eq!(found, "    名前 x\n         ^\n");
    }

    #[test]
    fn long_lines_are_cut_around_the_byte() {
        let raw = format!("{} nan {}", "n".repeat(500), "9".repeat(500));
        let found = excerpt(raw.as_bytes(), 501, &mask(), 80);
        let lines: Vec<&str> = found.lines().collect();
        assert!(lines.iter().all(|line| visible(line) <= 80), "{found}");
        assert!(
            lines[0].starts_with("    …nnn") && lines[0].ends_with("99…"),
            "{found}"
        );
        let under = lines[0].chars().nth(lines[1].len() - 1);
        assert_eq!(under, Some('n'), "{found}");
        // At the end of what was kept of an over-long line.
        let found = excerpt(&[b'x'; 500], 500, &mask(), 80);
        let lines: Vec<&str> = found.lines().collect();
        assert_eq!(visible(lines[0]) + 1, visible(lines[1]), "{found}");
    }

    #[test]
    fn a_byte_within_the_key_is_shown_before_it() {
        let found = excerpt(b"x.sesame-key.y 1", 5, &mask(), 80);
        assert_eq!(found, "    x.<key>.y 1\n      ^\n");
        let unknown = Mask {
            keys: ApiKey::none().into(),
            uuids: true,
        };
        let found = excerpt(
            b"6f1c2a9e-0d4b-4c57-9a3e-5b8e7d2f1a60.x y",
            39,
            &unknown,
            80,
        );
        assert_eq!(found, "    <key>.x y\n            ^\n");
    }
}
