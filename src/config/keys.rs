//! Every key of the configuration, with its default: one list, from which the
//! file, the environment names, `check` and the nearest-name hints are served.

/// One key.
#[derive(Debug)]
pub struct Key {
    /// Dotted path in the file, `sink.tls.ca_file`.
    pub path: &'static str,
    /// The default as it would be written, without quotes; lists separated by
    /// commas.
    pub default: &'static str,
}

/// What a limit is that does not limit.
pub const UNLIMITED: &str = "unlimited";

/// What a variable may be set to that means the empty text: as the file has it. One
/// that is set to nothing means "not set" for some keys.
pub const WRITTEN_EMPTY: &str = "\"\"";

/// All keys, in the order of the reference file.
pub const KEYS: &[Key] = &[
    key("sink.url", "stdout:"),
    key("sink.api_key_file", ""),
    key("sink.api_key", ""),
    key("sink.connect_timeout", "5s"),
    key("sink.write_timeout", "30s"),
    key("sink.request_timeout", "10s"),
    key("sink.max_connection_age", "10m"),
    key("sink.datagram_bytes", "1400"),
    key("sink.proxy", ""),
    key("sink.max_lines_per_second", UNLIMITED),
    key("sink.uncertain", "resend"),
    key("sink.resend_tail", ""),
    key("sink.tls.ca_file", ""),
    key("sink.tls.server_name", ""),
    key("sink.tls.client_cert_file", ""),
    key("sink.tls.client_key_file", ""),
    key("sink.tls.confirm_timeout", "2s"),
    key("listen.udp", "localhost:2003"),
    key("listen.tcp", "localhost:2003"),
    key("listen.unix_stream", ""),
    key("listen.unix_datagram", ""),
    key("listen.statsd", ""),
    key("listen.pickle", ""),
    key("listen.names", "any"),
    key("listen.max_line_bytes", "4KiB"),
    key("listen.max_connections", "1024"),
    key("listen.udp_threads", "1"),
    key("statsd.interval", "10s"),
    key("statsd.percentiles", "90"),
    key("statsd.prefix", "stats"),
    key("statsd.bytes", "8MiB"),
    key("batch.bytes", "64KiB"),
    key("batch.linger", "auto"),
    key("queue.bytes", "64MiB"),
    key("retry.first", "250ms"),
    key("retry.max", "30s"),
    key("shutdown.grace", "8s"),
    key("shutdown.quiet", "0s"),
    key("admin.listen", "localhost:2023"),
    key("self_metrics.prefix", ""),
    key("self_metrics.interval", "60s"),
    key("probe.key_check_url", ""),
    key("log.level", "info"),
    key("log.format", "auto"),
];

const fn key(path: &'static str, default: &'static str) -> Key {
    Key { path, default }
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

/// The key at a path.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// What holds where nothing is written.
pub fn default_of(path: &str) -> &'static str {
    find(path).map_or("", |key| key.default)
}

/// The tables that hold the keys.
pub fn tables() -> impl Iterator<Item = &'static str> {
    KEYS.iter()
        .filter_map(|key| key.path.rsplit_once('.'))
        .map(|(table, _)| table)
}

/// The known name that is written most like this one, unless none is alike.
pub fn nearest<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, name) = known
        .map(|name| (strsim::damerau_levenshtein(written, name), name))
        .min()?;
    (distance > 0 && distance <= written.len() / 2).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_names_are_unique() {
        let mut names: Vec<String> = KEYS.iter().map(Key::env_name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), KEYS.len());
    }

    #[test]
    fn misspelt_keys_are_recognised() {
        let known = || KEYS.iter().map(|key| key.path);
        assert_eq!(nearest("sink.ulr", known()), Some("sink.url"));
        assert_eq!(nearest("listen.upd", known()), Some("listen.udp"));
        assert_eq!(nearest("queue.size", known()), Some("queue.bytes"));
        assert_eq!(nearest("zzz", known()), None);
    }
}
