//! One key of the configuration: what was written for it, where, and the value that it
//! stands for.

use std::fmt::{self, Write as _};
use std::ops::Deref;

use serde::de::{Deserialize, Deserializer};
use serde_json::{Value as Json, json};
use toml::{Spanned, Value as Written};
use zeroize::Zeroize;

use super::problem::{Origin, Problem};
use crate::format::is_deceptive;

/// What is known of a key without reading any configuration.
#[derive(Debug)]
pub struct Key {
    /// Dotted path in the file, `sink.tls.ca_file`.
    pub path: &'static str,
    /// The default as an environment variable would have it: without quotes, lists
    /// separated by commas.
    pub default: &'static str,
    /// What it is for.
    pub doc: &'static str,
    /// Its type, as a JSON schema.
    pub schema: fn() -> Json,
}

impl Key {
    /// `SIDECARBON_SINK_TLS_CA_FILE` for `sink.tls.ca_file`, but
    /// `SIDECARBON_API_KEY` and `SIDECARBON_API_KEY_FILE` without the table.
    pub fn env_name(&self) -> String {
        let path = match self.path {
            "sink.api_key" | "sink.api_key_file" => &self.path["sink.".len()..],
            path => path,
        };
        format!("SIDECARBON_{}", path.replace('.', "_").to_uppercase())
    }

    /// Whether a variable that is set to nothing means "not set". An empty key
    /// would send lines without one, which compose files with an unset
    /// variable do not mean.
    pub fn empty_is_unset(&self) -> bool {
        matches!(self.path, "sink.api_key" | "sink.api_key_file")
    }
}

/// A type that the value of a key can have.
pub trait Kind {
    /// What is read.
    type Value;

    /// Reads what was written. The error says what is wrong and what to write instead.
    fn read(written: &Written) -> Result<Self::Value, Unreadable>;

    /// The value as one would write it in the file, secrets masked.
    fn show(_: &Self::Value, written: &Written) -> String {
        shown(written)
    }

    /// Its type, as a JSON schema.
    fn schema() -> Json {
        json!({"type": "string"})
    }
}

/// Why a value cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Another type is needed: what to write, such as "a text in quotes".
    Type(String),
    /// What is wrong, item by item.
    Items(Vec<String>),
}

impl Unreadable {
    fn report(self, origin: &Origin, key: &Key, written: &Written, problems: &mut Vec<Problem>) {
        let messages = match self {
            Self::Items(messages) => messages,
            Self::Type(write) => {
                let example = match key.default {
                    "" => String::new(),
                    example if write.ends_with("quotes") => format!(", such as \"{example}\""),
                    _ => String::new(),
                };
                vec![format!("is {}; write {write}{example}", kind(written))]
            }
        };
        let problem = |message| Problem::new(origin, key.path, message);
        problems.extend(messages.into_iter().map(problem));
    }
}

impl From<String> for Unreadable {
    fn from(message: String) -> Self {
        Self::Items(vec![message])
    }
}

/// A key with its value. A value that cannot be read is a problem of its own, and the
/// default takes its place, so that all problems show at once.
pub struct Setting<K: Kind> {
    written: Option<Spanned<Written>>,
    key: Option<&'static Key>,
    value: Option<K::Value>,
    shown: String,
    origin: Origin,
}

/// Any setting, whatever its type.
pub trait AnySetting {
    /// Reads the value. `place` tells the origin of a position.
    fn resolve(
        &mut self,
        key: &'static Key,
        place: &dyn Fn(usize) -> Origin,
        problems: &mut Vec<Problem>,
    );
    /// The value in force, for `check`.
    fn effective(&self) -> Effective;
}

/// One value in force, for `check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// The key's path.
    pub path: &'static str,
    /// The value as one would write it in the file; secrets masked.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

impl<K: Kind> Setting<K> {
    /// Whether anybody set it.
    pub fn is_set(&self) -> bool {
        self.origin != Origin::Default
    }

    /// Where it was set.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The key's path.
    pub fn path(&self) -> &'static str {
        self.key.map_or("", |key| key.path)
    }

    /// Replaces what `check` shows.
    pub fn show(&mut self, value: String, origin: Origin) {
        self.shown = value;
        self.origin = origin;
    }

    fn accept(&mut self, value: K::Value, written: &Written) {
        self.shown = K::show(&value, written);
        self.value = Some(value);
    }

    /// That the value cannot be used.
    pub fn refuse(&self, message: impl fmt::Display) -> Problem {
        Problem::new(&self.origin, self.path(), message)
    }
}

impl<K: Kind> Default for Setting<K> {
    fn default() -> Self {
        Self {
            written: None,
            key: None,
            value: None,
            shown: String::new(),
            origin: Origin::Default,
        }
    }
}

impl<K: Kind> Deref for Setting<K> {
    type Target = K::Value;

    #[expect(
        clippy::expect_used,
        reason = "`resolve` leaves the default where nothing else can be read"
    )]
    fn deref(&self) -> &K::Value {
        self.value.as_ref().expect("a resolved setting")
    }
}

impl<'de, K: Kind> Deserialize<'de> for Setting<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self {
            written: Some(written(deserializer)?),
            ..Self::default()
        })
    }
}

/// One copy of it is enough for all kinds.
#[inline(never)]
fn written<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Spanned<Written>, D::Error> {
    Spanned::deserialize(deserializer)
}

impl<K: Kind> AnySetting for Setting<K> {
    fn resolve(
        &mut self,
        key: &'static Key,
        place: &dyn Fn(usize) -> Origin,
        problems: &mut Vec<Problem>,
    ) {
        self.key = Some(key);
        if let Some(written) = self.written.take() {
            self.origin = place(written.span().start);
            let mut written = written.into_inner();
            match K::read(&written) {
                Ok(value) => self.accept(value, &written),
                Err(error) => error.report(&self.origin, key, &written, problems),
            }
            if let Written::String(text) = &mut written {
                // It may be the key.
                text.zeroize();
            }
        }
        let default = Written::String(key.default.to_owned());
        if let (None, Ok(value)) = (&self.value, K::read(&default)) {
            self.accept(value, &default);
        }
    }

    fn effective(&self) -> Effective {
        Effective {
            path: self.path(),
            value: self.shown.clone(),
            origin: self.origin.clone(),
        }
    }
}

/// What a value is, without the value.
pub fn kind(written: &Written) -> &'static str {
    match written {
        Written::String(_) => "a text",
        Written::Array(items) if items.iter().all(is_number) => "a list of numbers",
        Written::Array(_) => "a list",
        Written::Integer(_) => "a number",
        Written::Float(_) => "a number with a fraction",
        Written::Boolean(_) => "true or false",
        Written::Datetime(_) => "a date",
        Written::Table(_) => "a table",
    }
}

/// Whether a value is a number.
pub fn is_number(written: &Written) -> bool {
    matches!(written, Written::Integer(_) | Written::Float(_))
}

/// The items of a list. In a text, as a variable has it, commas separate them.
pub fn items_of(written: &Written) -> Option<Vec<String>> {
    let item = |written: &Written| match written {
        Written::String(text) => Some(text.clone()),
        Written::Integer(number) => Some(number.to_string()),
        Written::Float(number) => Some(number.to_string()),
        _ => None,
    };
    match written {
        Written::Array(items) => items.iter().map(item).collect(),
        Written::String(text) => {
            let items = text.split(',').map(|item| item.trim().to_owned());
            Some(items.filter(|item| !item.is_empty()).collect())
        }
        single => item(single).map(|item| vec![item]),
    }
}

/// A short value as one would write it in the file, else what it is.
pub fn shown(written: &Written) -> String {
    match written {
        Written::String(text) => quoted(text),
        Written::Integer(number) => number.to_string(),
        other => kind(other).to_owned(),
    }
}

/// The text as TOML would have it.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '\\' | '"' => quoted.extend(['\\', character]),
            _ if is_deceptive(character) => {
                let _ = write!(quoted, "\\U{:08X}", u32::from(character));
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}
