//! Which lines are compressed, and when.
//!
//! Only while the upstream lags: a block has to have waited for a moment, or a
//! quarter of the queue has to be full of such that were not. The newest stay
//! as they are, and while lines go out, so do the next to go.

use std::time::{Duration, Instant};

use crate::pipeline::queue::block::{Block, Place};
use crate::pipeline::queue::frame::{Frame, ratio};

use super::State;

/// What a frame is made of. Larger ones are a little smaller for their lines,
/// but expanding one must not take longer than half a millisecond.
const FRAME_BYTES: usize = 512 << 10;

/// The newest lines, which stay as they are.
const NEWEST_BYTES: usize = 256 << 10;

/// The next lines to go, which stay as they are while lines go.
const NEXT_BYTES: usize = 2 << 20;

/// Lines that have waited for less are left alone: while the upstream is down,
/// and while it only seems slow.
const LEAST_AGE_DOWN: Duration = Duration::from_millis(100);
const LEAST_AGE: Duration = Duration::from_secs(1);

/// What the compressing thread is to do next.
#[derive(Debug)]
pub enum Job {
    /// Compress these, and give them to [`State::finish_job`].
    Compressor(Vec<Block>),
    /// Ask again at this moment, unless called.
    At(Instant),
    /// Wait until called.
    Nothing,
}

/// Whether the compressing thread has to be called.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum WorkerState {
    /// It will look by itself.
    #[default]
    Awake,
    /// It waits until lines are old enough.
    Patient,
    /// It waits until it is called.
    Asleep,
}

/// Blocks that are being compressed.
#[derive(Debug)]
pub struct RunningJob {
    pub(super) place: Place,
    pub(super) lines: u64,
    pub(super) allocated: usize,
    /// They had to go in the meantime, and are accounted for.
    pub(super) is_void: bool,
}

impl State {
    /// What is to be compressed next. The answer is taken: the thread that asks
    /// has to act on it.
    pub fn next_job(&mut self, now: Instant) -> Job {
        let next_job = self.find_job(now);
        self.worker = match next_job {
            Job::Compressor(_) => WorkerState::Awake,
            Job::At(_) => WorkerState::Patient,
            Job::Nothing => WorkerState::Asleep,
        };
        next_job
    }

    /// The blocks are compressed, or could not be.
    pub fn finish_job(&mut self, blocks: Vec<Block>, frame: Option<Frame>) {
        let Some(running_job) = self.running_job.take() else {
            return;
        };
        if running_job.is_void {
            return;
        }
        let smaller = frame.filter(|frame| frame.allocated() < running_job.allocated);
        let Some(frame) = smaller else {
            for mut block in blocks {
                block.stays_loose = true;
                self.expanded_bytes += block.allocated();
                self.lane_of(block.place.0).insert(block);
            }
            return;
        };
        self.allocated -= running_job.allocated;
        self.allocated += frame.allocated();
        self.learn_density(ratio(frame.allocated(), frame.bytes()));
        self.note_frame(Some(&frame));
        self.lane_of(frame.place().0).insert_frame(frame);
        for block in blocks {
            self.keep_buffer(block.into_buffer());
        }
        self.evict_for(0);
    }

    /// Whether the compressing thread has to be called; it counts as called
    /// then.
    pub fn wakes_worker(&mut self) -> bool {
        let calls = match self.worker {
            WorkerState::Awake => false,
            WorkerState::Patient => self.is_urgent(),
            WorkerState::Asleep => self.has_enough(),
        };
        if calls {
            self.worker = WorkerState::Awake;
        }
        calls
    }

    /// Whether it is not known yet how small lines become.
    pub fn lacks_density(&self) -> bool {
        self.density.is_none()
    }

    /// Some of the newest lines, to try how small they become.
    pub fn sample(&self) -> Option<Block> {
        let newest = self.live.blocks().next_back();
        let newest = newest.or_else(|| self.backlog.blocks().next_back());
        let block = newest.or(self.open.as_ref())?;
        Some(Block::restore(&block.part(), block.bytes().to_vec()))
    }

    /// So small do lines become, compressed bytes a byte.
    pub fn learn_density(&mut self, density: f64) {
        let known = self.density.get_or_insert(density);
        *known += (density - *known) / 4.0;
    }

    /// Lines that would make one frame. In a small queue, smaller ones.
    pub(super) fn frame_bytes(&self) -> usize {
        FRAME_BYTES.min(self.limits.queue_bytes / 16)
    }

    /// Whether room is about to be made by compressing.
    pub(super) fn is_tight(&self) -> bool {
        let is_at_work = self.running_job.is_some() || self.worker == WorkerState::Awake;
        let used = self.allocated + self.reserve();
        is_at_work && self.has_enough() && used > self.limits.queue_bytes / 4 * 3
    }

    /// The blocks being compressed, where they are the oldest lines of all.
    pub(super) fn job_before(&mut self, place: Option<Place>) -> Option<&mut RunningJob> {
        self.running_job.as_mut().filter(|running_job| {
            !running_job.is_void && place.is_none_or(|place| running_job.place < place)
        })
    }

    fn find_job(&mut self, now: Instant) -> Job {
        if self.is_leaving || !self.has_enough() {
            return Job::Nothing;
        }
        let enough = self.frame_bytes();
        let (skip, least_age) = if self.down.is_some() {
            (0, LEAST_AGE_DOWN)
        } else {
            (NEXT_BYTES.min(self.limits.queue_bytes / 8), LEAST_AGE)
        };
        let is_urgent = self.is_urgent();
        let keep = self.newest_blocks();
        for (lane, keep) in [(&mut self.backlog, 0), (&mut self.live, keep)] {
            let Some(run) = lane.run(skip, enough, keep) else {
                continue;
            };
            let opened = lane.block(run.start).map_or(now, |block| block.opened);
            if !is_urgent && now < opened + least_age {
                return Job::At(opened + least_age);
            }
            let blocks = lane.take(run);
            self.running_job = Some(RunningJob {
                place: blocks.first().map_or((0, 0), |block| block.place),
                lines: blocks.iter().map(Block::lines).sum(),
                allocated: blocks.iter().map(Block::allocated).sum(),
                is_void: false,
            });
            return Job::Compressor(blocks);
        }
        // There is enough, but not in one piece, or it is about to go.
        Job::At(now + least_age)
    }

    fn has_enough(&self) -> bool {
        let newest = self.newest_blocks() * self.limits.block_bytes;
        self.loose_bytes() >= newest + self.frame_bytes()
    }

    fn is_urgent(&self) -> bool {
        self.has_enough() && self.loose_bytes() > self.limits.queue_bytes / 4
    }

    fn loose_bytes(&self) -> usize {
        self.backlog.loose_bytes() + self.live.loose_bytes()
    }

    fn newest_blocks(&self) -> usize {
        NEWEST_BYTES.min(self.limits.queue_bytes / 16) / self.limits.block_bytes
    }
}
