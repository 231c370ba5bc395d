//! Counters for what is not a line: connections, attempts, the sink's state.
//!
//! Each is an atomic of its own. They are read one by one and need not agree
//! with each other to the event, unlike the ledger.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::labels::labels;
use super::{Certificates, ListenerId, ListenerKind, RejectedLines, Upstream};

labels! {
    /// What kind of thing went wrong on the way to the upstream. The label of
    /// `sink_errors_total`.
    pub enum FailureKind {
        /// The upstream's name could not be resolved.
        Dns = "dns",
        /// No address could be connected to.
        Connect = "connect",
        /// The TLS handshake failed.
        Tls = "tls",
        /// The upstream's certificate was not accepted.
        Certificate = "certificate",
        /// The upstream closed its side of the connection.
        Ended = "ended",
        /// The connection broke.
        Closed = "broken",
        /// A deadline passed.
        Timeout = "timeout",
        /// The upstream refuses the key.
        Unauthorized = "unauthorized",
        /// The upstream asks for less (HTTP 429).
        Throttled = "throttled",
        /// The upstream answered something else than "accepted".
        Status = "status",
        /// The proxy did not let us through.
        Proxy = "proxy",
        /// Any other error of the operating system.
        Io = "io",
    }
}

labels! {
    /// Why a client's connection was closed. The label of
    /// `connections_closed_total`.
    pub enum CloseReason {
        /// The client ended it.
        Client = "client",
        /// The connection broke.
        Error = "error",
        /// It was evicted when the limit of connections was reached.
        Limit = "limit",
        /// It did not speak the line protocol.
        Protocol = "protocol",
        /// The daemon stops, or no longer listens there.
        Shutdown = "shutdown",
    }
}

labels! {
    /// What makes lines over TCP and TLS count as delivered. The label of
    /// `sink_ack_mode`.
    pub enum AckMode {
        /// The peer's kernel has acknowledged their last byte.
        Kernel = "acknowledged",
        /// They were written: the system cannot say more.
        Written = "written",
    }
}

/// What one listener counts beside lines.
#[derive(Debug)]
pub struct ListenerCounters {
    /// What it accepts.
    pub kind: ListenerKind,
    /// Kind and address as configured, `udp:localhost:2003`.
    pub label: String,
    /// Where its lines stand in the ledger.
    pub id: ListenerId,
    /// Connections open now; stays 0 for datagrams.
    pub connections: AtomicU64,
    /// Datagrams that the kernel dropped because the buffer was full.
    pub kernel_drops: AtomicU64,
    closed: [AtomicU64; CloseReason::ALL.len()],
}

impl ListenerCounters {
    /// A connection was accepted.
    pub fn opened(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    /// A connection ended.
    pub fn closed(&self, reason: CloseReason) {
        self.connections.fetch_sub(1, Relaxed);
        self.closed[reason as usize].fetch_add(1, Relaxed);
    }

    /// How many connections ended for one reason.
    pub fn closed_for(&self, reason: CloseReason) -> u64 {
        self.closed[reason as usize].load(Relaxed)
    }
}

/// All counters of the process but the lines.
#[derive(Debug)]
pub struct Counters {
    listeners: Mutex<Vec<Arc<ListenerCounters>>>,
    /// How deliveries go.
    pub upstream: Upstream,
    /// When certificates expire.
    pub certificates: Certificates,
    /// What was rejected lately, for people too.
    pub rejected_lines: RejectedLines,
    /// Series of StatsD samples that are held.
    pub statsd_names: AtomicU64,
    /// Gauges that were forgotten for want of memory.
    pub statsd_gauges_forgotten: AtomicU64,
    /// Connections made to the upstream.
    pub sink_connects: AtomicU64,
    /// Lines that the peer's kernel acknowledged shortly before a reset, so
    /// that they may have died unread.
    pub lines_at_risk: AtomicU64,
    /// Lines whose HTTP answer was lost.
    pub lines_uncertain: AtomicU64,
    /// How deliveries over TCP and TLS are confirmed.
    ack_mode: AtomicU8,
    sink_errors: [AtomicU64; FailureKind::ALL.len()],
    /// Whether the last reload was accepted.
    pub reload_success: AtomicBool,
    /// Log lines left out by rate limits.
    pub log_lines_suppressed: watch::Sender<u64>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            listeners: Mutex::default(),
            upstream: Upstream::default(),
            certificates: Certificates::default(),
            rejected_lines: RejectedLines::default(),
            statsd_names: AtomicU64::new(0),
            statsd_gauges_forgotten: AtomicU64::new(0),
            sink_connects: AtomicU64::new(0),
            lines_at_risk: AtomicU64::new(0),
            lines_uncertain: AtomicU64::new(0),
            ack_mode: AtomicU8::new(AckMode::Kernel as u8),
            sink_errors: Default::default(),
            reload_success: AtomicBool::new(true),
            log_lines_suppressed: watch::Sender::default(),
        }
    }
}

impl Counters {
    /// The counters of the listener with this label; the same ones when it
    /// comes back after a reload, so that no counter ever goes backwards.
    pub fn listener(&self, kind: ListenerKind, label: &str) -> Arc<ListenerCounters> {
        let mut listeners = self.lock();
        if let Some(known) = listeners.iter().find(|known| known.label == label) {
            return known.clone();
        }
        let new = Arc::new(ListenerCounters {
            kind,
            label: label.to_owned(),
            id: ListenerId(listeners.len()),
            connections: AtomicU64::new(0),
            kernel_drops: AtomicU64::new(0),
            closed: Default::default(),
        });
        listeners.push(new.clone());
        new
    }

    /// All listeners that there ever were.
    pub fn listeners(&self) -> Vec<Arc<ListenerCounters>> {
        self.lock().clone()
    }

    /// Notes how deliveries are confirmed; whether that is new.
    pub fn set_ack_mode(&self, mode: AckMode) -> bool {
        self.ack_mode.swap(mode as u8, Relaxed) != mode as u8
    }

    /// Whether deliveries are confirmed in this way.
    pub fn is_ack_mode(&self, mode: AckMode) -> bool {
        self.ack_mode.load(Relaxed) == mode as u8
    }

    /// A log line is left out.
    pub fn suppress_log_line(&self) {
        self.log_lines_suppressed.send_modify(|lines| *lines += 1);
    }

    /// Something went wrong on the way to the upstream.
    pub fn sink_failed(&self, kind: FailureKind) {
        self.sink_errors[kind as usize].fetch_add(1, Relaxed);
    }

    /// How often this kind of thing went wrong.
    pub fn sink_failures(&self, kind: FailureKind) -> u64 {
        self.sink_errors[kind as usize].load(Relaxed)
    }

    /// How often anything went wrong on the way to the upstream.
    pub fn sink_failures_total(&self) -> u64 {
        let kinds = FailureKind::ALL.into_iter();
        kinds.map(|kind| self.sink_failures(kind)).sum()
    }

    /// Datagrams that the kernel dropped, on any socket.
    pub fn kernel_drops(&self) -> u64 {
        let listeners = self.lock();
        let drops = |listener: &Arc<ListenerCounters>| listener.kernel_drops.load(Relaxed);
        listeners.iter().map(drops).sum()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<ListenerCounters>>> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_returns_keeps_its_counters() {
        let counters = Counters::default();
        let first = counters.listener(ListenerKind::Tcp, "tcp:localhost:2003");
        let other = counters.listener(ListenerKind::Udp, "udp:localhost:2003");
        assert_ne!(first.id, other.id);
        assert!(Arc::ptr_eq(
            &first,
            &counters.listener(ListenerKind::Tcp, "tcp:localhost:2003")
        ));
    }
}
