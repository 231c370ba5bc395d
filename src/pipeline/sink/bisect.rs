//! Finding the lines that an upstream refuses, among those that it takes.
//!
//! In: leases that were refused whole (HTTP 400, 413, 422). Out: pieces to try
//! one after the other, and in the end the rejected lines, each alone. Halving finds
//! a rejected line within 2·log2(lines) requests.
//!
//! A line refused alone is only a candidate: an upstream that refuses everything
//! is a mistake in the configuration, for which no line may be dropped. A
//! candidate is a rejected line when it is refused again after the upstream has accepted
//! other lines. So where refusals go on without an acceptance, probe linees are called: the last
//! line at hand, the newest that waits, then any, at hand and waiting: one client
//! can bring many such lines in a row. If all of them are refused too, everything
//! goes back to the queue. No I/O: a simulation can drive it.

use memchr::{memchr, memrchr};

use crate::pipeline::queue::Lease;

/// Refused in a row, beyond twice the halvings of a lease, before a probe line is
/// called.
const SPARE_REFUSALS: u32 = 2;

/// So many others are asked: where half of all lines are refused, one of a
/// thousand times in vain.
const STRANGERS: u32 = 10;

/// The search in one lease.
#[derive(Debug)]
pub struct Bisection {
    /// Pieces to try, the next one last.
    pieces: Vec<Lease>,
    /// Lines that were refused alone, since when nothing was accepted.
    candidates: Vec<Candidate>,
    /// Suspects that are to be tried again.
    second_tries: Vec<Lease>,
    /// The piece at hand is one of them.
    is_second_try: bool,
    /// Refusals since anything was accepted.
    refusals: u32,
    least_age: u32,
    probe_line: ProbeLine,
    accepted_any: bool,
}

/// A line that was refused alone, and what the upstream said.
#[derive(Debug)]
pub struct Candidate {
    /// The line, lent.
    pub lease: Lease,
    /// The words of the upstream.
    pub words: String,
}

/// Who is asked whether everything is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProbeLine {
    NotNeeded,
    /// The last line at hand is asked.
    Last,
    /// A line from elsewhere is asked, after this number of others.
    OtherLine(u32),
    /// All were refused.
    Exhausted,
}

/// What to do next.
#[derive(Debug)]
pub enum Next {
    /// Try this piece.
    Try(Lease),
    /// Everything was tried.
    Done,
    /// Everything is refused, with these words: drop this, and all lines go
    /// back to the queue.
    RefusesEverything(String),
    /// So are the few lines that there are, and no other could be asked for: the
    /// same, until others come.
    NobodyElse(String),
}

impl Bisection {
    /// Begins with leases that were refused together.
    pub fn new(mut refused: Vec<Lease>, words: String) -> Self {
        let lines: u64 = refused.iter().map(Lease::lines).sum();
        let halvings = lines.max(2).ilog2() + 1;
        let mut bisection = Self {
            pieces: Vec::new(),
            candidates: Vec::new(),
            second_tries: Vec::new(),
            is_second_try: false,
            refusals: 0,
            least_age: 2 * halvings + SPARE_REFUSALS,
            probe_line: ProbeLine::NotNeeded,
            accepted_any: false,
        };
        match (refused.pop(), refused.is_empty()) {
            (Some(alone), true) => {
                bisection.refused(alone, words);
            }
            // They come one by one, as the halves of one would.
            (last, _) => {
                bisection.refusals = 1;
                bisection.pieces.extend(last);
                bisection.pieces.extend(refused.into_iter().rev());
            }
        }
        bisection
    }

    /// The next piece to try.
    pub fn next(&mut self) -> Next {
        self.is_second_try = false;
        let called = match self.probe_line {
            ProbeLine::NotNeeded => None,
            ProbeLine::Last => self.last_line(),
            ProbeLine::OtherLine(asked) => match self.other_line(asked) {
                None => return Next::NobodyElse(self.words()),
                other_line => other_line,
            },
            ProbeLine::Exhausted => return Next::RefusesEverything(self.words()),
        };
        if let Some(probe_line) = called {
            return Next::Try(probe_line);
        }
        if let Some(candidate) = self.second_tries.pop() {
            self.is_second_try = true;
            return Next::Try(candidate);
        }
        match self.pieces.pop() {
            Some(piece) => Next::Try(piece),
            None if self.candidates.is_empty() => Next::Done,
            // Others were accepted before these.
            None if self.accepted_any => {
                self.try_suspects_again();
                self.next()
            }
            // Nothing but candidates: somebody else has to say.
            None => match self.other_line(0) {
                Some(other_line) => {
                    self.probe_line = ProbeLine::OtherLine(0);
                    Next::Try(other_line)
                }
                None => Next::NobodyElse(self.words()),
            },
        }
    }

    fn words(&self) -> String {
        let first = self.candidates.first();
        first.map_or_else(String::new, |candidate| candidate.words.clone())
    }

    /// A piece was accepted and is settled. Whoever was refused before it has
    /// another try.
    pub fn accepted(&mut self) {
        self.refusals = 0;
        self.probe_line = ProbeLine::NotNeeded;
        self.accepted_any = true;
        self.try_suspects_again();
    }

    /// A piece was refused. Answers with it if it is a rejected line.
    pub fn refused(&mut self, piece: Lease, words: String) -> Option<Candidate> {
        let candidate = Candidate {
            lease: piece,
            words,
        };
        if self.is_second_try {
            return Some(candidate);
        }
        self.refusals += 1;
        if candidate.lease.lines() > 1 {
            self.halve(candidate.lease);
        } else {
            self.candidates.push(candidate);
        }
        self.probe_line = match self.probe_line {
            ProbeLine::NotNeeded if self.refusals <= self.least_age => ProbeLine::NotNeeded,
            ProbeLine::NotNeeded => ProbeLine::Last,
            ProbeLine::Last => ProbeLine::OtherLine(0),
            ProbeLine::OtherLine(asked) if asked + 1 < STRANGERS => ProbeLine::OtherLine(asked + 1),
            ProbeLine::OtherLine(_) | ProbeLine::Exhausted => ProbeLine::Exhausted,
        };
        None
    }

    fn try_suspects_again(&mut self) {
        let again = self.candidates.drain(..).map(|candidate| candidate.lease);
        self.second_tries.extend(again);
    }

    /// A piece was too large as a whole: its halves come next.
    pub fn halve(&mut self, mut piece: Lease) {
        let middle = middle(piece.bytes());
        let rest = piece.split_off(middle);
        self.pieces.extend(rest);
        self.pieces.push(piece);
    }

    /// Cuts the last line off the piece that comes last.
    fn last_line(&mut self) -> Option<Lease> {
        let last = self.pieces.first_mut()?;
        if last.lines() < 2 {
            return Some(self.pieces.remove(0));
        }
        let bytes = last.bytes();
        let at = memrchr(b'\n', &bytes[..bytes.len() - 1])? + 1;
        last.split_off(at)
    }

    /// A line that has little to do with those that were refused: the newest that
    /// waits, then any of those that wait and of those at hand, in turns.
    fn other_line(&mut self, asked: u32) -> Option<Lease> {
        let at = if asked == 0 { 1.0 } else { fastrand::f64() };
        if asked.is_multiple_of(2) {
            self.waiting_line(at).or_else(|| self.line_at_hand())
        } else {
            self.line_at_hand().or_else(|| self.waiting_line(at))
        }
    }

    fn waiting_line(&self, at: f64) -> Option<Lease> {
        let any = self.candidates.first().map(|candidate| &candidate.lease);
        any.or(self.pieces.first())?.probe_line(at)
    }

    /// Cuts any line out of the pieces.
    fn line_at_hand(&mut self) -> Option<Lease> {
        let lines = || self.pieces.iter().map(|piece| piece.bytes().len());
        let mut at = fastrand::usize(..lines().sum::<usize>().max(1));
        let index = lines().position(|length| {
            let is_here = at < length;
            if !is_here {
                at -= length;
            }
            is_here
        })?;
        let piece = &mut self.pieces[index];
        let begin = memrchr(b'\n', &piece.bytes()[..at]).map_or(0, |newline| newline + 1);
        let end = begin + memchr(b'\n', &piece.bytes()[begin..])? + 1;
        let behind = (end < piece.bytes().len())
            .then(|| piece.split_off(end))
            .flatten();
        if begin > 0 {
            let line = piece.split_off(begin);
            // Those that come first are last.
            self.pieces.splice(index..index, behind);
            return line;
        }
        Some(match behind {
            Some(behind) => std::mem::replace(piece, behind),
            None => self.pieces.remove(index),
        })
    }
}

/// The line end nearest to the middle of two lines and more.
fn middle(lines: &[u8]) -> usize {
    let half = (lines.len() / 2).saturating_sub(1);
    let last_start = memrchr(b'\n', &lines[..lines.len() - 1]).map_or(0, |newline| newline + 1);
    let end = memchr(b'\n', &lines[half..]).map_or(lines.len(), |newline| half + newline + 1);
    end.min(last_start)
}

#[cfg(test)]
mod tests;
