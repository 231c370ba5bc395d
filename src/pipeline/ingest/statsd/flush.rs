//! The flush: when an interval ends, points go into the queue.
//!
//! It sleeps for as long as nothing is gathered: an idle daemon does not wake.

use std::time::{Duration, SystemTime};

use tokio::select;
use tokio::time::sleep;

use crate::config::StatsdSettings;
use crate::panics;
use crate::pipeline::ingest::BYTES_A_PUSH;
use crate::pipeline::queue::{Pushed, Queue};

use super::render::{Points, Style};
use super::{Gathered, Statsd, schedule};

/// So many series are looked at before others have their turn.
const SERIES_A_TURN: usize = 256;

/// How long it sleeps at most: a sleep is not moved when the clock is.
const LOOKS_AT_THE_CLOCK: Duration = Duration::from_secs(20);

impl Statsd {
    /// Flushes at the end of each interval in which something has come. What each
    /// push does to the queue is told.
    pub async fn run(&self, queue: &Queue, told: impl Fn(Pushed)) {
        loop {
            panics::inject("flush");
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

    /// Other settings from now on. What was gathered goes on being gathered; where
    /// points get other names, it leaves as it was meant to.
    pub fn reconfigure(&self, settings: &StatsdSettings, queue: &Queue, told: impl Fn(Pushed)) {
        let mut gathered = self.lock();
        let style = Style::of(settings);
        if !gathered.style.names_as(&style) {
            self.flush_all(&mut gathered, queue, &told);
        }
        gathered.style = style;
        gathered.aggregates.set_limit(settings.bytes);
        self.tell(&mut gathered.aggregates);
        self.changed.notify_one();
    }

    async fn flush(&self, queue: &Queue, told: &impl Fn(Pushed)) {
        let mut begun = None;
        while self.go_on(&mut begun, queue, told) {
            tokio::task::yield_now().await;
        }
    }

    /// Goes on with a flush, or begins one. Whether there is more of it; there is
    /// not where somebody else has finished it.
    pub(super) fn go_on(
        &self,
        begun: &mut Option<u64>,
        queue: &Queue,
        told: &impl Fn(Pushed),
    ) -> bool {
        let mut gathered = self.lock();
        match *begun {
            None => {
                let end = schedule::last(SystemTime::now(), gathered.style.interval());
                gathered.second = schedule::second(end);
            }
            Some(number) => {
                let aggregates = &gathered.aggregates;
                if number != aggregates.flushes() || !aggregates.is_flushing() {
                    return false;
                }
            }
        }
        let has_more = self.flush_some(&mut gathered, queue, told);
        *begun = Some(gathered.aggregates.flushes());
        has_more
    }

    fn flush_all(&self, gathered: &mut Gathered, queue: &Queue, told: &impl Fn(Pushed)) {
        if gathered.aggregates.is_flushing() {
            while self.flush_some(gathered, queue, told) {}
        }
        // The rest is of an interval that has not ended. Of the one that has, there is
        // a point already, whose place it must not take.
        let end = schedule::next(SystemTime::now(), gathered.style.interval());
        gathered.second = schedule::second(end);
        while self.flush_some(gathered, queue, told) {}
    }

    /// Flushes some series; whether there are more.
    fn flush_some(&self, gathered: &mut Gathered, queue: &Queue, told: &impl Fn(Pushed)) -> bool {
        let Gathered {
            aggregates,
            style,
            second,
            ..
        } = gathered;
        let mut points = Points::default();
        let hand_on = |points: &mut Points| {
            if points.lines > 0 {
                told(queue.push_points(&points.bytes, points.lines));
                points.clear();
            }
        };
        let has_more = aggregates.flush(SERIES_A_TURN, |series, aggregate| {
            style.render(series, aggregate, *second, &mut points);
            // Names may be long.
            if points.bytes.len() >= BYTES_A_PUSH {
                hand_on(&mut points);
            }
        });
        hand_on(&mut points);
        self.tell(aggregates);
        has_more
    }
}

/// Waits for the next multiple of the interval.
async fn sleep_until_end(interval: Duration) {
    let end = schedule::next(SystemTime::now(), interval);
    while let Some(left) = schedule::wait(end, SystemTime::now(), interval) {
        // The clock may be set meanwhile.
        sleep(left.min(LOOKS_AT_THE_CLOCK)).await;
    }
}
