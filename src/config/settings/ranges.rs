//! Values with bounds, and texts that may be empty.

use std::time::Duration;

use crate::config::source::Source;
use crate::config::values::{self, show_bytes};

pub fn optional_text(source: &mut Source, path: &'static str) -> Option<String> {
    source
        .text(path, |text| Ok(text.to_owned()))
        .filter(|text| !text.is_empty())
}

pub fn duration_within(
    source: &mut Source,
    path: &'static str,
    least: Duration,
    most: Duration,
) -> Duration {
    let parse = |text: &str| {
        values::duration(text).and_then(|duration| within(duration, least, most, text))
    };
    source.text(path, parse).unwrap_or(most)
}

pub fn within(
    duration: Duration,
    least: Duration,
    most: Duration,
    text: &str,
) -> Result<Duration, String> {
    if (least..=most).contains(&duration) {
        Ok(duration)
    } else {
        Err(format!(
            "\"{text}\" is out of range; write {least:?} to {most:?}"
        ))
    }
}

pub fn bytes_within(source: &mut Source, path: &'static str, least: usize, most: usize) -> usize {
    let parse = |text: &str| {
        let bytes = values::bytes(text)?;
        if (least..=most).contains(&bytes) {
            Ok(bytes)
        } else {
            Err(format!(
                "\"{text}\" is out of range; write \"{}\" to \"{}\"",
                show_bytes(least),
                show_bytes(most)
            ))
        }
    };
    source.text(path, parse).unwrap_or(most)
}
