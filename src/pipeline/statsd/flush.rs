//! The flush: when an interval ends, points go into the queue.
//!
//! It sleeps for as long as nothing is gathered: an idle daemon does not wake.

use std::mem;
use std::ops::ControlFlow;
use std::time::{Duration, SystemTime};

use tokio::select;
use tokio::time::sleep;

use crate::config::StatsdSettings;
use crate::panics;
use crate::pipeline::batch::BYTES_A_PUSH;
use crate::pipeline::queue::{Pushed, Queue};

use super::aggregate::Aggregate;
use super::render::{Points, Style};
use super::timer::Steps;
use super::{Aside, Gathered, Statsd, schedule};

/// So many series are looked at before others have their turn.
const SERIES_A_TURN: usize = 256;

/// About this number of timer values is one step: less than a millisecond's work.
const VALUES_A_TURN: usize = 128 << 10;

/// A summary that looks at more values is made in steps.
const MANY_VALUES: usize = VALUES_A_TURN / 4;

/// The memory of a larger set is released in steps.
const MANY_BYTES: usize = 4 << 20;

/// How much of it at once, about.
const RELEASED_BYTES: usize = 4 << 20;

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

    /// The same, while others have their turns: nothing may come in any more.
    pub async fn flush_rest(&self, queue: &Queue, told: impl Fn(Pushed)) {
        let mut has_begun = false;
        loop {
            {
                let mut gathered = self.lock();
                if !gathered.is_flushing() {
                    if has_begun {
                        return;
                    }
                    has_begun = true;
                    Self::begin_early(&mut gathered);
                }
                self.flush_some(&mut gathered, queue, &told);
            }
            tokio::task::yield_now().await;
        }
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
                if number != gathered.aggregates.flushes() || !gathered.is_flushing() {
                    return false;
                }
            }
        }
        let has_more = self.flush_some(&mut gathered, queue, told);
        *begun = Some(gathered.aggregates.flushes());
        has_more
    }

    fn flush_all(&self, gathered: &mut Gathered, queue: &Queue, told: &impl Fn(Pushed)) {
        if gathered.is_flushing() {
            while self.flush_some(gathered, queue, told) {}
        }
        Self::begin_early(gathered);
        while self.flush_some(gathered, queue, told) {}
    }

    /// A flush of an interval that has not ended. Of the one that has, there is a point already,
    /// whose place it must not take.
    fn begin_early(gathered: &mut Gathered) {
        let end = schedule::next(SystemTime::now(), gathered.style.interval());
        gathered.second = schedule::second(end);
    }

    /// Flushes some series; whether there are more.
    fn flush_some(&self, gathered: &mut Gathered, queue: &Queue, told: &impl Fn(Pushed)) -> bool {
        let mut points = Points::default();
        let hand_on = |points: &mut Points| {
            if points.lines > 0 {
                told(queue.push_points(&points.bytes, points.lines));
                points.clear();
            }
        };
        if gathered.aside.is_some() {
            gathered.go_on_with_aside(&mut points);
            hand_on(&mut points);
            return gathered.is_flushing();
        }
        let Gathered {
            aggregates,
            aside,
            style,
            second,
            ..
        } = gathered;
        let mut values = 0;
        aggregates.flush(SERIES_A_TURN, |series, aggregate| {
            if let Aggregate::Timer(timer) = aggregate {
                let cost = timer.cost(style.percentiles());
                if cost > MANY_VALUES {
                    let steps = Steps::of(timer, style.percentiles());
                    *aside = Some(Aside::Timer(series.into(), Box::new(steps)));
                    return ControlFlow::Break(());
                }
                values += cost;
            }
            style.render(series, aggregate, *second, &mut points);
            // Names may be long.
            if points.bytes.len() >= BYTES_A_PUSH {
                hand_on(&mut points);
            }
            if let Aggregate::Set(members) = aggregate
                && members.allocated() > MANY_BYTES
            {
                *aside = Some(Aside::Set(mem::take(members)));
                return ControlFlow::Break(());
            }
            if values < VALUES_A_TURN {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        hand_on(&mut points);
        gathered.account_for_aside();
        self.tell(&mut gathered.aggregates);
        gathered.is_flushing()
    }
}

impl Gathered {
    /// Whether a flush has begun and not ended.
    fn is_flushing(&self) -> bool {
        self.aside.is_some() || self.aggregates.is_flushing()
    }

    /// Goes on with what is too large for one turn. At its end, the points of a timer are added.
    fn go_on_with_aside(&mut self, points: &mut Points) {
        let has_more = match &mut self.aside {
            None => false,
            Some(Aside::Set(members)) => members.release(RELEASED_BYTES),
            Some(Aside::Timer(series, steps)) => {
                let has_more = steps.step(VALUES_A_TURN).is_some();
                if !has_more {
                    self.style.render_steps(series, steps, self.second, points);
                }
                has_more
            }
        };
        if !has_more {
            self.aside = None;
        }
        self.account_for_aside();
    }

    fn account_for_aside(&mut self) {
        let bytes = match &self.aside {
            None => 0,
            Some(Aside::Set(members)) => members.allocated(),
            Some(Aside::Timer(_, steps)) => steps.allocated(),
        };
        self.aggregates.set_aside(bytes);
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
