//! What is known of the upstream. The relay, which owns it, publishes every change;
//! whoever is interested reads the latest, or waits for the next.

use std::net::SocketAddr;
use std::time::Instant;

use tokio::sync::watch;

use super::FailureKind;
use super::labels::labels;

labels! {
    /// How deliveries go.
    #[derive(Default)]
    pub enum UpstreamState {
        /// No connection has been attempted since the start, or since a reload changed the
        /// upstream.
        #[default]
        NotTried = "not_tried",
        /// The first attempt is under way.
        Connecting = "connecting",
        /// The last lines sent were delivered.
        Up = "up",
        /// The last attempt failed.
        Down = "down",
        /// The last attempt failed because the API key was rejected.
        Unauthorized = "unauthorized",
    }
}

impl UpstreamState {
    /// Whether lines are delivered; unknown until the first attempt has ended.
    pub fn is_up(self) -> Option<bool> {
        match self {
            Self::NotTried | Self::Connecting => None,
            Self::Up => Some(true),
            Self::Down | Self::Unauthorized => Some(false),
        }
    }

    /// Whether the last attempt failed.
    pub fn is_down(self) -> bool {
        self.is_up() == Some(false)
    }
}

/// The upstream as it was last heard of.
#[derive(Debug, Clone, Default)]
pub struct UpstreamStatus {
    /// How deliveries go.
    pub state: UpstreamState,
    /// Where lines go; holds no secret.
    pub url: String,
    /// The address of the last connection that was made.
    pub address: Option<SocketAddr>,
    /// The other addresses that failed when it was made, and why; empty if none.
    pub failed_addresses: String,
    /// Since when no line has been delivered, while that lasts.
    pub down_since: Option<Instant>,
    /// When the next attempt is due, while it is down.
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

/// Publishes the status.
#[derive(Debug, Default)]
pub struct Upstream(watch::Sender<UpstreamStatus>);

impl Upstream {
    /// Lines go there from now on. An outage of the same upstream goes on.
    pub fn set_url(&self, url: String) {
        self.0.send_modify(|status| {
            if status.url != url {
                status.state = UpstreamState::NotTried;
                status.down_since = None;
            }
            status.url = url;
            status.address = None;
            status.failed_addresses.clear();
            status.next_attempt = None;
        });
    }

    /// A connection is attempted.
    pub fn connecting(&self) {
        self.0.send_if_modified(|status| {
            let is_first = status.state == UpstreamState::NotTried;
            if is_first {
                status.state = UpstreamState::Connecting;
            }
            is_first
        });
    }

    /// A connection was made to this address; others had failed.
    pub fn connected(&self, address: SocketAddr, failed_addresses: String) {
        self.0.send_modify(|status| {
            status.address = Some(address);
            status.failed_addresses = failed_addresses;
        });
    }

    /// An attempt failed, and the next one has its time.
    pub fn failed(&self, state: UpstreamState, error: LastError, next: Instant) {
        self.0.send_modify(|status| {
            status.state = state;
            status.down_since.get_or_insert(error.at);
            status.next_attempt = Some(next);
            status.last_error = Some(error);
        });
    }

    /// Lines were delivered.
    pub fn delivered(&self) {
        self.0.send_if_modified(|status| {
            let wakes_relay = status.state != UpstreamState::Up;
            if wakes_relay {
                status.state = UpstreamState::Up;
                status.down_since = None;
                status.next_attempt = None;
            }
            wakes_relay
        });
    }

    /// The status now.
    pub fn status(&self) -> UpstreamStatus {
        self.0.borrow().clone()
    }

    /// The state now.
    pub fn state(&self) -> UpstreamState {
        self.0.borrow().state
    }

    /// The status from now on.
    pub fn subscribe(&self) -> watch::Receiver<UpstreamStatus> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_outage_has_one_beginning_and_its_last_error_stays() {
        let upstream = Upstream::default();
        upstream.set_url("tcp://h:1".to_owned());
        assert_eq!(upstream.state().is_up(), None);
        upstream.connecting();
        assert_eq!(upstream.state(), UpstreamState::Connecting);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let failed = |state, message: &str, from, next| {
            let error = LastError {
                kind: FailureKind::Connect,
                message: message.to_owned(),
                at: at(from),
            };
            upstream.failed(state, error, at(next));
        };
        failed(UpstreamState::Down, "first", 0, 1);
        upstream.connecting();
        failed(UpstreamState::Unauthorized, "second", 2, 5);
        let status = upstream.status();
        assert_eq!(status.state, UpstreamState::Unauthorized);
        assert_eq!(
            (status.down_since, status.next_attempt),
            (Some(at(0)), Some(at(5)))
        );
        // A reload does not end an outage.
        upstream.set_url("tcp://h:1".to_owned());
        assert!(upstream.state().is_down());
        upstream.delivered();
        let status = upstream.status();
        assert_eq!(status.state.is_up(), Some(true));
        assert_eq!((status.down_since, status.next_attempt), (None, None));
        let error = status.last_error.unwrap();
        assert_eq!((error.message.as_str(), error.at), ("second", at(2)));
        upstream.set_url("tcp://other:1".to_owned());
        assert_eq!(upstream.state(), UpstreamState::NotTried);
    }
}
