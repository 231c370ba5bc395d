//! The metrics in Prometheus' text format (version 0.0.4), one row each.
//!
//! The reference is docs/metrics.md. Label values are a fixed set, or the listeners as
//! configured: nothing that a client sends ever becomes a label.

use std::fmt::{Display, Write};
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use crate::config;
use crate::format::escape;
use crate::pipeline::queue::Snapshot;
use crate::stats::{
    AckMode, CloseReason, Counters, DropReason, FailureKind, Ledger, ListenerCounters,
    RejectReason, Whose,
};

/// What the metrics are read from.
struct Scrape<'a> {
    queue: &'a Snapshot,
    ledger: &'a Ledger,
    counters: &'a Counters,
    log_lines_dropped: u64,
}

/// One metric: its name without prefix, its type, its help, and its values.
struct Metric(
    &'static str,
    &'static str,
    &'static str,
    fn(&Scrape<'_>, &mut Samples<'_>),
);

macro_rules! metrics {
    ($($kind:ident $name:literal $help:literal $values:expr;)*) => {
        const METRICS: &[Metric] = &[$(Metric($name, stringify!($kind), $help, $values),)*];
    };
}

metrics! {
    counter "lines_received_total" "Lines received, valid or not."
        |now, out| out.listeners(now, |listener| now.ledger.received(listener.id));
    counter "lines_generated_total" "Points that sidecarbon generated."
        |now, out| out.one(now.ledger.generated());
    counter "lines_rejected_total" "Invalid lines, by reason."
        |now, out| {
            for reason in RejectReason::ALL {
                out.of("reason", reason.label(), now.ledger.rejected(reason));
            }
        };
    counter "lines_filtered_total" "Lines removed by a filter."
        |now, out| out.one(now.ledger.filtered());
    counter "lines_aggregated_total" "StatsD samples that were aggregated."
        |now, out| out.one(now.ledger.aggregated());
    counter "lines_delivered_total" "Lines that the upstream acknowledged."
        |now, out| out.one(now.ledger.delivered());
    counter "lines_dropped_total" "Accepted lines that were dropped, by reason."
        |now, out| {
            for reason in DropReason::ALL {
                out.of("reason", reason.label(), now.ledger.dropped(reason));
            }
        };
    gauge "queue_lines" "Lines queued."
        |now, out| out.one(now.ledger.queued());
    gauge "in_flight_lines" "Lines sent and not yet acknowledged."
        |now, out| out.one(now.ledger.in_flight());
    counter "lines_resent_total" "Lines sent again although some of their bytes had been sent before; they may arrive twice."
        |now, out| out.one(now.ledger.resent());
    gauge "ledger_imbalance" "Lines received and generated minus lines accounted for; anything but 0 is a defect."
        |now, out| out.one(now.ledger.imbalance());
    counter "lines_uncertain_total" "Lines whose HTTP answer was lost."
        |now, out| out.one(now.counters.lines_uncertain.load(Relaxed));
    counter "lines_at_risk_total" "Delivered lines that the upstream acknowledged shortly before it reset the connection, and may not have read."
        |now, out| out.one(now.counters.lines_at_risk.load(Relaxed));
    histogram "delivery_delay_seconds" "Time from the receipt of a line to its acknowledgement, in seconds."
        |now, out| {
            let delays = &now.queue.delays;
            for (bound, lines) in delays.cumulative() {
                out.part("_bucket", &[("le", &bound.to_string())], lines);
            }
            out.part("_bucket", &[("le", "+Inf")], delays.lines());
            out.part("_sum", &[], format_args!("{:.6}", delays.seconds()));
            out.part("_count", &[], delays.lines());
        };
    gauge "queue_bytes" "Memory allocated for lines that are queued or being sent."
        |now, out| out.one(now.queue.allocated);
    gauge "queue_limit_bytes" "Limit of that memory (queue.bytes)."
        |now, out| out.one(now.queue.limits.queue_bytes);
    gauge "queue_horizon_seconds" "Time until the queue is full at the present rate if nothing is delivered."
        |now, out| out.one(Seconds(now.queue.outlook.horizon));
    gauge "drain_seconds" "Time until the backlog is delivered at the present rate."
        |now, out| out.one(Seconds(now.queue.outlook.drain));
    gauge "statsd_names" "StatsD series in memory, remembered gauges included."
        |now, out| out.one(now.counters.statsd_names.load(Relaxed));
    counter "statsd_gauges_forgotten_total" "Remembered gauges that were dropped because statsd.bytes was used up; the next change to one starts at 0."
        |now, out| out.one(now.counters.statsd_gauges_forgotten.load(Relaxed));
    gauge "connections" "Open client connections."
        |now, out| out.listeners(now, |listener| listener.connections.load(Relaxed));
    counter "udp_kernel_drops_total" "Datagrams that the kernel dropped because the receive buffer was full."
        |now, out| {
            let listeners = now.counters.listeners();
            for listener in listeners.iter().filter(|listener| listener.kind.is_udp()) {
                let drops = listener.kernel_drops.load(Relaxed);
                out.of("listener", &listener.label, drops);
            }
        };
    counter "connections_closed_total" "Client connections that were closed, by reason."
        |now, out| {
            for listener in now.counters.listeners() {
                for reason in CloseReason::ALL {
                    let labels = [("listener", listener.label.as_str()), ("reason", reason.label())];
                    out.part("", &labels, listener.closed_for(reason));
                }
            }
        };
    gauge "sink_up" "1 if the last lines sent were delivered, 0 if the last attempt failed; absent before the first attempt has ended."
        |now, out| {
            if let Some(is_up) = now.counters.upstream.state().is_up() {
                out.one(u8::from(is_up));
            }
        };
    counter "sink_connects_total" "Connections made to the upstream."
        |now, out| out.one(now.counters.sink_connects.load(Relaxed));
    gauge "sink_ack_mode" "1 for the event that makes a line count as delivered over TCP and TLS."
        |now, out| {
            for mode in AckMode::ALL {
                out.of("mode", mode.label(), u8::from(now.counters.is_ack_mode(mode)));
            }
        };
    counter "sink_errors_total" "Failed attempts to deliver, by kind."
        |now, out| {
            for kind in FailureKind::ALL {
                out.of("kind", kind.label(), now.counters.sink_failures(kind));
            }
        };
    gauge "certificate_expiry_seconds" "Time until the upstream's certificate expires, as of the last TLS handshake; negative if it has expired."
        |now, out| out.expiry(now, Whose::Upstream);
    gauge "client_certificate_expiry_seconds" "Time until the client certificate expires; negative if it has expired."
        |now, out| out.expiry(now, Whose::Client);
    gauge "reload_success" "1 if the last reload succeeded, or before the first one, else 0."
        |now, out| out.one(u8::from(now.counters.reload_success.load(Relaxed)));
    counter "log_lines_suppressed_total" "Log lines suppressed by rate limits, or lost because the output was blocked."
        |now, out| out.one(*now.counters.log_lines_suppressed.borrow() + now.log_lines_dropped);
    gauge "build_info" "Version of sidecarbon; always 1."
        |_, out| out.of("version", env!("CARGO_PKG_VERSION"), 1);
}

/// All metrics, from one snapshot of the queue.
pub fn render(queue: &Snapshot, counters: &Counters, log_lines_dropped: u64) -> String {
    let now = Scrape {
        queue,
        ledger: &queue.ledger,
        counters,
        log_lines_dropped,
    };
    let mut page = String::with_capacity(8192);
    for Metric(name, kind, help, values) in METRICS {
        // Writing to a String cannot fail.
        let _ = writeln!(page, "# HELP sidecarbon_{name} {help}");
        let _ = writeln!(page, "# TYPE sidecarbon_{name} {kind}");
        let mut samples = Samples {
            page: &mut page,
            name,
        };
        values(&now, &mut samples);
    }
    page
}

/// The values of one metric.
struct Samples<'a> {
    page: &'a mut String,
    name: &'a str,
}

impl Samples<'_> {
    fn one(&mut self, value: impl Display) {
        self.part("", &[], value);
    }

    fn of(&mut self, label: &str, text: &str, value: impl Display) {
        self.part("", &[(label, text)], value);
    }

    fn listeners(&mut self, now: &Scrape<'_>, value: impl Fn(&ListenerCounters) -> u64) {
        for listener in now.counters.listeners() {
            self.of("listener", &listener.label, value(&listener));
        }
    }

    /// A metric without a value until the time is known.
    fn expiry(&mut self, now: &Scrape<'_>, whose: Whose) {
        let certificates = &now.counters.certificates;
        if let Some(left) = certificates.seconds_left(whose, SystemTime::now()) {
            self.one(left);
        }
    }

    fn part(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.page, "sidecarbon_{}{suffix}", self.name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let opening = if index == 0 { '{' } else { ',' };
            // A listener's path may hold anything.
            let text = escape(config::mask(text))
                .replace('\\', "\\\\")
                .replace('"', "\\\"");
            let _ = write!(self.page, "{opening}{label}=\"{text}\"");
        }
        let closing = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.page, "{closing} {value}");
    }
}

/// Whole seconds are enough for an estimate. The format has `+Inf` for infinity, and
/// `NaN` for what is not known yet.
struct Seconds(f64);

impl Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_infinite() {
            f.write_str("+Inf")
        } else {
            write!(f, "{:.0}", self.0)
        }
    }
}
