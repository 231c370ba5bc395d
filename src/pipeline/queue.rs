//! The fixed point between the listeners and the relay.
//!
//! ```text
//!            oldest lost first                            newest
//!                  │                                        │
//!    ┌─◀── live:    [ block | block ] ◀───────────── [ open block ] ◀── push
//!   lent                 │ what waited too long
//!    ├─◀── backlog: [ block | frame | frame | … ]
//!    │                 ▲       ▲
//!    │                 │       └── blocks that wait are compressed, eight a frame
//!    ├─ settled        └── a lease that is dropped goes back to its place
//!    └─ dropped
//! ```
//!
//! In: one [`Batch`] a read. Out: a [`Lease`] on the oldest block of the lane
//! whose turn it is. All that is open, waits or is lent is within one bound of
//! bytes really allocated. A block is sealed when it is full; the open one is
//! lent as it is once it has lingered long enough, so that lines gather while
//! the relay is busy and leave at once while it is not.
//!
//! What is decided is in `queue/state.rs` and its files; this half locks and
//! wakes. The mutex is never held across an await and is taken once a read.

mod block;
mod checkpoint;
mod compressing;
mod frame;
mod history;
mod lane;
mod rate_limit;
mod rates;
mod state;

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::ops::{Deref, DerefMut, Range};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use memchr::memchr;
use tokio::sync::Notify;
use tracing::error;

use crate::os::SharedNumbers;
use crate::stats::{Counters, Delays, DropReason, Ledger, ListenerId};

use super::batch::Batch;
pub use block::{Block, count_lines};
pub use checkpoint::{Damage, Restored};
pub use compressing::Compressing;
pub use frame::{Compressor, Corrupt, Expander, Frame};
pub use history::{Columns, STEP as HISTORY_STEP};
pub use rates::Outlook;
pub use state::{Limits, Pushed};

use state::{Leased, Readiness, State};

/// A client that can wait does so no longer than this for room to be made.
const TIGHT_PAUSE: Duration = Duration::from_millis(5);

/// How long a hand-over waits for the lines that are being compressed: far longer than
/// that takes, unless the thread has died.
const LAST_COMPRESSION: Duration = Duration::from_secs(5);

/// Fewer lines say little about how small many become.
const LEAST_SAMPLE_BYTES: usize = 4096;

/// A handle on the queue; all handles are the same queue.
#[derive(Clone)]
pub struct Queue {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Notify,
    /// The daemon is about to end, from now on or by the queue's close.
    hurried: AtomicBool,
    ending: Notify,
    /// Calls the compressing thread.
    work: Condvar,
    /// Something was compressed.
    eased: Notify,
    /// Kept while there is something to expand.
    expander: Mutex<Option<Expander>>,
    /// Where the next process finds how many lines there were, if this one is killed.
    account: OnceLock<SharedNumbers<ACCOUNT_NUMBERS>>,
}

/// How many numbers an account has.
pub const ACCOUNT_NUMBERS: usize = 4;

/// Places in an account: lines that are queued.
pub const ACCOUNT_QUEUED: usize = 1;

/// Places in an account: lines that are in flight.
pub const ACCOUNT_IN_FLIGHT: usize = 2;

/// What the queue holds at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The account of all lines.
    pub ledger: Ledger,
    /// How long lines took from receipt to acknowledgement.
    pub delays: Delays,
    /// Bytes allocated for queued lines or are lent.
    pub allocated: usize,
    /// The limits in force.
    pub limits: Limits,
    /// How long it lasts, and how long it takes to drain.
    pub outlook: Outlook,
}

impl Queue {
    /// An empty queue.
    pub fn new(limits: Limits) -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State::new(limits)),
                changed: Notify::new(),
                hurried: AtomicBool::new(false),
                ending: Notify::new(),
                work: Condvar::new(),
                eased: Notify::new(),
                expander: Mutex::default(),
                account: OnceLock::new(),
            }),
        }
    }

    /// Takes the lines of one read.
    pub fn push(&self, listener: ListenerId, batch: &Batch) -> Pushed {
        let pushed = self.change(|state| state.push(listener, batch, now()));
        if pushed.wakes_relay {
            self.shared.changed.notify_one();
        }
        pushed
    }

    /// Takes points that were made of samples, each with its newline. They wait
    /// among the lines that came in.
    pub fn push_points(&self, points: &[u8], count: u64) -> Pushed {
        let pushed = self.change(|state| state.push_points(points, count, now()));
        if pushed.wakes_relay {
            self.shared.changed.notify_one();
        }
        pushed
    }

    /// Takes lines that the daemon made itself, each with its newline. They go
    /// before all others, and a full queue does not hold them up.
    pub fn generate(&self, lines: &[u8]) {
        self.change(|state| state.generate(lines, count_lines(lines), now()));
        self.shared.changed.notify_one();
    }

    /// Waits a moment for room to be made by compressing: for clients that can
    /// wait, after a push that was tight.
    pub async fn eased(&self) {
        // Either way the client is read again.
        let _ = tokio::time::timeout(TIGHT_PAUSE, self.shared.eased.notified()).await;
    }

    /// Waits until there is something to lend. `false` once the queue is
    /// closed and empty.
    pub async fn ready(&self) -> bool {
        loop {
            let readiness = self.lock().relay_readiness(now());
            match readiness {
                Readiness::Ready => return true,
                Readiness::Finished => return false,
                Readiness::Idle => self.shared.changed.notified().await,
                Readiness::At(due) => {
                    let changed = self.shared.changed.notified();
                    // Either way the state is asked again.
                    let _ = tokio::time::timeout_at(due.into(), changed).await;
                }
            }
        }
    }

    /// Borrows the block whose turn it is, if one is ready.
    pub fn lease(&self) -> Option<Lease> {
        loop {
            let leased = self.lock().lease(now())?;
            match leased {
                Leased::Block(block) => {
                    return Some(Lease {
                        queue: self.clone(),
                        block: Some(block),
                    });
                }
                Leased::Frame(frame) => {
                    // Without the lock: it takes a moment.
                    let expand = AssertUnwindSafe(|| self.expand(&frame));
                    let blocks = panic::catch_unwind(expand).unwrap_or(Err(Corrupt));
                    if blocks.is_err() {
                        let lines = frame.lines();
                        error!(
                            lines,
                            "waiting lines are damaged and dropped; test the memory of this machine"
                        );
                    }
                    let mut state = self.lock();
                    state.expanded(&frame, blocks);
                    if !state.has_frames() {
                        *self.expander() = None;
                    }
                }
            }
        }
    }

    fn expand(&self, frame: &Frame) -> Result<Vec<Block>, Corrupt> {
        let mut expander = self.expander();
        if expander.is_none() {
            // Only without memory, which would have ended the process.
            *expander = Some(Expander::new().map_err(|_| Corrupt)?);
        }
        let Some(expander) = expander.as_mut() else {
            return Err(Corrupt);
        };
        expander.expand(frame)
    }

    fn expander(&self) -> MutexGuard<'_, Option<Expander>> {
        let expander = self.shared.expander.lock();
        expander.unwrap_or_else(PoisonError::into_inner)
    }

    /// An attempt to deliver has failed.
    pub fn upstream_down(&self) {
        self.change(|state| state.upstream_down(fastrand::f64()));
    }

    /// Lines were delivered.
    pub fn upstream_up(&self) {
        self.lock().request_succeeded(now());
        self.shared.changed.notify_one();
    }

    /// The upstream has asked for less.
    pub fn slow_down(&self) {
        self.lock().slow_down(now());
    }

    /// How long the queue lasts and how long it takes to drain, as things go,
    /// after a look at how small the queued lines become.
    pub fn outlook(&self) -> Outlook {
        let sample = {
            let state = self.lock();
            state.lacks_density().then(|| state.sample()).flatten()
        };
        if let Some(sample) = sample.filter(|sample| sample.bytes().len() >= LEAST_SAMPLE_BYTES)
            && let Ok(density) =
                Compressor::new().and_then(|mut compressor| compressor.density(&[sample]))
        {
            self.lock().learn_density(density);
        }
        self.lock().outlook(now())
    }

    /// Takes no more lines and stops lingering: the drain has begun.
    pub fn close(&self) {
        self.lock().close();
        self.shared.changed.notify_one();
        self.shared.ending.notify_waiters();
    }

    /// Still takes lines, but those who wait with patience should not: the
    /// daemon is about to end.
    pub fn hurry(&self) {
        self.shared.hurried.store(true, Relaxed);
        self.shared.ending.notify_waiters();
    }

    /// Waits until the daemon is about to end.
    pub async fn ending(&self) {
        let mut ending = std::pin::pin!(self.shared.ending.notified());
        // Listens before it looks, so that it cannot miss the moment.
        ending.as_mut().enable();
        if !self.shared.hurried.load(Relaxed) && !self.is_closed() {
            ending.await;
        }
    }

    /// Whether the drain has begun.
    pub fn is_closed(&self) -> bool {
        self.lock().is_closed()
    }

    /// Sets new limits; the oldest lines go when there is less room.
    pub fn set_limits(&self, limits: Limits) {
        let lines = self.change(|state| state.set_limits(limits));
        if lines > 0 {
            error!(
                lines,
                "the queue has become smaller, the oldest lines are dropped"
            );
        }
        self.shared.changed.notify_one();
    }

    /// How many lines have come in.
    pub fn received(&self) -> u64 {
        self.lock().ledger().received_total()
    }

    /// How many lines the upstream has.
    pub fn delivered(&self) -> u64 {
        self.lock().ledger().delivered()
    }

    /// What the queue holds now.
    pub fn snapshot(&self) -> Snapshot {
        let mut state = self.lock();
        Snapshot {
            ledger: state.ledger().clone(),
            delays: state.delays().clone(),
            allocated: state.allocated(),
            limits: state.limits(),
            outlook: state.outlook(now()),
        }
    }

    /// What the last ten minutes brought.
    pub fn history(&self) -> Columns {
        let history = self.lock().history(now());
        // Without the lock: it takes a moment.
        history.columns()
    }

    /// Writes all that waits, for the next process, and frees it as it goes; the
    /// account stays. Answers with the lines that were written, and with the
    /// error that cost the others.
    pub async fn hand_over(
        &self,
        counters: &Counters,
        out: &mut impl Write,
    ) -> (u64, io::Result<()>) {
        let deadline = tokio::time::Instant::now() + LAST_COMPRESSION;
        loop {
            let mut eased = std::pin::pin!(self.shared.eased.notified());
            // Listens before it looks, so that it cannot miss the moment.
            eased.as_mut().enable();
            if self.lock().settles_down() {
                break;
            }
            if tokio::time::timeout_at(deadline, eased).await.is_err() {
                break;
            }
        }
        checkpoint::write(&mut self.lock(), counters, now(), out)
    }

    /// Takes over the lines and the account of a former process. The file shrinks
    /// as it is read.
    pub fn restore(&self, counters: &Counters, file: &File) -> Restored {
        let restored = self.change(|state| checkpoint::restore(state, counters, now(), file));
        self.shared.changed.notify_one();
        restored
    }

    /// Takes over the account of a former process and drops its lines as `corrupt`.
    pub fn discard(&self, counters: &Counters, file: &File) -> Restored {
        self.change(|state| checkpoint::discard(state, counters, file))
    }

    /// From now on the numbers of lines are kept where the next process finds them.
    pub fn keep_account(&self, account: SharedNumbers<ACCOUNT_NUMBERS>) {
        // Once in a process.
        let _ = self.shared.account.set(account);
        drop(self.lock());
    }

    /// The account that the next process finds, if one is kept.
    pub fn account(&self) -> Option<&SharedNumbers<ACCOUNT_NUMBERS>> {
        self.shared.account.get()
    }

    /// A change that may make work for the compressing thread.
    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let result = change(&mut state);
        let calls = state.wakes_worker();
        drop(state);
        if calls {
            self.shared.work.notify_one();
        }
        result
    }

    fn lock(&self) -> Locked<'_> {
        Locked {
            state: self.lock_state(),
            account: self.shared.account.get(),
        }
    }

    /// For those who change no number of lines.
    fn lock_state(&self) -> MutexGuard<'_, State> {
        // A panic while it was held ends the process with exit 70; until then
        // the account must stay readable, and the lines are handed over.
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state, locked. When it is unlocked, the account is brought up to date.
struct Locked<'a> {
    state: MutexGuard<'a, State>,
    account: Option<&'a SharedNumbers<ACCOUNT_NUMBERS>>,
}

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        if let Some(account) = self.account {
            let ledger = self.state.ledger();
            account.set(ACCOUNT_QUEUED, ledger.queued());
            account.set(ACCOUNT_IN_FLIGHT, ledger.in_flight());
        }
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

/// The clock of the runtime, which simulations move.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A block on loan. Settle its lines as they are delivered; what is not
/// settled when the lease is dropped, for whatever reason, is in front again.
pub struct Lease {
    queue: Queue,
    /// `Some` until it is dropped.
    block: Option<Block>,
}

impl Lease {
    /// The lines still to be delivered, each with its newline, without key.
    pub fn bytes(&self) -> &[u8] {
        self.block.as_ref().map_or(&[], Block::bytes)
    }

    /// How many lines are still to be delivered.
    pub fn lines(&self) -> u64 {
        self.block.as_ref().map_or(0, Block::lines)
    }

    /// These of [`Lease::bytes`], whole lines, were handed to a socket, at least one byte
    /// of each: they count as resent when they are handed over again.
    pub fn send(&mut self, range: Range<usize>) {
        self.with(|state, block| state.send(block, range));
    }

    /// The first `bytes` bytes, whole lines, have reached the upstream.
    pub fn settle(&mut self, bytes: usize) {
        let now = now();
        self.with(|state, block| state.settle(block, bytes, now));
    }

    /// All lines are dropped.
    pub fn give_up_all(mut self, reason: DropReason) {
        self.give_up(self.bytes().len(), reason);
    }

    /// All lines have reached the upstream.
    pub fn settle_all(mut self) {
        self.settle_rest();
    }

    /// All lines that are left have reached the upstream.
    pub fn settle_rest(&mut self) {
        self.settle(self.bytes().len());
    }

    /// The first `end` bytes are acknowledged, and may still die with the peer.
    /// Whether they all were before, on another connection.
    pub fn acknowledge(&mut self, end: usize) -> bool {
        self.block
            .as_mut()
            .is_some_and(|block| block.acknowledge(end))
    }

    /// Cuts the lines from byte `at` on off, into a lease of their own.
    pub fn split_off(&mut self, at: usize) -> Option<Self> {
        let block = self.block.as_mut()?;
        let rest = self.queue.lock().split_off(block, at);
        Some(Self {
            queue: self.queue.clone(),
            block: Some(rest),
        })
    }

    /// Another lease of the same queue, if one is ready.
    pub fn another(&self) -> Option<Self> {
        self.queue.lease()
    }

    /// A single line of the same queue, to be asked for whether the upstream takes any.
    /// `at` says which of those that wait: 0 is the oldest, 1 the newest.
    pub fn probe_line(&self, at: f64) -> Option<Self> {
        let line = self.queue.lock().lease_probe_line(at);
        if let Some(line) = line {
            return Some(Self {
                queue: self.queue.clone(),
                block: Some(line),
            });
        }
        // All that waits is compressed.
        let mut next = self.another()?;
        let end = memchr(b'\n', next.bytes())? + 1;
        if end < next.bytes().len() {
            // It goes back to its place.
            next.split_off(end);
        }
        Some(next)
    }

    /// How large blocks become.
    pub fn block_bytes(&self) -> usize {
        self.queue.lock().limits().block_bytes
    }

    /// The first `bytes` bytes, whole lines, are dropped.
    pub fn give_up(&mut self, bytes: usize, reason: DropReason) {
        self.with(|state, block| state.give_up(block, bytes, reason));
    }

    fn with(&mut self, act: impl FnOnce(&mut State, &mut Block)) {
        if let Some(block) = &mut self.block {
            act(&mut self.queue.lock(), block);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            self.queue.change(|state| state.release(block));
            // The relay may have asked, and found nothing, while it was down.
            self.queue.shared.changed.notify_one();
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("lines", &self.lines())
            .finish_non_exhaustive()
    }
}
