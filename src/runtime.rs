//! The runtime of a thread that moves lines, and when that thread rests.
//!
//! Where little comes often, being woken for it costs more than all that is done
//! with it. So after some short waits in a row the thread sleeps for a moment before
//! it asks what has come, and what came meanwhile is moved together. A thread that
//! has waited for long, or has much to do, does not rest: a lone line goes at once,
//! and a flood is not held up.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

/// How long it rests, and what is a short wait. Nobody looks at metrics that soon.
const MOMENT: Duration = Duration::from_millis(1);

/// So many short waits in a row are no coincidence.
const OFTEN: u32 = 4;

/// More to do than this, a third of the time, is not little.
const LITTLE: Duration = Duration::from_micros(500);

/// Sockets that could overflow in a moment.
static NO_COALESCING: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static PACE: Cell<WakeupStats> = Cell::new(WakeupStats::new(Instant::now()));
}

/// A runtime for one thread.
pub fn of_one_thread() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .on_thread_park(pause_before_park)
        .on_thread_unpark(|| PACE.set(PACE.get().woken(Instant::now())))
        .build()
}

#[expect(
    clippy::disallowed_methods,
    reason = "nothing else is to be done on this thread"
)]
fn pause_before_park() {
    let pace = PACE.get();
    if pace.may_pause(Instant::now()) && NO_COALESCING.load(Relaxed) == 0 {
        thread::sleep(MOMENT);
    }
    PACE.set(pace.waits(Instant::now()));
}

/// While it lives, no thread rests: there is a socket that has no room for what
/// comes in a moment.
#[derive(Debug)]
pub struct NoCoalescing(());

impl NoCoalescing {
    /// Begins now.
    pub fn begin() -> Self {
        NO_COALESCING.fetch_add(1, Relaxed);
        Self(())
    }
}

impl Drop for NoCoalescing {
    fn drop(&mut self) {
        NO_COALESCING.fetch_sub(1, Relaxed);
    }
}

/// What a thread has done lately.
#[derive(Debug, Clone, Copy)]
struct WakeupStats {
    waits_since: Instant,
    woken_at: Instant,
    short_waits: u32,
}

impl WakeupStats {
    fn new(now: Instant) -> Self {
        Self {
            waits_since: now,
            woken_at: now,
            short_waits: 0,
        }
    }

    /// It waits for something to happen.
    fn waits(self, now: Instant) -> Self {
        Self {
            waits_since: now,
            ..self
        }
    }

    /// Something has.
    fn woken(self, now: Instant) -> Self {
        let was_short = now - self.waits_since < MOMENT;
        Self {
            woken_at: now,
            short_waits: if was_short {
                (self.short_waits + 1).min(OFTEN)
            } else {
                0
            },
            ..self
        }
    }

    /// Whether little has come, as before.
    fn may_pause(self, now: Instant) -> bool {
        self.short_waits >= OFTEN && now - self.woken_at < LITTLE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a thread does that waits and works for this number of microseconds in turn.
    fn rests(cycles: &[(u64, u64)]) -> Vec<bool> {
        let mut now = Instant::now();
        let mut pace = WakeupStats::new(now);
        let rests = cycles.iter().map(|(waits, works)| {
            pace = pace.waits(now);
            now += Duration::from_micros(*waits);
            pace = pace.woken(now);
            now += Duration::from_micros(*works);
            pace.may_pause(now)
        });
        rests.collect()
    }

    #[test]
    fn a_thread_rests_when_little_comes_often() {
        let often = (200, 20);
        assert_eq!(rests(&[often; 5]), [false, false, false, true, true]);
        // What came while it rested is there at once.
        assert_eq!(rests(&[(0, 20); 5]), [false, false, false, true, true]);
    }

    #[test]
    fn it_does_not_when_it_waits_long_or_works_much() {
        let (often, seldom, much) = ((200, 20), (1500, 20), (10, 600));
        assert_eq!(rests(&[seldom; 6]), [false; 6]);
        assert_eq!(rests(&[much; 6]), [false; 6]);
        assert_eq!(
            rests(&[often, often, often, often, seldom, often]),
            [false, false, false, true, false, false]
        );
    }
}
