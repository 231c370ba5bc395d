//! Lines as they arrive, and ways to wait for them.
//!
//! The doubles of the upstream collect what the daemon sends in an [`Inbox`],
//! and so do the readers of the daemon's own standard output and error.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::wait::DEADLINE;

/// Whole lines, in the order of their arrival.
#[derive(Debug, Default)]
pub struct Inbox {
    received: Mutex<Received>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Received {
    lines: Vec<String>,
    /// Ends of streams that were no whole line.
    fragments: Vec<String>,
}

/// Cuts one stream into the lines of its inbox.
pub struct Stream<'a> {
    inbox: &'a Inbox,
    partial: Vec<u8>,
}

impl Inbox {
    /// Everything that arrived so far.
    pub fn lines(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    /// How many lines arrived so far.
    pub fn len(&self) -> usize {
        self.lock().lines.len()
    }

    /// What arrived without a newline at its end, when its stream had ended.
    pub fn fragments(&self) -> Vec<String> {
        self.lock().fragments.clone()
    }

    /// Waits for this very line.
    #[track_caller]
    pub fn expect(&self, line: &str) {
        let mut seen = 0;
        self.look(line, |lines| {
            let found = lines[seen..].iter().any(|arrived| arrived == line);
            seen = lines.len();
            found.then_some(())
        });
    }

    /// Waits for all of these lines, in any order.
    #[track_caller]
    pub fn expect_all<'a>(&self, lines: impl IntoIterator<Item = &'a str>) {
        for line in lines {
            self.expect(line);
        }
    }

    /// Waits for a line that the predicate accepts, and returns it.
    #[track_caller]
    pub fn find(&self, what: &str, matches: impl Fn(&str) -> bool) -> String {
        let mut seen = 0;
        self.look(what, |lines| {
            let found = lines[seen..].iter().find(|line| matches(line)).cloned();
            seen = lines.len();
            found
        })
    }

    /// Waits until there are so many lines, and returns them all.
    #[track_caller]
    pub fn expect_lines(&self, count: usize) -> Vec<String> {
        let lines = self.look(&format!("{count} lines"), |lines| {
            (lines.len() >= count).then(|| lines.to_vec())
        });
        assert_eq!(lines.len(), count, "more lines than were sent");
        lines
    }

    /// Waits until the predicate finds something in all that arrived.
    #[track_caller]
    pub fn look<T>(&self, what: &str, mut find: impl FnMut(&[String]) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        let mut received = self.lock();
        loop {
            if let Some(found) = find(&received.lines) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let summary = summary(&received);
                drop(received);
                panic!("waited in vain for {what}; {summary}");
            }
            received = self
                .arrived
                .wait_timeout(received, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Adds whole lines.
    pub fn push(&self, lines: impl IntoIterator<Item = String>) {
        self.lock().lines.extend(lines);
        self.arrived.notify_all();
    }

    /// Starts to read one stream.
    pub fn stream(&self) -> Stream<'_> {
        Stream {
            inbox: self,
            partial: Vec::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream<'_> {
    /// Takes the next bytes of the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
        let Some(last) = memchr::memrchr(b'\n', &self.partial) else {
            return;
        };
        let rest = self.partial.split_off(last + 1);
        let whole = std::mem::replace(&mut self.partial, rest);
        self.inbox.push(
            whole[..last]
                .split(|byte| *byte == b'\n')
                .map(|line| String::from_utf8_lossy(line).into_owned()),
        );
    }

    /// The stream has ended: what is left is a fragment.
    pub fn end(self) {
        if !self.partial.is_empty() {
            let fragment = String::from_utf8_lossy(&self.partial).into_owned();
            self.inbox.lock().fragments.push(fragment);
        }
    }

    /// The stream has ended: what is left is a line all the same.
    pub fn end_as_line(self) {
        if !self.partial.is_empty() {
            let line = String::from_utf8_lossy(&self.partial).into_owned();
            self.inbox.push([line]);
        }
    }
}

/// Enough to see what went wrong, and not a hundred thousand lines.
fn summary(received: &Received) -> String {
    let lines = &received.lines;
    let from = lines.len().saturating_sub(10);
    format!(
        "{} lines arrived, fragments {:?}, the last lines {:#?}",
        lines.len(),
        received.fragments,
        &lines[from..]
    )
}
