//! SIGHUP: the new settings as a whole, or the old ones and the reason.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tracing::{error, info, warn};

use crate::admin::Admin;
use crate::config::{self, Overrides, Settings};
use crate::pipeline::Pipeline;
use crate::stats::Counters;

use super::logging::Logging;

/// Knows what the daemon was asked to do, and where to ask again.
#[derive(Debug)]
pub struct Reloader {
    overrides: Overrides,
    settings: Settings,
    counters: Arc<Counters>,
}

impl Reloader {
    /// Begins with the settings that the daemon started with.
    pub fn new(overrides: Overrides, settings: Settings, counters: Arc<Counters>) -> Self {
        Self {
            overrides,
            settings,
            counters,
        }
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Reads the configuration again and puts it in force, if it can be as a
    /// whole.
    pub async fn reload(&mut self, pipeline: &mut Pipeline, admin: &mut Admin, logging: &Logging) {
        let result = self.try_reload(pipeline, admin, logging).await;
        self.counters.reload_success.store(result.is_ok(), Relaxed);
        match result {
            Ok(()) => info!(sink = %self.settings.sink.url, "reloaded"),
            Err(problems) => {
                for problem in problems {
                    error!(%problem, "not reloaded, the old settings stay");
                }
            }
        }
    }

    async fn try_reload(
        &mut self,
        pipeline: &mut Pipeline,
        admin: &mut Admin,
        logging: &Logging,
    ) -> Result<(), Vec<String>> {
        let overrides = self.overrides.clone();
        // A file system that hangs must not hold up the lines.
        let new = tokio::task::spawn_blocking(move || config::load(&overrides))
            .await
            .map_err(|error| vec![error.to_string()])?
            .map_err(|error| error.0.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let one = |error: &dyn std::fmt::Display| vec![error.to_string()];
        let change = pipeline
            .prepare(&self.settings, &new)
            .map_err(|error| vec![error.describe(&new)])?;
        if new.admin_listen != self.settings.admin_listen {
            admin
                .rebind(new.admin_listen.as_ref())
                .map_err(|error| one(&error))?;
        }
        pipeline
            .apply(change, &new)
            .await
            .map_err(|error| one(&error))?;
        logging.set_level(new.log_level);
        if new.log_format != self.settings.log_format {
            warn!("log.format takes effect at the next start");
        }
        for warning in &new.warnings {
            warn!("{warning}");
        }
        self.settings = new;
        Ok(())
    }
}
