//! What a sample is counted under: its name, mended as a line's is, and its
//! tags in one order, `path;key=value;key=value`.
//!
//! In: a name and tags as a client writes them. Out: the series, in a buffer
//! that is kept, so that nothing is allocated for names that need no mending.

use std::ops::Range;

use zeroize::Zeroize;

use crate::pipeline::line::name::{self, BadName};
use crate::pipeline::line::{Reject, Rules};
use crate::stats::RejectReason;

/// The value of a tag that is written without one.
const IS_SET: &[u8] = b"true";

/// A tag of one letter, behind its comma, becomes `;a=true`.
const MOST_GROWTH: usize = 4;

const NO_KEY: &str = "a tag without a name; write #key:value";

/// Makes series, one after the other.
#[derive(Debug, Default)]
pub struct Series {
    text: Vec<u8>,
    /// The name and its tags before they are checked, and before the tags are in
    /// order.
    written: Vec<u8>,
    mended: Vec<u8>,
    tags: Vec<Range<usize>>,
    carried_key: bool,
}

impl Series {
    /// Finds the series of a name and tags.
    pub fn find(&mut self, name: &[u8], tags: &[u8], rules: &Rules) -> Result<(), Reject> {
        let is_plain = |byte: &u8| !matches!(byte, b' ' | b'\t' | b';');
        let found = if tags.is_empty() && name.iter().all(is_plain) {
            self.check(name, rules)
        } else {
            let gathered = self.gather(name, tags);
            let written = std::mem::take(&mut self.written);
            let found = gathered.and_then(|()| self.check(&written, rules));
            self.written = written;
            found
        };
        if found.is_err() || self.carried_key {
            self.written.zeroize();
            self.mended.zeroize();
        }
        found
    }

    fn check(&mut self, written: &[u8], rules: &Rules) -> Result<(), Reject> {
        let checked = name::check(written, rules).map_err(reject)?;
        self.carried_key = checked.carried_key;
        self.text.clear();
        self.text.extend_from_slice(&checked.text);
        Ok(())
    }

    /// The series that was found last.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Whether the client wrote our own key before the name.
    pub fn carried_key(&self) -> bool {
        self.carried_key
    }

    /// The path, then the tags in order.
    fn gather(&mut self, name: &[u8], tags: &[u8]) -> Result<(), Reject> {
        let path = name::path_of(name);
        self.written.clear();
        self.mended.clear();
        self.tags.clear();
        // At once: while it grows, it would leave copies of our key behind.
        let most = MOST_GROWTH * (name.len() + tags.len()) + IS_SET.len();
        self.written.reserve(most);
        self.mended.reserve(most);
        push_without_blanks(path, &mut self.written);
        let own = name[path.len()..].split(|byte| *byte == b';');
        for tag in own {
            self.gather_tag(tag, b'=')?;
        }
        for tag in tags.split(|byte| *byte == b',') {
            self.gather_tag(tag, b':')?;
        }
        let Self {
            written,
            mended,
            tags,
            ..
        } = self;
        tags.sort_unstable_by(|one, other| mended[one.clone()].cmp(&mended[other.clone()]));
        tags.dedup_by(|one, other| mended[one.clone()] == mended[other.clone()]);
        for tag in tags {
            written.push(b';');
            written.extend_from_slice(&mended[tag.clone()]);
        }
        Ok(())
    }

    /// One tag, as Graphite can read it.
    fn gather_tag(&mut self, tag: &[u8], separator: u8) -> Result<(), Reject> {
        let tag = tag.trim_ascii();
        if tag.is_empty() {
            return Ok(());
        }
        let (key, value) = match memchr::memchr(separator, tag) {
            Some(at) => (&tag[..at], &tag[at + 1..]),
            None => (tag, &tag[..0]),
        };
        if key.is_empty() {
            return Err(Reject::new(RejectReason::Name, 0, NO_KEY));
        }
        let value = if value.is_empty() { IS_SET } else { value };
        let begin = self.mended.len();
        push_without_blanks(key, &mut self.mended);
        for byte in &mut self.mended[begin..] {
            if matches!(byte, b';' | b'!' | b'^' | b'=') {
                *byte = b'_';
            }
        }
        self.mended.push(b'=');
        let value_at = self.mended.len();
        push_without_blanks(value, &mut self.mended);
        for (index, byte) in self.mended[value_at..].iter_mut().enumerate() {
            if *byte == b';' || (index == 0 && *byte == b'~') {
                *byte = b'_';
            }
        }
        self.tags.push(begin..self.mended.len());
        Ok(())
    }
}

fn reject(bad: BadName) -> Reject {
    Reject::new(RejectReason::Name, bad.at, bad.hint)
}

/// Blanks, however many stand together, become `_`, as StatsD has them.
fn push_without_blanks(text: &[u8], out: &mut Vec<u8>) {
    let mut after_blank = false;
    for byte in text {
        let is_blank = matches!(byte, b' ' | b'\t');
        if !is_blank {
            out.push(*byte);
        } else if !after_blank {
            out.push(b'_');
        }
        after_blank = is_blank;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ApiKey, NameRule};

    fn found(name: &str, tags: &str, names: NameRule) -> Result<String, &'static str> {
        let rules = Rules {
            names,
            max_line_bytes: 4096,
            key: ApiKey::parse("s3cret").unwrap().into(),
        };
        let mut series = Series::default();
        let found = series.find(name.as_bytes(), tags.as_bytes(), &rules);
        found.map_err(|reject| reject.hint)?;
        Ok(String::from_utf8(series.text().to_vec()).unwrap())
    }

    #[test]
    fn names_are_mended_as_those_of_lines_and_tags_come_in_order() {
        for (name, tags, expected) in [
            ("app.requests", "", "app.requests"),
            (".app..requests.", "", "app.requests"),
            ("S3CRET.app", "", "app"),
            ("two  words", "", "two_words"),
            ("app", "dc:fra,az:1", "app;az=1;dc=fra"),
            ("app", "az:1,dc:fra", "app;az=1;dc=fra"),
            ("app", "canary", "app;canary=true"),
            ("app", "canary:", "app;canary=true"),
            ("app", ",a:1,,a:1,", "app;a=1"),
            ("app", "url:http://h/x", "app;url=http://h/x"),
            ("app", "a:~x;y,b!c=d:e f", "app;a=_x_y;b_c_d=e_f"),
            ("app;dc=fra", "az:1", "app;az=1;dc=fra"),
            ("app.;;dc=fra;x", "", "app;dc=fra;x=true"),
            ("é", "ü:ä", "é;ü=ä"),
        ] {
            let found = found(name, tags, NameRule::Any);
            assert_eq!(found.as_deref(), Ok(expected), "{name} #{tags}");
        }
        assert_eq!(
            found("a/b", "c:d/e", NameRule::Sanitize).as_deref(),
            Ok("a_b;c=d_e")
        );
        for (name, tags, names) in [
            ("", "", NameRule::Any),
            ("..", "a:b", NameRule::Any),
            ("s3cret.", "", NameRule::Any),
            ("a", ":b", NameRule::Any),
            ("a\u{a0}b", "", NameRule::Any),
            ("a", "b:\u{2003}", NameRule::Any),
            ("a/b", "", NameRule::Strict),
            ("a", "b:c/d", NameRule::Strict),
        ] {
            assert!(found(name, tags, names).is_err(), "{name} #{tags}");
        }
    }

    #[test]
    fn the_key_is_noticed() {
        let rules = Rules {
            names: NameRule::Any,
            max_line_bytes: 4096,
            key: ApiKey::parse("s3cret").unwrap().into(),
        };
        let mut series = Series::default();
        for (name, carries) in [("S3cret.a", true), ("a", false), ("s3cret.b c", true)] {
            series.find(name.as_bytes(), b"", &rules).unwrap();
            assert_eq!(series.carried_key(), carries, "{name}");
        }
    }
}
