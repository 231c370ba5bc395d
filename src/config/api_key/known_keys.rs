//! Every key that this process has read, and the one mask through which everything
//! passes that is displayed: logs, the admin endpoint, the service manager's status
//! line, and the output of all commands.
//!
//! A key is known from the moment it is read, wherever it was written and whether it is
//! in use or not. Settings that hold it (a prefix, a path, a URL) need no mask of their
//! own. It costs nothing per line: lines on their way are not displayed.

use std::sync::{PoisonError, RwLock};

use serde_json::Value;

use super::{ApiKey, TELLING_BYTES};

static KNOWN: KnownKeys = KnownKeys::new();

/// Keys are replaced now and then; a daemon that has seen this many may forget the
/// oldest.
const MOST: usize = 32;

/// The newest first.
struct KnownKeys(RwLock<Vec<ApiKey>>);

impl KnownKeys {
    const fn new() -> Self {
        Self(RwLock::new(Vec::new()))
    }

    fn remember(&self, key: &ApiKey) {
        // A shorter one is a part of ordinary words: with it masked, nothing could be read.
        if key.len() < TELLING_BYTES {
            return;
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for key in [Some(key.clone()), key.in_quotes()].into_iter().flatten() {
            known.retain(|other| *other != key);
            known.insert(0, key);
        }
        known.truncate(MOST);
    }

    fn mask(&self, text: &str) -> String {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut masked = text.as_bytes().to_vec();
        for key in &*known {
            key.mask(&mut masked);
        }
        match String::from_utf8(masked) {
            Ok(masked) => masked,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        }
    }

    fn mask_json(&self, json: &str) -> String {
        let masked = self.mask(json);
        if masked == json {
            return masked;
        }
        match serde_json::from_str(json) {
            Ok(mut value) => {
                self.mask_texts(&mut value);
                value.to_string()
            }
            Err(_) => masked,
        }
    }

    fn mask_texts(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.mask(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.mask_texts(item)),
            Value::Object(members) => members.values_mut().for_each(|item| self.mask_texts(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// From now on this key is masked.
pub fn remember(key: &ApiKey) {
    KNOWN.remember(key);
}

/// The text without any key that is known.
pub fn mask(text: &str) -> String {
    KNOWN.mask(text)
}

/// A JSON text without any key that is known. It stays JSON: numbers, and the names of
/// members, which are ours, may look like a key.
pub fn mask_json(json: &str) -> String {
    KNOWN.mask_json(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(keys: &[&str]) -> KnownKeys {
        let known = KnownKeys::new();
        for key in keys {
            known.remember(&ApiKey::parse(key).unwrap());
        }
        known
    }

    #[test]
    fn all_that_are_known_are_masked() {
        let text = "first-key.x SECOND-KEY third-key";
        assert_eq!(known(&[]).mask(text), text);
        let known = known(&["first-key", "second-key"]);
        assert_eq!(known.mask(text), "<key>.x <key> third-key");
    }

    #[test]
    fn json_stays_json() {
        let known = known(&["odd\"key\\4", "4711.0815"]);
        let text = "a odd\"key\\4 b 4711.0815";
        let json = serde_json::json!({"4711.0815": [text, 4711.0815]}).to_string();
        let masked: Value = serde_json::from_str(&known.mask_json(&json)).unwrap();
        let expected = serde_json::json!({"4711.0815": ["a <key> b <key>", 4711.0815]});
        assert_eq!(masked, expected);
        // As the file, and `Debug`, would have it.
        assert_eq!(known.mask(r#""x.odd\"key\\4""#), "\"x.<key>\"");
    }

    #[test]
    fn short_keys_leave_text_readable() {
        assert_eq!(known(&["lines"]).mask("3 lines wait"), "3 lines wait");
    }

    #[test]
    fn the_newest_are_kept() {
        let keys: Vec<String> = (0..2 * MOST)
            .map(|number| format!("key-{number:03}"))
            .collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let known = known(&keys);
        assert_eq!(known.mask("key-000 key-063"), "key-000 <key>");
    }
}
