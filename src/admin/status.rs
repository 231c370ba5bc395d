//! The same numbers as the metrics, for programs: one JSON object.
//!
//! Names are those of the metrics, without prefix and unit. What is not known,
//! or has no end, is `null`.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;

use crate::pipeline::queue::Snapshot;
use crate::stats::{AckMode, Counters, DropReason, FailureKind, Ledger, RejectReason};

/// All of it, from one look at the queue.
#[derive(Debug, Serialize)]
pub struct Status {
    version: &'static str,
    draining: bool,
    ledger: Account,
    listeners: Vec<Listener>,
    queue: Queue,
    sink: Sink,
}

/// Lines, each in one account.
#[derive(Debug, Serialize)]
struct Account {
    received: u64,
    generated: u64,
    rejected: BTreeMap<&'static str, u64>,
    filtered: u64,
    aggregated: u64,
    delivered: u64,
    dropped: BTreeMap<&'static str, u64>,
    queued: u64,
    in_flight: u64,
    imbalance: i128,
}

#[derive(Debug, Serialize)]
struct Listener {
    name: String,
    received: u64,
    connections: u64,
    kernel_drops: u64,
}

#[derive(Debug, Serialize)]
struct Queue {
    bytes: usize,
    limit_bytes: usize,
    horizon_seconds: f64,
    drain_seconds: f64,
}

#[derive(Debug, Serialize)]
struct Sink {
    up: bool,
    connects: u64,
    ack_mode: Option<&'static str>,
    errors: BTreeMap<&'static str, u64>,
    resent: u64,
    at_risk: u64,
    uncertain: u64,
}

impl Status {
    /// What the numbers are now.
    pub fn of(snapshot: &Snapshot, counters: &Counters, draining: bool) -> Self {
        let ledger = &snapshot.ledger;
        Self {
            version: env!("CARGO_PKG_VERSION"),
            draining,
            ledger: Account::of(ledger),
            listeners: listeners(ledger, counters),
            queue: Queue {
                bytes: snapshot.allocated,
                limit_bytes: snapshot.limits.queue_bytes,
                horizon_seconds: snapshot.outlook.horizon,
                drain_seconds: snapshot.outlook.drain,
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
        Self {
            up: counters.sink_up.load(Relaxed),
            connects: counters.sink_connects.load(Relaxed),
            ack_mode: ack_mode.map(AckMode::label),
            errors: by_label(FailureKind::ALL, FailureKind::label, |kind| {
                counters.sink_failures(kind)
            }),
            resent: ledger.resent(),
            at_risk: counters.lines_at_risk.load(Relaxed),
            uncertain: counters.lines_uncertain.load(Relaxed),
        }
    }
}

fn listeners(ledger: &Ledger, counters: &Counters) -> Vec<Listener> {
    let listeners = counters.listeners();
    let listener = |listener: &std::sync::Arc<crate::stats::ListenerCounters>| Listener {
        name: listener.label.clone(),
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
) -> BTreeMap<&'static str, u64> {
    all.into_iter()
        .map(|key| (label(key), count(key)))
        .collect()
}
