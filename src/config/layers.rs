//! What was written, and where: flags over environment over file over defaults, merged
//! into one table, which serde reads.
//!
//! In: the file's text, the environment, the flags. Out: the [`File`], each of its
//! settings with its origin, and every problem. No text of a secret ever enters a
//! problem.

use std::borrow::Cow;
use std::io::{self, Read};
use std::mem;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};
use zeroize::Zeroizing;

use super::encoding;
use super::file::{self, File, KEYS};
use super::problem::{Origin, Problem};
use super::setting::Key;

/// Larger files are not configurations.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What a variable may be set to that means the empty text: as the file has it. One
/// that is set to nothing means "not set" for some keys.
const WRITTEN_EMPTY: &str = "\"\"";

/// Names the file to read, as `--config` does.
pub const FILE_VARIABLE: &str = "SIDECARBON_CONFIG";

/// All that was written, from the lowest layer to the highest.
#[derive(Debug, Default)]
pub struct Layers {
    file: Option<(PathBuf, Zeroizing<String>)>,
    /// Values beside the file's, in the order in which they replace each other.
    others: Vec<Entry>,
    problems: Vec<Problem>,
}

#[derive(Debug)]
struct Entry {
    key: &'static Key,
    origin: Origin,
    /// Commas separate the items of a list.
    text: Zeroizing<String>,
}

impl Layers {
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
        self.file = Some((path.to_owned(), Zeroizing::new(text.to_owned())));
    }

    /// Takes the variables that name keys. One without a value has one that is not text.
    pub fn add_environment(&mut self, variables: impl Iterator<Item = (String, Option<String>)>) {
        let known: Vec<(String, &'static Key)> =
            KEYS.iter().map(|key| (key.env_name(), key)).collect();
        for (name, value) in variables {
            let value = value.map(Zeroizing::new);
            if !name.starts_with("SIDECARBON_") || name == FILE_VARIABLE || is_kubernetes(&name) {
                continue;
            }
            let Some((_, key)) = known.iter().find(|(known, _)| *known == name) else {
                let hint = file::nearest(&name, known.iter().map(|(name, _)| name.as_str()))
                    .map_or_else(String::new, |near| format!("; did you mean {near}?"));
                self.problem(name, format!("names no known key{hint}"));
                continue;
            };
            let Some(value) = value else {
                let message = format!("{} is not UTF-8 text; write it anew", key.path);
                self.problem(name, message);
                continue;
            };
            if value.is_empty() && key.empty_is_unset() {
                continue;
            }
            let value = if *value == WRITTEN_EMPTY {
                Zeroizing::default()
            } else {
                value
            };
            self.others.push(Entry {
                key,
                origin: Origin::Environment(name),
                text: value,
            });
        }
    }

    /// Takes the values of a flag; several are items of a list.
    #[expect(clippy::expect_used, reason = "flags and keys are both compiled in")]
    pub fn add_flag(&mut self, flag: &'static str, path: &str, values: &[String]) {
        if !values.is_empty() {
            self.others.push(Entry {
                key: file::find(path).expect("a flag sets a known key"),
                origin: Origin::Flag(flag),
                text: values.join(",").into(),
            });
        }
    }

    fn problem(&mut self, place: String, message: impl std::fmt::Display) {
        self.problems.push(Problem::at(place, message));
    }

    /// Merges the layers and reads the result. A setting that cannot be read has its
    /// default, so that all problems show.
    pub fn read(self) -> (File, Vec<Problem>) {
        let Self {
            file,
            others,
            mut problems,
        } = self;
        let no_file = (PathBuf::new(), Zeroizing::default());
        let (path, text) = file.as_ref().unwrap_or(&no_file);
        let mut merged = parse(path, text, &mut problems);
        // A position behind the file's text stands for another origin.
        for (index, entry) in others.iter().enumerate() {
            let at = text.len() + 1 + index;
            let value = DeValue::String(Cow::Borrowed(entry.text.as_str()));
            insert(&mut merged, entry.key.path, spanned(at, value));
        }
        let origin_of = |at: usize| match at.checked_sub(text.len() + 1) {
            Some(index) => others[index].origin.clone(),
            None => Origin::File(path.clone(), position(text, at).0),
        };
        let root = spanned(0, merged);
        let mut file = File::deserialize(Deserializer::from(root)).unwrap_or_else(|error| {
            let at = error.span().unwrap_or_default().start;
            problems.push(Problem::at(origin_of(at).to_string(), error.message()));
            File::default()
        });
        file.each(&mut |key, setting| setting.resolve(key, &origin_of, &mut problems));
        (file, problems)
    }
}

/// The text of a file, without what is not a key.
fn parse<'a>(path: &Path, text: &'a str, problems: &mut Vec<Problem>) -> DeTable<'a> {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        // Its `Display` would show the line, which may hold the key.
        let (line, column) = position(text, error.span().unwrap_or_default().start);
        problems.push(Problem::at(
            format!("{}:{line}:{column}", path.display()),
            format!(
                "not valid TOML: {}; write key = value, with texts in quotes, such as url = \"tls://host:20030\"",
                error.message()
            ),
        ));
    }
    if !errors.is_empty() {
        return DeTable::new();
    }
    without_unknown(table.into_inner(), "", &mut |name, at| {
        let (line, _) = position(text, at);
        let known = KEYS.iter().map(|key| key.path).chain(file::tables());
        let hint = file::nearest(name, known).map_or_else(
            || "; the keys are listed in config/sidecarbon.toml".to_owned(),
            |near| format!("; did you mean {near}?"),
        );
        problems.push(Problem::at(
            format!("{}:{line}", path.display()),
            format!("{name} is not a known key{hint}"),
        ));
    })
}

fn without_unknown<'a>(
    table: DeTable<'a>,
    prefix: &str,
    unknown: &mut dyn FnMut(&str, usize),
) -> DeTable<'a> {
    let is_known = |(name, mut value): (Spanned<_>, Spanned<DeValue<'a>>)| {
        let path = format!("{prefix}{}", name.get_ref());
        if let DeValue::Table(inner) = value.get_mut()
            && file::tables().any(|table| table == path)
        {
            *inner = without_unknown(mem::take(inner), &format!("{path}."), unknown);
        } else if file::find(&path).is_none() {
            unknown(&path, name.span().start);
            return None;
        }
        Some((name, value))
    };
    table.into_iter().filter_map(is_known).collect()
}

fn insert<'a>(table: &mut DeTable<'a>, path: &'static str, value: Spanned<DeValue<'a>>) {
    let Some((name, rest)) = path.split_once('.') else {
        table.insert(spanned(0, Cow::Borrowed(path)), value);
        return;
    };
    let inner = table.entry(spanned(0, Cow::Borrowed(name)));
    let inner = inner.or_insert_with(|| spanned(0, DeValue::Table(DeTable::new())));
    if let DeValue::Table(inner) = inner.get_mut() {
        insert(inner, rest, value);
    }
}

fn spanned<T>(at: usize, value: T) -> Spanned<T> {
    Spanned::new(Range { start: at, end: at }, value)
}

fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut text = Zeroizing::new(Vec::new());
    let mut limited = std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1);
    limited.read_to_end(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(text)
}

/// Line and column, both from 1, of a position.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
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
