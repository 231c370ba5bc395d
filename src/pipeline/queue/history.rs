//! What the last minutes brought, for plots: running totals at the end of each
//! step of two seconds.
//!
//! It has no timer. Whoever has the queue's lock and the time looks whether a
//! step has passed since the last look; when nothing flows nobody does, and then
//! nothing has changed. The reader fills in those steps.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The distance of two points of a plot.
pub const STEP: Duration = Duration::from_secs(2);

/// Ten minutes of steps.
pub const STEPS: usize = 300;

/// Totals since the start, and the queue's memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    /// Lines that came in, accepted or not.
    pub received: u64,
    /// Lines that the upstream has.
    pub delivered: u64,
    /// Lines that were dropped.
    pub dropped: u64,
    /// Memory of the queued lines or are lent.
    pub bytes: usize,
}

/// What happened in each step, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns {
    /// Lines that came in.
    pub received: Vec<u64>,
    /// Lines that the upstream took.
    pub delivered: Vec<u64>,
    /// Lines that were dropped.
    pub dropped: Vec<u64>,
    /// Memory of lines at the end of the step.
    pub bytes: Vec<usize>,
}

/// The marks, some 13 KiB of them.
#[derive(Debug, Clone)]
pub struct History {
    began: Option<Instant>,
    /// The step that lasts, and when it is over.
    step: u64,
    due: Option<Instant>,
    /// The last mark of steps that are over, with their numbers; not of those in
    /// which nothing changed.
    marks: VecDeque<(u64, Mark)>,
}

impl Default for History {
    fn default() -> Self {
        Self {
            began: None,
            step: 0,
            due: None,
            // One more, for what was before the first step that is shown.
            marks: VecDeque::with_capacity(STEPS + 1),
        }
    }
}

impl History {
    /// Whether a step is over: time for [`History::mark`].
    pub fn is_due(&self, now: Instant) -> bool {
        self.due.is_none_or(|due| now >= due)
    }

    /// Notes how things stood at the end of the last step, which is how they
    /// stand before what happens now.
    pub fn mark(&mut self, mark: Mark, now: Instant) {
        if self.due.is_some() {
            if self.marks.len() > STEPS {
                self.marks.pop_front();
            }
            self.marks.push_back((self.step, mark));
        }
        let began = *self.began.get_or_insert(now);
        let passed = now.saturating_duration_since(began);
        self.step = passed.as_secs() / STEP.as_secs();
        self.due = Some(began + Duration::from_secs((self.step + 1) * STEP.as_secs()));
    }

    /// The steps that are over, after a look at the time.
    pub fn columns(&self) -> Columns {
        let first = self.step.saturating_sub(STEPS as u64);
        let mut marks = self.marks.iter().peekable();
        let mut before = Mark::default();
        while let Some((_, mark)) = marks.next_if(|(step, _)| *step < first) {
            before = *mark;
        }
        let mut columns = Columns::default();
        for step in first..self.step {
            let marked = marks.next_if(|(marked, _)| *marked == step);
            let mark = marked.map_or(before, |(_, mark)| *mark);
            columns.received.push(mark.received - before.received);
            columns.delivered.push(mark.delivered - before.delivered);
            columns.dropped.push(mark.dropped - before.dropped);
            columns.bytes.push(mark.bytes);
            before = mark;
        }
        columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts lines, and looks whenever it does.
    struct Counter {
        history: History,
        start: Instant,
        mark: Mark,
    }

    impl Counter {
        fn new() -> Self {
            Self {
                history: History::default(),
                start: Instant::now(),
                mark: Mark::default(),
            }
        }

        fn look(&mut self, second: u64) -> &mut Self {
            let now = self.start + Duration::from_secs(second);
            if self.history.is_due(now) {
                self.history.mark(self.mark, now);
            }
            self
        }

        fn receive(&mut self, second: u64, lines: u64) -> &mut Self {
            self.look(second);
            self.mark.received += lines;
            self
        }
    }

    #[test]
    fn lines_stand_in_the_step_in_which_they_came() {
        let mut counter = Counter::new();
        counter.receive(0, 1).receive(1, 2).receive(2, 4);
        counter.receive(9, 8).receive(10, 16).look(14);
        let columns = counter.history.columns();
        assert_eq!(columns.received, [3, 4, 0, 0, 8, 16, 0]);
        assert_eq!(columns.delivered, [0; 7]);
    }

    #[test]
    fn memory_stays_as_it_was() {
        let mut counter = Counter::new();
        counter.look(0).mark.bytes = 7;
        counter.look(3).mark.bytes = 9;
        let columns = counter.look(9).history.columns();
        assert_eq!(columns.bytes, [7, 9, 9, 9]);
    }

    #[test]
    fn it_holds_ten_minutes() {
        let mut counter = Counter::new();
        for second in 0..2000 {
            counter.receive(second, second % 2 + 1);
        }
        let columns = counter.look(2000).history.columns();
        assert_eq!(columns.received, [3; STEPS]);
        let capacity = counter.history.marks.capacity();
        assert!(capacity <= STEPS + 1 && counter.history.marks.len() <= capacity);
        // After a quiet hour, all of it is quiet.
        let columns = counter.look(5600).history.columns();
        assert_eq!(columns.received, [0; STEPS]);
    }

    #[test]
    fn nothing_is_known_before_the_first_step_is_over() {
        assert_eq!(History::default().columns(), Columns::default());
        let mut counter = Counter::new();
        assert_eq!(counter.receive(1, 5).history.columns(), Columns::default());
    }
}
