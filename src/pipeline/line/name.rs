//! Metric paths: what passes, what is mended, what is refused.

use std::borrow::Cow;

use crate::config::NameRule;

use super::Rules;

/// Why a name is refused, and where in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadName {
    /// Offset of the offending byte in the name as it was written.
    pub at: usize,
    /// What to write instead.
    pub hint: &'static str,
}

/// A name that may be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name<'a> {
    /// What is stored: as written, or mended.
    pub text: Cow<'a, [u8]>,
    /// Whether the name was written with our own key before it.
    pub carried_key: bool,
}

/// Checks a name and mends it where that is safe: needless dots go, and so
/// does our own key, which a re-pointed client may still add.
///
/// The name is UTF-8 without control characters; the line has checked that.
pub fn check<'a>(written: &'a [u8], rules: &Rules) -> Result<Name<'a>, BadName> {
    let bare = without_key(written, rules);
    if path_of(bare).is_empty() {
        return Err(BadName {
            at: 0,
            hint: "empty name; write at least one node, such as app.requests",
        });
    }
    if let Some(at) = white_space(written) {
        return Err(BadName {
            at,
            hint: "white space that is neither blank nor tab; use _ in names",
        });
    }
    let mut text = Cow::Borrowed(bare);
    if has_needless_dots(path_of(bare)) {
        text = Cow::Owned(without_needless_dots(bare));
    }
    match rules.names {
        NameRule::Any => {}
        NameRule::Sanitize => text = sanitized(text),
        NameRule::Strict => strict(written)?,
    }
    Ok(Name {
        text,
        // Needless dots in front look the same, and cost a zeroed buffer.
        carried_key: bare.len() < written.len(),
    })
}

/// The characters that the upstream documents (docs/facts.md, "names"), with the
/// separators of nodes and tags.
pub fn is_documented(character: char) -> bool {
    character.is_ascii_alphanumeric() || "*.-_$%#=;".contains(character)
}

/// The part before the tags.
pub fn path_of(name: &[u8]) -> &[u8] {
    let end = memchr::memchr(b';', name).unwrap_or(name.len());
    &name[..end]
}

fn has_needless_dots(path: &[u8]) -> bool {
    path.first() == Some(&b'.')
        || path.last() == Some(&b'.')
        || path.windows(2).any(|pair| pair == b"..")
}

fn without_needless_dots(name: &[u8]) -> Vec<u8> {
    let (path, tags) = name.split_at(path_of(name).len());
    let mut mended = Vec::with_capacity(name.len());
    for node in path
        .split(|byte| *byte == b'.')
        .filter(|node| !node.is_empty())
    {
        if !mended.is_empty() {
            mended.push(b'.');
        }
        mended.extend_from_slice(node);
    }
    mended.extend_from_slice(tags);
    mended
}

/// The name behind leading dots and our own key, however often it stands
/// there. A part of what was written, so that no copy of the key is made.
fn without_key<'a>(written: &'a [u8], rules: &Rules) -> &'a [u8] {
    let mut name = written;
    loop {
        while let [b'.', rest @ ..] = name {
            name = rest;
        }
        let path = path_of(name);
        match rules.key.strip_from(path) {
            Some(rest) => name = &name[path.len() - rest.len()..],
            None => return name,
        }
    }
}

/// The offset of the first Unicode white space; ASCII blanks ended the field.
fn white_space(name: &[u8]) -> Option<usize> {
    if name.is_ascii() {
        return None;
    }
    let text = std::str::from_utf8(name).unwrap_or_default();
    text.find(char::is_whitespace)
}

fn sanitized(name: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    let Ok(text) = std::str::from_utf8(&name) else {
        return name;
    };
    if text.chars().all(is_documented) {
        return name;
    }
    let mended: String = text
        .chars()
        .map(|character| {
            if is_documented(character) {
                character
            } else {
                '_'
            }
        })
        .collect();
    Cow::Owned(mended.into_bytes())
}

fn strict(written: &[u8]) -> Result<(), BadName> {
    let text = std::str::from_utf8(written).unwrap_or_default();
    if let Some(at) = text.find(|character| !is_documented(character)) {
        return Err(BadName {
            at,
            hint: "character that the upstream refuses; allowed are letters, digits and * . - _ $ % # = ;",
        });
    }
    let path = path_of(written).len();
    let mut at = path + 1;
    // `name;key=value;key=value`
    for tag in text
        .get(path + 1..)
        .into_iter()
        .flat_map(|tags| tags.split(';'))
    {
        match tag.split_once('=') {
            Some((key, value)) if !key.is_empty() && !value.is_empty() => at += tag.len() + 1,
            _ => {
                return Err(BadName {
                    at: at.min(written.len() - 1),
                    hint: "incomplete tag; write name;key=value",
                });
            }
        }
    }
    Ok(())
}
