//! The service manager: what it passes to us, what it wants to hear, and what it
//! keeps for the next process.
//!
//! In: descriptors and the environment, as systemd gives them. Out: datagrams to
//! its socket (sd_notify(3)). Without `NOTIFY_SOCKET` and `LISTEN_FDS` none of
//! this does anything.

mod inform;
mod notify;
mod words;

use std::env;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info, warn};

use crate::os;
use crate::pipeline::ingest::Given;
use crate::pipeline::queue::{Damage, Queue};
use crate::stats::Counters;

use notify::Notifier;

/// What the image of the queue is called in the descriptor store.
const IMAGE: &str = "sidecarbon-queue";

/// How long a stop may take beside the drain.
const BESIDE_DRAIN: Duration = Duration::from_secs(10);

/// Whether descriptors can be kept for the next process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// They can.
    Offered,
    /// Nobody says so; systemd before 254 does not.
    Unknown,
    /// They cannot.
    Missing,
}

/// The service manager, as far as there is one.
#[derive(Debug)]
pub struct Manager {
    notifier: Option<Arc<Notifier>>,
    store: Store,
    watchdog: Option<Duration>,
    images: Vec<File>,
    is_reloading: bool,
}

impl Manager {
    /// Takes what was passed to this process: sockets for the listeners, and what
    /// the former process has left. Call it before anything else is opened.
    pub fn find() -> (Self, Vec<OwnedFd>) {
        let inherited = os::inherited_descriptors().into_iter();
        let (images, sockets): (Vec<_>, Vec<_>) = inherited.partition(|(name, _)| name == IMAGE);
        let notifier = Notifier::from_environment().map(Arc::new);
        let number = |name| env::var(name).ok()?.parse::<u64>().ok();
        let watchdog_is_ours =
            number("WATCHDOG_PID").is_none_or(|id| id == u64::from(std::process::id()));
        let manager = Self {
            store: match (&notifier, number("FDSTORE")) {
                (None, _) | (_, Some(0)) => Store::Missing,
                (Some(_), Some(_)) => Store::Offered,
                (Some(_), None) => Store::Unknown,
            },
            watchdog: number("WATCHDOG_USEC")
                .filter(|time| *time > 0 && watchdog_is_ours)
                .map(Duration::from_micros),
            notifier,
            images: images.into_iter().map(|(_, file)| file.into()).collect(),
            is_reloading: false,
        };
        let sockets = sockets.into_iter().map(|(_, socket)| socket).collect();
        (manager, sockets)
    }

    /// The sockets for the listeners.
    pub fn sockets(descriptors: Vec<OwnedFd>) -> Given {
        let (given, useless) = Given::new(descriptors);
        for socket in useless {
            warn!(%socket, "a descriptor was passed that is of no use");
        }
        given
    }

    /// Whether what waits at the end can be kept.
    pub fn store(&self) -> Store {
        self.store
    }

    /// Takes over the lines that the former process has left. They must not be
    /// taken over again by the next one.
    pub fn adopt_queue(&mut self, queue: &Queue, counters: &Counters) {
        for image in std::mem::take(&mut self.images) {
            let adopted = queue.adopt(counters, &image);
            let lines = adopted.lines;
            match adopted.damage {
                None => info!(lines, "the lines that waited before the restart wait again"),
                Some(why @ Damage::Version(_)) => {
                    error!(lost = adopted.lost, %why, "the lines that waited before the restart cannot be read, they are dropped");
                }
                Some(why) => {
                    error!(lines, lost = adopted.lost, %why, "some of the lines that waited before the restart are lost");
                }
            }
            self.tell(&format!("FDSTOREREMOVE=1\nFDNAME={IMAGE}"));
        }
    }

    /// The listeners are bound. From here on it hears how things are.
    pub fn ready(&self, queue: &Queue, counters: &Arc<Counters>) {
        let Some(notifier) = &self.notifier else {
            return;
        };
        self.tell("READY=1");
        let notifier = notifier.clone();
        let (queue, counters) = (queue.clone(), counters.clone());
        tokio::spawn(inform::go_on(notifier, self.watchdog, queue, counters));
    }

    /// The configuration is being read again.
    pub fn reloading(&mut self) {
        if self.notifier.is_some() {
            self.is_reloading = true;
            // Both in one datagram, or the time is taken for another reload's.
            self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic()));
        }
    }

    /// It was read, whatever came of it.
    pub fn reloaded(&mut self) {
        if std::mem::take(&mut self.is_reloading) {
            self.tell("READY=1");
        }
    }

    /// The end has begun, and may take so long.
    pub fn stopping(&self, grace: Duration) {
        let time = (grace + BESIDE_DRAIN).as_micros();
        self.tell(&format!(
            "STOPPING=1\nEXTEND_TIMEOUT_USEC={time}\nSTATUS=stopping"
        ));
    }

    /// Leaves what waits to the next process. Answers with how many lines that
    /// are, if they could be handed over.
    pub async fn keep_queue(&self, queue: &Queue, counters: &Counters) -> Option<u64> {
        let notifier = self.notifier.as_ref()?;
        let ledger = queue.snapshot().ledger;
        if self.store == Store::Missing || ledger.queued() == 0 {
            return None;
        }
        let keep = async {
            let mut file = os::memory_file(IMAGE)?;
            let (lines, result) = queue.hand_over(counters, &mut file).await;
            if let Err(error) = result {
                let lost = ledger.queued() - lines;
                error!(%error, lost, "not all lines can be kept for the next start");
            }
            os::seal(&file)?;
            notifier.store(&format!("FDSTORE=1\nFDNAME={IMAGE}"), &file)?;
            Ok(lines)
        };
        match keep.await {
            Ok(lines) => Some(lines),
            Err(error) => {
                let error: io::Error = error;
                error!(%error, "the waiting lines cannot be kept for the next start");
                None
            }
        }
    }

    fn tell(&self, what: &str) {
        if let Some(notifier) = &self.notifier
            && let Err(error) = notifier.tell(what)
        {
            warn!(%error, "the service manager cannot be told");
        }
    }
}

/// Microseconds of the clock that a reload is timed by.
fn monotonic() -> u128 {
    use rustix::time::{ClockId, clock_gettime};
    let now = clock_gettime(ClockId::Monotonic);
    Duration::try_from(now).unwrap_or_default().as_micros()
}
