//! When certificates expire: the upstream's, and the one that we present to it.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

/// A certificate that has fewer seconds left than this is warned about: what
/// machines renew is renewed earlier than two weeks before.
pub const EXPIRES_SOON: i64 = 14 * 86_400;

/// There is no such certificate, or none has been seen yet.
const NONE: i64 = i64::MIN;

/// Whose certificate it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The upstream's own, as of the last handshake.
    Upstream,
    /// Ours, as of the file that is in force.
    Client,
}

/// When each of them expires.
#[derive(Debug)]
pub struct Certificates {
    /// Seconds since 1970.
    expiries: [AtomicI64; Whose::ALL.len()],
    changed: Notify,
}

impl Whose {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Upstream, Self::Client];
}

impl Default for Certificates {
    fn default() -> Self {
        Self {
            expiries: [AtomicI64::new(NONE), AtomicI64::new(NONE)],
            changed: Notify::new(),
        }
    }
}

impl Certificates {
    /// Notes when a certificate expires, as the time since 1970.
    pub fn set(&self, whose: Whose, expiry: Option<Duration>) {
        let expiry = expiry.map_or(NONE, seconds);
        if self.expiries[whose as usize].swap(expiry, Relaxed) != expiry {
            self.changed.notify_one();
        }
    }

    /// The seconds until it expires; negative when it has expired.
    pub fn seconds_left(&self, whose: Whose, now: SystemTime) -> Option<i64> {
        let expiry = self.expiries[whose as usize].load(Relaxed);
        let now = seconds(now.duration_since(UNIX_EPOCH).unwrap_or_default());
        (expiry != NONE).then(|| expiry - now)
    }

    /// Waits until another certificate was noted. For one task.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_known_per_certificate_and_may_be_negative() {
        let certificates = Certificates::default();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let left = |whose, now| certificates.seconds_left(whose, at(now));
        assert_eq!(left(Whose::Upstream, 10), None);
        certificates.set(Whose::Client, Some(Duration::from_secs(100)));
        assert_eq!(left(Whose::Client, 10), Some(90));
        assert_eq!(left(Whose::Client, 130), Some(-30));
        assert_eq!(left(Whose::Upstream, 10), None);
        certificates.set(Whose::Client, None);
        assert_eq!(left(Whose::Client, 10), None);
    }
}
