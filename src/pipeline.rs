//! How a line travels. The modules are in the order in which it does:
//!
//! ```text
//!         many tasks                    |  shared, one short lock |                 one task
//!  udp ──┐                              |  open block             |
//!  tcp ──┼─ decode ─ line ─ batch ─ push ┼─▶ sealed blocks ────────┼─▶ lease ─ encode(key) ─ tcp | tls | udp | http ─▶ upstream
//!  unix ─┘        reject → ledger       |  oldest out → ledger    |     ▲                        │
//!                                       |                         |     └── backoff ◀─ unavailable
//! ```
//!
//! The queue is the fixed point: the listeners know it, the relay knows it,
//! neither knows the other. A reload swaps a sink or rebinds a listener, and
//! the queued lines stay where they are.

// In the order in which a line travels; blank lines keep rustfmt from sorting them.
pub mod listen;

pub mod decode;

pub mod statsd;

pub mod line;

pub mod batch;

pub mod queue;

pub mod relay;

pub mod sink;

pub mod memory;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::sleep;
use tracing::warn;

use crate::blocking::NO_THREAD_REMEDY;
use crate::config::Settings;
use crate::deadline::{Deadline, timeout};
use crate::os;
use crate::stats::{Counters, Whose};
use listen::connections::Bounds;
use listen::{ActivatedSockets, BindError, Ingest, Listeners, Plan, Stop};
use queue::{Compressing, Limits, Queue};
use relay::{Relay, RelayEvent, Replacement};
use sink::{Deliver, Sink, TlsError};

/// Descriptors that are not for clients: listeners, the upstream, the admin
/// endpoint, logs.
const RESERVED_FILES: u64 = 64;

/// Clients that never stop sending must not keep the drain from beginning. Each stream
/// ends by itself in half of that; the rest is for a thousand that share a thread.
const LAST_READS: Duration = Duration::from_secs(2);

/// However long clients go on, so much of the grace is kept for the drain, half
/// of a short one: to read the sockets' rest, and for an upstream that is there
/// to acknowledge what was sent.
const LEAST_DRAIN: Duration = Duration::from_secs(2);

/// How often is looked whether a line has come: only while the daemon stops.
const QUIET_LOOK: Duration = Duration::from_millis(20);

/// Why a pipeline cannot run as the settings say.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A file that they name is of no use.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An address that they name cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system has no thread for us.
    #[error("cannot start a thread: {0}; {NO_THREAD_REMEDY}")]
    Thread(#[from] std::io::Error),
}

impl SetupError {
    /// The error with its place in the configuration, where it has one.
    pub fn describe(&self, settings: &Settings) -> String {
        match self {
            Self::Tls(error) => settings.problem_with(error.key, &error.message).to_string(),
            Self::Bind(_) | Self::Thread(_) => self.to_string(),
        }
    }
}

/// A running pipeline.
#[derive(Debug)]
pub struct Pipeline {
    queue: Queue,
    ingest: Ingest,
    listeners: Listeners,
    compressing: Compressing,
    flushing: JoinHandle<()>,
    relay: JoinHandle<()>,
    replacements: mpsc::UnboundedSender<Replacement<Sink>>,
    counters: Arc<Counters>,
}

/// What a reload will change; everything that can fail has been done.
#[derive(Debug)]
pub struct Change {
    sink: Option<Sink>,
    listeners: Plan,
}

impl Pipeline {
    /// Makes the queue, starts the listeners on it, starts the relay on it. Some
    /// of the listeners' sockets may be given.
    pub fn start(
        settings: &Settings,
        counters: &Arc<Counters>,
        activated: ActivatedSockets,
        events: mpsc::UnboundedSender<RelayEvent>,
    ) -> Result<Self, SetupError> {
        let queue = Queue::new(limits(settings));
        let ingest = Ingest::new(
            queue.clone(),
            settings.listen.rules(&settings.sink.key),
            &settings.statsd,
            bounds(settings),
            counters.clone(),
        );
        let sink = Sink::new(&settings.sink, counters.clone())?;
        counters.upstream.set_url(settings.sink.public_url());
        note_certificates(counters, settings, &sink);

        let mut listeners = Listeners::new(ingest.clone(), counters.clone(), activated);
        listeners.apply(listeners.plan(&settings.listen)?);
        if let Some(error) = listeners.missing_thread() {
            return Err(SetupError::Thread(error));
        }
        for socket in listeners.unused() {
            warn!(%socket, "a socket was passed that no listener names; name it under [listen], or take it out of the socket unit");
        }

        let compressing = Compressing::start(&queue)?;
        let (replacements, incoming) = mpsc::unbounded_channel();
        let retry = settings.retry;
        let first = Replacement { sink, retry };
        let relay = Relay::new(queue.clone(), first, counters.clone(), incoming, events);
        Ok(Self {
            queue,
            flushing: tokio::spawn(ingest.clone().flush_samples()),
            ingest,
            listeners,
            compressing,
            relay: tokio::spawn(relay.run()),
            replacements,
            counters: counters.clone(),
        })
    }

    /// The queue, for those who want to look at it.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Prepares a reload: whatever can fail does so here, with nothing changed.
    /// `sink` is the one that the new settings describe.
    pub fn prepare(
        &self,
        old: &Settings,
        new: &Settings,
        sink: Sink,
    ) -> Result<Change, SetupError> {
        // Files that the settings name may have changed under the same name.
        // And in an outage, a reload goes on at once.
        let replaces = new.sink != old.sink
            || new.retry != old.retry
            || new.sink.tls.reads_files()
            || self.counters.upstream.state().is_down();
        Ok(Change {
            sink: replaces.then_some(sink),
            listeners: self.listeners.plan(&new.listen)?,
        })
    }

    /// Carries out a reload. The queued lines stay.
    pub fn apply(&mut self, change: Change, new: &Settings) {
        self.queue.set_limits(limits(new));
        self.ingest
            .reconfigure(new.listen.rules(&new.sink.key), bounds(new));
        self.ingest.reconfigure_statsd(&new.statsd);
        if let Some(sink) = change.sink {
            let retry = new.retry;
            self.counters.upstream.set_url(new.sink.public_url());
            note_certificates(&self.counters, new, &sink);
            // A relay that is gone is noticed by `failed`.
            let _ = self.replacements.send(Replacement { sink, retry });
        }
        self.listeners.apply(change.listeners);
        if let Some(error) = self.listeners.missing_thread() {
            // Whatever comes to its socket must be received all the same.
            warn!(%error, "no thread is available for listen.udp_threads; the first thread receives for it as well");
        }
    }

    /// Ends when a task died: a defect, after which nothing can be trusted.
    pub async fn failed(&mut self) -> String {
        let describe = |what: &str, error: &JoinError| format!("{what} died: {error}");
        tokio::select! {
            error = self.listeners.failed() => describe("a listener", &error),
            () = self.compressing.died() => "the compressing thread died".to_owned(),
            ended = &mut self.flushing => match ended {
                Err(error) => describe("the flush of samples", &error),
                Ok(()) => "the flush of samples ended by itself".to_owned(),
            },
            ended = &mut self.relay => match ended {
                Err(error) => describe("the relay", &error),
                Ok(()) => "the relay ended by itself".to_owned(),
            },
        }
    }

    /// Goes on as before until no line has come for `quiet`, but leaves enough of
    /// the grace for the drain. Answers with the defect when a task died over it.
    pub async fn await_quiet(&mut self, quiet: Duration, grace: Duration) -> Option<String> {
        if quiet.is_zero() {
            return None;
        }
        // An upstream that was down is tried again soon, as while draining.
        self.queue.hurry();
        let limit = grace.saturating_sub(LEAST_DRAIN.min(grace / 2));
        let queue = self.queue.clone();
        tokio::select! {
            defect = self.failed() => Some(defect),
            waited = timeout(limit, is_quiet(&queue, quiet)) => {
                if waited.is_err() {
                    warn!("clients go on sending; the rest of shutdown.grace is for the drain");
                }
                None
            }
        }
    }

    /// Reads what has arrived, sends what waits, and closes in order: within the
    /// grace, and until it is of no use any more. Answers with the defect when a
    /// task died over it.
    pub async fn drain(
        &mut self,
        grace: Duration,
        stop: Stop,
        of_no_use: impl Future<Output = ()>,
    ) -> Option<String> {
        let mut deadline = Deadline::after(grace);
        let streams = LAST_READS.min(grace);
        // It keeps its own time, so that the account is right.
        if let Err(error) = deadline.count(self.listeners.drain(stop, streams)).await {
            return Some(format!("a listener died: {error}"));
        }
        if let Some(defect) = self.end_flushing().await {
            return Some(defect);
        }
        self.queue.close();
        let drained = tokio::select! {
            drained = deadline.within(&mut self.relay) => drained,
            () = of_no_use => return None,
        };
        match drained {
            Ok(Err(error)) => Some(format!("the relay died: {error}")),
            Ok(Ok(())) | Err(_) => None,
        }
    }

    /// Flushes what samples have come, for the last time. Answers with the defect
    /// when the flush had died.
    async fn end_flushing(&mut self) -> Option<String> {
        self.flushing.abort();
        let ended = (&mut self.flushing).await;
        self.ingest.flush_last_samples().await;
        let error = ended.err().filter(JoinError::is_panic)?;
        Some(format!("the flush of samples died: {error}"))
    }

    /// Ends everything where it is. What was lent goes back into the queue, and
    /// what samples have come into it, so that the account is right afterwards.
    pub async fn abandon(&mut self) {
        self.listeners.abandon().await;
        self.flushing.abort();
        if !self.relay.is_finished() {
            self.relay.abort();
            // Cancelled, as it was told.
            let _ = (&mut self.relay).await;
        }
        // The last, since it may be what has panicked.
        self.ingest.flush_samples_now();
    }
}

/// Waits until no line has come for so long.
async fn is_quiet(queue: &Queue, quiet: Duration) {
    let mut received = queue.received();
    let mut silence = Deadline::after(quiet);
    while !silence.is_over() {
        sleep(QUIET_LOOK.min(silence.left())).await;
        silence.look();
        let now_received = queue.received();
        if now_received != received {
            received = now_received;
            silence.restart();
        }
    }
}

fn limits(settings: &Settings) -> Limits {
    Limits {
        block_bytes: settings.batch_bytes,
        queue_bytes: settings.queue_bytes,
        linger: settings.batch_linger,
        gather: settings.batch_gather,
        max_lines_per_second: settings.sink.max_lines_per_second,
    }
}

/// What bounds the connections of clients.
fn bounds(settings: &Settings) -> Bounds {
    Bounds {
        connections: max_connections(settings),
        buffer_bytes: Bounds::buffer_bytes(settings.queue_bytes),
    }
}

/// As many clients as the settings and the limit of open files allow.
fn max_connections(settings: &Settings) -> usize {
    let files = os::raise_file_limit();
    let most = files.saturating_sub(RESERVED_FILES).max(files / 2);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let wanted = settings.listen.max_connections;
    if wanted > most {
        warn!(
            wanted,
            most,
            "listen.max_connections is over the limit of open files; raise LimitNOFILE or ulimit -n"
        );
    }
    wanted.min(most)
}

/// Notes what is known of certificates when a sink is put in force: ours, and
/// that there is no upstream's where there is no TLS.
fn note_certificates(counters: &Counters, settings: &Settings, sink: &Sink) {
    let certificates = &counters.certificates;
    certificates.set(Whose::Client, sink.client_certificate_expiry());
    if !settings.sink.url.is_secure() {
        certificates.set(Whose::Upstream, None);
    }
}
