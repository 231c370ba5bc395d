//! SIGHUP: the new settings as a whole, or the old ones and the reason. And the
//! files of key and certificates alone, when the upstream refuses those in
//! force, and now and then while lines flow.
//!
//! Files are read on another thread, since a file system can hang; the daemon's
//! loop waits for that beside everything else. Where no thread is available, it
//! tries again every few seconds.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use crate::admin::{Admin, StartError};
use crate::blocking::{self, Job, NO_THREAD_REMEDY};
use crate::config::{self, ApiKey, KeyFileError, Overrides, Settings, SinkSettings};
use crate::panics;
use crate::pipeline::Pipeline;
use crate::pipeline::sink::{Fingerprint, Sink, fingerprint};
use crate::stats::Counters;

use super::logging::Logging;

/// A file that has changed while what is in force is not refused must stay the
/// same for this long before it is used: it may be half written.
const SETTLING: Duration = Duration::from_millis(500);

/// The time between two attempts to start a thread.
const THREAD_RETRY: Duration = Duration::from_secs(1);

/// Knows what the daemon was asked to do, and where to ask again.
#[derive(Debug)]
pub struct Reloader {
    overrides: Overrides,
    settings: Settings,
    /// What the certificate files held that are in force.
    certificates: Option<Fingerprint>,
    counters: Arc<Counters>,
    reading: Option<Job<Outcome>>,
    /// What no thread could be had for, and when that is tried again.
    waits_for_thread: Option<(Wish, Instant)>,
    /// Whether it was logged that there is no thread.
    no_thread_is_logged: bool,
    /// Asked for while another one was being read.
    is_next: Option<Wish>,
    /// Whether it was said that the key's file cannot be used.
    key_is_missed: bool,
    /// Whether it was logged that the certificate files cannot be used.
    certificates_are_missed: bool,
}

/// What is to be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Everything,
    /// Key and certificates, which the upstream refuses.
    RefusedKey,
    /// Key and certificates, which may have been replaced.
    AgedKey,
}

/// What reading brought.
#[derive(Debug)]
enum Outcome {
    /// Other settings, and the sink that they describe.
    Settings(Box<(Settings, Sink)>, Option<Fingerprint>),
    /// Why the settings cannot be used.
    Problems(Vec<String>),
    /// Key and certificates are those in force.
    SameFiles,
    /// Why the key's file cannot be used, for now.
    NoKey(String),
    /// Why the certificate files cannot be used, for now.
    NoCertificates(String),
}

/// What was read, to be put in force.
#[derive(Debug)]
pub struct Reread(Outcome);

impl Reloader {
    /// Begins with the settings that the daemon started with, and with what the
    /// certificate files held then.
    pub fn new(
        overrides: Overrides,
        settings: Settings,
        certificates: Option<Fingerprint>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            overrides,
            settings,
            certificates,
            counters,
            reading: None,
            waits_for_thread: None,
            no_thread_is_logged: false,
            is_next: None,
            key_is_missed: false,
            certificates_are_missed: false,
        }
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Begins to read the configuration again.
    pub fn begin(&mut self) {
        self.read(Wish::Everything);
    }

    /// Begins to read key and certificates again, which are refused.
    pub fn begin_with_refused_key(&mut self) {
        self.begin_with_key(Wish::RefusedKey);
    }

    /// Begins to read key and certificates again, unless something is being read anyway: a
    /// file system that hangs has one reader.
    pub fn begin_with_aged_key(&mut self) {
        if !self.is_reading() {
            self.begin_with_key(Wish::AgedKey);
        }
    }

    /// Where they come from files.
    fn begin_with_key(&mut self, wish: Wish) {
        let sink = &self.settings.sink;
        if sink.key_file.is_some() || sink.tls.reads_files() {
            self.read(wish);
        }
    }

    /// Whether something is being read, or will be as soon as there is a thread.
    pub fn is_reading(&self) -> bool {
        self.reading.is_some() || self.waits_for_thread.is_some()
    }

    /// Waits until something has been read; for ever if nothing is. May be dropped
    /// at any time.
    pub async fn read_again(&mut self) -> Reread {
        loop {
            if let Some(reading) = &mut self.reading {
                let outcome = reading.await;
                self.reading = None;
                return Reread(outcome);
            }
            let Some((wish, at)) = self.waits_for_thread else {
                std::future::pending::<()>().await;
                continue;
            };
            sleep_until(at).await;
            self.waits_for_thread = None;
            self.start_reading(wish);
        }
    }

    /// Puts in force what was read, if it can be as a whole.
    pub fn finish(
        &mut self,
        reread: Reread,
        pipeline: &mut Pipeline,
        admin: &mut Admin,
        logging: &Logging,
    ) {
        let was_missed = std::mem::take(&mut self.key_is_missed);
        let were_missed = std::mem::take(&mut self.certificates_are_missed);
        let result = match reread.0 {
            Outcome::SameFiles => None,
            Outcome::NoKey(problem) => {
                if !was_missed {
                    warn!(%problem, "the key file cannot be used; the present key stays");
                }
                self.key_is_missed = true;
                None
            }
            Outcome::NoCertificates(problem) => {
                if !were_missed {
                    warn!(%problem, "the certificate files cannot be used; the present ones stay");
                }
                self.certificates_are_missed = true;
                None
            }
            Outcome::Problems(problems) => Some(Err(problems)),
            Outcome::Settings(new, certificates) => {
                let result = self.put_in_force(*new, pipeline, admin, logging);
                if result.is_ok() {
                    self.certificates = certificates;
                }
                Some(result)
            }
        };
        if self.waits_for_thread.is_some() {
            return;
        }
        self.no_thread_is_logged = false;
        if let Some(result) = result {
            self.counters.reload_success.store(result.is_ok(), Relaxed);
            for problem in result.err().into_iter().flatten() {
                error!(%problem, "not reloaded, the old settings stay");
            }
        }
        if let Some(wish) = self.is_next.take() {
            self.read(wish);
        }
    }

    fn read(&mut self, wish: Wish) {
        if self.is_reading() {
            if self.is_next != Some(Wish::Everything) {
                self.is_next = Some(wish);
            }
            return;
        }
        self.start_reading(wish);
    }

    fn start_reading(&mut self, wish: Wish) {
        let overrides = self.overrides.clone();
        let settings = self.settings.clone();
        let certificates = self.certificates.clone();
        let counters = self.counters.clone();
        let started = blocking::start("reload", move || {
            panics::inject("reload");
            let new = match wish {
                Wish::Everything => config::load(&overrides)
                    .map_err(|error| error.0.iter().map(ToString::to_string).collect()),
                Wish::RefusedKey | Wish::AgedKey => {
                    return read_files_again(settings, certificates.as_ref(), wish, counters);
                }
            };
            match new {
                Ok(new) => prepare(new, counters),
                Err(problems) => Outcome::Problems(problems),
            }
        });
        match started {
            Ok(reading) => self.reading = Some(reading),
            Err(error) => self.try_again(wish, &error),
        }
    }

    fn try_again(&mut self, wish: Wish, error: &io::Error) {
        if !std::mem::replace(&mut self.no_thread_is_logged, true) {
            let what = if wish == Wish::Everything {
                "the configuration"
            } else {
                "the key file"
            };
            warn!(%error, remedy = NO_THREAD_REMEDY, "no thread is available to read {what} again; the old settings stay until one is");
        }
        self.waits_for_thread = Some((wish, Instant::now() + THREAD_RETRY));
    }

    fn put_in_force(
        &mut self,
        (new, sink): (Settings, Sink),
        pipeline: &mut Pipeline,
        admin: &mut Admin,
        logging: &Logging,
    ) -> Result<(), Vec<String>> {
        let gone = self.settings.keys_gone(&new);
        if !gone.is_empty() {
            let missing = |key| {
                format!(
                    "{key} was set in the file and is missing now; write it explicitly, or restart"
                )
            };
            return Err(gone.into_iter().map(missing).collect());
        }
        let changed = self.settings.changed_keys(&new).join(" ");
        let admin_moves = new.admin_listen != self.settings.admin_listen;
        let rebound = admin_moves
            .then(|| admin.prepare(new.admin_listen.as_ref()))
            .transpose()
            .map_err(|error| self.no_admin(&error))?;
        let change = pipeline
            .prepare(&self.settings, &new, sink)
            .map_err(|error| vec![error.describe(&new)])?;
        // From here on nothing can fail.
        pipeline.apply(change, &new);
        if let Some(rebound) = rebound {
            admin.apply(rebound);
        }
        logging.set_level(new.log_level);
        if new.log_format != self.settings.log_format {
            warn!("log.format takes effect at the next start");
        }
        for warning in &new.warnings {
            warn!("{warning}");
        }
        admin.watched().set_settings(&new);
        self.settings = new;
        let changed = if changed.is_empty() {
            "nothing"
        } else {
            changed.as_str()
        };
        info!(sink = self.settings.sink.public_url(), changed, "reloaded");
        Ok(())
    }

    /// Where only a thread is missing, the reload is tried again.
    fn no_admin(&mut self, error: &StartError) -> Vec<String> {
        if let StartError::Thread(error) = error {
            self.try_again(Wish::Everything, error);
        }
        vec![error.to_string()]
    }
}

fn prepare(new: Settings, counters: Arc<Counters>) -> Outcome {
    with_sink(new, counters).unwrap_or_else(|problem| Outcome::Problems(vec![problem]))
}

/// The sink that the settings describe, or why there is none.
fn with_sink(new: Settings, counters: Arc<Counters>) -> Result<Outcome, String> {
    // Taken first: a file that is replaced meanwhile is noticed the next time.
    let certificates = fingerprint(&new.sink.tls);
    match Sink::new(&new.sink, counters) {
        Ok(sink) => Ok(Outcome::Settings(Box::new((new, sink)), certificates)),
        Err(error) => Err(new.problem_with(error.key, &error.message).to_string()),
    }
}

/// What the files of key and certificates hold now, where that is not what is in
/// force. A certificate and its key are replaced one after the other: until they
/// belong together, the old pair stays.
fn read_files_again(
    mut settings: Settings,
    in_force: Option<&Fingerprint>,
    wish: Wish,
    counters: Arc<Counters>,
) -> Outcome {
    let key = read_key_again(&settings.sink, wish);
    let are_new = are_new(&settings, in_force, wish);
    let (key, problem) = match key {
        Ok(key) => (key, None),
        Err(error) => (None, Some(error.to_string())),
    };
    if key.is_none() && !are_new {
        return problem.map_or(Outcome::SameFiles, Outcome::NoKey);
    }
    let is_new_key = key.is_some();
    if let Some(key) = key {
        settings.use_key(key);
    }
    let outcome = with_sink(settings, counters).unwrap_or_else(Outcome::NoCertificates);
    if matches!(outcome, Outcome::Settings(..)) {
        if is_new_key {
            info!("the key file has changed; the new key is used");
        }
        if are_new {
            info!("the certificate files have changed and are used from now on");
        }
    }
    outcome
}

/// Whether the certificate files hold other bytes than those in force.
fn are_new(settings: &Settings, in_force: Option<&Fingerprint>, wish: Wish) -> bool {
    let read = || fingerprint(&settings.sink.tls);
    let now = read();
    if now.as_ref() == in_force {
        return false;
    }
    if wish == Wish::AgedKey {
        wait(SETTLING);
        return read() == now;
    }
    true
}

/// The key that its file holds now, if that is another one than the one in force.
fn read_key_again(sink: &SinkSettings, wish: Wish) -> Result<Option<ApiKey>, KeyFileError> {
    let Some(path) = &sink.key_file else {
        return Ok(None);
    };
    let read = || Ok::<_, KeyFileError>(ApiKey::read(path)?.key);
    let key = read()?;
    if key == sink.key {
        return Ok(None);
    }
    if wish == Wish::AgedKey {
        // The key in force is good, as far as is known: none of a file that is
        // just being written must take its place.
        wait(SETTLING);
        if read()? != key {
            return Ok(None);
        }
    }
    Ok(Some(key))
}

#[expect(
    clippy::disallowed_methods,
    reason = "on a thread of its own, where no line travels"
)]
fn wait(time: Duration) {
    thread::sleep(time);
}
