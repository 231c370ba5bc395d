//! From the queue to the sink: leases in order, and an eye on those under way.
//!
//! In: leases. Out: nothing but settled lines, a state of the upstream for the
//! metrics, and a line in the log when it changes. What a failure means for
//! the lines is decided here by its type alone; status codes and errnos stay
//! in the sink.

mod backoff;
mod outage;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::select;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::field::{DebugValue, display};
use tracing::{debug, error, info, warn};

use crate::config::RetrySettings;
use crate::deadline::timeout;
use crate::format::estimate;
use crate::panics;
use crate::stats::{Counters, DropReason, FailureKind, LastError, UpstreamState};

use super::queue::{Lease, Queue};
use super::sink::{Deliver, Failure, SinkEvent};
use backoff::Backoff;
use outage::{Outage, StateChange};

/// While the daemon ends, there is no time for long delays.
const DRAIN_DELAY: Duration = Duration::from_millis(500);

/// How long a delivery under way may go on after a reload has replaced its
/// sink: as long as a planned close takes.
const REPLACE_GRACE: Duration = Duration::from_secs(5);

/// How long the key and the certificates are taken to be those in their files,
/// while lines flow. Nobody looks while none do.
const KEY_AGE: Duration = Duration::from_secs(20);

/// A new way to the upstream, at a reload.
#[derive(Debug)]
pub struct Replacement<S> {
    /// The sink to use from now on.
    pub sink: S,
    /// The delays to use from now on.
    pub retry: RetrySettings,
}

/// What the daemon should look into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayEvent {
    /// The upstream has rejected the key, or TLS has failed: there may be another key, or
    /// other certificates.
    KeyRefused,
    /// Lines are about to be sent with a key and certificates that were read a while ago:
    /// their files may hold others.
    KeyAged,
}

/// Moves lines until the queue is closed and empty.
#[derive(Debug)]
pub struct Relay<S> {
    queue: Queue,
    sink: S,
    backoff: Backoff,
    outage: Outage,
    counters: Arc<Counters>,
    replacements: mpsc::UnboundedReceiver<Replacement<S>>,
    events: mpsc::UnboundedSender<RelayEvent>,
    /// How many lines had arrived when last looked.
    delivered: u64,
    /// When somebody was last sent to look for another key.
    key_seen: Instant,
    /// How many lines had found no room when the upstream went down.
    dropped_before: Option<u64>,
    /// Sinks of former configurations that close in order.
    closing: JoinSet<()>,
}

/// What one round of the relay ended with.
enum Round<S> {
    /// Lines went out, or a failure was waited out.
    Done,
    /// A reload has come.
    Replaced(Replacement<S>),
    /// The queue is closed and empty.
    Drained,
}

impl<S: Deliver + 'static> Relay<S> {
    /// A relay that takes a new sink from `replacements` whenever one comes.
    pub fn new(
        queue: Queue,
        first: Replacement<S>,
        counters: Arc<Counters>,
        replacements: mpsc::UnboundedReceiver<Replacement<S>>,
        events: mpsc::UnboundedSender<RelayEvent>,
    ) -> Self {
        Self {
            queue,
            sink: first.sink,
            backoff: Backoff::new(first.retry),
            outage: Outage::default(),
            counters,
            replacements,
            events,
            delivered: 0,
            key_seen: Instant::now(),
            dropped_before: None,
            closing: JoinSet::new(),
        }
    }

    /// Runs until the queue is drained, then closes in order to the upstream.
    pub async fn run(mut self) {
        loop {
            match self.round().await {
                Round::Done => {}
                Round::Replaced(new) => self.replace(new),
                Round::Drained => break,
            }
        }
        self.sink.close().await;
        self.closing.join_all().await;
    }

    async fn round(&mut self) -> Round<S> {
        panics::inject("relay");
        // 1. Wait for lines, with an eye on those that are on their way.
        let has_room = self.sink.has_room();
        select! {
            biased;
            Some(new) = self.replacements.recv() => return Round::Replaced(new),
            sink_event = self.sink.poll_acks() => return self.sink_event(sink_event).await,
            has_lines = self.queue.ready(), if has_room => if !has_lines { return Round::Drained },
        }
        self.mind_the_key();
        // 2. Make sure of a way before any line is in flight.
        self.counters.upstream.connecting();
        let connected = select! {
            biased;
            Some(new) = self.replacements.recv() => return Round::Replaced(new),
            connected = self.sink.connect() => connected,
        };
        // 3. Hand over.
        if let Err(failure) = connected {
            return self.wait_out(&failure).await;
        }
        let Some(lease) = self.queue.lease() else {
            return Round::Done;
        };
        let delivered = match self.deliver(lease).await {
            Ok(delivered) => delivered,
            Err(new) => return Round::Replaced(new),
        };
        match delivered {
            Ok(()) => {
                self.note_deliveries();
                Round::Done
            }
            Err(failure) => self.wait_out(&failure).await,
        }
    }

    /// Over TCP, TLS and UDP, a key that is no longer good shows nowhere, and a
    /// certificate that expires shows only when it is too late: their files
    /// tell, which are read by another task.
    fn mind_the_key(&mut self) {
        if self.key_seen.elapsed() >= KEY_AGE {
            self.key_seen = Instant::now();
            self.tell(RelayEvent::KeyAged);
        }
    }

    fn tell(&self, event: RelayEvent) {
        // While the daemon ends, nobody listens.
        let _ = self.events.send(event);
    }

    async fn sink_event(&mut self, sink_event: Result<SinkEvent, Failure>) -> Round<S> {
        match sink_event {
            Ok(SinkEvent::Acknowledged) => self.note_deliveries(),
            Ok(SinkEvent::Ended) => debug!("the idle connection has ended"),
            Err(failure) => return self.wait_out(&failure).await,
        }
        Round::Done
    }

    async fn wait_out(&mut self, failure: &Failure) -> Round<S> {
        let delay = self.failed(failure);
        match self.pause(delay).await {
            Some(new) => Round::Replaced(new),
            None => Round::Done,
        }
    }

    /// Delivers, or stops trying shortly after a reload has brought another sink.
    async fn deliver(&mut self, lease: Lease) -> Result<Result<(), Failure>, Replacement<S>> {
        let delivery = self.sink.deliver(lease);
        tokio::pin!(delivery);
        select! {
            biased;
            delivered = &mut delivery => Ok(delivered),
            Some(new) = self.replacements.recv() => {
                // Whatever this fails with is the old sink's, and the lines
                // that it leaves are the new one's.
                let _ = timeout(REPLACE_GRACE, delivery).await;
                Err(new)
            }
        }
    }

    fn replace(&mut self, new: Replacement<S>) {
        let old = std::mem::replace(&mut self.sink, new.sink);
        self.backoff = Backoff::new(new.retry);
        self.outage.reconfigured();
        while self.closing.try_join_next().is_some() {}
        self.closing.spawn(old.close());
    }

    /// An acknowledged batch, and nothing less, ends an outage.
    fn note_deliveries(&mut self) {
        let delivered = self.queue.delivered();
        if delivered == self.delivered {
            return;
        }
        self.delivered = delivered;
        self.backoff.reset();
        self.queue.upstream_up();
        self.counters.upstream.delivered();
        let dropped_before = self.dropped_before.take();
        let address = self.counters.upstream.status().address.map(display);
        match self.outage.delivered(Instant::now()) {
            Some(StateChange::FirstDelivery) => info!(address, "first lines delivered"),
            Some(StateChange::Up { lasted, attempts }) => {
                let ledger = self.queue.snapshot().ledger;
                let waiting = ledger.queued() + ledger.in_flight();
                let dropped = dropped_before
                    .map_or(0, |before| ledger.dropped(DropReason::QueueFull) - before);
                let lasted = in_seconds(lasted);
                info!(
                    address,
                    lasted, attempts, waiting, dropped, "the upstream is back"
                );
            }
            Some(StateChange::Down { .. }) | None => {}
        }
    }

    /// Says what is wrong and answers how long to wait.
    fn failed(&mut self, failure: &Failure) -> Duration {
        self.counters.sink_failed(failure.cause().kind);
        self.queue.upstream_down();
        if failure.cause().kind == FailureKind::Throttled {
            self.queue.slow_down();
        }
        let random = fastrand::f64();
        let delay = match failure {
            Failure::Unavailable(cause) if cause.has_alternative => backoff::LEAST,
            Failure::Unavailable(cause) => {
                let delay = self.backoff.after_failure(random);
                cause.retry_after.map_or(delay, |asked| delay.max(asked))
            }
            Failure::Unauthorized(_) | Failure::Misconfigured(_) => self.backoff.longest(random),
        };
        let now = Instant::now();
        let state = match failure {
            Failure::Unauthorized(_) => UpstreamState::Unauthorized,
            Failure::Unavailable(_) | Failure::Misconfigured(_) => UpstreamState::Down,
        };
        let error = LastError {
            kind: failure.cause().kind,
            message: failure.to_string(),
            at: now,
        };
        self.counters.upstream.failed(state, error, now + delay);
        let is_refused = matches!(failure, Failure::Unauthorized(_))
            || matches!(
                failure.cause().kind,
                FailureKind::Tls | FailureKind::Certificate
            );
        if is_refused {
            self.tell(RelayEvent::KeyRefused);
        }
        let ledger = self.queue.snapshot().ledger;
        let dropped = ledger.dropped(DropReason::QueueFull);
        let dropped = dropped - *self.dropped_before.get_or_insert(dropped);
        let news = self.outage.failed(failure, now);
        let Some(StateChange::Down { lasted, attempts }) = news else {
            debug!(error = %failure, ?delay, "an attempt failed");
            return delay;
        };
        let waiting = ledger.queued();
        let dropped = (dropped > 0).then_some(dropped);
        let lasted = in_seconds(lasted);
        // At this rate, until the oldest lines are dropped.
        let queue_lasts = estimate(self.queue.outlook().horizon);
        match failure {
            Failure::Unavailable(_) => {
                warn!(error = %failure, lasted, attempts, waiting, dropped, queue_lasts, "upstream unavailable, lines are queued");
            }
            Failure::Unauthorized(_) | Failure::Misconfigured(_) => {
                error!(error = %failure, lasted, attempts, waiting, dropped, queue_lasts, "upstream rejects our requests, lines are queued");
            }
        }
        delay
    }

    /// Waits, but not past a reload, and not long while the daemon ends.
    async fn pause(&mut self, delay: Duration) -> Option<Replacement<S>> {
        let queue = self.queue.clone();
        let patience = async {
            select! {
                () = sleep(delay) => {}
                () = queue.ending() => sleep(delay.min(DRAIN_DELAY)).await,
            }
        };
        select! {
            biased;
            Some(new) = self.replacements.recv() => Some(new),
            () = patience => None,
        }
    }
}

/// A duration for the log: whole seconds, or nothing where there are none yet.
fn in_seconds(duration: Duration) -> Option<DebugValue<Duration>> {
    let seconds = Duration::from_secs(duration.as_secs());
    (!seconds.is_zero()).then(|| tracing::field::debug(seconds))
}

#[cfg(test)]
mod tests;
