//! Every key that this process has read, and the one mask through which everything
//! passes that is displayed: logs, the admin endpoint, the service manager's status
//! line, and the output of all commands.
//!
//! A key is known from the moment it is read, wherever it was written and whether it is
//! in use or not. Settings that hold it (a prefix, a path, a URL) need no mask of their
//! own. It costs nothing per line: lines on their way are not displayed.

use std::sync::{PoisonError, RwLock};

use serde_json::Value;

use super::api_key::{ApiKey, TELLING_BYTES};

/// The newest first. Keys are replaced now and then; a daemon that has seen this many
/// may forget the oldest.
static KNOWN: RwLock<Vec<ApiKey>> = RwLock::new(Vec::new());

const MOST: usize = 32;

/// From now on this key is masked.
pub fn remember(key: &ApiKey) {
    // A shorter one is a part of ordinary words: with it masked, nothing could be read.
    if key.len() < TELLING_BYTES {
        return;
    }
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    for key in [Some(key.clone()), key.in_quotes()].into_iter().flatten() {
        known.retain(|other| *other != key);
        known.insert(0, key);
    }
    known.truncate(MOST);
}

/// The text without any key that is known.
pub fn mask(text: &str) -> String {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    let mut masked = text.as_bytes().to_vec();
    for key in &*known {
        key.mask(&mut masked);
    }
    match String::from_utf8(masked) {
        Ok(masked) => masked,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    }
}

/// A JSON text without any key that is known. It stays JSON: numbers, and the names of
/// members, which are ours, may look like a key.
pub fn mask_json(json: &str) -> String {
    let masked = mask(json);
    if masked == json {
        return masked;
    }
    match serde_json::from_str(json) {
        Ok(mut value) => {
            mask_texts(&mut value);
            value.to_string()
        }
        Err(_) => masked,
    }
}

fn mask_texts(value: &mut Value) {
    match value {
        Value::String(text) => *text = mask(text),
        Value::Array(items) => items.iter_mut().for_each(mask_texts),
        Value::Object(members) => members.values_mut().for_each(mask_texts),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Keys that no other test has: what is known is known to the whole process.

    #[test]
    fn a_key_is_masked_from_the_moment_it_is_read() {
        assert_eq!(mask("a known-key-1 b"), "a known-key-1 b");
        for key in ["known-key-1", "known-key-2"] {
            ApiKey::parse(key).unwrap();
        }
        let text = "known-key-1.x KNOWN-KEY-2 known-key-3";
        assert_eq!(mask(text), "<key>.x <key> known-key-3");
    }

    #[test]
    fn json_stays_json() {
        ApiKey::parse("known\"key\\4").unwrap();
        ApiKey::parse("4711.0815").unwrap();
        let text = "a known\"key\\4 b 4711.0815";
        let json = serde_json::json!({"4711.0815": [text, 4711.0815]}).to_string();
        let masked: Value = serde_json::from_str(&mask_json(&json)).unwrap();
        let expected = serde_json::json!({"4711.0815": ["a <key> b <key>", 4711.0815]});
        assert_eq!(masked, expected);
        // As the file, and `Debug`, would have it.
        assert_eq!(mask(r#""x.known\"key\\4""#), "\"x.<key>\"");
    }

    #[test]
    fn short_keys_leave_text_readable() {
        ApiKey::parse("lines").unwrap();
        assert_eq!(mask("3 lines wait"), "3 lines wait");
    }
}
