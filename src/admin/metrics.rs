//! The numbers in Prometheus' text format (version 0.0.4).
//!
//! Names are those of the contract. Labels are a fixed set, or the listeners
//! as configured: nothing that a client sends ever becomes a label.

use std::fmt::{Display, Write};
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use crate::config;
use crate::format::escape;
use crate::pipeline::queue::Snapshot;
use crate::stats::{
    AckMode, CloseReason, Counters, Delays, DropReason, FailureKind, Ledger, RejectReason, Whose,
};

/// All metrics, from one look at the queue.
pub fn render(queue: &Snapshot, counters: &Counters, log_lines_dropped: u64) -> String {
    let mut page = Page(String::with_capacity(8192));
    ledger(&mut page, &queue.ledger, counters);
    balance(&mut page, &queue.ledger);
    doubts(&mut page, counters);
    delays(&mut page, &queue.delays);
    memory(&mut page, queue);
    aggregates(&mut page, counters);
    clients(&mut page, counters);
    sink(&mut page, counters);
    certificates(&mut page, counters);
    process(&mut page, counters, log_lines_dropped);
    page.0
}

fn ledger(page: &mut Page, ledger: &Ledger, counters: &Counters) {
    let received = "lines_received_total";
    page.counter(received, "Lines that came in, accepted or not.");
    for listener in counters.listeners() {
        let labels = [("listener", listener.label.as_str())];
        page.value(received, &labels, ledger.received(listener.id));
    }
    page.single_counter(
        "lines_generated_total",
        "Points that sidecarbon made itself.",
        ledger.generated(),
    );
    let rejected = "lines_rejected_total";
    page.counter(rejected, "Lines that are none, by reason.");
    for reason in RejectReason::ALL {
        let labels = [("reason", reason.label())];
        page.value(rejected, &labels, ledger.rejected(reason));
    }
    page.single_counter(
        "lines_filtered_total",
        "Lines left out by a filter.",
        ledger.filtered(),
    );
    page.single_counter(
        "lines_aggregated_total",
        "Samples folded into aggregates.",
        ledger.aggregated(),
    );
    page.single_counter(
        "lines_delivered_total",
        "Lines that the upstream has.",
        ledger.delivered(),
    );
    let dropped = "lines_dropped_total";
    page.counter(dropped, "Accepted lines that were given up, by reason.");
    for reason in DropReason::ALL {
        let labels = [("reason", reason.label())];
        page.value(dropped, &labels, ledger.dropped(reason));
    }
    page.single_gauge("queue_lines", "Lines that wait.", ledger.queued());
    page.single_gauge(
        "in_flight_lines",
        "Lines that are being sent.",
        ledger.in_flight(),
    );
    page.single_counter(
        "lines_resent_total",
        "Lines sent again after some of their bytes had reached a socket.",
        ledger.resent(),
    );
}

fn balance(page: &mut Page, ledger: &Ledger) {
    page.single_gauge(
        "ledger_imbalance",
        "Lines received less those accounted for; anything but 0 is a defect.",
        ledger.imbalance(),
    );
}

fn doubts(page: &mut Page, counters: &Counters) {
    page.single_counter(
        "lines_uncertain_total",
        "Lines whose HTTP answer was lost.",
        counters.lines_uncertain.load(Relaxed),
    );
    page.single_counter(
        "lines_at_risk_total",
        "Delivered lines that a peer acknowledged shortly before a reset and may not have read.",
        counters.lines_at_risk.load(Relaxed),
    );
}

fn delays(page: &mut Page, delays: &Delays) {
    let name = "delivery_delay_seconds";
    page.family(
        name,
        "Time from a line's receipt to its acknowledgement.",
        "histogram",
    );
    let bucket = "delivery_delay_seconds_bucket";
    for (bound, lines) in delays.cumulative() {
        page.value(bucket, &[("le", &bound.to_string())], lines);
    }
    page.value(bucket, &[("le", "+Inf")], delays.lines());
    let seconds = format_args!("{:.6}", delays.seconds());
    page.value("delivery_delay_seconds_sum", &[], seconds);
    page.value("delivery_delay_seconds_count", &[], delays.lines());
}

fn memory(page: &mut Page, queue: &Snapshot) {
    page.single_gauge(
        "queue_bytes",
        "Memory allocated for lines that wait or are being sent.",
        queue.allocated,
    );
    page.single_gauge(
        "queue_limit_bytes",
        "The bound of that memory.",
        queue.limits.queue_bytes,
    );
    page.single_gauge(
        "queue_horizon_seconds",
        "How long the queue would last at this rate if nothing were delivered.",
        Seconds(queue.outlook.horizon),
    );
    page.single_gauge(
        "drain_seconds",
        "How long it takes at this rate until no backlog is left.",
        Seconds(queue.outlook.drain),
    );
}

fn aggregates(page: &mut Page, counters: &Counters) {
    page.single_gauge(
        "statsd_names",
        "Series of StatsD samples that are held, gauges that are remembered among them.",
        counters.statsd_names.load(Relaxed),
    );
    page.single_counter(
        "statsd_gauges_forgotten_total",
        "Remembered gauges that had to go: a change to one begins at 0.",
        counters.statsd_gauges_forgotten.load(Relaxed),
    );
}

fn clients(page: &mut Page, counters: &Counters) {
    let open = "connections";
    page.gauge(open, "Clients connected now.");
    for listener in counters.listeners() {
        let labels = [("listener", listener.label.as_str())];
        page.value(open, &labels, listener.connections.load(Relaxed));
    }
    let kernel_drops = "udp_kernel_drops_total";
    page.counter(
        kernel_drops,
        "Datagrams that the kernel dropped because the receive buffer was full.",
    );
    for listener in counters.listeners() {
        if listener.is_udp() {
            let labels = [("listener", listener.label.as_str())];
            let drops = listener.kernel_drops.load(Relaxed);
            page.value(kernel_drops, &labels, drops);
        }
    }
    let closed = "connections_closed_total";
    page.counter(closed, "Clients' connections that ended, by reason.");
    for listener in counters.listeners() {
        for reason in CloseReason::ALL {
            let labels = [
                ("listener", listener.label.as_str()),
                ("reason", reason.label()),
            ];
            page.value(closed, &labels, listener.closed_for(reason));
        }
    }
}

fn sink(page: &mut Page, counters: &Counters) {
    let up = "sink_up";
    page.gauge(
        up,
        "1 if the last lines sent were delivered, 0 if the last attempt failed; absent before the first attempt has ended.",
    );
    if let Some(is_up) = counters.upstream.state().is_up() {
        page.value(up, &[], u8::from(is_up));
    }
    page.single_counter(
        "sink_connects_total",
        "Connections made to the upstream.",
        counters.sink_connects.load(Relaxed),
    );
    let mode = "sink_ack_mode";
    page.gauge(
        mode,
        "What makes lines over TCP and TLS count as delivered.",
    );
    for known in AckMode::ALL {
        let labels = [("mode", known.label())];
        page.value(mode, &labels, u8::from(counters.is_ack_mode(known)));
    }
    let errors = "sink_errors_total";
    page.counter(errors, "Attempts to deliver that failed, by kind.");
    for kind in FailureKind::ALL {
        let labels = [("kind", kind.label())];
        page.value(errors, &labels, counters.sink_failures(kind));
    }
}

fn certificates(page: &mut Page, counters: &Counters) {
    let now = SystemTime::now();
    for (whose, name, help) in [
        (
            Whose::Upstream,
            "certificate_expiry_seconds",
            "Seconds until the upstream's certificate expires, as of the last handshake; negative when it has expired.",
        ),
        (
            Whose::Client,
            "client_certificate_expiry_seconds",
            "Seconds until our client certificate expires; negative when it has expired.",
        ),
    ] {
        // The name is there from the start, a value only when it is known.
        page.gauge(name, help);
        if let Some(left) = counters.certificates.seconds_left(whose, now) {
            page.value(name, &[], left);
        }
    }
}

fn process(page: &mut Page, counters: &Counters, log_lines_dropped: u64) {
    page.single_gauge(
        "reload_success",
        "Whether the last reload was accepted; 1 before the first.",
        u8::from(counters.reload_success.load(Relaxed)),
    );
    page.single_counter(
        "log_lines_suppressed_total",
        "Log lines left out by rate limits, or lost to a blocked output.",
        *counters.log_lines_suppressed.borrow() + log_lines_dropped,
    );
    let build = "build_info";
    page.gauge(build, "What runs; always 1.");
    page.value(build, &[("version", env!("CARGO_PKG_VERSION"))], 1);
}

/// Whole seconds are enough for an estimate. The format writes infinity so, and
/// what is not known yet as it is.
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

struct Page(String);

impl Page {
    fn counter(&mut self, name: &str, help: &str) {
        self.family(name, help, "counter");
    }

    fn gauge(&mut self, name: &str, help: &str) {
        self.family(name, help, "gauge");
    }

    fn single_counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.counter(name, help);
        self.value(name, &[], value);
    }

    fn single_gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.gauge(name, help);
        self.value(name, &[], value);
    }

    fn family(&mut self, name: &str, help: &str, kind: &str) {
        self.write(format_args!(
            "# HELP sidecarbon_{name} {help}\n# TYPE sidecarbon_{name} {kind}\n"
        ));
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.write(format_args!("sidecarbon_{name}"));
        for (index, (label, text)) in labels.iter().enumerate() {
            let opening = if index == 0 { '{' } else { ',' };
            // A listener's path may hold anything.
            let text = escape(config::mask(text))
                .replace('\\', "\\\\")
                .replace('"', "\\\"");
            self.write(format_args!("{opening}{label}=\"{text}\""));
        }
        let closing = if labels.is_empty() { "" } else { "}" };
        self.write(format_args!("{closing} {value}\n"));
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.0.write_fmt(text);
    }
}
