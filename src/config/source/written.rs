//! A value as it was written, before anybody asks for it by its type.

use std::fmt::{self, Write as _};

use toml::Spanned;
use toml::de::{DeInteger, DeValue};
use zeroize::Zeroizing;

use crate::format::is_deceptive;

/// A value as written. Texts may be secrets, so they are zeroed.
pub enum Written {
    Text(Zeroizing<String>),
    List(Vec<String>),
    Integer(i64),
    /// A number with a fraction, as it was written.
    Fraction(String),
    /// Numbers, as they were written.
    Numbers(Vec<String>),
    /// Something else, by the name of its type.
    Other(&'static str),
}

impl Written {
    /// As a file has it.
    pub fn from_toml(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(Zeroizing::new(text.to_string())),
            DeValue::Integer(integer) => {
                whole(integer).map_or(Self::Other("a number out of range"), Self::Integer)
            }
            DeValue::Array(items) => {
                let all = |text: fn(&DeValue<'_>) -> Option<String>| {
                    let items = items.iter().map(Spanned::get_ref);
                    items.map(text).collect::<Option<Vec<String>>>()
                };
                let texts = || all(|item| item.as_str().map(str::to_owned)).map(Self::List);
                let numbers = || all(number_in).map(Self::Numbers);
                texts()
                    .or_else(numbers)
                    .unwrap_or(Self::Other("a list of other things than texts"))
            }
            DeValue::Float(number) => Self::Fraction(number.as_str().to_owned()),
            DeValue::Boolean(_) => Self::Other("true or false"),
            DeValue::Datetime(_) => Self::Other("a date"),
            DeValue::Table(_) => Self::Other("a table"),
        }
    }

    /// What it is, without the value.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Integer(_) => "a number",
            Self::Fraction(_) => "a number with a fraction",
            Self::Numbers(_) => "a list of numbers",
            Self::Other(kind) => kind,
        }
    }

    /// The value where it is short, for keys that are no secrets.
    pub fn shown(&self) -> String {
        match self {
            Self::Integer(number) => number.to_string(),
            Self::Text(text) => quoted(text),
            other => other.kind().to_owned(),
        }
    }
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
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

/// The items of a list in a variable.
pub fn items_of(text: &str) -> Vec<String> {
    text.split(',')
        .map(|item| item.trim().to_owned())
        .filter(|item| !item.is_empty())
        .collect()
}

fn whole(integer: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(&integer.as_str().replace('_', ""), integer.radix()).ok()
}

fn number_in(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::Integer(integer) => whole(integer).map(|number| number.to_string()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        _ => None,
    }
}
