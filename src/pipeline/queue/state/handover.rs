//! From one process to the next: what waits leaves without being delivered, and
//! comes in without being received.

use crate::os;
use crate::pipeline::queue::frame::ratio;
use crate::pipeline::queue::lane::Waiting;
use crate::stats::Ledger;

use super::State;

impl State {
    /// From now on nothing is compressed. Whether nothing is being compressed any
    /// more, so that everything is in its place.
    pub fn settles_down(&mut self) -> bool {
        self.is_leaving = true;
        self.running_job.is_none()
    }

    /// Takes the oldest lines for the next process. They go on standing in the
    /// account as waiting.
    pub fn take_oldest(&mut self) -> Option<Waiting> {
        for buffer in self.spares.drain(..) {
            self.allocated -= os::allocated(buffer.capacity());
        }
        let waiting = self.backlog.pop().or_else(|| self.live.pop());
        let waiting = waiting.or_else(|| {
            let open = self.open.take_if(|open| !open.is_empty());
            open.map(Waiting::Block)
        });
        // Lines of our own follow, as lines like any others.
        let waiting = waiting.or_else(|| {
            let mut own = self.own.pop()?;
            if let Waiting::Block(block) = &mut own {
                block.place = (self.next_number, 0);
                self.next_number += 1;
            }
            Some(own)
        })?;
        self.allocated -= waiting.allocated();
        Some(waiting)
    }

    /// The lines of a former process are about to come. Answers with the number
    /// from which on they are counted.
    pub fn begin_restore(&mut self) -> u64 {
        self.next_number
    }

    /// Puts lines of a former process into the backlog, at their place in it. If
    /// there is too little room, the oldest go.
    pub fn restore(&mut self, waiting: Waiting) {
        self.ledger.restore_queued(waiting.lines());
        self.allocated += waiting.allocated();
        let last = match &waiting {
            Waiting::Block(block) => block.place,
            Waiting::Frame(frame) => frame.last_place(),
        };
        self.next_number = self.next_number.max(last.0.saturating_add(1));
        match waiting {
            Waiting::Block(block) => self.backlog.insert(block),
            Waiting::Frame(frame) => {
                self.learn_density(ratio(frame.allocated(), frame.bytes()));
                self.note_frame(Some(&frame));
                self.backlog.insert_frame(frame);
            }
        }
        self.evict_for(0);
    }

    /// All of them have come. What is received from now on is live.
    pub fn end_restore(&mut self) {
        self.live_from = self.next_number;
    }

    /// The account of all lines, to go on with that of a former process.
    pub fn ledger_mut(&mut self) -> &mut Ledger {
        &mut self.ledger
    }
}
