//! The service manager: what it passes to us, what it wants to hear, and what it
//! keeps for the next process.
//!
//! In: descriptors and the environment, as systemd gives them. Out: datagrams to
//! its socket (sd_notify(3)). Without `NOTIFY_SOCKET` and `LISTEN_FDS` none of
//! this does anything.

mod notify;
mod status_text;
mod watchdog;

use std::env;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use crate::os::{self, SharedNumbers};
use crate::pipeline::listen::ActivatedSockets;
use crate::pipeline::queue::{ACCOUNT_IN_FLIGHT, ACCOUNT_NUMBERS, ACCOUNT_QUEUED, Damage, Queue};
use crate::stats::Counters;

use notify::Notifier;

/// What the image of the queue is called in the descriptor store. After defects, the
/// number of them follows: `sidecarbon-queue-2`.
const IMAGE: &str = "sidecarbon-queue";

/// What the account is called there: how many lines there are, for the next process in
/// case that this one is killed.
const ACCOUNT: &str = "sidecarbon-account";

/// Says what the account is, and its layout.
const ACCOUNT_VERSION: u64 = 0x0001_6362_6373_0001;

/// Places in an account, besides those of the queue: what it is.
const VERSION: usize = 0;

/// Whether the process has ended in order: what became of its lines is in its log.
const HAS_ENDED: usize = 3;

/// Descriptors that the store needs room for: the image and the account.
const BOTH: u64 = 2;

/// After this many defects in a row, the lines may be what brings them about.
const MOST_DEFECTS: u32 = 3;

/// A process that has run for this long did not fail for the lines that it began with.
const STABLE: Duration = Duration::from_secs(600);

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
    /// Images of the queue, each with the number of defects before it.
    images: Vec<(u32, File)>,
    account: Option<File>,
    keeps_account: bool,
    defects: u32,
    started: Instant,
    is_reloading: bool,
}

impl Manager {
    /// Takes what was passed to this process: sockets for the listeners, and what
    /// the former process has left. Call it before anything else is opened.
    pub fn find() -> (Self, Vec<OwnedFd>) {
        let mut images = Vec::new();
        let mut account = None;
        let mut sockets = Vec::new();
        for (name, descriptor) in os::inherited_descriptors() {
            if let Some(defects) = defects_before(&name) {
                images.push((defects, descriptor.into()));
            } else if name == ACCOUNT {
                account = Some(descriptor.into());
            } else {
                sockets.push(descriptor);
            }
        }
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
            keeps_account: notifier.is_some() && number("FDSTORE").is_some_and(|most| most >= BOTH),
            notifier,
            images,
            account,
            defects: 0,
            started: Instant::now(),
            is_reloading: false,
        };
        (manager, sockets)
    }

    /// The sockets for the listeners.
    pub fn sockets(descriptors: Vec<OwnedFd>) -> ActivatedSockets {
        let (activated, useless) = ActivatedSockets::new(descriptors);
        for socket in useless {
            warn!(%socket, "ignoring an unexpected descriptor that the service manager passed");
        }
        activated
    }

    /// Whether what waits at the end can be kept.
    pub fn store(&self) -> Store {
        self.store
    }

    /// Takes over the lines that the former process has left. They must not be
    /// taken over again by the next one.
    pub fn restore_queue(&mut self, queue: &Queue, counters: &Counters) {
        for (defects, image) in std::mem::take(&mut self.images) {
            let restore = AssertUnwindSafe(|| {
                if defects >= MOST_DEFECTS {
                    return queue.discard(counters, &image);
                }
                self.defects = self.defects.max(defects);
                queue.restore(counters, &image)
            });
            let restored = panic::catch_unwind(restore);
            // Whatever came of it: the same image would fail in the same way.
            self.tell(&format!("FDSTOREREMOVE=1\nFDNAME={}", image_name(defects)));
            let Ok(restored) = restored else {
                error!(
                    "the lines that were queued before the restart cannot be read, some of them are lost"
                );
                continue;
            };
            let lines = restored.lines;
            match restored.damage {
                None => info!(
                    lines,
                    "the lines that were queued before the restart are queued again"
                ),
                Some(why @ Damage::Defects) => {
                    error!(lost = restored.lost, %why, "the lines that were queued before the restart may be the cause and are dropped");
                }
                Some(why @ Damage::Version(_)) => {
                    error!(lost = restored.lost, %why, "the lines that were queued before the restart cannot be read and are dropped");
                }
                Some(why) => {
                    error!(lines, lost = restored.lost, %why, "some of the lines that were queued before the restart are lost");
                }
            }
        }
        self.open_account(queue);
    }

    /// Reports the lines of a former process that was killed, and begins an account
    /// for this one.
    fn open_account(&mut self, queue: &Queue) {
        let inherited = self.account.take();
        let account = inherited.as_ref().map(SharedNumbers::map);
        if let Some(Ok(former)) = &account
            && former.get(VERSION) == ACCOUNT_VERSION
            && former.get(HAS_ENDED) == 0
        {
            let queued = former.get(ACCOUNT_QUEUED);
            let in_flight = former.get(ACCOUNT_IN_FLIGHT);
            if queued + in_flight > 0 {
                error!(
                    queued,
                    in_flight,
                    "the former process was killed; the lines that it had queued are lost, and those in flight may be"
                );
            } else {
                warn!("the former process was killed; it had no lines queued");
            }
        }
        let account = match account {
            Some(Ok(account)) => Ok(account),
            Some(Err(_)) | None if self.keeps_account => self.new_account(),
            // Nobody would keep it beside the queue.
            Some(Err(_)) | None => return,
        };
        match account {
            Ok(account) => {
                account.set(VERSION, ACCOUNT_VERSION);
                account.set(HAS_ENDED, 0);
                queue.keep_account(account);
            }
            Err(error) => {
                info!(%error, "no account can be kept; after a kill, the next start does not report lost lines");
            }
        }
    }

    fn new_account(&self) -> io::Result<SharedNumbers<ACCOUNT_NUMBERS>> {
        let file = os::memory_file(ACCOUNT)?;
        let account = SharedNumbers::map(&file)?;
        if let Some(notifier) = &self.notifier {
            notifier.store(&format!("FDSTORE=1\nFDNAME={ACCOUNT}"), &file)?;
        }
        Ok(account)
    }

    /// The process ends in order: what became of its lines is in the log.
    pub fn ended(queue: &Queue) {
        if let Some(account) = queue.account() {
            account.set(HAS_ENDED, 1);
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
        tokio::spawn(watchdog::run(notifier, self.watchdog, queue, counters));
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
    pub async fn keep_queue(
        &self,
        queue: &Queue,
        counters: &Counters,
        is_after_defect: bool,
    ) -> Option<u64> {
        let defects = match (is_after_defect, self.started.elapsed() < STABLE) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => self.defects + 1,
        };
        let name = image_name(defects);
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
            notifier.store(&format!("FDSTORE=1\nFDNAME={name}"), &file)?;
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

/// What an image is called after a number of defects in a row.
fn image_name(defects: u32) -> String {
    if defects == 0 {
        IMAGE.to_owned()
    } else {
        format!("{IMAGE}-{defects}")
    }
}

/// The opposite of [`image_name`].
fn defects_before(name: &str) -> Option<u32> {
    match name.strip_prefix(IMAGE)? {
        "" => Some(0),
        rest => rest.strip_prefix('-')?.parse().ok(),
    }
}

/// Microseconds of the clock that a reload is timed by.
fn monotonic() -> u128 {
    use rustix::time::{ClockId, clock_gettime};
    let now = clock_gettime(ClockId::Monotonic);
    Duration::try_from(now).unwrap_or_default().as_micros()
}
