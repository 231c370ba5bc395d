//! All streams of clients together: at the limit, the longest idle one gives
//! way, so that a new client is always served.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

/// What all streams together may hold of frames that are not whole: sixteen of
/// the largest. Nearly all frames come in one read and are never held; who
/// has long begun one and does not go on gives way.
const MAX_HELD: usize = 16 << 20;

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
    /// By all that have a seat.
    held: usize,
}

#[derive(Debug)]
struct Activity {
    /// Milliseconds since `Connections::began`.
    last: AtomicU64,
    /// Bytes. Changed under the lock.
    held: AtomicUsize,
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
        while open.seats.len() >= self.limit.load(Relaxed) && open.evict_longest_idle(0) {}
        let activity = Arc::new(Activity {
            last: AtomicU64::new(self.now()),
            held: AtomicUsize::new(0),
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
        self.lock().evict_longest_idle(0);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Of those that hold so much at least.
    fn evict_longest_idle(&mut self, holding: usize) -> bool {
        let idle = self
            .seats
            .iter()
            .filter(|(_, activity)| activity.held.load(Relaxed) >= holding)
            .min_by_key(|(number, activity)| (activity.last.load(Relaxed), **number))
            .map(|(number, _)| *number);
        let Some(activity) = idle.and_then(|number| self.remove(number)) else {
            return false;
        };
        activity.evicted.notify_one();
        true
    }

    fn remove(&mut self, number: u64) -> Option<Arc<Activity>> {
        let activity = self.seats.remove(&number)?;
        self.held -= activity.held.load(Relaxed);
        Some(activity)
    }
}

impl Seat {
    /// The stream brought something.
    pub fn active(&self) {
        self.activity.last.store(self.connections.now(), Relaxed);
    }

    /// The stream holds so many bytes now. Past what all may hold, the longest
    /// idle one that holds any is told to leave.
    pub fn holds(&self, bytes: usize) {
        if self.activity.held.load(Relaxed) == bytes {
            return;
        }
        let mut open = self.connections.lock();
        if !open.seats.contains_key(&self.number) {
            return;
        }
        open.held -= self.activity.held.swap(bytes, Relaxed);
        open.held += bytes;
        while open.held > MAX_HELD && open.evict_longest_idle(1) {}
    }

    /// Waits until the stream has to leave.
    pub async fn evicted(&self) {
        self.activity.evicted.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.connections.lock().remove(self.number);
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

    #[test]
    fn who_holds_most_long_gives_way_to_what_others_hold() {
        let connections = Connections::new(10);
        let [idle, first, second, third] = std::array::from_fn(|_| connections.seat());
        for (seat, last) in [(&idle, 1), (&first, 2), (&second, 3), (&third, 4)] {
            seat.activity.last.store(last, Relaxed);
        }
        first.holds(MAX_HELD / 2);
        second.holds(MAX_HELD / 4);
        second.holds(MAX_HELD / 2);
        assert!(![&idle, &first, &second].into_iter().any(is_evicted));
        third.holds(1);
        assert!(is_evicted(&first));
        // What it goes on to hold is no longer counted.
        first.holds(MAX_HELD);
        second.holds(0);
        third.holds(MAX_HELD);
        drop(first);
        assert!(![&idle, &second, &third].into_iter().any(is_evicted));
        drop(third);
        assert_eq!(connections.lock().held, 0);
    }
}
