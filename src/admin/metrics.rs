//! The numbers in Prometheus' text format (version 0.0.4).
//!
//! Names are those of the contract. Labels are a fixed set, or the listeners
//! as configured: nothing that a client sends ever becomes a label.

use std::fmt::{Display, Write};
use std::sync::atomic::Ordering::Relaxed;

use crate::pipeline::queue::Snapshot;
use crate::stats::{CloseReason, Counters, DropReason, FailureKind, RejectReason};

/// All metrics, from one look at the queue.
pub fn render(queue: &Snapshot, counters: &Counters, log_lines_dropped: u64) -> String {
    let mut page = Page(String::with_capacity(8192));
    let ledger = &queue.ledger;
    let listeners = counters.listeners();

    page.counter(
        "lines_received_total",
        "Lines that came in, accepted or not.",
    );
    for listener in &listeners {
        page.value(
            "lines_received_total",
            &[("listener", &listener.label)],
            ledger.received(listener.id),
        );
    }
    page.single_counter(
        "lines_generated_total",
        "Points that sidecarbon made itself.",
        ledger.generated(),
    );
    page.counter("lines_rejected_total", "Lines that are none, by reason.");
    for reason in RejectReason::ALL {
        page.value(
            "lines_rejected_total",
            &[("reason", reason.label())],
            ledger.rejected(reason),
        );
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
    page.counter(
        "lines_dropped_total",
        "Accepted lines that were given up, by reason.",
    );
    for reason in DropReason::ALL {
        page.value(
            "lines_dropped_total",
            &[("reason", reason.label())],
            ledger.dropped(reason),
        );
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

    page.gauge("connections", "Clients connected now.");
    for listener in &listeners {
        page.value(
            "connections",
            &[("listener", &listener.label)],
            listener.connections.load(Relaxed),
        );
    }
    page.counter(
        "connections_closed_total",
        "Clients' connections that ended, by reason.",
    );
    for listener in &listeners {
        for reason in CloseReason::ALL {
            let labels = [
                ("listener", listener.label.as_str()),
                ("reason", reason.label()),
            ];
            page.value(
                "connections_closed_total",
                &labels,
                listener.closed_for(reason),
            );
        }
    }

    page.single_gauge(
        "sink_up",
        "1 until an attempt to deliver fails, and again once lines went out.",
        u8::from(counters.sink_up.load(Relaxed)),
    );
    page.single_counter(
        "sink_connects_total",
        "Connections made to the upstream.",
        counters.sink_connects.load(Relaxed),
    );
    page.counter(
        "sink_errors_total",
        "Attempts to deliver that failed, by kind.",
    );
    for kind in FailureKind::ALL {
        page.value(
            "sink_errors_total",
            &[("kind", kind.label())],
            counters.sink_failures(kind),
        );
    }

    page.single_gauge(
        "reload_success",
        "Whether the last reload was accepted; 1 before the first.",
        u8::from(counters.reload_success.load(Relaxed)),
    );
    page.single_counter(
        "log_lines_suppressed_total",
        "Log lines left out by rate limits, or lost to a blocked output.",
        counters.log_lines_suppressed.load(Relaxed) + log_lines_dropped,
    );
    page.gauge("build_info", "What runs; always 1.");
    page.value("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.0
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
            let text = text
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
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
