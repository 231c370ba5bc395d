//! The flush: when an interval ends, points go into the queue.
//!
//! It sleeps for as long as nothing is gathered: an idle daemon does not wake.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use tokio::select;
use tokio::time::sleep;

use crate::config::StatsdSettings;
use crate::pipeline::ingest::BYTES_A_PUSH;
use crate::pipeline::queue::{Pushed, Queue};

use super::render::{Points, Style};
use super::{Gathered, Statsd, schedule};

/// So many series are looked at before others have their turn.
const SERIES_A_TURN: usize = 256;

impl Statsd {
    /// Flushes at the end of each interval in which something has come. What each
    /// push does to the queue is told.
    pub async fn run(&self, queue: &Queue, told: impl Fn(Pushed)) {
        loop {
            let interval = {
                let gathered = self.lock();
                let is_due = gathered.aggregates.is_due();
                is_due.then(|| gathered.style.interval())
            };
            let waits = async {
                match interval {
                    Some(interval) => sleep_until_end(interval).await,
                    None => std::future::pending().await,
                }
            };
            select! {
                () = waits => self.flush(queue, &told).await,
                () = self.changed.notified() => {}
            }
        }
    }

    /// Flushes all that is gathered, at once.
    pub fn flush_now(&self, queue: &Queue, told: impl Fn(Pushed)) {
        let mut gathered = self.lock();
        self.flush_all(&mut gathered, queue, &told);
    }

    /// Other settings from now on. What was gathered leaves as it was meant to.
    pub fn reconfigure(&self, settings: &StatsdSettings, queue: &Queue, told: impl Fn(Pushed)) {
        let mut gathered = self.lock();
        let style = Style::of(settings);
        if gathered.style != style || gathered.aggregates.limit() > settings.bytes {
            self.flush_all(&mut gathered, queue, &told);
            gathered.style = style;
        }
        gathered.aggregates.set_limit(settings.bytes);
        self.count(&gathered);
        self.changed.notify_one();
    }

    async fn flush(&self, queue: &Queue, told: &impl Fn(Pushed)) {
        let second = schedule::second(SystemTime::now());
        while self.flush_some(&mut self.lock(), second, queue, told) {
            tokio::task::yield_now().await;
        }
    }

    fn flush_all(&self, gathered: &mut Gathered, queue: &Queue, told: &impl Fn(Pushed)) {
        let second = schedule::second(SystemTime::now());
        // One that has begun leaves behind what came to series after their turn.
        let flushes = if gathered.aggregates.is_flushing() {
            2
        } else {
            1
        };
        for _ in 0..flushes {
            while self.flush_some(gathered, second, queue, told) {}
        }
    }

    /// Flushes some series; whether there are more.
    fn flush_some(
        &self,
        gathered: &mut Gathered,
        second: u64,
        queue: &Queue,
        told: &impl Fn(Pushed),
    ) -> bool {
        let Gathered {
            aggregates, style, ..
        } = gathered;
        let mut points = Points::default();
        let hand_on = |points: &mut Points| {
            if points.lines > 0 {
                told(queue.push_points(&points.bytes, points.lines));
                points.clear();
            }
        };
        let has_more = aggregates.flush(SERIES_A_TURN, |series, aggregate| {
            style.render(series, aggregate, second, &mut points);
            // Names may be long.
            if points.bytes.len() >= BYTES_A_PUSH {
                hand_on(&mut points);
            }
        });
        hand_on(&mut points);
        self.count(gathered);
        has_more
    }

    fn count(&self, gathered: &Gathered) {
        let series = gathered.aggregates.series() as u64;
        self.counters.statsd_names.store(series, Relaxed);
    }
}

/// Waits for the next multiple of the interval.
async fn sleep_until_end(interval: Duration) {
    let end = schedule::next(SystemTime::now(), interval);
    while let Some(left) = schedule::wait(end, SystemTime::now(), interval) {
        sleep(left).await;
    }
}
