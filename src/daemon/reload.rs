//! SIGHUP: the new settings as a whole, or the old ones and the reason. And a
//! new key alone, when the upstream refuses the one in force, and now and then
//! while lines flow.
//!
//! Files are read on another thread, since a file system can hang; the daemon's
//! loop waits for that beside everything else.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::admin::Admin;
use crate::config::{self, ApiKey, KeyFileError, Overrides, Settings, SinkSettings};
use crate::pipeline::Pipeline;
use crate::pipeline::sink::Sink;
use crate::stats::Counters;

use super::logging::Logging;

/// A key that has come while the one in force is not refused has to be the same
/// for so long.
const SETTLING: Duration = Duration::from_millis(500);

/// Knows what the daemon was asked to do, and where to ask again.
#[derive(Debug)]
pub struct Reloader {
    overrides: Overrides,
    settings: Settings,
    counters: Arc<Counters>,
    reading: Option<JoinHandle<Outcome>>,
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
        if self.reading.is_none() {
            self.begin_with_key(Wish::AgedKey);
        }
    }

    /// Where the key comes from a file.
    fn begin_with_key(&mut self, wish: Wish) {
        if self.settings.sink.key_file.is_some() {
            self.read(wish);
        }
    }

    /// Whether something is being read.
    pub fn is_reading(&self) -> bool {
        self.reading.is_some()
    }

    /// Waits until something has been read; for ever if nothing is.
    pub async fn read_again(&mut self) -> Reread {
        let outcome = match &mut self.reading {
            None => std::future::pending().await,
            Some(reading) => reading.await,
        };
        self.reading = None;
        Reread(outcome.unwrap_or_else(|error| Outcome::Problems(vec![error.to_string()])))
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
        if self.reading.is_some() {
            if self.is_next != Some(Wish::Everything) {
                self.is_next = Some(wish);
            }
            return;
        }
        let overrides = self.overrides.clone();
        let settings = self.settings.clone();
        let counters = self.counters.clone();
        self.reading = Some(tokio::task::spawn_blocking(move || {
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
        }));
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
            .map_err(|error| vec![error.to_string()])?;
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
        admin.watched().is_set(&new);
        self.settings = new;
        let changed = if changed.is_empty() {
            "nothing"
        } else {
            changed.as_str()
        };
        info!(sink = %self.settings.sink.url, changed, "reloaded");
        Ok(())
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
