//! Which lines have come: each exactly once, and as it was sent?

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use memchr::memchr;

use crate::bench::lines::Lines;

/// Books what the upstream reads. One lock a read.
pub struct Arrivals {
    lines: Lines,
    prefix: Vec<u8>,
    begun: Instant,
    /// When each line was written, in nanoseconds since `begun`; empty where
    /// nobody asks.
    written: Vec<AtomicU64>,
    book: Mutex<Book>,
}

struct Book {
    /// A bit a line.
    seen: Vec<u64>,
    tally: Tally,
    delays: Vec<Duration>,
}

/// What has come so far.
#[derive(Debug, Clone, Copy)]
pub struct Tally {
    /// Lines, each counted once.
    pub arrived: u64,
    /// Lines that had come before.
    pub twice: u64,
    /// Lines that nobody sent.
    pub corrupt: u64,
    /// When the first came.
    pub first: Instant,
    /// When the last did.
    pub last: Instant,
}

impl Arrivals {
    /// Awaits the first so many lines, each behind a prefix.
    pub fn of(lines: Lines, count: usize, prefix: &str) -> Self {
        let now = Instant::now();
        Self {
            lines,
            prefix: prefix.as_bytes().to_vec(),
            begun: now,
            written: Vec::new(),
            book: Mutex::new(Book {
                seen: vec![0; count.div_ceil(64)],
                tally: Tally {
                    arrived: 0,
                    twice: 0,
                    corrupt: 0,
                    first: now,
                    last: now,
                },
                delays: Vec::new(),
            }),
        }
    }

    /// Measures delays, too, of lines whose writing is announced.
    pub fn with_delays(mut self) -> Self {
        let count = self.book().seen.len() * 64;
        self.written = (0..count).map(|_| AtomicU64::new(0)).collect();
        self
    }

    /// These lines are about to be written.
    pub fn writing(&self, numbers: std::ops::Range<usize>) {
        let now = self.begun.elapsed().as_nanos() as u64;
        for written in &self.written[numbers] {
            written.store(now, Relaxed);
        }
    }

    /// Books whole lines that were read just now, and says how many they are.
    pub fn book_lines(&self, mut bytes: &[u8], now: Instant) -> u64 {
        let mut book = self.book();
        let before = book.tally.arrived;
        let mut count = 0;
        while let Some(newline) = memchr(b'\n', bytes) {
            let (line, rest) = bytes.split_at(newline + 1);
            let number = line.strip_prefix(self.prefix.as_slice());
            let number = number.and_then(|line| self.lines.number(line));
            let is_new = book.note(number);
            if let (true, Some(number)) = (is_new, number) {
                self.note_delay(&mut book, number, now);
            }
            bytes = rest;
            count += 1;
        }
        if before == 0 && book.tally.arrived > 0 {
            book.tally.first = now;
        }
        if book.tally.arrived > before {
            book.tally.last = now;
        }
        count
    }

    /// What has come so far.
    pub fn tally(&self) -> Tally {
        self.book().tally
    }

    /// Waits until so many lines have come, or none does for so long.
    pub fn wait_for(&self, lines: u64, patience: Duration) -> Tally {
        let begun = Instant::now();
        loop {
            let tally = self.tally();
            let quiet = tally.last.max(begun).elapsed();
            if tally.arrived >= lines || quiet > patience {
                return tally;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The delays so far, sorted.
    pub fn delays(&self) -> Vec<Duration> {
        let mut delays = self.book().delays.clone();
        delays.sort_unstable();
        delays
    }

    fn note_delay(&self, book: &mut Book, number: u64, now: Instant) {
        let written = self.written.get(number as usize);
        let written = written.map_or(0, |nanoseconds| nanoseconds.load(Relaxed));
        if written > 0 {
            let since = now.duration_since(self.begun);
            book.delays
                .push(since.saturating_sub(Duration::from_nanos(written)));
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// Whether it is a line that had not come yet.
    fn note(&mut self, number: Option<u64>) -> bool {
        let word = number.and_then(|number| self.seen.get_mut((number / 64) as usize));
        let (Some(word), Some(number)) = (word, number) else {
            self.tally.corrupt += 1;
            return false;
        };
        let bit = 1 << (number % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        if is_new {
            self.tally.arrived += 1;
        } else {
            self.tally.twice += 1;
        }
        is_new
    }
}
