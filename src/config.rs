//! What the user asked for.
//!
//! In: the command line's overrides, the environment, the file. Out:
//! [`Settings`], which hold no contradiction, or every [`Problem`] at once,
//! each with its place and its remedy. Knows nothing of the pipeline.

mod api_key;
mod encoding;
mod file;
mod layers;
mod permissions;
mod problem;
mod schema;
mod setting;
mod settings;
mod values;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

pub use api_key::{
    ApiKey, BadKey, KeyFile, KeyFileError, OwnKeys, mask, mask_json, mask_uuids, mask_uuids_in,
};
pub use file::KEYS;
pub use problem::{Origin, Problem};
pub use schema::{reference, schema};
pub use setting::{Effective, Key};
use settings::PROXY_VARIABLES;
pub use settings::{
    Environment, KeyCheck, ListenSettings, RetrySettings, SelfMetrics, Settings, SinkSettings,
    StatsdSettings, TlsSettings,
};
pub use values::{
    Endpoint, ListenAddress, LogFormat, NameRule, Percentile, Proxy, SinkUrl, Uncertain,
    UnixAddress, is_reached_at,
};

use layers::{FILE_VARIABLE, Layers};
use settings::Report;

use crate::format::escape;

/// Read if it exists, unless another file is named.
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
    /// `--log-level`
    pub log_level: Option<String>,
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
    let around = Environment {
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
    let mut layers = Layers::default();
    let path = overrides.file();
    if let Some(path) = &path {
        layers.add_file(path);
    }
    layers.add_environment(variables);
    overrides.add_flags(&mut layers);
    let mut settings = resolve(layers, &around)?;
    if let Some(path) = path.filter(|path| permissions::is_open_to_all(path)) {
        settings.warnings.push(format!(
            "{}: every user of this host can change it; chmod 0644 it",
            path.display()
        ));
    }
    Ok(settings)
}

/// Reads a configuration from a text alone.
pub fn parse(name: &Path, text: &str, around: &Environment) -> Result<Settings, ConfigError> {
    let mut layers = Layers::default();
    layers.add_toml(name, text);
    resolve(layers, around)
}

fn resolve(layers: Layers, around: &Environment) -> Result<Settings, ConfigError> {
    let (file, problems) = layers.read();
    let mut report = Report {
        problems,
        ..Report::default()
    };
    let settings = settings::resolve(file, around, &mut report);
    if report.problems.is_empty() {
        Ok(settings)
    } else {
        Err(ConfigError(report.problems))
    }
}

impl Overrides {
    /// The file to read, if any: of `--config`, of `SIDECARBON_CONFIG`, or the default
    /// one if it exists. Other flags do not matter.
    pub fn file(&self) -> Option<PathBuf> {
        self.file_among(std::env::var_os(FILE_VARIABLE), Path::new(DEFAULT_FILE))
    }

    fn file_among(&self, variable: Option<OsString>, default: &Path) -> Option<PathBuf> {
        let named = variable.filter(|path| !path.is_empty()).map(PathBuf::from);
        let default = || Some(default.to_owned()).filter(|path| path.exists());
        self.config.clone().or(named).or_else(default)
    }

    fn add_flags(&self, layers: &mut Layers) {
        layers.add_flag("--sink", "sink.url", self.sink.as_slice());
        let key_file = self.api_key_file.as_slice();
        layers.add_flag("--api-key-file", "sink.api_key_file", key_file);
        layers.add_flag("--udp", "listen.udp", &self.udp);
        layers.add_flag("--tcp", "listen.tcp", &self.tcp);
        layers.add_flag("--log-level", "log.level", self.log_level.as_slice());
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
            let mut set = new.effective.iter();
            // Wherever the key is written, it is written.
            set.any(|other| {
                let is_same = other.path == path || (is_key(path) && is_key(other.path));
                is_same && other.origin != Origin::Default
            })
        };
        let in_file = |known: &&Effective| matches!(known.origin, Origin::File(..));
        let paths = self
            .effective
            .iter()
            .filter(in_file)
            .map(|known| known.path);
        paths
            .filter(|path| path.starts_with("sink.") || path.starts_with("listen."))
            .filter(|path| !is_still_set(path))
            .collect()
    }

    /// The same as a file, each line with its origin.
    pub fn render(&self) -> String {
        let mut out = String::new();
        let mut table = "";
        for effective in &self.effective {
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
