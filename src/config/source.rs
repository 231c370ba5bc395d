//! What was written, and where: flags over environment over file over default.
//!
//! In: the file's text, the environment, the flags. Out: one value for each
//! key with its origin, asked for one by one through a parser that names the
//! remedy. Problems are gathered, so that one run shows all of them. No text
//! of a secret ever enters a problem.

mod encoding;
mod problem;
mod written;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

use super::api_key;
use super::keys::{self, KEYS, Key};
use written::{Written, items_of};

pub use problem::{Origin, Problem};
pub use written::quoted;

/// Larger files are not configurations.
const MAX_FILE_BYTES: u64 = 1 << 20;

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

/// All that was written.
#[derive(Debug)]
pub struct Source {
    entries: BTreeMap<&'static str, (Written, Origin)>,
    effective: Vec<Effective>,
    problems: Vec<Problem>,
}

impl Source {
    /// Nothing written yet.
    pub fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            effective: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Reads the file.
    pub fn add_file(&mut self, path: &Path) {
        match read(path) {
            Ok(bytes) => match encoding::text(&bytes) {
                Ok(text) => self.add_toml(path, text),
                Err(problem) => self.problem(
                    format!("{}:{}", path.display(), problem.line),
                    problem.message,
                ),
            },
            Err(error) => self.problem(
                path.display().to_string(),
                format!("cannot be read: {error}"),
            ),
        }
    }

    /// Takes the text of a file.
    pub fn add_toml(&mut self, path: &Path, text: &str) {
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            // Its `Display` would show the line, which may hold the key.
            let (line, column) = position(text, error.span().unwrap_or_default());
            self.problem(
                format!("{}:{line}:{column}", path.display()),
                format!(
                    "no valid TOML: {}; write key = value, with texts in quotes, such as url = \"tls://host:20030\"",
                    error.message()
                ),
            );
        }
        if errors.is_empty() {
            self.add_table(path, text, "", table.get_ref());
        }
    }

    /// Takes the variables that name keys. One without a value has one that is
    /// no text.
    pub fn add_environment(&mut self, variables: impl Iterator<Item = (String, Option<String>)>) {
        let known: Vec<(String, &'static Key)> =
            KEYS.iter().map(|key| (key.env_name(), key)).collect();
        for (name, value) in variables {
            let value = value.map(Zeroizing::new);
            if !name.starts_with("SIDECARBON_") || is_kubernetes(&name) {
                continue;
            }
            let Some((_, key)) = known.iter().find(|(known, _)| *known == name) else {
                let hint = keys::nearest(&name, known.iter().map(|(name, _)| name.as_str()))
                    .map_or_else(String::new, |near| format!("; did you mean {near}?"));
                self.problem(name, format!("names no known key{hint}"));
                continue;
            };
            let Some(value) = value else {
                let message = format!("{} is no text in UTF-8; write it anew", key.path);
                self.problem(name, message);
                continue;
            };
            if value.is_empty() && key.empty_is_unset() {
                continue;
            }
            let value = if *value == keys::WRITTEN_EMPTY {
                Zeroizing::default()
            } else {
                value
            };
            self.entries
                .insert(key.path, (Written::Text(value), Origin::Environment(name)));
        }
    }

    /// Takes a flag's value.
    pub fn add_flag(&mut self, flag: &'static str, path: &'static str, values: Vec<String>) {
        self.entries
            .insert(path, (Written::List(values), Origin::Flag(flag)));
    }

    /// The value of a key that is one text, through `parse`. Where that fails,
    /// the problem is noted and the default holds, so that all problems show.
    pub fn text<T>(
        &mut self,
        path: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let Some((text, origin)) = self.written_text(path) else {
            return parse(keys::default_of(path)).ok();
        };
        match parse(&text) {
            Ok(value) => {
                self.show(path, quoted(&text), origin);
                Some(value)
            }
            Err(message) => {
                self.problem(origin.to_string(), format!("{path} {message}"));
                parse(keys::default_of(path)).ok()
            }
        }
    }

    /// Like [`Source::text`], for a value that is never shown.
    pub fn secret<T, E: fmt::Display>(
        &mut self,
        path: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        let (text, origin) = self.written_text(path)?;
        match parse(&text) {
            Ok(value) => {
                let shown = if text.is_empty() { "" } else { "<key>" };
                self.show(path, quoted(shown), origin);
                Some(value)
            }
            Err(error) => {
                self.problem(origin.to_string(), format!("{path}: {error}"));
                None
            }
        }
    }

    /// The value of a key that is a list of texts.
    pub fn list<T>(
        &mut self,
        path: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let (written, origin) = self.written(path);
        let items = match written {
            Written::List(items) => items,
            Written::Text(text) => items_of(&text),
            other => {
                let message = format!(
                    "{path} is {}; write a list of texts, such as [\"localhost:2003\"]",
                    other.kind()
                );
                self.problem(origin.to_string(), message);
                return Vec::new();
            }
        };
        let shown: Vec<String> = items.iter().map(|item| quoted(item)).collect();
        self.show(path, format!("[{}]", shown.join(", ")), origin.clone());
        self.parse_items(path, &origin, &items, parse)
    }

    /// The value of a key that is a list of numbers.
    pub fn numbers<T>(
        &mut self,
        path: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let (written, origin) = self.written(path);
        let items = match written {
            Written::Numbers(items) | Written::List(items) => items,
            Written::Integer(number) => vec![number.to_string()],
            Written::Fraction(number) => vec![number],
            Written::Text(text) => items_of(&text),
            Written::Other(kind) => {
                let message = format!("{path} is {kind}; write a list of numbers, such as [90]");
                self.problem(origin.to_string(), message);
                return Vec::new();
            }
        };
        self.show(path, format!("[{}]", items.join(", ")), origin.clone());
        self.parse_items(path, &origin, &items, parse)
    }

    fn parse_items<T>(
        &mut self,
        path: &str,
        origin: &Origin,
        items: &[String],
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let mut parsed = Vec::new();
        for item in items {
            match parse(item) {
                Ok(value) => parsed.push(value),
                Err(message) => self.problem(origin.to_string(), format!("{path} {message}")),
            }
        }
        parsed
    }

    /// The value of a key that is a whole number in a range.
    pub fn number(&mut self, path: &'static str, range: Range<u32>) -> Option<u32> {
        let (written, origin) = self.written(path);
        let number = match &written {
            Written::Integer(number) => Some(*number),
            Written::Text(text) => text.trim().parse().ok(),
            _ => None,
        };
        let number = number
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| range.contains(number));
        if let Some(number) = number {
            self.show(path, number.to_string(), origin);
        } else {
            self.problem(
                origin.to_string(),
                format!(
                    "{path} is {}; write a whole number from {} to {}",
                    written.shown(),
                    range.start,
                    range.end - 1
                ),
            );
        }
        number
    }

    /// The value of a key that is a whole number in a range, or no limit.
    pub fn limit(&mut self, path: &'static str, range: Range<u32>) -> Option<u32> {
        if let Some((Written::Text(text), origin)) = self.entries.get(path)
            && text.trim() == keys::UNLIMITED
        {
            let origin = origin.clone();
            self.show(path, quoted(keys::UNLIMITED), origin);
            return None;
        }
        if !self.is_set(path) {
            self.show(path, quoted(keys::default_of(path)), Origin::Default);
            return None;
        }
        self.number(path, range)
    }

    /// Whether anybody set a key.
    pub fn is_set(&self, path: &str) -> bool {
        self.entries.contains_key(path)
    }

    /// The keys that somebody set.
    pub fn set(&self) -> Vec<&'static str> {
        self.entries.keys().copied().collect()
    }

    /// The keys that the file set.
    pub fn set_in_file(&self) -> Vec<&'static str> {
        let is_in_file = |(_, origin): &&(Written, Origin)| matches!(origin, Origin::File(..));
        let entries = self.entries.iter();
        entries
            .filter(|(_, entry)| is_in_file(entry))
            .map(|(path, _)| *path)
            .collect()
    }

    /// Where a key was set.
    pub fn origin(&self, path: &str) -> Origin {
        self.entries
            .get(path)
            .map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    /// Notes that a value is wrong, at the place where it was written.
    pub fn refuse(&mut self, path: &str, message: impl fmt::Display) {
        let place = self.origin(path).to_string();
        self.problem(place, format!("{path} {message}"));
    }

    /// Notes what is wrong at a place. A key that was written in the wrong one
    /// is not repeated.
    pub fn problem(&mut self, place: String, message: impl fmt::Display) {
        let problem = Problem::at(place, api_key::mask_uuids(&message.to_string()));
        // What is wrong for datagrams may be so for streams.
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// The values in force, and what was wrong.
    pub fn finish(self) -> (Vec<Effective>, Vec<Problem>) {
        (self.effective, self.problems)
    }

    /// Replaces what `check` shows for a key.
    pub fn show(&mut self, path: &'static str, value: String, origin: Origin) {
        self.effective.retain(|effective| effective.path != path);
        self.effective.push(Effective {
            path,
            value,
            origin,
        });
    }

    fn add_table(&mut self, file: &Path, text: &str, prefix: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let path = match prefix {
                "" => name.get_ref().to_string(),
                _ => format!("{prefix}.{}", name.get_ref()),
            };
            let (line, _) = position(text, name.span());
            let is_table_of_keys = KEYS
                .iter()
                .any(|key| key.path.starts_with(&format!("{path}.")));
            match value.get_ref() {
                DeValue::Table(inner) if is_table_of_keys => {
                    self.add_table(file, text, &path, inner);
                }
                value => self.add_entry(file, line, &path, value),
            }
        }
    }

    fn add_entry(&mut self, file: &Path, line: usize, path: &str, value: &DeValue<'_>) {
        if let Some(key) = keys::find(path) {
            let origin = Origin::File(file.to_owned(), line);
            self.entries
                .insert(key.path, (Written::from_toml(value), origin));
            return;
        }
        let known = KEYS.iter().map(|key| key.path).chain(keys::tables());
        let hint = keys::nearest(path, known).map_or_else(
            || "; the keys are listed in config/sidecarbon.toml".to_owned(),
            |near| format!("; did you mean {near}?"),
        );
        self.problem(
            format!("{}:{line}", file.display()),
            format!("{path} is not a known key{hint}"),
        );
    }

    fn written(&mut self, path: &'static str) -> (Written, Origin) {
        self.entries.remove_entry(path).map_or_else(
            || {
                let text = Zeroizing::new(keys::default_of(path).to_owned());
                (Written::Text(text), Origin::Default)
            },
            |(path, (written, origin))| {
                // Stays known as set.
                self.entries
                    .insert(path, (Written::Other("read"), origin.clone()));
                (written, origin)
            },
        )
    }

    fn written_text(&mut self, path: &'static str) -> Option<(Zeroizing<String>, Origin)> {
        let (written, origin) = self.written(path);
        match written {
            Written::Text(text) => Some((text, origin)),
            Written::List(mut items) if items.len() == 1 && matches!(origin, Origin::Flag(_)) => {
                Some((Zeroizing::new(items.remove(0)), origin))
            }
            other => {
                let example = keys::default_of(path);
                let message = if example.is_empty() {
                    format!("{path} is {}; write a text in quotes", other.kind())
                } else {
                    format!(
                        "{path} is {}; write a text in quotes, such as \"{example}\"",
                        other.kind()
                    )
                };
                self.problem(origin.to_string(), message);
                None
            }
        }
    }
}

fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut text = Zeroizing::new(Vec::new());
    let mut limited = File::open(path)?.take(MAX_FILE_BYTES + 1);
    limited.read_to_end(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(text)
}

/// Line and column, both from 1, of where a span begins.
fn position(text: &str, span: Range<usize>) -> (usize, usize) {
    let before = text.get(..span.start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .map_or(0, |line| line.chars().count())
        + 1;
    (line, column)
}

/// Kubernetes describes services to every pod in such variables, also those
/// whose names begin with `sidecarbon`. No key of ours looks like them.
fn is_kubernetes(name: &str) -> bool {
    name.contains("_SERVICE_") || name.contains("_PORT_") || name.ends_with("_PORT")
}
