//! What was written, turned into what is meant: defaults filled in, ranges
//! checked, contradictions gone. Code that holds [`Settings`] never asks again.

mod key;
mod key_check;
mod listen;
mod loops;
mod prefix;
mod proxy;
mod self_metrics;
mod sink;
mod sizes;
mod statsd;
mod tls;

use std::ffi::OsString;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use super::api_key::ApiKey;
use super::file::{self, File};
use super::problem::Problem;
use super::setting::{Effective, Kind, Setting, quoted};
use super::values::{ListenAddress, LogFormat};

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
    /// A block of lines is sealed at this number of bytes.
    pub batch_bytes: usize,
    /// How long lines gather before they are sent.
    pub batch_linger: Duration,
    /// The least time between two batches that are not full.
    pub batch_gather: Duration,
    /// The bound of all queued lines.
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
    /// Each key with its value and origin, in the order of the reference file.
    pub effective: Vec<Effective>,
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
pub struct Environment {
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

/// Turns the file into settings, and notes all problems.
pub fn resolve(mut file: File, around: &Environment, report: &mut Report) -> Settings {
    let host_name = around.host_name.as_deref();
    let sink = sink::resolve(&mut file.sink, around, report);
    let mut listen = listen::resolve(&file.listen, report);
    let statsd = statsd::resolve(&file.statsd, host_name, report);
    let sizes = sizes::resolve(&mut file, report);
    let retry = retry(&file.retry, report);
    let (shutdown_grace, shutdown_quiet) = shutdown(&file.shutdown, report);
    let admin_listen = admin(&file.admin, report);
    listen::share_ports(&file, &mut listen, report);
    loops::refuse(&file, &sink, &listen, around, report);
    let mut settings = Settings {
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
        admin_is_asked_for: file.admin.listen.is_set(),
        admin_listen,
        self_metrics: self_metrics::resolve(&file.self_metrics, host_name, report),
        key_check: key_check::find(&file.probe, around, report),
        log_level: (*file.log.level).into(),
        log_format: *file.log.format,
        warnings: std::mem::take(&mut report.warnings),
        notes: std::mem::take(&mut report.notes),
        effective: Vec::new(),
    };
    file.each(&mut |_, setting| settings.effective.push(setting.effective()));
    settings.take_key_off_prefixes();
    settings
}

/// What is worth saying about a configuration.
#[derive(Debug, Default)]
pub struct Report {
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// Legal, but likely not meant.
    pub warnings: Vec<String>,
    /// Worth knowing, and as it should be.
    pub notes: Vec<String>,
}

impl Report {
    /// Something is wrong. What is wrong for datagrams may be so for streams.
    pub fn problem(&mut self, problem: Problem) {
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// The value, or a problem with its key.
    fn accept<T, K: Kind>(&mut self, key: &Setting<K>, value: Result<T, String>) -> Option<T> {
        value
            .map_err(|message| self.problem(key.refuse(message)))
            .ok()
    }
}

fn retry(file: &file::Retry, report: &mut Report) -> RetrySettings {
    let max = *file.max;
    let first = if file.first.is_set() {
        *file.first
    } else {
        max.min(*file.first)
    };
    if first > max {
        let message = "is longer than retry.max; write a shorter one";
        report.problem(file.first.refuse(message));
    }
    RetrySettings { first, max }
}

fn shutdown(file: &file::Shutdown, report: &mut Report) -> (Duration, Duration) {
    let (grace, quiet) = (*file.grace, *file.quiet);
    if quiet > Duration::ZERO && quiet >= grace {
        report.problem(file.quiet.refuse(format!(
            "({quiet:?}) is no shorter than shutdown.grace ({grace:?}), so the drain would have no time; write at most half of the grace"
        )));
    }
    (grace, quiet)
}

fn admin(file: &file::Admin, report: &mut Report) -> Option<ListenAddress> {
    let address = file.listen.as_ref()?;
    if !address.is_loopback() {
        report.warn(format!(
            "admin.listen {}: whoever can reach this address can read the metrics, the settings without the key, and the beginnings of rejected lines",
            address.text
        ));
    }
    Some(address.clone())
}
