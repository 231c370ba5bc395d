//! Deadlines that count the time in which this process ran.
//!
//! A process can be suspended: SIGSTOP, a cgroup freezer, a snapshot of a virtual
//! machine. When it runs again, every timer is due at once, and `epoll_wait` returns
//! EINTR (signal(7)), so that timers fire before readable sockets are noticed. An
//! answer that has arrived long ago would count as lost, and a peer that was never
//! given a chance as slow.
//!
//! So a deadline is a budget, used up in short looks. A look that took much longer
//! than it should counts as one look, and at least one more follows it.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;

/// The longest time between two looks while something is awaited.
const LONGEST_LOOK: Duration = Duration::from_millis(500);

/// Looks into which a short limit is divided.
const LOOKS: u32 = 8;

/// A timer has no finer resolution.
const SHORTEST_LOOK: Duration = Duration::from_millis(1);

/// The limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

/// A limit, and how much of it is used up.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    limit: Duration,
    used: Duration,
    looked: Instant,
}

/// Awaits the future, at most `limit` of the time in which this process ran.
pub async fn timeout<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    Deadline::after(limit).within(future).await
}

impl Deadline {
    /// The whole limit is left.
    pub fn after(limit: Duration) -> Self {
        Self {
            limit,
            used: Duration::ZERO,
            looked: Instant::now(),
        }
    }

    /// The whole limit is left again.
    pub fn restart(&mut self) {
        *self = Self::after(self.limit);
    }

    /// How much is left.
    pub fn left(&self) -> Duration {
        self.limit.saturating_sub(self.used)
    }

    /// Whether nothing is left.
    pub fn is_over(&self) -> bool {
        self.used >= self.limit
    }

    /// Counts the time since the last look. To be called right after the socket was
    /// asked, and often.
    pub fn look(&mut self) {
        let now = Instant::now();
        let since = now.saturating_duration_since(self.looked);
        let look = self.longest_look();
        self.looked = now;
        self.used += since.min(look);
        // Twice, as timers and busy machines are late.
        if since > 2 * look {
            self.used = self.used.min(self.limit.saturating_sub(look));
        }
    }

    /// Awaits a future that has an end of its own, and counts its time.
    pub async fn count<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        loop {
            if let Ok(output) = self.look_at(self.longest_look(), &mut future).await {
                return output;
            }
        }
    }

    /// Awaits the future for what is left. Time before and after does not count.
    pub async fn within<F: Future>(&mut self, future: F) -> Result<F::Output, Elapsed> {
        let mut future = pin!(future);
        loop {
            let look = self.longest_look().min(self.left());
            let output = self.look_at(look, &mut future).await;
            if output.is_ok() || self.is_over() {
                return output;
            }
        }
    }

    async fn look_at<F: Future>(
        &mut self,
        look: Duration,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        self.looked = Instant::now();
        let output = tokio::time::timeout(look, future).await;
        self.look();
        output.map_err(|_| Elapsed)
    }

    fn longest_look(&self) -> Duration {
        (self.limit / LOOKS).clamp(SHORTEST_LOOK, LONGEST_LOOK)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::{pending, poll_fn};
    use std::task::Poll;

    use tokio::time::{advance, sleep};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);
    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn the_limit_is_kept_where_the_process_runs() {
        for limit in [0, 1, 7, 100, 1500, 10_000, 300_000].map(Duration::from_millis) {
            let begun = Instant::now();
            assert_eq!(timeout(limit, pending::<()>()).await, Err(Elapsed));
            let took = begun.elapsed();
            let most = limit + limit / 10 + 10 * SHORTEST_LOOK;
            assert!(limit <= took && took <= most, "{limit:?}: {took:?}");
        }
        assert_eq!(timeout(LIMIT, sleep(LIMIT / 2)).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn several_futures_share_a_limit() {
        let mut deadline = Deadline::after(LIMIT);
        for _ in 0..3 {
            assert_eq!(deadline.within(sleep(LIMIT / 4)).await, Ok(()));
            // Not while nothing was awaited.
            sleep(LONG).await;
        }
        let left = deadline.left();
        assert!(LIMIT / 5 < left && left <= LIMIT / 4, "{left:?}");
        assert_eq!(deadline.within(sleep(LIMIT / 2)).await, Err(Elapsed));
        deadline.restart();
        assert_eq!(deadline.left(), LIMIT);
    }

    /// Whatever is left when the process is suspended, a peer has a look more.
    #[tokio::test(start_paused = true)]
    async fn a_suspension_is_one_look_and_another_follows() {
        for before in [0, 1, 5, 9] {
            let polls_after = Cell::new(0);
            let begun = Instant::now();
            let future = poll_fn(|_| {
                if begun.elapsed() >= LONG {
                    polls_after.set(polls_after.get() + 1);
                }
                Poll::<()>::Pending
            });
            let mut deadline = Deadline::after(LIMIT);
            let mut waits = pin!(deadline.within(future));
            tokio::select! {
                _ = &mut waits => panic!("too early"),
                () = sleep(Duration::from_secs(before) + LONGEST_LOOK / 2) => {}
            }
            advance(LONG).await;
            assert_eq!(waits.await, Err(Elapsed));
            assert!(polls_after.get() >= 2, "{before}: {polls_after:?}");
            let ran = begun.elapsed().saturating_sub(LONG);
            let is_near = ran.abs_diff(LIMIT) <= 3 * LONGEST_LOOK;
            assert!(is_near, "{before}: {ran:?}");
        }
    }
}
