//! How much a request takes: what the server allows, and what the link has shown
//! to be done within its time.
//!
//! An answer takes as long to come for many lines as for few, so requests grow.
//! Over a slow link a large one would never be done, so they grow only as far as
//! half of the time would do if all of it were the link's, and shrink when no
//! answer came.
//!
//! No clock: the caller brings the time.

use std::time::{Duration, Instant};

/// The most. Common servers take a MiB, or say that they do not.
const MOST: usize = 512 << 10;

/// The least that a request comes down to when none is answered in time.
const LEAST: usize = 4 << 10;

/// The part of its time that a request may be expected to take.
const PART: f64 = 0.5;

/// So many times as large is the next one at most.
const GROWTH: f64 = 2.0;

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

    /// How much is put together for a request, where blocks have this size.
    pub fn to_fill(&self, block: usize, now: Instant) -> usize {
        self.fill.max(block).min(self.to_cut(now))
    }

    /// How much a request may hold, though one line is always let through.
    pub fn to_cut(&self, now: Instant) -> usize {
        let limit = self.limit.filter(|(_, until)| now < *until);
        limit.map_or(self.cut, |(limit, _)| limit.min(self.cut))
    }

    /// So many bytes were accepted, after so long.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "sizes of requests, which need not be exact"
    )]
    pub fn accepted(&mut self, bytes: usize, took: Duration) {
        let room = self.timeout.as_secs_f64() * PART / took.as_secs_f64();
        if room <= 1.0 {
            return;
        }
        let next = (bytes as f64 * room.min(GROWTH)) as usize;
        self.fill = self.fill.max(next).min(MOST);
        self.cut = if next >= MOST {
            usize::MAX
        } else {
            self.cut.max(next)
        };
    }

    /// The server is not well, or not there.
    pub fn failed(&mut self) {
        self.fill = 0;
    }

    /// There was no answer in time. Of a small request, that says nothing about the
    /// link.
    pub fn timed_out(&mut self, bytes: usize) {
        self.fill = 0;
        if bytes > LEAST {
            self.cut = (bytes / 2).max(LEAST);
        }
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
    const LATE: Duration = Duration::from_secs(6);
    const BLOCK: usize = 64 << 10;

    /// What the next request takes of blocks that wait.
    fn next(size: &RequestSize) -> usize {
        size.to_fill(BLOCK, Instant::now())
    }

    /// Twenty requests that take so long, by their size.
    fn requests(size: &mut RequestSize, takes: impl Fn(usize) -> Duration) -> Vec<usize> {
        let request = |_| {
            let bytes = next(size);
            if takes(bytes) < TIMEOUT {
                size.accepted(bytes, takes(bytes));
            } else {
                size.timed_out(bytes);
            }
            bytes
        };
        (0..20).map(request).collect()
    }

    fn over_a_link(bytes_a_second: u64) -> impl Fn(usize) -> Duration {
        move |bytes| Duration::from_micros(bytes as u64 * 1_000_000 / bytes_a_second)
    }

    #[test]
    fn requests_grow_as_the_link_allows() {
        for (bytes_a_second, last) in [
            (10 << 20, MOST..=MOST),
            (100 << 10, 480 << 10..=MOST),
            (50 << 10, 240 << 10..=250 << 10),
            (10 << 10, BLOCK..=BLOCK),
            // A block takes longer than it has.
            (4 << 10, BLOCK / 2..=BLOCK / 2),
            (2 << 10, BLOCK / 4..=BLOCK / 4),
            (1 << 10, BLOCK / 8..=BLOCK / 8),
            (100, LEAST..=LEAST),
        ] {
            let mut size = RequestSize::within(TIMEOUT);
            let requests = requests(&mut size, over_a_link(bytes_a_second));
            assert_eq!(requests[0], BLOCK);
            let settled = requests[10..].iter().all(|bytes| last.contains(bytes));
            assert!(settled, "{bytes_a_second}: {requests:?}");
        }
    }

    #[test]
    fn a_server_that_takes_its_time_gets_large_requests_all_the_same() {
        let mut size = RequestSize::within(TIMEOUT);
        size.timed_out(BLOCK);
        let requests = requests(&mut size, |_| Duration::from_secs(3));
        assert_eq!((requests[0], requests[19]), (BLOCK / 2, MOST));
    }

    #[test]
    fn a_failure_brings_it_back_to_a_block() {
        let mut size = RequestSize::within(TIMEOUT);
        requests(&mut size, |_| SOON);
        assert_eq!(next(&size), MOST);
        size.failed();
        assert_eq!(next(&size), BLOCK);
    }

    #[test]
    fn what_time_has_cut_grows_again() {
        let mut size = RequestSize::within(TIMEOUT);
        // That one was no matter of size.
        size.timed_out(LEAST);
        assert_eq!(next(&size), BLOCK);
        (0..9).for_each(|_| size.timed_out(next(&size)));
        assert_eq!(next(&size), LEAST);
        // Few lines, or late answers, say nothing about many.
        size.accepted(100, SOON);
        size.accepted(LEAST, LATE);
        assert_eq!(next(&size), LEAST);
        size.accepted(LEAST, SOON);
        assert_eq!(next(&size), 2 * LEAST);
        requests(&mut size, |_| SOON);
        assert_eq!((next(&size), size.cut), (MOST, usize::MAX));
    }

    #[test]
    fn a_limit_of_the_server_holds_for_a_while() {
        let now = Instant::now();
        let mut size = RequestSize::within(TIMEOUT);
        requests(&mut size, |_| SOON);
        let both = |size: &RequestSize, at| (size.to_fill(BLOCK, at), size.to_cut(at));
        size.too_large(MOST, now);
        assert_eq!(both(&size, now), (MOST / 2, MOST / 2));
        size.accepted(MOST / 2, SOON);
        assert_eq!(size.to_cut(now), MOST / 2);
        assert_eq!(both(&size, now + REMEMBERED), (MOST, usize::MAX));
    }
}
