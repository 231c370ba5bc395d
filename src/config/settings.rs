//! What was written, turned into what is meant: defaults filled in, ranges
//! checked, contradictions gone. Code that holds [`Settings`] never asks again.

mod key;
mod key_check;
mod listen;
mod loops;
mod prefix;
mod proxy;
mod ranges;
mod self_metrics;
mod sink;
mod sizes;
mod statsd;
mod tls;

use std::ffi::OsString;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use super::api_key::ApiKey;
use super::source::{Effective, Source, quoted};
use super::values::{ListenAddress, LogFormat, choice};
use ranges::duration_within;

pub use key_check::KeyCheck;
pub use listen::ListenSettings;
pub use self_metrics::SelfMetrics;
pub use sink::SinkSettings;
pub use statsd::StatsdSettings;
pub use tls::TlsSettings;

/// Everything that the daemon was asked to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where lines go, and how.
    pub sink: SinkSettings,
    /// Where lines come from, and which are taken.
    pub listen: ListenSettings,
    /// How StatsD samples are aggregated.
    pub statsd: StatsdSettings,
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
    /// The keys that somebody set.
    pub is_set: Vec<&'static str>,
    /// Those of them that the file set.
    pub in_file: Vec<&'static str>,
}

/// How failed attempts are repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetrySettings {
    /// The first delay is drawn up to here.
    pub first: Duration,
    /// No delay is longer.
    pub max: Duration,
}

/// The variables that name a proxy for https. `ALL_PROXY` is curl's; `HTTP_PROXY`
/// is for http, which has none from the environment here.
pub const PROXY_VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// The variables of the environment that say where the key is, and what else
/// matters beside the `SIDECARBON_` names.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// `$CREDENTIALS_DIRECTORY`, set by systemd.
    pub credentials_directory: Option<OsString>,
    /// `HOSTEDGRAPHITE_APIKEY`, set by hosting platforms.
    pub platform_key: Option<zeroize::Zeroizing<String>>,
    /// The proxy for https, and the variable that names it: the first that is
    /// not empty of `PROXY_VARIABLES`.
    pub https_proxy: Option<(&'static str, String)>,
    /// `NO_PROXY` or `no_proxy`.
    pub no_proxy: Option<String>,
    /// The name of this host.
    pub host_name: Option<String>,
    /// The text of `/etc/hosts`.
    pub hosts: Option<String>,
    /// Whether a key that cannot be had is no more than a warning.
    pub key_is_optional: bool,
}

impl Settings {
    /// Another key takes the place of the one in use.
    pub fn use_key(&mut self, key: ApiKey) {
        self.sink.key = key;
        self.take_key_off_prefixes();
    }

    /// Takes the key off prefixes that begin with it. With plain Graphite the key is the
    /// prefix, so people write it there; here it is put before each name anyway, and
    /// prefixes are shown to every user of the host.
    pub(super) fn take_key_off_prefixes(&mut self) {
        let key = &self.sink.key;
        let self_metrics = self.self_metrics.as_mut();
        let prefixes = [
            Some(("statsd.prefix", &mut self.statsd.prefix)),
            self_metrics.map(|on| ("self_metrics.prefix", &mut on.prefix)),
        ];
        for (path, prefix) in prefixes.into_iter().flatten() {
            let mut rest = prefix.as_bytes();
            while let Some(shorter) = key.strip_from(rest) {
                rest = shorter;
            }
            if rest.len() == prefix.len() {
                continue;
            }
            prefix.drain(..prefix.len() - rest.len());
            let shown = quoted(prefix);
            if let Some(known) = self.effective.iter_mut().find(|known| known.path == path) {
                self.warnings.push(format!(
                    "{}: {path} begins with the API key, which sidecarbon puts before each name itself; it is left out, write {shown}",
                    known.origin
                ));
                known.value = shown;
            }
        }
        self.self_metrics.take_if(|on| on.prefix.is_empty());
    }
}

/// Asks the source for every key, in the order of the reference file.
pub fn settle(source: &mut Source, surroundings: &Surroundings) -> Settings {
    let mut warnings = Vec::new();
    let mut notes = Vec::new();
    let sink = sink::find(source, surroundings, &mut warnings, &mut notes);
    let mut listen = listen::find(source, &mut warnings);
    let statsd = statsd::find(source, surroundings.host_name.as_deref());
    let sizes = sizes::find(source, &sink.url);
    let retry = retry(source);
    let (shutdown_grace, shutdown_quiet) = shutdown(source);
    let admin_listen = admin(source, &mut warnings);
    let admin_is_asked_for = source.is_set("admin.listen");
    let asked_for = admin_listen.as_ref().filter(|_| admin_is_asked_for);
    listen::share_ports(source, &mut listen, asked_for);
    loops::refuse(source, &sink, &listen, admin_listen.as_ref(), surroundings);
    let self_metrics = self_metrics::find(source, surroundings.host_name.as_deref());
    let key_check = key_check::find(source, surroundings, &mut warnings);
    let log_level = source.text("log.level", choice(LEVELS));
    let log_format = source.text("log.format", choice(FORMATS));
    Settings {
        sink,
        listen,
        statsd,
        batch_bytes: sizes.batch_bytes,
        batch_linger: sizes.linger,
        batch_gather: sizes.gather,
        queue_bytes: sizes.queue_bytes,
        retry,
        shutdown_grace,
        shutdown_quiet,
        admin_listen,
        admin_is_asked_for,
        self_metrics,
        key_check,
        log_level: log_level.unwrap_or(LevelFilter::INFO),
        log_format: log_format.unwrap_or(LogFormat::Auto),
        warnings,
        notes,
        effective: Vec::new(),
        is_set: Vec::new(),
        in_file: Vec::new(),
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
