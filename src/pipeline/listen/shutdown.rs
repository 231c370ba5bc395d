//! How a listener learns that it has to stop.

use tokio::sync::watch;

/// Whether a listener has to stop, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It does not.
    NotYet,
    /// It reads what has arrived.
    DrainSockets,
    /// It leaves what has arrived at a socket that was given to us to the next
    /// process: it could not be kept here.
    LeaveUnread,
}

/// Resolves once a listener has to stop.
#[derive(Debug, Clone)]
pub struct Stopping {
    stop: watch::Receiver<Stop>,
    /// Whether the socket outlives this process.
    is_activated: bool,
}

impl Stopping {
    /// Of a listener whose socket outlives this process, or does not.
    pub fn new(stop: watch::Receiver<Stop>, is_activated: bool) -> Self {
        Self { stop, is_activated }
    }

    /// Waits for the stop.
    pub async fn wait(&mut self) {
        // A sender that is gone has stopped its listeners too.
        let _ = self.stop.wait_for(|stop| *stop != Stop::NotYet).await;
    }

    /// Whether it has come, for those who always have something else to do and would
    /// never come to wait for it.
    pub fn has_come(&self) -> bool {
        *self.stop.borrow() != Stop::NotYet || self.stop.has_changed().is_err()
    }

    /// Whether datagrams that have arrived are to be left where they are.
    pub fn leaves_datagrams(&self) -> bool {
        self.is_activated && *self.stop.borrow() == Stop::LeaveUnread
    }

    /// Whether clients that wait to be accepted are to be left to the next
    /// process: closing what they have just opened would lose what they send.
    pub fn leaves_clients(&self) -> bool {
        self.is_activated && *self.stop.borrow() != Stop::NotYet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_has_come_once_it_is_said_or_nobody_could_say_it_any_more() {
        for said in [Some(Stop::DrainSockets), Some(Stop::LeaveUnread), None] {
            let sender = watch::Sender::new(Stop::NotYet);
            let stopping = Stopping::new(sender.subscribe(), false);
            assert!(!stopping.has_come());
            match said {
                Some(stop) => drop(sender.send_replace(stop)),
                // By a reload.
                None => drop(sender),
            }
            assert!(stopping.has_come(), "{said:?}");
        }
    }
}
