//! Waiting for facts.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Far above what anything takes, also where the machine is busy: it is only
/// ever spent by a test that fails.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Between two looks.
const NAP: Duration = Duration::from_millis(3);

/// Waits until the fact holds.
#[track_caller]
pub fn wait_for(what: &str, mut fact: impl FnMut() -> bool) {
    wait_until(what, || fact().then_some(()));
}

/// Waits until there is something to return.
#[track_caller]
#[expect(
    clippy::disallowed_methods,
    reason = "no other task shares this thread"
)]
pub fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(NAP);
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock after 1970")
        .as_secs()
}
