//! Values with bounds: durations, sizes, counts, and those that may be absent.

use std::marker::PhantomData;
use std::time::Duration;

use serde_json::{Value as Json, json};
use toml::Value as Written;

use super::units::{bytes, duration, show_bytes};
use crate::config::setting::{Kind, Unreadable, is_number, items_of, quoted, shown};

/// What a limit is that does not limit.
const UNLIMITED: &str = "unlimited";

/// What the empty text stands for.
const AUTO: &str = "auto";

/// A duration, bounds in milliseconds.
pub enum Period<const LEAST: u64, const MOST: u64> {}

/// A size, bounds in bytes.
pub enum Size<const LEAST: usize, const MOST: usize> {}

/// A whole number.
pub enum Number<const LEAST: u32, const MOST: u32> {}

/// A whole number, or none: `"unlimited"`.
pub enum LimitOf<const LEAST: u32, const MOST: u32> {}

/// A value, or none: `""`.
pub struct Optional<K>(PhantomData<K>);

/// `batch.linger`: a duration, or none for what suits the sink.
pub enum Linger {}

/// The text that a value must be.
pub fn text_of(written: &Written) -> Result<&str, Unreadable> {
    let needed = || Unreadable::Type("a text in quotes".to_owned());
    written.as_str().ok_or_else(needed)
}

impl<const LEAST: u64, const MOST: u64> Kind for Period<LEAST, MOST> {
    type Value = Duration;

    fn read(written: &Written) -> Result<Duration, Unreadable> {
        let text = text_of(written)?;
        let read = duration(text)?;
        let (least, most) = (Duration::from_millis(LEAST), Duration::from_millis(MOST));
        if (least..=most).contains(&read) {
            Ok(read)
        } else {
            Err(format!("\"{text}\" is out of range; write {least:?} to {most:?}").into())
        }
    }

    fn schema() -> Json {
        json!({"type": "string", "pattern": "^\\s*[0-9]+\\s*(ms|s|m|h|d)$"})
    }
}

impl<const LEAST: usize, const MOST: usize> Kind for Size<LEAST, MOST> {
    type Value = usize;

    fn read(written: &Written) -> Result<usize, Unreadable> {
        let text = text_of(written)?;
        let read = bytes(text)?;
        if (LEAST..=MOST).contains(&read) {
            Ok(read)
        } else {
            let (least, most) = (show_bytes(LEAST), show_bytes(MOST));
            Err(format!("\"{text}\" is out of range; write \"{least}\" to \"{most}\"").into())
        }
    }

    fn schema() -> Json {
        json!({"type": "string", "pattern": "^\\s*[0-9]+\\s*(KiB|MiB|GiB|kB|KB|MB|GB|B)$"})
    }
}

impl<const LEAST: u32, const MOST: u32> Kind for Number<LEAST, MOST> {
    type Value = u32;

    fn read(written: &Written) -> Result<u32, Unreadable> {
        let number = match written {
            Written::Integer(number) => u32::try_from(*number).ok(),
            Written::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let number = number.filter(|number| (LEAST..=MOST).contains(number));
        number.ok_or_else(|| {
            let shown = shown(written);
            format!("is {shown}; write a whole number from {LEAST} to {MOST}").into()
        })
    }

    fn show(number: &u32, _: &Written) -> String {
        number.to_string()
    }

    fn schema() -> Json {
        json!({"type": "integer", "minimum": LEAST, "maximum": MOST})
    }
}

impl<const LEAST: u32, const MOST: u32> Kind for LimitOf<LEAST, MOST> {
    type Value = Option<u32>;

    fn read(written: &Written) -> Result<Option<u32>, Unreadable> {
        match written.as_str().map(str::trim) {
            Some(UNLIMITED) => Ok(None),
            _ => Number::<LEAST, MOST>::read(written).map(Some),
        }
    }

    fn show(limit: &Option<u32>, written: &Written) -> String {
        limit.map_or_else(|| shown(written), |limit| limit.to_string())
    }

    fn schema() -> Json {
        json!({"anyOf": [Number::<LEAST, MOST>::schema(), {"const": UNLIMITED}]})
    }
}

impl<K: Kind> Kind for Optional<K> {
    type Value = Option<K::Value>;

    fn read(written: &Written) -> Result<Self::Value, Unreadable> {
        match written.as_str() {
            Some("") => Ok(None),
            _ => K::read(written).map(Some),
        }
    }

    fn show(value: &Self::Value, written: &Written) -> String {
        match value {
            Some(value) => K::show(value, written),
            None => shown(written),
        }
    }

    fn schema() -> Json {
        json!({"anyOf": [K::schema(), {"const": ""}]})
    }
}

impl Kind for Linger {
    type Value = Option<Duration>;

    fn read(written: &Written) -> Result<Option<Duration>, Unreadable> {
        if text_of(written)? == AUTO {
            return Ok(None);
        }
        let period = Period::<0, 60_000>::read(written).map(Some);
        period.map_err(|error| match error {
            Unreadable::Items(messages) if messages[0].contains("not a duration") => {
                format!("{}, or \"{AUTO}\"", messages[0]).into()
            }
            other => other,
        })
    }

    fn schema() -> Json {
        json!({"anyOf": [Period::<0, 60_000>::schema(), {"const": AUTO}]})
    }
}

impl Kind for String {
    type Value = Self;

    fn read(written: &Written) -> Result<Self, Unreadable> {
        text_of(written).map(str::to_owned)
    }
}

/// An item of a list.
pub trait Item: Sized {
    /// What the list holds, and an example of it.
    const LIST: (&'static str, &'static str);

    /// Whether the items are numbers.
    const ARE_NUMBERS: bool = false;

    /// Reads one item.
    fn parse(text: &str) -> Result<Self, String>;
}

impl<T: Item> Kind for Vec<T> {
    type Value = Self;

    fn read(written: &Written) -> Result<Self, Unreadable> {
        let holds_numbers = match written {
            Written::Array(items) => items.iter().any(is_number),
            single => is_number(single),
        };
        let items = items_of(written).filter(|_| T::ARE_NUMBERS || !holds_numbers);
        let (kind, example) = T::LIST;
        let needed = || Unreadable::Type(format!("{kind}, such as {example}"));
        let (values, errors): (Vec<_>, Vec<_>) = items
            .ok_or_else(needed)?
            .iter()
            .map(|item| T::parse(item))
            .partition(Result::is_ok);
        let errors: Vec<String> = errors.into_iter().filter_map(Result::err).collect();
        if errors.is_empty() {
            Ok(values.into_iter().flatten().collect())
        } else {
            Err(Unreadable::Items(errors))
        }
    }

    fn show(_: &Self, written: &Written) -> String {
        let mut items = items_of(written).unwrap_or_default();
        if !T::ARE_NUMBERS {
            items = items.iter().map(|item| quoted(item)).collect();
        }
        format!("[{}]", items.join(", "))
    }

    fn schema() -> Json {
        let item = if T::ARE_NUMBERS { "number" } else { "string" };
        json!({"type": "array", "items": {"type": item}})
    }
}
