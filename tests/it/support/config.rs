//! The daemon's configuration, written as a file of the test's own.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::KEY;

/// Settings by their dotted names, and the directory that they live in.
#[derive(Debug, Clone)]
pub struct Config {
    settings: BTreeMap<&'static str, Toml>,
    directory: Arc<TempDir>,
}

/// A value as it is written in the file.
#[derive(Debug, Clone)]
pub struct Toml(String);

impl Config {
    /// Sends to `url` with [`KEY`], listens on every `localhost`, tries again
    /// soon and drains long: what most tests want.
    pub fn to(url: impl AsRef<str>) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("sidecarbon-it-")
            .tempdir()
            .expect("a temporary directory");
        let config = Self {
            settings: BTreeMap::new(),
            directory: Arc::new(directory),
        };
        config.write_key(KEY);
        let key_file = config.key_file();
        config
            .set("sink.url", url.as_ref())
            .set("sink.api_key_file", &key_file)
            .set("listen.udp", ["localhost:0"])
            .set("listen.tcp", ["localhost:0"])
            .set("admin.listen", "localhost:0")
            .set("retry.first", "20ms")
            .set("retry.max", "200ms")
            .set("shutdown.grace", "30s")
            .set("log.level", "debug")
    }

    /// The same with one setting changed.
    #[must_use]
    pub fn set(mut self, key: &'static str, value: impl Into<Toml>) -> Self {
        self.settings.insert(key, value.into());
        self
    }

    /// The same with one setting left out.
    #[must_use]
    pub fn unset(mut self, key: &'static str) -> Self {
        self.settings.remove(key);
        self
    }

    /// The same with a Unix stream and a Unix datagram listener, each with a
    /// path and in the abstract name space.
    #[must_use]
    pub fn with_unix_listeners(self) -> Self {
        let name = self.directory.path().file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        let streams = [
            self.path("stream.sock").display().to_string(),
            format!("@{name}-stream"),
        ];
        let datagrams = [
            self.path("datagram.sock").display().to_string(),
            format!("@{name}-datagram"),
        ];
        self.set("listen.unix_stream", streams)
            .set("listen.unix_datagram", datagrams)
    }

    /// The settings of another one, in the files of this one.
    #[must_use]
    pub fn like(&self, other: &Self) -> Self {
        let mut config = self.clone();
        let key_file = config.key_file();
        config.settings.clone_from(&other.settings);
        config.set("sink.api_key_file", &key_file)
    }

    /// A file beside the configuration.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The configuration file.
    pub fn file(&self) -> PathBuf {
        self.path("sidecarbon.toml")
    }

    /// The file with the key.
    pub fn key_file(&self) -> PathBuf {
        self.path("api-key")
    }

    /// Puts another key into the key file.
    pub fn write_key(&self, key: &str) {
        write_private(&self.key_file(), &format!("{key}\n"));
    }

    /// Writes the configuration file.
    pub fn write(&self) {
        write_private(&self.file(), &self.to_string());
    }

    /// Writes something else into the configuration file.
    pub fn write_text(&self, text: &str) {
        write_private(&self.file(), text);
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings
            .iter()
            .try_for_each(|(key, Toml(value))| writeln!(f, "{key} = {value}"))
    }
}

impl From<&str> for Toml {
    fn from(text: &str) -> Self {
        assert!(!text.contains(['\'', '\n']), "needs no escaping");
        Self(format!("'{text}'"))
    }
}

impl From<&PathBuf> for Toml {
    fn from(path: &PathBuf) -> Self {
        path.to_str().expect("a path in UTF-8").into()
    }
}

impl From<u32> for Toml {
    fn from(number: u32) -> Self {
        Self(number.to_string())
    }
}

impl<T: AsRef<str>, const N: usize> From<[T; N]> for Toml {
    fn from(list: [T; N]) -> Self {
        let mut text = String::from("[");
        for item in list {
            let Self(item) = item.as_ref().into();
            write!(text, "{item}, ").expect("writing to a String");
        }
        Self(text + "]")
    }
}

/// As an operator would: nobody else may read it.
fn write_private(path: &Path, text: &str) {
    fs::write(path, text).expect("a file in the temporary directory");
    fs::set_permissions(path, Permissions::from_mode(0o600)).expect("its permissions");
}
