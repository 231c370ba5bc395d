//! The configuration as it is written: one struct for each table, one field for each key
//! with its type, default and meaning. The file, the environment names, the nearest-name
//! hints, `check`, the JSON schema and the reference page are all made from it. Unknown
//! keys are reported, and removed, before serde reads.

use serde::Deserialize;

use super::setting::{AnySetting, Key, Kind, Setting};
use super::values::{
    InlineKey, LimitOf, Linger, ListenAddress, LogFormat, LogLevel, NameRule, Number, Optional,
    Percentile, Period, Proxy, SinkUrl, Size, Uncertain, UnixAddress,
};

/// Declares the tables. Each field is `name: Type = "default"`, documented; a field in
/// parentheses is a table inside.
macro_rules! tables {
    ($($(#[doc = $about:literal])* $table:ident $path:literal {
        $($(#[doc = $doc:literal])* $field:ident: $type:ty = $default:literal,)*
        $(($inner:ident: $inner_type:ident),)?
    })*) => {
        $(
            $(#[doc = $about])*
            #[derive(Default, Deserialize)]
            #[serde(default)]
            pub struct $table {
                $($(#[doc = $doc])* pub $field: Setting<$type>,)*
                $(/// The table inside.
                pub $inner: $inner_type,)?
            }

            impl $table {
                fn each(&mut self, visit: &mut dyn FnMut(&'static Key, &mut dyn AnySetting)) {
                    let mut keys = KEYS.iter().filter(|key| {
                        key.path.rsplit_once('.').is_some_and(|(table, _)| table == $path)
                    });
                    $(if let Some(key) = keys.next() {
                        visit(key, &mut self.$field);
                    })*
                    $(self.$inner.each(visit);)?
                }
            }
        )*

        /// All keys, in the order of the reference file.
        pub const KEYS: &[Key] = &[$($(Key {
            path: concat!($path, ".", stringify!($field)),
            default: $default,
            doc: concat!($($doc, "\n",)*),
            schema: <$type as Kind>::schema,
        },)*)*];
    };
}

tables! {
    /// Where lines go, and how.
    Sink "sink" {
        /// Where lines go: `tls://host:port`, `tcp://host:port`, `udp://host:port`,
        /// `https://host/path`, `http://host/path`, or `stdout:` to print them.
        url: SinkUrl = "stdout:",
        /// A file that holds the API key on one line.
        api_key_file: String = "",
        /// The API key itself. `""` sends lines without a key.
        api_key: InlineKey = "",
        /// Time for one address to accept a connection.
        connect_timeout: Period<100, 300_000> = "5s",
        /// Longest time without progress in acknowledgements; then the connection is reset.
        write_timeout: Period<1_000, 3_600_000> = "30s",
        /// Time for one whole HTTP request.
        request_timeout: Period<100, 3_600_000> = "10s",
        /// Age at which a connection is replaced, give or take 10 %.
        max_connection_age: Period<1_000, 2_592_000_000> = "10m",
        /// Size to which UDP datagrams are filled, in bytes.
        datagram_bytes: Number<128, 8_192> = "1400",
        /// HTTP proxy for `tls://`, `https://` and `http://`: `http://[user:password@]host:port`.
        /// Unset, `https://` follows `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`.
        proxy: Optional<Proxy> = "",
        /// Highest rate at which queued lines are sent, in lines per second.
        max_lines_per_second: LimitOf<1, 1_000_000_000> = "unlimited",
        /// Whether lines whose HTTP answer was lost are sent again (`"resend"`, possible
        /// duplicates) or dropped (`"drop"`, possible loss).
        uncertain: Uncertain = "resend",
        /// After a reset, lines acknowledged within this time before it are sent again.
        resend_tail: Optional<Period<0, 60_000>> = "",
        (tls: Tls),
    }

    /// How the upstream and sidecarbon identify themselves over TLS.
    Tls "sink.tls" {
        /// Certificate authorities to trust instead of the system's, as PEM.
        ca_file: String = "",
        /// Name in the upstream's certificate, if it is not the host in `sink.url`.
        server_name: String = "",
        /// Client certificate, as PEM.
        client_cert_file: String = "",
        /// Private key of the client certificate, as PEM.
        client_key_file: String = "",
        /// How long a TLS 1.3 server that asked for a client certificate may take to accept
        /// it before lines are sent.
        confirm_timeout: Period<0, 60_000> = "2s",
    }

    /// Where lines come from, and which are accepted.
    Listen "listen" {
        /// UDP addresses for lines.
        udp: Vec<ListenAddress> = "localhost:2003",
        /// TCP addresses for lines.
        tcp: Vec<ListenAddress> = "localhost:2003",
        /// Unix stream sockets for lines: absolute paths, or `@name` for the abstract namespace.
        unix_stream: Vec<UnixAddress> = "",
        /// Unix datagram sockets for lines.
        unix_datagram: Vec<UnixAddress> = "",
        /// StatsD addresses, UDP and TCP.
        statsd: Vec<ListenAddress> = "",
        /// TCP addresses for carbon's pickle protocol.
        pickle: Vec<ListenAddress> = "",
        /// Which metric names pass: `"any"`, `"sanitize"` (undocumented characters become
        /// `_`) or `"strict"` (names with undocumented characters are rejected).
        names: NameRule = "any",
        /// Longer lines are rejected.
        max_line_bytes: Size<64, 0x1_0000> = "4KiB",
        /// Most stream connections open at a time.
        max_connections: Number<1, 1_000_000> = "1024",
        /// Threads that receive at each UDP address.
        udp_threads: Number<1, 64> = "1",
    }

    /// How StatsD samples are aggregated.
    Statsd "statsd" {
        /// Time between two flushes, in whole seconds.
        interval: Period<1_000, 3_600_000> = "10s",
        /// Percentiles of timers.
        percentiles: Vec<Percentile> = "90",
        /// Prefix of all names; `{host}` is the host's name.
        prefix: String = "stats",
        /// Most memory for samples.
        bytes: Size<0x1_0000, 0x1_0000_0000> = "8MiB",
    }

    /// How lines are grouped.
    Batch "batch" {
        /// Size of a block of lines.
        bytes: Size<1_024, 0x100_0000> = "64KiB",
        /// How long lines wait for others before they are sent; `"auto"` is 500 ms for HTTP
        /// and none for other sinks.
        linger: Linger = "auto",
    }

    /// The queue in memory.
    Queue "queue" {
        /// Most memory for queued lines.
        bytes: Size<0x1_0000, 0x100_0000_0000> = "64MiB",
    }

    /// How failed attempts are repeated: after random delays up to a bound that doubles.
    Retry "retry" {
        /// Bound of the first delay.
        first: Period<10, 3_600_000> = "250ms",
        /// Bound of all delays.
        max: Period<10, 3_600_000> = "30s",
    }

    /// How the daemon ends.
    Shutdown "shutdown" {
        /// Most time from the signal to the exit.
        grace: Period<0, 3_600_000> = "8s",
        /// After the signal, lines are received until none has come for this time.
        quiet: Period<0, 3_600_000> = "0s",
    }

    /// The HTTP endpoint for metrics and status.
    Admin "admin" {
        /// Its address; `""` for none.
        listen: Optional<ListenAddress> = "localhost:2023",
    }

    /// The daemon's own metrics as Graphite lines.
    SelfMetrics "self_metrics" {
        /// Prefix of their names; `{host}` is the host's name; `""` turns them off.
        prefix: String = "",
        /// Time between two reports.
        interval: Period<1_000, 3_600_000> = "60s",
    }

    /// How `probe` checks the key.
    Probe "probe" {
        /// An `https://` URL that only answers a valid key, sent as Basic user.
        key_check_url: String = "",
    }

    /// What is logged.
    Log "log" {
        /// `"error"`, `"warn"`, `"info"`, `"debug"` or `"trace"`.
        level: LogLevel = "info",
        /// `"auto"`, `"text"`, `"json"`, `"journald"` or `"container"`.
        format: LogFormat = "auto",
    }
}

macro_rules! file {
    ($($table:ident: $type:ident,)*) => {
        /// A configuration, merged from file, environment and flags.
        #[derive(Default, Deserialize)]
        #[serde(default)]
        pub struct File {
            $(pub $table: $type,)*
        }

        impl File {
            /// Visits every key in the order of [`KEYS`].
            pub fn each(&mut self, visit: &mut dyn FnMut(&'static Key, &mut dyn AnySetting)) {
                $(self.$table.each(visit);)*
            }
        }
    };
}

file! {
    sink: Sink,
    listen: Listen,
    statsd: Statsd,
    batch: Batch,
    queue: Queue,
    retry: Retry,
    shutdown: Shutdown,
    admin: Admin,
    self_metrics: SelfMetrics,
    probe: Probe,
    log: Log,
}

/// The key at a path.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The tables that hold the keys.
pub fn tables() -> impl Iterator<Item = &'static str> {
    let paths = KEYS.iter().filter_map(|key| key.path.rsplit_once('.'));
    paths.map(|(table, _)| table)
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

    #[test]
    fn every_key_is_visited_with_its_own_setting() {
        let mut visited = Vec::new();
        File::default().each(&mut |key, _| visited.push(key.path));
        let known: Vec<&str> = KEYS.iter().map(|key| key.path).collect();
        assert_eq!(visited, known);
    }
}
