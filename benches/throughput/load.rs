//! The load: what clients send, as fast as it is taken or at a steady rate.

pub mod datagrams;
pub mod stream;

use std::thread;
use std::time::{Duration, Instant};

/// How often a steady load sends.
const TICK: Duration = Duration::from_millis(1);

/// Tells how much of a steady load is due.
struct Pace {
    begun: Instant,
    a_second: u64,
}

impl Pace {
    fn of(a_second: u64) -> Self {
        Self {
            begun: Instant::now(),
            a_second,
        }
    }

    /// How much is to have been sent by now; waits for the next tick where it
    /// is no more than that has been.
    fn due(&self, sent: usize) -> usize {
        let due = |elapsed: Duration| (elapsed.as_secs_f64() * self.a_second as f64) as usize;
        let elapsed = self.begun.elapsed();
        if due(elapsed) <= sent {
            thread::sleep(TICK.saturating_sub(Duration::from_nanos(
                u64::from(elapsed.subsec_nanos()) % TICK.as_nanos() as u64,
            )));
        }
        due(self.begun.elapsed())
    }
}
