//! All streams of clients together: at the limit, the longest idle one gives
//! way, so that a new client is always served.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

/// The streams that are open.
#[derive(Debug)]
pub struct Connections {
    limit: AtomicUsize,
    began: Instant,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    seats: HashMap<u64, Arc<Activity>>,
}

#[derive(Debug)]
struct Activity {
    /// Milliseconds since `Connections::began`.
    last: AtomicU64,
    evicted: Notify,
}

/// One stream's place among the open ones; given up when dropped.
#[derive(Debug)]
pub struct Seat {
    connections: Arc<Connections>,
    number: u64,
    activity: Arc<Activity>,
}

impl Connections {
    /// At most `limit` streams.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit: AtomicUsize::new(limit),
            began: Instant::now(),
            open: Mutex::default(),
        })
    }

    /// A new limit, for the streams to come.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Relaxed);
    }

    /// Takes a place. At the limit, the longest idle stream is told to leave.
    pub fn seat(self: &Arc<Self>) -> Seat {
        let mut open = self.lock();
        while open.seats.len() >= self.limit.load(Relaxed) && open.evict_longest_idle() {}
        let activity = Arc::new(Activity {
            last: AtomicU64::new(self.now()),
            evicted: Notify::new(),
        });
        let number = open.next;
        open.next += 1;
        open.seats.insert(number, activity.clone());
        Seat {
            connections: self.clone(),
            number,
            activity,
        }
    }

    /// Tells the longest idle stream to leave, when descriptors run out.
    pub fn make_room(&self) {
        self.lock().evict_longest_idle();
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn evict_longest_idle(&mut self) -> bool {
        let idle = self
            .seats
            .iter()
            .min_by_key(|(number, activity)| (activity.last.load(Relaxed), **number))
            .map(|(number, _)| *number);
        let Some(activity) = idle.and_then(|number| self.seats.remove(&number)) else {
            return false;
        };
        activity.evicted.notify_one();
        true
    }
}

impl Seat {
    /// The stream brought something.
    pub fn active(&self) {
        self.activity.last.store(self.connections.now(), Relaxed);
    }

    /// Waits until the stream has to leave.
    pub async fn evicted(&self) {
        self.activity.evicted.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.connections.lock().seats.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_evicted(seat: &Seat) -> bool {
        use std::future::Future;
        use std::task::{Context, Waker};
        let future = std::pin::pin!(seat.evicted());
        future
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_ready()
    }

    #[test]
    fn the_longest_idle_gives_way() {
        let connections = Connections::new(2);
        let first = connections.seat();
        let second = connections.seat();
        first.activity.last.store(20, Relaxed);
        second.activity.last.store(10, Relaxed);
        let third = connections.seat();
        assert!(!is_evicted(&first) && !is_evicted(&third));
        assert!(is_evicted(&second));
        drop(second);
        drop(third);
        let _fourth = connections.seat();
        assert!(!is_evicted(&first));
    }
}
