//! What the upstream has counted, set against what the daemon says of itself.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write;

use super::daemon::Daemon;
use super::inbox::Inbox;
use super::metrics::Metrics;
use super::numbered::keyed;
use super::upstream::{Faulty, Scripted, Upstream};
use super::wait::wait_for;

/// An upstream that can tell what it has received.
pub trait Witness {
    /// The lines as such an upstream should have them.
    fn expected(sent: &[String]) -> Vec<String> {
        keyed(sent)
    }
    /// The lines that it has, once the daemon has left.
    fn testify(self) -> Vec<String>;
}

impl Witness for Upstream {
    fn testify(self) -> Vec<String> {
        self.finish()
    }
}

impl Witness for Faulty {
    fn testify(self) -> Vec<String> {
        self.finish()
    }
}

impl Witness for Scripted {
    // Here the key travels beside the lines.
    fn expected(sent: &[String]) -> Vec<String> {
        sent.to_vec()
    }
    fn testify(self) -> Vec<String> {
        self.finish()
    }
}

/// What became of the lines of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Books {
    /// How many were sent.
    pub sent: u64,
    /// How many of them the upstream has not.
    pub lost: u64,
    /// How many copies it has beside them.
    pub twice: u64,
    /// What the daemon says.
    pub said: Said,
    /// The first of its complaints, for whoever reads of a failure.
    pub complaints: Vec<String>,
}

/// The daemon's side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    pub delivered: u64,
    pub dropped: u64,
    pub refused: u64,
    pub too_large: u64,
    pub dropped_uncertain: u64,
    pub uncertain: u64,
    pub at_risk: u64,
    pub resent: u64,
    /// What it had not delivered when it ended.
    pub left: u64,
}

impl Books {
    /// Waits until the daemon has nothing left to do, stops it, and counts.
    #[track_caller]
    pub fn close<W: Witness>(daemon: Daemon, upstream: W, sent: &[String]) -> Self {
        wait_for("every line to be settled", || {
            let ledger = daemon.ledger();
            ledger.received == sent.len() as u64 && ledger.left() == 0
        });
        let mut said = Said::of(&daemon.metrics());
        let complaints = complaints(&daemon.log);
        let ledger = daemon.stop();
        assert_eq!(ledger.left(), 0, "{ledger:?}");
        (said.delivered, said.dropped) = (ledger.delivered, ledger.dropped);
        Self::count(said, complaints, upstream, sent)
    }

    /// Adds a row to the table of faults, where one is asked for.
    fn write_row(&self) {
        let Some(table) = std::env::var_os("SIDECARBON_FAULT_TABLE") else {
            return;
        };
        let test = std::thread::current().name().unwrap_or("?").to_owned();
        let fault = test.rsplit("::").next().unwrap_or("?").replace('_', " ");
        let group = test.split("::").nth(1).unwrap_or("?").replace('_', " ");
        let Said {
            at_risk,
            resent,
            uncertain,
            dropped,
            left,
            ..
        } = self.said;
        let row = format!(
            "| {group} | {fault} | {} | {} | {at_risk} | {} | {resent} | {uncertain} | {dropped} | {left} |\n",
            self.sent, self.lost, self.twice
        );
        let mut table = OpenOptions::new()
            .create(true)
            .append(true)
            .open(table)
            .expect("the table of faults can be written");
        table.write_all(row.as_bytes()).expect("a row is written");
    }

    /// The same for a daemon that was told to stop in the middle of it all. It
    /// is asked until it is gone, and has the last word.
    #[track_caller]
    pub fn of_stopping<W: Witness>(daemon: Daemon, upstream: W, sent: &[String]) -> Self {
        let mut said = Said::default();
        wait_for("the end of the daemon", || match daemon.try_metrics() {
            Some(metrics) => {
                said = Said::of(&metrics);
                false
            }
            None => true,
        });
        let complaints = complaints(&daemon.log);
        let ended = daemon.wait_end();
        assert_eq!(ended.code, Some(0), "exit code");
        let ledger = ended.ledger.expect("a ledger line");
        assert_eq!(ledger.received, sent.len() as u64, "{ledger:?}");
        (said.delivered, said.dropped) = (ledger.delivered, ledger.dropped);
        said.left = ledger.left();
        Self::count(said, complaints, upstream, sent)
    }

    /// Nothing lost, nothing twice, nothing given up.
    #[track_caller]
    pub fn assert_exact(&self) {
        assert_eq!(
            (self.lost, self.twice, self.said.dropped),
            (0, 0, 0),
            "lost, twice, dropped of {self:?}"
        );
        assert_eq!(self.said.delivered, self.sent, "{self:?}");
    }

    #[track_caller]
    fn count<W: Witness>(
        said: Said,
        complaints: Vec<String>,
        upstream: W,
        sent: &[String],
    ) -> Self {
        let expected = W::expected(sent);
        let mut copies: HashMap<&str, u64> =
            expected.iter().map(|line| (line.as_str(), 0)).collect();
        assert_eq!(copies.len(), sent.len(), "lines that cannot be told apart");
        let arrived = upstream.testify();
        for line in &arrived {
            // Altered, or two that were joined.
            *copies
                .get_mut(line.as_str())
                .unwrap_or_else(|| panic!("nobody sent {line:?}")) += 1;
        }
        let books = Self {
            sent: sent.len() as u64,
            lost: copies.values().filter(|count| **count == 0).count() as u64,
            twice: copies.values().map(|count| count.saturating_sub(1)).sum(),
            said,
            complaints,
        };
        books.write_row();
        books.check()
    }

    /// What holds whatever happens.
    #[track_caller]
    fn check(self) -> Self {
        let said = &self.said;
        assert_eq!(
            said.delivered + said.dropped + said.left,
            self.sent,
            "{self:?}"
        );
        assert!(
            self.lost <= said.at_risk + said.dropped + said.left,
            "lost in silence: {self:?}"
        );
        assert!(self.twice <= said.resent, "twice in silence: {self:?}");
        self
    }
}

fn complaints(log: &Inbox) -> Vec<String> {
    let mut lines = log.lines();
    lines.retain(|line| line.contains(" WARN ") || line.contains(" ERROR "));
    lines.truncate(10);
    lines
}

impl Said {
    #[track_caller]
    fn of(metrics: &Metrics) -> Self {
        let total = |name: &str| {
            let sample = format!("sidecarbon_{name}");
            metrics
                .get(&sample)
                .unwrap_or_else(|| panic!("no {sample}"))
        };
        assert_eq!(total("ledger_imbalance"), 0);
        let dropped = |reason| total(&format!("lines_dropped_total{{reason=\"{reason}\"}}"));
        Self {
            delivered: total("lines_delivered_total"),
            dropped: metrics.sum("sidecarbon_lines_dropped_total").unwrap_or(0),
            refused: dropped("refused"),
            too_large: dropped("too_large"),
            dropped_uncertain: dropped("uncertain"),
            uncertain: total("lines_uncertain_total"),
            at_risk: total("lines_at_risk_total"),
            resent: total("lines_resent_total"),
            left: 0,
        }
    }
}
