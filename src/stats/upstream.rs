//! How the upstream is, for people who look: where, since when it is away, why,
//! and when it is tried again. The relay reports here, at changes only.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::FailureKind;

/// The upstream as it was last heard of.
#[derive(Debug, Default)]
pub struct Upstream {
    look: Mutex<Look>,
    changed: Notify,
}

/// One look at it.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// Where lines go; holds no secret.
    pub url: String,
    /// The address of the last connection that was made.
    pub address: Option<SocketAddr>,
    /// The other addresses that failed when it was made, and why; empty if none.
    pub failed_addresses: String,
    /// Since when no line has gone out, while that lasts.
    pub away_since: Option<Instant>,
    /// When the next attempt is due, while it is away.
    pub next_attempt: Option<Instant>,
    /// The last thing that went wrong, also when it is over.
    pub last_error: Option<LastError>,
}

/// What went wrong, in words.
#[derive(Debug, Clone)]
pub struct LastError {
    /// The kind that was counted.
    pub kind: FailureKind,
    /// For people; holds no secret.
    pub message: String,
    /// When it happened.
    pub at: Instant,
}

impl Upstream {
    /// Lines go there from now on, and nothing has been tried yet.
    pub fn is_at(&self, url: String) {
        let mut look = self.lock();
        look.url = url;
        look.address = None;
        look.failed_addresses.clear();
        look.next_attempt = None;
        self.changed.notify_one();
    }

    /// A connection was made to this address; others had failed.
    pub fn connected(&self, address: SocketAddr, failed_addresses: String) {
        let mut look = self.lock();
        look.address = Some(address);
        look.failed_addresses = failed_addresses;
    }

    /// An attempt failed, and the next one has its time.
    pub fn failed(&self, kind: FailureKind, message: String, now: Instant, next: Instant) {
        let mut look = self.lock();
        look.away_since.get_or_insert(now);
        look.next_attempt = Some(next);
        look.last_error = Some(LastError {
            kind,
            message,
            at: now,
        });
        self.changed.notify_one();
    }

    /// Lines go out again.
    pub fn back(&self) {
        let mut look = self.lock();
        look.away_since = None;
        look.next_attempt = None;
        self.changed.notify_one();
    }

    /// Waits until it is heard of again. For one who waits.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// How it is now.
    pub fn look(&self) -> Look {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Look> {
        self.look.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_outage_has_one_beginning_and_its_last_error_stays() {
        let upstream = Upstream::default();
        upstream.is_at("tcp://h:1".to_owned());
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        upstream.failed(FailureKind::Dns, "first".to_owned(), at(0), at(1));
        upstream.failed(FailureKind::Connect, "second".to_owned(), at(2), at(5));
        let look = upstream.look();
        assert_eq!(
            (look.away_since, look.next_attempt),
            (Some(at(0)), Some(at(5)))
        );
        upstream.back();
        let look = upstream.look();
        assert_eq!((look.away_since, look.next_attempt), (None, None));
        let error = look.last_error.unwrap();
        assert_eq!((error.message.as_str(), error.at), ("second", at(2)));
        assert_eq!(look.url, "tcp://h:1");
    }
}
