//! In which order the addresses of an upstream are tried.
//!
//! All in the resolver's order, but those that failed lately come last. No
//! I/O, and the caller brings the time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// After this time an address is tried in its place again: the machine behind it may have
/// been repaired, and the resolver's order may have a reason.
const REMEMBERED: Duration = Duration::from_secs(600);

/// What is known of an upstream's addresses.
#[derive(Debug, Default)]
pub struct Addresses {
    /// Those that the name had when it was last looked up.
    known: Vec<SocketAddr>,
    /// Those that failed, and when; the latest is the last.
    broken: Vec<(SocketAddr, Instant)>,
    /// Those that broke since something was last delivered.
    failed_in_a_row: Vec<SocketAddr>,
}

impl Addresses {
    /// The order in which to try the addresses that the name has now.
    pub fn order(&mut self, mut resolved: Vec<SocketAddr>, now: Instant) -> Vec<SocketAddr> {
        self.broken
            .retain(|(address, since)| resolved.contains(address) && now < *since + REMEMBERED);
        // A stable sort: addresses that did not break keep the resolver's order.
        resolved.sort_by_key(|address| self.broken_at(*address));
        self.known.clone_from(&resolved);
        resolved
    }

    /// No connection to this address could be made.
    pub fn failed(&mut self, address: SocketAddr, now: Instant) {
        self.broken.retain(|(other, _)| *other != address);
        self.broken.push((address, now));
    }

    /// A connection to this address ended without an orderly close.
    pub fn broke(&mut self, address: SocketAddr, now: Instant) {
        self.failed(address, now);
        self.failed_in_a_row.retain(|other| *other != address);
        self.failed_in_a_row.push(address);
    }

    /// Something was delivered, so the last break was not one of a row.
    pub fn delivered(&mut self) {
        self.failed_in_a_row.clear();
    }

    /// Whether there is an address to go on with before all count as failed. Once there
    /// is none, a new row begins.
    pub fn has_another(&mut self) -> bool {
        let has_another = self
            .known
            .iter()
            .any(|address| !self.failed_in_a_row.contains(address));
        if !has_another {
            self.failed_in_a_row.clear();
        }
        has_another
    }

    /// None sorts before any time.
    fn broken_at(&self, address: SocketAddr) -> Option<Instant> {
        let broken = self.broken.iter().find(|(other, _)| *other == address);
        broken.map(|(_, since)| *since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, number], 2003))
    }

    fn addresses(numbers: &[u8]) -> Vec<SocketAddr> {
        numbers.iter().map(|number| address(*number)).collect()
    }

    #[test]
    fn broken_addresses_come_last_and_the_one_that_broke_last_is_the_last() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut known = Addresses::default();
        let all = || addresses(&[1, 2, 3]);
        assert_eq!(known.order(all(), at(0)), all());
        known.broke(address(1), at(1));
        assert_eq!(known.order(all(), at(2)), addresses(&[2, 3, 1]));
        known.broke(address(2), at(3));
        assert_eq!(known.order(all(), at(4)), addresses(&[3, 1, 2]));
        known.broke(address(1), at(5));
        assert_eq!(known.order(all(), at(6)), addresses(&[3, 2, 1]));
        // Ten minutes later that is forgotten.
        assert_eq!(known.order(all(), at(604)), addresses(&[2, 3, 1]));
        assert_eq!(known.order(all(), at(605)), all());
    }

    #[test]
    fn a_row_of_failures_ends_when_every_address_has_failed() {
        let now = Instant::now();
        let mut known = Addresses::default();
        known.order(addresses(&[1, 2]), now);
        known.broke(address(1), now);
        assert!(known.has_another());
        known.broke(address(1), now);
        assert!(known.has_another());
        known.broke(address(2), now);
        assert!(!known.has_another());
        // The next row.
        known.broke(address(2), now);
        assert!(known.has_another());
        known.delivered();
        known.broke(address(1), now);
        assert!(known.has_another());
    }

    #[test]
    fn a_single_address_has_no_other() {
        let now = Instant::now();
        let mut known = Addresses::default();
        known.order(addresses(&[1]), now);
        known.broke(address(1), now);
        assert!(!known.has_another());
        assert_eq!(known.order(addresses(&[1]), now), addresses(&[1]));
    }
}
