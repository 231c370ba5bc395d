//! SIGHUP: the new settings as a whole, or the old ones and the reason. And a
//! new key alone, when the upstream refuses the one in force, and now and then
//! while lines flow.
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
use crate::pipeline::sink::Sink;
use crate::stats::Counters;

use super::logging::Logging;

/// A key that has come while the one in force is not refused has to be the same
/// for so long.
const SETTLING: Duration = Duration::from_millis(500);

/// The time between two attempts to start a thread.
const THREAD_RETRY: Duration = Duration::from_secs(1);

/// Knows what the daemon was asked to do, and where to ask again.
#[derive(Debug)]
pub struct Reloader {
    overrides: Overrides,
    settings: Settings,
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
}

/// What is to be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Everything,
    /// The key, which the upstream refuses.
    RefusedKey,
    /// The key, which may have been replaced.
    AgedKey,
}

/// What reading brought.
#[derive(Debug)]
enum Outcome {
    /// Other settings, and the sink that they describe.
    Settings(Box<(Settings, Sink)>),
    /// Why the settings cannot be used.
    Problems(Vec<String>),
    /// The key is the one in force.
    SameKey,
    /// Why the key's file cannot be used, for now.
    NoKey(String),
}

/// What was read, to be put in force.
#[derive(Debug)]
pub struct Reread(Outcome);

impl Reloader {
    /// Begins with the settings that the daemon started with.
    pub fn new(overrides: Overrides, settings: Settings, counters: Arc<Counters>) -> Self {
        Self {
            overrides,
            settings,
            counters,
            reading: None,
            waits_for_thread: None,
            no_thread_is_logged: false,
            is_next: None,
            key_is_missed: false,
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

    /// Begins to read the key again, which is refused.
    pub fn begin_with_refused_key(&mut self) {
        self.begin_with_key(Wish::RefusedKey);
    }

    /// Begins to read the key again, unless something is being read anyway: a
    /// file system that hangs has one reader.
    pub fn begin_with_aged_key(&mut self) {
        if !self.is_reading() {
            self.begin_with_key(Wish::AgedKey);
        }
    }

    /// Where the key comes from a file.
    fn begin_with_key(&mut self, wish: Wish) {
        if self.settings.sink.key_file.is_some() {
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
        let result = match reread.0 {
            Outcome::SameKey => None,
            Outcome::NoKey(problem) => {
                if !was_missed {
                    warn!(%problem, "the key's file cannot be used, the key in force stays");
                }
                self.key_is_missed = true;
                None
            }
            Outcome::Problems(problems) => Some(Err(problems)),
            Outcome::Settings(new) => Some(self.put_in_force(*new, pipeline, admin, logging)),
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
        let counters = self.counters.clone();
        let started = blocking::start("reload", move || {
            panics::inject("reload");
            let new = match wish {
                Wish::Everything => config::load(&overrides)
                    .map_err(|error| error.0.iter().map(ToString::to_string).collect()),
                Wish::RefusedKey | Wish::AgedKey => match read_key_again(&settings.sink, wish) {
                    Ok(None) => return Outcome::SameKey,
                    Ok(Some(key)) => Ok(with_key(settings, key)),
                    Err(error) => return Outcome::NoKey(error.to_string()),
                },
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
        if !new.sink.is_asked_for && self.settings.sink.is_asked_for {
            // A file that was cut must not send the waiting lines to the
            // default, which prints them.
            let problem = "sink.url is missing; write it, or url = \"stdout:\" to print the lines";
            return Err(vec![problem.to_owned()]);
        }
        let change = pipeline
            .prepare(&self.settings, &new, sink)
            .map_err(|error| vec![error.describe(&new)])?;
        if new.admin_listen != self.settings.admin_listen {
            admin
                .rebind(new.admin_listen.as_ref())
                .map_err(|error| self.no_admin(&error))?;
        }
        // From here on nothing can fail.
        pipeline.apply(change, &new);
        logging.set_level(new.log_level);
        if new.log_format != self.settings.log_format {
            warn!("log.format takes effect at the next start");
        }
        for warning in &new.warnings {
            warn!("{warning}");
        }
        admin.watched().is_set(&new);
        self.settings = new;
        info!(sink = %self.settings.sink.url, "reloaded");
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
    match Sink::new(&new.sink, counters) {
        Ok(sink) => Outcome::Settings(Box::new((new, sink))),
        Err(error) => {
            let problem = new.problem_with(error.key, &error.message);
            Outcome::Problems(vec![problem.to_string()])
        }
    }
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

fn with_key(mut settings: Settings, key: ApiKey) -> Settings {
    info!("the key's file holds another key, which is used from now on");
    settings.sink.key = key;
    settings
}
