//! StatsD: samples are gathered for an interval and leave as points.
//!
//! ```text
//!    split ─ sample ─ series ─▶ aggregates ─ flush ─ render ─▶ queue
//!              reject → ledger      │ no room → ledger
//! ```
//!
//! In: raw lines, through the same splitter as Graphite's. Out: at each flush,
//! points. Each value counts as a line received, and as aggregated once it is
//! part of an aggregate; points are made by sidecarbon. A client that has
//! aggregated itself says so with a time of its own: its values pass as they are.

mod aggregate;
mod aggregates;
mod entries;
mod flush;
mod render;
mod sample;
mod schedule;
mod series;
mod tables;
mod timer;

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;
use tracing::warn;

use crate::config::StatsdSettings;
use crate::pipeline::batch::{Batch, LineHandler};
use crate::pipeline::line::{Reject, Rules};
use crate::stats::{Counters, LOG_INTERVAL, Throttle};

use aggregates::Aggregates;
use render::{Points, Style};
use sample::Sample;
use series::Series;
use tables::Tables;
use timer::Steps;

/// What is gathered, shared by all listeners and the flush.
#[derive(Debug)]
pub struct Statsd {
    gathered: Mutex<Gathered>,
    /// Something has come after nothing was there, or other settings have.
    changed: Notify,
    /// How often it may be said that gauges were forgotten.
    forgetting: Throttle,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct Gathered {
    aggregates: Aggregates,
    /// What was taken out at a flush, since it is too large for one turn.
    aside: Option<Aside>,
    series: Series,
    style: Style,
    /// Values that pass as they are.
    passing: Points,
    /// The second of the flush that has begun last.
    second: u64,
}

/// What is too large for one turn of a flush.
#[derive(Debug)]
enum Aside {
    /// The values of a series, whose summary is made in steps.
    Timer(Box<[u8]>, Box<Steps>),
    /// A set that was told of, whose memory is released in steps.
    Set(Tables<u64>),
}

/// What is gathered, held for one read.
#[derive(Debug)]
pub struct Reading<'a> {
    statsd: &'a Statsd,
    gathered: MutexGuard<'a, Gathered>,
    was_due: bool,
}

/// Takes lines; their tally goes into the batch.
#[derive(Debug)]
pub struct Folding<'a> {
    gathered: &'a mut Gathered,
    batch: &'a mut Batch,
}

impl Statsd {
    /// Nothing gathered yet.
    pub fn new(settings: &StatsdSettings, counters: Arc<Counters>) -> Self {
        Self {
            gathered: Mutex::new(Gathered {
                aggregates: Aggregates::new(settings.bytes),
                aside: None,
                series: Series::default(),
                style: Style::of(settings),
                passing: Points::default(),
                second: 0,
            }),
            changed: Notify::new(),
            forgetting: Throttle::new(LOG_INTERVAL),
            counters,
        }
    }

    /// Begins to take what one read has brought.
    pub fn read(&self) -> Reading<'_> {
        let gathered = self.lock();
        Reading {
            was_due: gathered.aggregates.is_due(),
            statsd: self,
            gathered,
        }
    }

    /// Brings the numbers that others see up to date, and says what was forgotten.
    fn tell(&self, aggregates: &mut Aggregates) {
        let Counters {
            statsd_names,
            statsd_gauges_forgotten,
            ..
        } = &*self.counters;
        statsd_names.store(aggregates.series() as u64, Relaxed);
        let gauges = aggregates.take_forgotten();
        if gauges > 0 {
            let before = statsd_gauges_forgotten.fetch_add(gauges, Relaxed);
            match self.forgetting.allow(Instant::now()) {
                Some(_) => warn!(
                    gauges,
                    total = before + gauges,
                    "statsd.bytes is used up, gauges that were not touched for long are forgotten, a change to one begins at 0; send fewer names, or raise it"
                ),
                None => self.counters.suppress_log_line(),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Gathered> {
        // As with the queue: a panic ends the process, the account is read before.
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading<'_> {
    /// Takes lines, and tells in the batch what became of them.
    pub fn fold<'a>(&'a mut self, batch: &'a mut Batch) -> Folding<'a> {
        Folding {
            gathered: &mut self.gathered,
            batch,
        }
    }
}

impl Folding<'_> {
    /// Takes a sample of the series that was found last.
    fn take(&mut self, sample: Sample<'_>) {
        let Gathered {
            aggregates,
            series,
            style,
            passing,
            ..
        } = self.gathered;
        let Some(second) = sample.second else {
            if aggregates.fold(series.text(), sample.measure) {
                self.batch.note_aggregated(sample.values);
            } else {
                self.batch.note_no_room();
            }
            return;
        };
        passing.clear();
        style.render_as_is(series.text(), sample.measure, second, passing);
        self.batch.add_made(&passing.bytes);
        self.batch.note_aggregated(sample.values - 1);
    }
}

impl LineHandler for Folding<'_> {
    fn add(&mut self, raw: &[u8], rules: &Rules) {
        let written = match sample::read(raw, rules) {
            Ok(Some(written)) => written,
            Ok(None) => return,
            Err(reject) => return self.reject(reject, raw, rules),
        };
        let series = &mut self.gathered.series;
        let named = series.find(written.name, written.tags, rules);
        if named.is_ok() && series.carried_key() {
            self.batch.note_key();
        }
        written.each(|sample| match named.and(sample) {
            Ok(sample) => self.take(sample),
            Err(reject) => self.reject(reject, raw, rules),
        });
    }

    fn reject(&mut self, reject: Reject, raw: &[u8], rules: &Rules) {
        self.batch.reject(reject, raw, rules);
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.statsd.tell(&mut self.gathered.aggregates);
        if self.gathered.aggregates.is_due() && !self.was_due {
            self.statsd.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
