//! The account that the daemon gives: in its metrics, and in the last line of
//! its log.

use super::metrics::Metrics;

/// Every account of the ledger line, by its name there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    pub received: u64,
    pub generated: u64,
    pub rejected: u64,
    pub filtered: u64,
    pub aggregated: u64,
    pub delivered: u64,
    pub dropped: u64,
    pub queued: u64,
    pub in_flight: u64,
}

impl Ledger {
    /// The ledger in a log, which holds it at most once. Its sum must be right.
    #[track_caller]
    pub fn in_log(log: &[String]) -> Option<Self> {
        let mut lines = log
            .iter()
            .filter(|line| line.split_whitespace().nth(2) == Some("ledger"));
        let line = lines.next()?;
        assert_eq!(lines.next(), None, "a second ledger line");
        assert!(line.contains(" INFO ledger "), "{line}");
        let field = |name: &str| -> u64 {
            line.split_whitespace()
                .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
                .unwrap_or_else(|| panic!("no {name} in {line}"))
                .parse()
                .unwrap_or_else(|_| panic!("{name} is no number in {line}"))
        };
        // What is in doubt stands beside it.
        for doubt in ["resent", "at_risk", "uncertain"] {
            field(doubt);
        }
        let ledger = Self {
            received: field("received"),
            generated: field("generated"),
            rejected: field("rejected"),
            filtered: field("filtered"),
            aggregated: field("aggregated"),
            delivered: field("delivered"),
            dropped: field("dropped"),
            queued: field("queued"),
            in_flight: field("in_flight"),
        };
        assert_eq!(ledger.came(), ledger.stands(), "{line}");
        Some(ledger)
    }

    /// The ledger as of one answer of `/metrics`. Its sum must be right.
    #[track_caller]
    pub fn of(metrics: &Metrics) -> Self {
        let total = |name: &str| {
            let name = format!("sidecarbon_{name}");
            metrics.sum(&name).unwrap_or_else(|| panic!("no {name}"))
        };
        let ledger = Self {
            received: total("lines_received_total"),
            generated: total("lines_generated_total"),
            rejected: total("lines_rejected_total"),
            filtered: total("lines_filtered_total"),
            aggregated: total("lines_aggregated_total"),
            delivered: total("lines_delivered_total"),
            dropped: total("lines_dropped_total"),
            queued: total("queue_lines"),
            in_flight: total("in_flight_lines"),
        };
        assert_eq!(ledger.came(), ledger.stands(), "{ledger:?}");
        ledger
    }

    /// Lines that the daemon still had.
    pub fn left(&self) -> u64 {
        self.queued + self.in_flight
    }

    fn came(&self) -> u64 {
        self.received + self.generated
    }

    fn stands(&self) -> u64 {
        self.rejected
            + self.filtered
            + self.aggregated
            + self.delivered
            + self.dropped
            + self.left()
    }
}
