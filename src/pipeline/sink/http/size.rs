//! How much a request takes: what the server allows, and what the link has shown
//! to be done within its time.
//!
//! An answer takes as long to come for many lines as for few, so requests grow.
//! Over a slow link a large one would never be done, so they grow only while
//! answers come easily, and shrink when none came.
//!
//! No clock: the caller brings the time.

use std::time::{Duration, Instant};

/// The most. Common servers take a MiB, or say that they do not.
const MOST: usize = 512 << 10;

/// The least that a request comes down to when none is answered in time.
const LEAST: usize = 4 << 10;

/// Requests become larger while answers come within so small a part of their time.
const EASILY: u32 = 4;

/// How long a server's limit is remembered.
const REMEMBERED: Duration = Duration::from_secs(600);

/// The bounds of the next request, in bytes of lines.
#[derive(Debug)]
pub struct RequestSize {
    /// For a whole exchange.
    timeout: Duration,
    /// Beyond one block, it takes so much of what waits.
    fill: usize,
    /// A block that is larger is cut: there was no answer to one in time.
    cut: usize,
    /// The largest that is not too large for the server, and until when that holds.
    limit: Option<(usize, Instant)>,
}

impl RequestSize {
    /// Of requests that have so long: begins with a block.
    pub fn within(timeout: Duration) -> Self {
        Self {
            timeout,
            fill: 0,
            cut: usize::MAX,
            limit: None,
        }
    }

    /// How much is put together for a request.
    pub fn to_fill(&self, now: Instant) -> usize {
        self.fill.min(self.to_cut(now))
    }

    /// How much a request may hold, though one line is always let through.
    pub fn to_cut(&self, now: Instant) -> usize {
        let limit = self.limit.filter(|(_, until)| now < *until);
        limit.map_or(self.cut, |(limit, _)| limit.min(self.cut))
    }

    /// So many bytes were accepted, after so long.
    pub fn accepted(&mut self, bytes: usize, took: Duration) {
        if took > self.timeout / EASILY {
            return;
        }
        let twice = bytes.saturating_mul(2);
        self.fill = self.fill.max(twice).min(MOST);
        self.cut = if twice >= MOST {
            usize::MAX
        } else {
            self.cut.max(twice)
        };
    }

    /// The server is not well, or not there.
    pub fn failed(&mut self) {
        self.fill = 0;
    }

    /// There was no answer in time.
    pub fn timed_out(&mut self, bytes: usize) {
        self.fill = 0;
        self.cut = (bytes / 2).max(LEAST);
    }

    /// The server takes so much at once no more.
    pub fn too_large(&mut self, bytes: usize, now: Instant) {
        self.limit = Some((bytes / 2, now + REMEMBERED));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);
    const SOON: Duration = Duration::from_millis(20);
    const LATE: Duration = Duration::from_secs(3);
    const BLOCK: usize = 64 << 10;

    /// What the next request takes of blocks that wait.
    fn next(size: &RequestSize) -> usize {
        let now = Instant::now();
        size.to_fill(now).max(BLOCK).min(size.to_cut(now))
    }

    /// The requests over a link that passes so many bytes a second.
    fn requests_over(bytes_a_second: u64) -> (RequestSize, Vec<usize>) {
        let mut size = RequestSize::within(TIMEOUT);
        let requests = (0..20).map(|_| {
            let bytes = next(&size);
            let took = Duration::from_micros(bytes as u64 * 1_000_000 / bytes_a_second);
            if took < TIMEOUT {
                size.accepted(bytes, took);
            } else {
                size.timed_out(bytes);
            }
            bytes
        });
        let requests = requests.collect();
        (size, requests)
    }

    #[test]
    fn requests_grow_as_the_link_allows() {
        for (bytes_a_second, last) in [
            (10 << 20, MOST),
            (100 << 10, 256 << 10),
            (50 << 10, 2 * BLOCK),
            (10 << 10, BLOCK),
            // A block takes longer than it has.
            (4 << 10, BLOCK / 2),
            (2 << 10, BLOCK / 4),
            (1 << 10, BLOCK / 8),
            (100, LEAST),
        ] {
            let (_, requests) = requests_over(bytes_a_second);
            assert_eq!(requests[0], BLOCK);
            assert!(
                requests[10..].contains(&last),
                "{bytes_a_second}: {requests:?}"
            );
            let is_too_large = |bytes: &&usize| **bytes > last;
            let too_large = requests[10..].iter().filter(is_too_large).count();
            assert_eq!(too_large, 0, "{bytes_a_second}: {requests:?}");
        }
    }

    #[test]
    fn a_failure_brings_it_back_to_a_block() {
        let (mut size, _) = requests_over(10 << 20);
        assert_eq!(next(&size), MOST);
        size.failed();
        assert_eq!(next(&size), BLOCK);
    }

    #[test]
    fn what_time_has_cut_grows_again() {
        let mut size = RequestSize::within(TIMEOUT);
        (0..9).for_each(|_| size.timed_out(next(&size)));
        assert_eq!(next(&size), LEAST);
        // Few lines, or late answers, say nothing about many.
        size.accepted(100, SOON);
        size.accepted(LEAST, LATE);
        assert_eq!(next(&size), LEAST);
        size.accepted(LEAST, SOON);
        assert_eq!(next(&size), 2 * LEAST);
        (0..9).for_each(|_| size.accepted(next(&size), SOON));
        assert_eq!((next(&size), size.cut), (MOST, usize::MAX));
    }

    #[test]
    fn a_limit_of_the_server_holds_for_a_while() {
        let now = Instant::now();
        let (mut size, _) = requests_over(10 << 20);
        size.too_large(MOST, now);
        assert_eq!((size.to_fill(now), size.to_cut(now)), (MOST / 2, MOST / 2));
        size.accepted(MOST / 2, SOON);
        assert_eq!(size.to_cut(now), MOST / 2);
        let later = now + REMEMBERED;
        assert_eq!(
            (size.to_fill(later), size.to_cut(later)),
            (MOST, usize::MAX)
        );
    }
}
