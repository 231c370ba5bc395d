//! What the user asked for.
//!
//! In: the command line's overrides, the environment, the file. Out:
//! [`Settings`], which hold no contradiction, or every [`Problem`] at once,
//! each with its place and its remedy. Knows nothing of the pipeline.

mod api_key;
mod keys;
mod known_keys;
mod permissions;
mod settings;
mod source;
mod values;

use std::fmt;
use std::path::{Path, PathBuf};

pub use api_key::{ApiKey, BadKey, KeyFile, KeyFileError, OwnKeys, mask_uuids, mask_uuids_in};
pub use keys::{KEYS, Key};
pub use known_keys::{mask, mask_json};
use settings::PROXY_VARIABLES;
pub use settings::{
    KeyCheck, ListenSettings, RetrySettings, SelfMetrics, Settings, SinkSettings, StatsdSettings,
    Surroundings, TlsSettings,
};
pub use source::{Effective, Origin, Problem};
pub use values::{
    Endpoint, ListenAddress, LogFormat, NameRule, Percentile, Proxy, SinkUrl, Uncertain,
    UnixAddress, is_reached_at,
};

use source::Source;

use crate::format::escape;

/// Read when no file is named and nothing is set by flags.
const DEFAULT_FILE: &str = "/etc/sidecarbon/sidecarbon.toml";

/// What the command line says about the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--sink`
    pub sink: Option<String>,
    /// `--api-key-file`
    pub api_key_file: Option<String>,
    /// `--udp`
    pub udp: Vec<String>,
    /// `--tcp`
    pub tcp: Vec<String>,
}

/// A configuration that cannot be used: all of its problems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(pub Vec<Problem>);

/// Reads the configuration of this process.
pub fn load(overrides: &Overrides) -> Result<Settings, ConfigError> {
    load_with(overrides, false)
}

/// Reads the configuration for a command that can do without the key, which the
/// user who runs it may not be allowed to read. That is then a warning.
pub fn load_without_key(overrides: &Overrides) -> Result<Settings, ConfigError> {
    load_with(overrides, true)
}

fn load_with(overrides: &Overrides, key_is_optional: bool) -> Result<Settings, ConfigError> {
    let variable = |name: &str| std::env::var(name).ok();
    let not_empty = |name: &str| variable(name).filter(|text| !text.trim().is_empty());
    let surroundings = Surroundings {
        credentials_directory: std::env::var_os("CREDENTIALS_DIRECTORY"),
        platform_key: variable("HOSTEDGRAPHITE_APIKEY").map(Into::into),
        https_proxy: PROXY_VARIABLES
            .into_iter()
            .find_map(|name| Some((name, not_empty(name)?))),
        no_proxy: not_empty("NO_PROXY").or_else(|| not_empty("no_proxy")),
        host_name: rustix::system::uname()
            .nodename()
            .to_str()
            .ok()
            .filter(|name| !name.is_empty())
            .map(str::to_owned),
        hosts: std::fs::read_to_string("/etc/hosts").ok(),
        key_is_optional,
    };
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok())));
    let mut source = Source::new();
    if let Some(path) = overrides.file() {
        source.add_file(&path);
    }
    source.add_environment(variables);
    overrides.add_flags(&mut source);
    let mut settings = settle(source, &surroundings)?;
    if let Some(path) = overrides
        .file()
        .filter(|path| permissions::is_open_to_all(path))
    {
        settings.warnings.push(format!(
            "{}: every user of this host can change it; chmod 0644 it",
            path.display()
        ));
    }
    Ok(settings)
}

/// Reads a configuration from a text alone.
pub fn parse(
    name: &Path,
    text: &str,
    surroundings: &Surroundings,
) -> Result<Settings, ConfigError> {
    let mut source = Source::new();
    source.add_toml(name, text);
    settle(source, surroundings)
}

fn settle(mut source: Source, surroundings: &Surroundings) -> Result<Settings, ConfigError> {
    let mut settings = settings::settle(&mut source, surroundings);
    settings.in_file = source.set_in_file();
    settings.is_set = source.set();
    let (effective, problems) = source.finish();
    if problems.is_empty() {
        settings.effective = effective;
        settings.take_key_off_prefixes();
        Ok(settings)
    } else {
        Err(ConfigError(problems))
    }
}

impl Overrides {
    /// The file to read, if any.
    pub fn file(&self) -> Option<PathBuf> {
        let default = || {
            let path = Path::new(DEFAULT_FILE);
            let no_flags = *self == Self::default();
            (no_flags && path.exists()).then(|| path.to_owned())
        };
        self.config.clone().or_else(default)
    }

    fn add_flags(&self, source: &mut Source) {
        for (flag, path, values) in [
            ("--sink", "sink.url", self.sink.iter().cloned().collect()),
            (
                "--api-key-file",
                "sink.api_key_file",
                self.api_key_file.iter().cloned().collect(),
            ),
            ("--udp", "listen.udp", self.udp.clone()),
            ("--tcp", "listen.tcp", self.tcp.clone()),
        ] {
            if !values.is_empty() {
                source.add_flag(flag, path, values);
            }
        }
    }
}

impl Settings {
    /// A problem that only showed when a value was put to use, such as a file
    /// that it names: told like all others.
    pub fn problem_with(&self, path: &str, message: &str) -> Problem {
        let effective = self.effective.iter().find(|known| known.path == path);
        let origin = effective.map_or(Origin::Default, |known| known.origin.clone());
        Problem::new(&origin, path, message)
    }

    /// The keys whose values differ, in the order of the reference file.
    pub fn changed_keys(&self, new: &Self) -> Vec<&'static str> {
        let value = |settings: &Self, path: &str| {
            let mut known = settings.effective.iter();
            known
                .find(|known| known.path == path)
                .map(|known| known.value.clone())
        };
        // Its value is not shown, and a file may hold another key than before.
        let key_at = match (&new.sink.key_file, self.sink.key == new.sink.key) {
            (_, true) => "",
            (Some(_), false) => "sink.api_key_file",
            (None, false) => "sink.api_key",
        };
        let is_changed = |path: &&str| *path == key_at || value(self, path) != value(new, path);
        KEYS.iter().map(|key| key.path).filter(is_changed).collect()
    }

    /// The keys of the sink and the listeners that the file no longer sets. A file that
    /// was cut would otherwise put defaults in their place.
    pub fn keys_gone(&self, new: &Self) -> Vec<&'static str> {
        let is_key = |path: &str| matches!(path, "sink.api_key" | "sink.api_key_file");
        let is_still_set = |path: &str| {
            // Wherever the key is written, it is written.
            let mut set = new.is_set.iter();
            set.any(|other| *other == path || (is_key(path) && is_key(other)))
        };
        let of_sink_or_listeners =
            |path: &&str| path.starts_with("sink.") || path.starts_with("listen.");
        let keys = self.in_file.iter().copied();
        keys.filter(of_sink_or_listeners)
            .filter(|path| !is_still_set(path))
            .collect()
    }

    /// The settings in force, in the order of the reference file; secrets are
    /// masked.
    pub fn in_force(&self) -> impl Iterator<Item = &Effective> {
        let of = |key: &Key| self.effective.iter().find(|known| known.path == key.path);
        KEYS.iter().filter_map(of)
    }

    /// The same as a file, each line with its origin.
    pub fn render(&self) -> String {
        let mut out = String::new();
        let mut table = "";
        for effective in self.in_force() {
            let path = effective.path;
            let (this_table, name) = path.rsplit_once('.').unwrap_or(("", path));
            if this_table != table {
                let gap = if table.is_empty() { "" } else { "\n" };
                out += &format!("{gap}[{this_table}]\n");
                table = this_table;
            }
            let line = format!("{name} = {}  # {}", effective.value, effective.origin);
            out += &escape(mask(&line));
            out.push('\n');
        }
        out
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests;
