//! The daemon's own account of its lines: the last thing that it logs.

use std::collections::HashMap;

/// Where a line can be, besides in `received` or `generated`.
const ACCOUNTS: [&str; 7] = [
    "rejected",
    "filtered",
    "aggregated",
    "delivered",
    "dropped",
    "queued",
    "in_flight",
];

/// Empty for the floor, which keeps none.
#[derive(Default)]
pub struct Ledger(HashMap<String, u64>);

impl Ledger {
    /// Reads `… ledger received=1 generated=0 …`.
    pub fn in_log(log: &[String]) -> Option<Self> {
        let line = log.iter().rfind(|line| line.contains(" delivered="))?;
        let fields = line.split(' ').filter_map(|word| word.split_once('='));
        let fields =
            fields.filter_map(|(name, lines)| Some((name.to_owned(), lines.parse().ok()?)));
        Some(Self(fields.collect()))
    }

    /// The lines of one account.
    pub fn of(&self, account: &str) -> u64 {
        self.0.get(account).copied().unwrap_or(0)
    }

    /// Lines that were sent and not counted, and lines that are in no account.
    pub fn unexplained(&self, sent: usize) -> u64 {
        let accounts: u64 = ACCOUNTS.iter().map(|account| self.of(account)).sum();
        let known = self.of("received") + self.of("generated");
        self.of("received").abs_diff(sent as u64) + known.abs_diff(accounts)
    }
}
