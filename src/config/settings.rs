//! What was written, turned into what is meant: defaults filled in, ranges
//! checked, contradictions gone. Code that holds [`Settings`] never asks again.

mod key;
mod self_metrics;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use super::api_key::ApiKey;
use super::source::{Effective, Origin, Source, quoted};
use super::values::{
    self, Endpoint, ListenAddress, LogFormat, NameRule, Proxy, SinkUrl, Uncertain, UnixAddress,
    choice, show_bytes,
};
use key::FoundKey;
pub use self_metrics::SelfMetrics;

/// Under load, lines that come one by one are sent together: a write and all
/// that it causes costs a hundred times what a line does. Timers have
/// milliseconds, so it is one to one and a half of them.
const GATHER: Duration = Duration::from_micros(500);

/// HTTP requests are dear, so lines gather for so long before one is made.
const HTTP_LINGER: Duration = Duration::from_millis(500);

/// Everything that the daemon was asked to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where lines go, and how.
    pub sink: SinkSettings,
    /// Where lines come from, and which are taken.
    pub listen: ListenSettings,
    /// A block of lines is sealed at so many bytes.
    pub batch_bytes: usize,
    /// How long lines gather before they are sent.
    pub batch_linger: Duration,
    /// The least time between two batches that are not full.
    pub batch_gather: Duration,
    /// The bound of all waiting lines.
    pub queue_bytes: usize,
    /// How failed attempts are repeated.
    pub retry: RetrySettings,
    /// How long the end may take, the drain included.
    pub shutdown_grace: Duration,
    /// Before the drain, lines are taken until none has come for so long.
    pub shutdown_quiet: Duration,
    /// Where metrics are served.
    pub admin_listen: Option<ListenAddress>,
    /// Whether somebody asked for that address. The default one may be taken
    /// by another instance; that is no reason not to forward lines.
    pub admin_is_asked_for: bool,
    /// Whether, and how, the daemon reports on itself upstream.
    pub self_metrics: Option<SelfMetrics>,
    /// How `probe` checks the key where the sink's transport cannot.
    pub key_check: Option<KeyCheck>,
    /// What is logged.
    pub log_level: LevelFilter,
    /// How logs look.
    pub log_format: LogFormat,
    /// Legal, but likely not meant; for the log.
    pub warnings: Vec<String>,
    /// Worth a word, and as it should be; said once, at the start.
    pub notes: Vec<String>,
    /// Each key with its value and origin, for `check`.
    pub effective: Vec<Effective>,
}

/// Where lines go, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkSettings {
    /// Transport, host, port, path.
    pub url: SinkUrl,
    /// The key that goes before each name.
    pub key: ApiKey,
    /// How the upstream proves who it is.
    pub tls: TlsSettings,
    /// For one address.
    pub connect_timeout: Duration,
    /// Without any progress.
    pub write_timeout: Duration,
    /// For a whole exchange over HTTP.
    pub request_timeout: Duration,
    /// Then a new connection is made.
    pub max_connection_age: Duration,
    /// Size to which datagrams are filled.
    pub datagram_bytes: usize,
    /// Through which a connection is made.
    pub proxy: Option<Proxy>,
    /// What becomes of lines whose HTTP answer was lost.
    pub uncertain: Uncertain,
    /// After a reset, lines that were first acknowledged so recently are sent
    /// again; zero is never.
    pub resend_tail: Duration,
    /// How fast the backlog may go after an outage.
    pub max_lines_per_second: Option<u32>,
    /// The file that the key was read from.
    pub key_file: Option<PathBuf>,
    /// Whether there should be a key that could not be had; only for commands
    /// that can do without.
    pub key_is_missing: bool,
    /// Whether somebody asked for this sink.
    pub is_asked_for: bool,
}

/// How the upstream proves who it is, and we do to it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TlsSettings {
    /// Authorities to trust in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// The name that the certificate must bear, where it is not the host's.
    pub server_name: Option<String>,
    /// Our own certificate and its key.
    pub client_identity: Option<(PathBuf, PathBuf)>,
}

/// Where lines come from, and which are taken.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenSettings {
    /// Datagrams over IP.
    pub udp: Vec<ListenAddress>,
    /// Streams over IP.
    pub tcp: Vec<ListenAddress>,
    /// Streams over Unix sockets.
    pub unix_stream: Vec<UnixAddress>,
    /// Datagrams over Unix sockets.
    pub unix_datagram: Vec<UnixAddress>,
    /// Which names pass.
    pub names: NameRule,
    /// Longer lines are rejected.
    pub max_line_bytes: usize,
    /// Past so many streams the longest idle one is closed.
    pub max_connections: usize,
}

/// A question over HTTP that only a valid key is answered: the key is its Basic
/// user, and nothing is written.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyCheck {
    /// Whether it is `https`.
    pub secure: bool,
    /// Host and port.
    pub endpoint: Endpoint,
    /// Path and query.
    pub path: String,
    /// Through which the connection is made.
    pub proxy: Option<Proxy>,
}

/// How failed attempts are repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetrySettings {
    /// The first delay is drawn up to here.
    pub first: Duration,
    /// No delay is longer.
    pub max: Duration,
}

/// The variables of the environment that say where the key is, and what else
/// matters beside the `SIDECARBON_` names.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// `$CREDENTIALS_DIRECTORY`, set by systemd.
    pub credentials_directory: Option<OsString>,
    /// `HOSTEDGRAPHITE_APIKEY`, set by hosting platforms.
    pub platform_key: Option<zeroize::Zeroizing<String>>,
    /// `HTTPS_PROXY` or `https_proxy`.
    pub https_proxy: Option<String>,
    /// `NO_PROXY` or `no_proxy`.
    pub no_proxy: Option<String>,
    /// The name of this host.
    pub host_name: Option<String>,
    /// Whether a key that cannot be had is no more than a warning.
    pub key_is_optional: bool,
}

/// Asks the source for every key, in the order of the reference file.
pub fn settle(source: &mut Source, surroundings: &Surroundings) -> Settings {
    let mut warnings = Vec::new();
    let mut notes = Vec::new();
    let sink = sink(source, surroundings, &mut warnings, &mut notes);
    let listen = listen(source, &mut warnings);
    let sizes = sizes(source, &sink.url);
    let retry = retry(source);
    let (shutdown_grace, shutdown_quiet) = shutdown(source);
    let admin_listen = admin(source, &mut warnings);
    let self_metrics = self_metrics::find(source, surroundings.host_name.as_deref());
    let key_check = key_check(source, surroundings, &mut warnings);
    let log_level = source.text("log.level", choice(LEVELS));
    let log_format = source.text("log.format", choice(FORMATS));
    Settings {
        sink,
        listen,
        batch_bytes: sizes.batch_bytes,
        batch_linger: sizes.linger,
        batch_gather: sizes.gather,
        queue_bytes: sizes.queue_bytes,
        retry,
        shutdown_grace,
        shutdown_quiet,
        admin_listen,
        admin_is_asked_for: source.is_set("admin.listen"),
        self_metrics,
        key_check,
        log_level: log_level.unwrap_or(LevelFilter::INFO),
        log_format: log_format.unwrap_or(LogFormat::Auto),
        warnings,
        notes,
        effective: Vec::new(),
    }
}

const LEVELS: &[(&str, LevelFilter)] = &[
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

const FORMATS: &[(&str, LogFormat)] = &[
    ("auto", LogFormat::Auto),
    ("text", LogFormat::Text),
    ("json", LogFormat::Json),
    ("journald", LogFormat::Journald),
    ("container", LogFormat::Container),
];

const NAMES: &[(&str, NameRule)] = &[
    ("any", NameRule::Any),
    ("sanitize", NameRule::Sanitize),
    ("strict", NameRule::Strict),
];

const UNCERTAIN: &[(&str, Uncertain)] = &[("resend", Uncertain::Resend), ("drop", Uncertain::Drop)];

fn sink(
    source: &mut Source,
    around: &Surroundings,
    warnings: &mut Vec<String>,
    notes: &mut Vec<String>,
) -> SinkSettings {
    let url = source
        .text("sink.url", SinkUrl::parse)
        .unwrap_or(SinkUrl::Stdout);
    let FoundKey {
        key,
        file: key_file,
        is_missing: key_is_missing,
        note,
    } = key::find(source, &url, around, warnings);
    notes.extend(note);
    if let SinkUrl::Http { secure: false, .. } = url
        && !key.is_empty()
    {
        warnings.push(
            "sink.url is http://, so the key travels in clear; write https:// where you can".into(),
        );
    }
    let second = Duration::from_secs(1);
    let day = Duration::from_secs(86_400);
    let tenth = Duration::from_millis(100);
    SinkSettings {
        tls: tls(source),
        connect_timeout: duration_within(source, "sink.connect_timeout", tenth, 300 * second),
        write_timeout: duration_within(source, "sink.write_timeout", second, 3600 * second),
        request_timeout: duration_within(source, "sink.request_timeout", tenth, 3600 * second),
        max_connection_age: duration_within(source, "sink.max_connection_age", second, 30 * day),
        datagram_bytes: source
            .number("sink.datagram_bytes", 128..8193)
            .unwrap_or(1400) as usize,
        proxy: proxy(source, &url, around),
        uncertain: source
            .text("sink.uncertain", choice(UNCERTAIN))
            .unwrap_or(Uncertain::Resend),
        resend_tail: resend_tail(source),
        max_lines_per_second: source.limit("sink.max_lines_per_second", 1..1_000_000_001),
        is_asked_for: source.is_set("sink.url"),
        url,
        key,
        key_file,
        key_is_missing,
    }
}

impl SinkSettings {
    /// Where lines go, to be shown: without the query, which may hold secrets.
    pub fn public_url(&self) -> String {
        let mut url = self.url.to_string().into_bytes();
        self.key.mask(&mut url);
        let url = String::from_utf8_lossy(&url);
        match url.split_once('?') {
            Some((path, _)) => format!("{path}?…"),
            None => url.into_owned(),
        }
    }
}

fn resend_tail(source: &mut Source) -> Duration {
    let minute = Duration::from_secs(60);
    let parse = |text: &str| match text {
        "" => Ok(Duration::ZERO),
        text => values::duration(text).and_then(|tail| within(tail, Duration::ZERO, minute, text)),
    };
    source.text("sink.resend_tail", parse).unwrap_or_default()
}

fn tls(source: &mut Source) -> TlsSettings {
    let ca_file = optional_text(source, "sink.tls.ca_file").map(PathBuf::from);
    let server_name = optional_text(source, "sink.tls.server_name");
    if let Some(name) = &server_name
        && rustls::pki_types::ServerName::try_from(name.as_str()).is_err()
    {
        source.refuse(
            "sink.tls.server_name",
            format!(
                "{} is no host name; write the name in the upstream's certificate",
                quoted(name)
            ),
        );
    }
    let cert = optional_text(source, "sink.tls.client_cert_file").map(PathBuf::from);
    let key = optional_text(source, "sink.tls.client_key_file").map(PathBuf::from);
    let client_identity = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (Some(_), None) => {
            source.refuse(
                "sink.tls.client_cert_file",
                "needs its key; set sink.tls.client_key_file too",
            );
            None
        }
        (None, Some(_)) => {
            source.refuse(
                "sink.tls.client_key_file",
                "needs its certificate; set sink.tls.client_cert_file too",
            );
            None
        }
    };
    TlsSettings {
        ca_file,
        server_name,
        client_identity,
    }
}

fn proxy(source: &mut Source, url: &SinkUrl, around: &Surroundings) -> Option<Proxy> {
    let SinkUrl::Http {
        secure, endpoint, ..
    } = url
    else {
        if source.is_set("sink.proxy") {
            source.refuse(
                "sink.proxy",
                "is for https:// and http:// sinks; take it out or change sink.url",
            );
        }
        return None;
    };
    let origin = source.origin("sink.proxy");
    let written = source.secret("sink.proxy", |text| match text {
        "" => Ok(None),
        text => Proxy::parse(text).map(Some),
    });
    if let Some(Some(proxy)) = written {
        source.show("sink.proxy", quoted(&proxy.to_string()), origin);
        return Some(proxy);
    }
    if origin != Origin::Default || !secure {
        return None;
    }
    let from_environment = around.proxy_for(endpoint)?;
    let name = "HTTPS_PROXY".to_owned();
    match Proxy::parse(from_environment) {
        Ok(proxy) => {
            let origin = Origin::Environment(name);
            source.show("sink.proxy", quoted(&proxy.to_string()), origin);
            Some(proxy)
        }
        Err(message) => {
            source.problem(name, message);
            None
        }
    }
}

impl Surroundings {
    /// The proxy that the environment names for an `https` host.
    fn proxy_for(&self, endpoint: &Endpoint) -> Option<&str> {
        let proxy = self.https_proxy.as_deref();
        let exempt = self
            .no_proxy
            .as_deref()
            .is_some_and(|list| values::is_exempt(&endpoint.host, list));
        proxy.filter(|text| !text.is_empty() && !exempt)
    }
}

fn key_check(
    source: &mut Source,
    around: &Surroundings,
    warnings: &mut Vec<String>,
) -> Option<KeyCheck> {
    const WRITE: &str = "write \"https://api.hostedgraphite.com/api/v1/metric/search?pattern=x\"";
    let url = source.text("probe.key_check_url", |text| {
        if text.is_empty() {
            return Ok(None);
        }
        if !text.starts_with("https://") && !text.starts_with("http://") {
            return Err(format!("is no https:// URL; {WRITE}"));
        }
        SinkUrl::parse(text).map(Some)
    });
    let Some(SinkUrl::Http {
        secure,
        endpoint,
        path,
    }) = url.flatten()
    else {
        return None;
    };
    if !secure {
        warnings.push(
            "probe.key_check_url is http://, so the key travels in clear; write https:// where you can"
                .into(),
        );
    }
    let proxy = around.proxy_for(&endpoint).filter(|_| secure);
    Some(KeyCheck {
        // One that is none is a problem where the sink needs it.
        proxy: proxy.and_then(|text| Proxy::parse(text).ok()),
        secure,
        endpoint,
        path,
    })
}

fn listen(source: &mut Source, warnings: &mut Vec<String>) -> ListenSettings {
    let udp = source.list("listen.udp", ListenAddress::parse);
    let tcp = source.list("listen.tcp", ListenAddress::parse);
    for (key, addresses) in [("listen.udp", &udp), ("listen.tcp", &tcp)] {
        refuse_overlaps(source, key, addresses);
        for address in addresses.iter().filter(|address| !address.is_loopback()) {
            warnings.push(format!(
                "{key} {}: whoever can reach this address can write into the account",
                address.text
            ));
        }
    }
    let listen = ListenSettings {
        udp,
        tcp,
        unix_stream: source.list("listen.unix_stream", UnixAddress::parse),
        unix_datagram: source.list("listen.unix_datagram", UnixAddress::parse),
        names: source
            .text("listen.names", choice(NAMES))
            .unwrap_or(NameRule::Any),
        max_line_bytes: bytes_within(source, "listen.max_line_bytes", 64, 64 << 10),
        max_connections: source
            .number("listen.max_connections", 1..1_000_001)
            .unwrap_or(1024) as usize,
    };
    let nothing = listen.udp.is_empty()
        && listen.tcp.is_empty()
        && listen.unix_stream.is_empty()
        && listen.unix_datagram.is_empty();
    if nothing {
        warnings.push("there is no listener, so no line can come in".into());
    }
    listen
}

/// Two listeners cannot share an address, and a wildcard shares them all.
fn refuse_overlaps(source: &mut Source, key: &str, listeners: &[ListenAddress]) {
    let overlap = |a: &SocketAddr, b: &SocketAddr| {
        let (one, other) = (a.ip(), b.ip());
        a.port() == b.port()
            && a.port() != 0
            && one.is_ipv4() == other.is_ipv4()
            && (one == other || one.is_unspecified() || other.is_unspecified())
    };
    for (index, first) in listeners.iter().enumerate() {
        for second in &listeners[index + 1..] {
            let shared = second
                .addresses
                .iter()
                .find(|address| first.addresses.iter().any(|other| overlap(address, other)));
            if let Some(shared) = shared {
                let message = format!(
                    "names {shared} in both {} and {}; keep one",
                    quoted(&first.text),
                    quoted(&second.text)
                );
                source.refuse(key, message);
            }
        }
    }
}

struct Sizes {
    batch_bytes: usize,
    linger: Duration,
    gather: Duration,
    queue_bytes: usize,
}

fn sizes(source: &mut Source, url: &SinkUrl) -> Sizes {
    const LEAST_BLOCKS: usize = 4;
    let queue_bytes = bytes_within(source, "queue.bytes", 64 << 10, 1 << 40);
    let batch_is_set = source.is_set("batch.bytes");
    let written = bytes_within(source, "batch.bytes", 1 << 10, 16 << 20);
    let batch_bytes = if batch_is_set && written * LEAST_BLOCKS > queue_bytes {
        source.refuse(
            "batch.bytes",
            format!(
                "\"{}\" is more than a quarter of queue.bytes (\"{}\"); write at most \"{}\"",
                show_bytes(written),
                show_bytes(queue_bytes),
                show_bytes(queue_bytes / LEAST_BLOCKS)
            ),
        );
        written
    } else if batch_is_set {
        written
    } else {
        // The oldest block goes when the queue is full: with few blocks that
        // would be a large part of it.
        written.min(queue_bytes / (2 * LEAST_BLOCKS))
    };
    if !batch_is_set {
        source.show(
            "batch.bytes",
            quoted(&show_bytes(batch_bytes)),
            Origin::Default,
        );
    }
    let auto = match url {
        SinkUrl::Http { .. } => HTTP_LINGER,
        _ => Duration::ZERO,
    };
    let linger = source.text("batch.linger", |text| match text {
        "auto" => Ok(auto),
        text => values::duration(text)
            .map_err(|message| format!("{message}, or \"auto\""))
            .and_then(|linger| within(linger, Duration::ZERO, Duration::from_secs(60), text)),
    });
    let gather = if source.is_set("batch.linger") {
        Duration::ZERO
    } else {
        GATHER
    };
    Sizes {
        batch_bytes,
        linger: linger.unwrap_or(auto),
        gather,
        queue_bytes,
    }
}

fn retry(source: &mut Source) -> RetrySettings {
    let least = Duration::from_millis(10);
    let hour = Duration::from_secs(3600);
    let mut first = duration_within(source, "retry.first", least, hour);
    let max = duration_within(source, "retry.max", least, hour);
    if !source.is_set("retry.first") {
        first = first.min(max);
    }
    if first > max {
        source.refuse(
            "retry.first",
            "is longer than retry.max; write a shorter one",
        );
    }
    RetrySettings { first, max }
}

fn shutdown(source: &mut Source) -> (Duration, Duration) {
    let hour = Duration::from_secs(3600);
    let grace = duration_within(source, "shutdown.grace", Duration::ZERO, hour);
    let quiet = duration_within(source, "shutdown.quiet", Duration::ZERO, hour);
    if quiet > Duration::ZERO && quiet >= grace {
        let message = format!(
            "({quiet:?}) is no shorter than shutdown.grace ({grace:?}), so the drain would have no time; write at most half of the grace"
        );
        source.refuse("shutdown.quiet", message);
    }
    (grace, quiet)
}

fn admin(source: &mut Source, warnings: &mut Vec<String>) -> Option<ListenAddress> {
    let address = source.text("admin.listen", |text| match text {
        "" => Ok(None),
        text => ListenAddress::parse(text)
            .map(Some)
            .map_err(|message| format!("{message}, or \"\" for none")),
    });
    let address = address.flatten()?;
    if !address.is_loopback() {
        warnings.push(format!(
            "admin.listen {}: whoever can reach this address can read the metrics, the settings without the key, and the beginnings of rejected lines",
            address.text
        ));
    }
    Some(address)
}

fn optional_text(source: &mut Source, path: &'static str) -> Option<String> {
    source
        .text(path, |text| Ok(text.to_owned()))
        .filter(|text| !text.is_empty())
}

fn duration_within(
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

fn within(
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

fn bytes_within(source: &mut Source, path: &'static str, least: usize, most: usize) -> usize {
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
