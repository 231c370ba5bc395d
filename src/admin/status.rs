//! The same numbers as the metrics, for programs: one JSON object.
//!
//! Names are those of the metrics, without prefix and unit. What is not known,
//! or has no end, is `null`. `sidecarbon status` reads it with the same types.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use crate::pipeline::queue::Snapshot;
use crate::stats::{AckMode, Counters, DropReason, FailureKind, Ledger, RejectReason, Whose};

/// All of it, from one look at the queue.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// Of the daemon.
    pub version: String,
    /// Of the machine on which it runs.
    #[serde(default)]
    pub hostname: String,
    /// Since its start.
    pub uptime_seconds: u64,
    /// Whether it stops, and only sends what waits.
    pub draining: bool,
    /// Where all lines are.
    pub ledger: Account,
    /// Where they came in.
    pub listeners: Vec<Listener>,
    /// Where they wait.
    pub queue: Queue,
    /// Where they go.
    pub sink: Sink,
}

/// Lines, each in one account.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Account {
    /// By all listeners.
    pub received: u64,
    /// Made by the daemon.
    pub generated: u64,
    /// By reason.
    pub rejected: BTreeMap<String, u64>,
    /// Left out by a filter.
    pub filtered: u64,
    /// Folded into others.
    pub aggregated: u64,
    /// The upstream has them.
    pub delivered: u64,
    /// By reason.
    pub dropped: BTreeMap<String, u64>,
    /// They wait.
    pub queued: u64,
    /// They are being sent.
    pub in_flight: u64,
    /// What is missing in the sum; anything but 0 is a defect.
    pub imbalance: i128,
}

/// Where lines come in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Listener {
    /// Kind and address as configured.
    pub name: String,
    /// The key under `[listen]` that names it.
    #[serde(default)]
    pub kind: String,
    /// Lines.
    pub received: u64,
    /// Open now.
    pub connections: u64,
    /// Datagrams that the kernel dropped.
    pub kernel_drops: u64,
}

/// Where lines wait.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Queue {
    /// Memory allocated for lines.
    pub bytes: usize,
    /// Its bound.
    pub limit_bytes: usize,
    /// How long it would last at this rate if nothing were delivered.
    pub horizon_seconds: Option<f64>,
    /// How long it takes at this rate until no backlog is left.
    pub drain_seconds: Option<f64>,
}

/// Where lines go.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Sink {
    /// Without secrets.
    pub url: String,
    /// `not_tried`, `connecting`, `up`, `down`, or `unauthorized`.
    #[serde(default)]
    pub state: String,
    /// Whether the last lines sent were delivered; `null` before the first attempt has
    /// ended.
    pub up: Option<bool>,
    /// The address of the last connection that was made.
    pub address: Option<String>,
    /// Its other addresses that failed then, and why.
    pub failed_addresses: Option<String>,
    /// For how long it has been down.
    pub away_seconds: Option<f64>,
    /// Until it is tried again; 0 while it is being tried.
    pub next_attempt_seconds: Option<f64>,
    /// The last thing that went wrong, also when it is over.
    pub last_error: Option<LastError>,
    /// Connections made.
    pub connects: u64,
    /// What makes lines over TCP and TLS count as delivered.
    pub ack_mode: Option<String>,
    /// Attempts that failed, by kind.
    pub errors: BTreeMap<String, u64>,
    /// Lines sent again after some of their bytes had reached a socket.
    pub resent: u64,
    /// Lines acknowledged shortly before a reset.
    pub at_risk: u64,
    /// Lines whose HTTP answer was lost.
    pub uncertain: u64,
    /// Until the upstream's certificate expires.
    #[serde(default)]
    pub certificate_expiry_seconds: Option<i64>,
    /// Until our client certificate expires.
    #[serde(default)]
    pub client_certificate_expiry_seconds: Option<i64>,
}

/// What went wrong on the way to the upstream.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LastError {
    /// As in `errors`.
    pub kind: String,
    /// For people.
    pub message: String,
    /// How long that is ago.
    pub ago_seconds: f64,
}

impl Status {
    /// What the numbers are now.
    pub fn of(snapshot: &Snapshot, counters: &Counters, uptime: Duration, draining: bool) -> Self {
        let ledger = &snapshot.ledger;
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            uptime_seconds: uptime.as_secs(),
            draining,
            ledger: Account::of(ledger),
            listeners: listeners(ledger, counters),
            queue: Queue {
                bytes: snapshot.allocated,
                limit_bytes: snapshot.limits.queue_bytes,
                horizon_seconds: finite(snapshot.outlook.horizon),
                drain_seconds: finite(snapshot.outlook.drain),
            },
            sink: Sink::of(ledger, counters),
        }
    }
}

impl Account {
    fn of(ledger: &Ledger) -> Self {
        Self {
            received: ledger.received_total(),
            generated: ledger.generated(),
            rejected: by_label(RejectReason::ALL, RejectReason::label, |reason| {
                ledger.rejected(reason)
            }),
            filtered: ledger.filtered(),
            aggregated: ledger.aggregated(),
            delivered: ledger.delivered(),
            dropped: by_label(DropReason::ALL, DropReason::label, |reason| {
                ledger.dropped(reason)
            }),
            queued: ledger.queued(),
            in_flight: ledger.in_flight(),
            imbalance: ledger.imbalance(),
        }
    }
}

impl Sink {
    fn of(ledger: &Ledger, counters: &Counters) -> Self {
        let ack_mode = AckMode::ALL
            .into_iter()
            .find(|mode| counters.is_ack_mode(*mode));
        let now = Instant::now();
        let upstream = counters.upstream.status();
        let since = |then: Instant| now.saturating_duration_since(then).as_secs_f64();
        let left = |whose| counters.certificates.seconds_left(whose, SystemTime::now());
        let until = |then: Instant| then.saturating_duration_since(now).as_secs_f64();
        Self {
            url: upstream.url,
            state: upstream.state.label().to_owned(),
            up: upstream.state.is_up(),
            address: upstream.address.map(|address| address.to_string()),
            failed_addresses: Some(upstream.failed_addresses).filter(|failed| !failed.is_empty()),
            away_seconds: upstream.down_since.map(since),
            next_attempt_seconds: upstream.next_attempt.map(until),
            last_error: upstream.last_error.map(|error| LastError {
                kind: error.kind.label().to_owned(),
                message: error.message,
                ago_seconds: since(error.at),
            }),
            connects: counters.sink_connects.load(Relaxed),
            ack_mode: ack_mode.map(|mode| mode.label().to_owned()),
            errors: by_label(FailureKind::ALL, FailureKind::label, |kind| {
                counters.sink_failures(kind)
            }),
            resent: ledger.resent(),
            at_risk: counters.lines_at_risk.load(Relaxed),
            uncertain: counters.lines_uncertain.load(Relaxed),
            certificate_expiry_seconds: left(Whose::Upstream),
            client_certificate_expiry_seconds: left(Whose::Client),
        }
    }
}

fn listeners(ledger: &Ledger, counters: &Counters) -> Vec<Listener> {
    let listeners = counters.listeners();
    let listener = |listener: &std::sync::Arc<crate::stats::ListenerCounters>| Listener {
        name: listener.label.clone(),
        kind: listener.kind.label().to_owned(),
        received: ledger.received(listener.id),
        connections: listener.connections.load(Relaxed),
        kernel_drops: listener.kernel_drops.load(Relaxed),
    };
    listeners.iter().map(listener).collect()
}

fn by_label<K: Copy, const N: usize>(
    all: [K; N],
    label: impl Fn(K) -> &'static str,
    count: impl Fn(K) -> u64,
) -> BTreeMap<String, u64> {
    all.into_iter()
        .map(|key| (label(key).to_owned(), count(key)))
        .collect()
}

/// JSON has neither infinity nor "not a number".
fn finite(number: f64) -> Option<f64> {
    number.is_finite().then_some(number)
}
