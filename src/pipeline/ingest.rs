//! Lines in: from sockets to the queue.
//!
//! In: the listeners that the configuration names. Out: one push to the queue
//! a read. Nothing is ever written to a client, and no client waits for the
//! upstream. The sockets are in `ingest/{tcp,udp,unix}`, what their bytes mean
//! in `ingest/client` and a module for each dialect, who is bound where in
//! `ingest/listeners`.

pub mod client;
mod connections;
pub mod dialect;
mod foreign;
mod given;
mod lines;
mod listeners;
mod pickle;
mod portions;
mod split;
pub mod statsd;
mod tcp;
mod udp;
mod unix;

use std::cell::RefCell;
use std::fmt::Display;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tracing::{error, warn};
use zeroize::Zeroize;

use crate::config::{ListenSettings, StatsdSettings};
use crate::os::{self, Datagrams, Sender};
use crate::stats::{Counters, ListenerCounters, RejectReason, RejectedLine, Throttle};

use super::line::Rules;
use super::pack::{Pack, Sample};
use super::queue::{Pushed, Queue};
use client::{Client, Ending};
use connections::Connections;
use dialect::Dialect;
use portions::Portions;
use statsd::Statsd;
use tcp::Progress;

pub use given::Given;
pub use listeners::{BindError, Listeners, Plan};

/// No UDP datagram is larger, and a stream has rarely more at once.
pub const READ_BYTES: usize = 64 << 10;

/// So many streams are read before the relay has its turn: with a thousand clients
/// at full speed, one round of all would be more than the queue holds.
const READS_A_TURN: usize = 16;

/// Of large datagrams, a batch is handed to the queue in pieces.
const BYTES_A_PUSH: usize = 256 << 10;

/// How often each kind of rejection, or loss, may be logged.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

thread_local! {
    /// Every read of a thread goes through this one buffer: none is held
    /// across an await, so idle clients cost none.
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        buffer: vec![0; READ_BYTES].into_boxed_slice(),
        datagrams: None,
        pack: Pack::default(),
    });
}

struct Scratch {
    buffer: Box<[u8]>,
    datagrams: Option<Datagrams>,
    pack: Pack,
}

/// How a turn of receiving datagrams ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// There are no more for now.
    Empty,
    /// There may be more.
    Over,
}

/// What every listener needs: a handle.
#[derive(Debug, Clone)]
pub struct Ingest {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: Queue,
    rules: RwLock<Arc<Rules>>,
    counters: Arc<Counters>,
    connections: Arc<Connections>,
    turns: Semaphore,
    rejections: [Throttle; RejectReason::ALL.len()],
    losses: Throttle,
    kernel_drops: Throttle,
    /// Lines dropped since that was last logged.
    lost: AtomicU64,
    statsd: Statsd,
    crowds: Throttle,
    /// Samples dropped since that was last logged.
    crowded_out: AtomicU64,
    troubles: Throttle,
}

/// Whether a listener has to stop, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It does not.
    NotYet,
    /// It reads what has arrived.
    ReadTheRest,
    /// It leaves what has arrived at a socket that was given to us to the next
    /// process: it could not be kept here.
    LeaveTheRest,
}

/// What the task of a socket works with.
#[derive(Debug)]
pub struct Service {
    /// Where the lines go.
    ingest: Ingest,
    /// Whose they are.
    counters: Arc<ListenerCounters>,
    /// What the clients speak.
    dialect: Dialect,
    /// When to end.
    stopping: Stopping,
}

/// Resolves once a listener has to stop.
#[derive(Debug, Clone)]
pub struct Stopping {
    stop: watch::Receiver<Stop>,
    /// Whether the socket outlives this process.
    is_given: bool,
}

impl Stopping {
    /// Waits for the stop.
    pub async fn wait(&mut self) {
        // A sender that is gone has stopped its listeners too.
        let _ = self.stop.wait_for(|stop| *stop != Stop::NotYet).await;
    }

    /// Whether datagrams that have arrived are to be left where they are.
    fn leaves_datagrams(&self) -> bool {
        self.is_given && *self.stop.borrow() == Stop::LeaveTheRest
    }

    /// Whether clients that wait to be accepted are to be left to the next
    /// process: closing what they have just opened would lose what they send.
    fn leaves_clients(&self) -> bool {
        self.is_given && *self.stop.borrow() != Stop::NotYet
    }
}

impl Ingest {
    /// Puts lines that follow the rules into the queue.
    pub fn new(
        queue: Queue,
        rules: Rules,
        statsd: &StatsdSettings,
        max_connections: usize,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                queue,
                rules: RwLock::new(Arc::new(rules)),
                statsd: Statsd::new(statsd, counters.clone()),
                counters,
                connections: Connections::new(max_connections),
                turns: Semaphore::new(READS_A_TURN),
                rejections: std::array::from_fn(|_| Throttle::new(LOG_INTERVAL)),
                losses: Throttle::new(LOG_INTERVAL),
                kernel_drops: Throttle::new(LOG_INTERVAL),
                lost: AtomicU64::new(0),
                crowds: Throttle::new(LOG_INTERVAL),
                crowded_out: AtomicU64::new(0),
                troubles: Throttle::new(LOG_INTERVAL),
            }),
        }
    }

    /// New rules and limits, at a reload.
    pub fn reconfigure(&self, mut rules: Rules, max_connections: usize) {
        let mut current = self
            .shared
            .rules
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        rules.key.remember(&current.key);
        *current = Arc::new(rules);
        self.shared.connections.set_limit(max_connections);
    }

    /// Other ways to aggregate samples, at a reload.
    pub fn reconfigure_statsd(&self, settings: &StatsdSettings) {
        let Shared { statsd, queue, .. } = &*self.shared;
        statsd.reconfigure(settings, queue, |pushed| self.tell_losses(pushed));
    }

    /// Flushes samples at the end of each interval.
    pub async fn flush_samples(self) {
        let Shared { statsd, queue, .. } = &*self.shared;
        statsd.run(queue, |pushed| self.tell_losses(pushed)).await;
    }

    /// Flushes what samples have come, at once.
    pub fn flush_samples_now(&self) {
        let Shared { statsd, queue, .. } = &*self.shared;
        statsd.flush_now(queue, |pushed| self.tell_losses(pushed));
    }

    fn connections(&self) -> &Arc<Connections> {
        &self.shared.connections
    }

    fn rules(&self) -> Arc<Rules> {
        let rules = self
            .shared
            .rules
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        rules.clone()
    }

    /// One read of a stream, from the socket to the queue.
    fn read_stream(
        &self,
        listener: &ListenerCounters,
        peer: &impl Display,
        client: &mut Client,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Progress> {
        SCRATCH.with_borrow_mut(|Scratch { buffer, pack, .. }| {
            let length = read(buffer)?;
            if length == 0 {
                return Ok(Progress::Ended);
            }
            pack.begin(SystemTime::now());
            let (bytes, rules) = (&buffer[..length], self.rules());
            let mut is_tight = false;
            let mut portions = Portions::of(pack, |pack| {
                is_tight |= self.push(listener, pack, |_| peer);
            });
            let fed = if client.brings_samples() {
                let mut reading = self.shared.statsd.read();
                client.feed(bytes, &rules, &mut reading.fold(portions.pack()))
            } else {
                client.feed(bytes, &rules, &mut portions)
            };
            portions.finish();
            if pack.carried_key() {
                buffer[..length].zeroize();
            }
            buffer[length - client.unseen().min(length)..length].zeroize();
            Ok(if fed.is_break() {
                Progress::Foreign
            } else if is_tight {
                Progress::Tight
            } else if length == buffer.len() {
                Progress::Full
            } else {
                Progress::Read
            })
        })
    }

    /// The end of a stream, whose last line may lack its newline.
    fn end_stream(
        &self,
        listener: &ListenerCounters,
        peer: &impl Display,
        client: Client,
        ending: Ending,
    ) {
        SCRATCH.with_borrow_mut(|Scratch { pack, .. }| {
            pack.begin(SystemTime::now());
            let rules = self.rules();
            if client.brings_samples() {
                let mut reading = self.shared.statsd.read();
                client.finish(ending, &rules, &mut reading.fold(pack));
            } else {
                client.finish(ending, &rules, pack);
            }
            self.push(listener, pack, |_| peer);
        });
    }

    /// A batch of datagrams, from the socket to the queue.
    fn read_datagrams(
        &self,
        listener: &ListenerCounters,
        dialect: Dialect,
        receive: impl FnOnce(&mut Datagrams) -> io::Result<()>,
    ) -> io::Result<Turn> {
        SCRATCH.with_borrow_mut(
            |Scratch {
                 datagrams, pack, ..
             }| {
                let datagrams = datagrams.get_or_insert_with(Datagrams::default);
                datagrams.clear();
                match receive(datagrams) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        return Ok(Turn::Empty);
                    }
                    received => received?,
                }
                let rules = self.rules();
                let now = SystemTime::now();
                // One for each sample in the pack.
                let mut senders = [Sender::Unknown; RejectReason::ALL.len()];
                let mut carried_key = false;
                let mut reading = (dialect == Dialect::Statsd).then(|| self.shared.statsd.read());
                pack.begin(now);
                for (bytes, received) in datagrams.iter() {
                    let before = pack.samples().len();
                    let is_cut = received.truncated;
                    match &mut reading {
                        None => client::datagram(dialect, bytes, is_cut, &rules, pack),
                        Some(reading) => {
                            let mut folding = reading.fold(pack);
                            client::datagram(dialect, bytes, is_cut, &rules, &mut folding);
                        }
                    }
                    senders[before..pack.samples().len()].fill(received.sender);
                    if pack.bytes().len() >= BYTES_A_PUSH {
                        carried_key |= pack.carried_key();
                        self.push(listener, pack, |sample| senders[sample]);
                        pack.begin(now);
                    }
                }
                carried_key |= pack.carried_key();
                self.push(listener, pack, |sample| senders[sample]);
                if carried_key {
                    datagrams.zeroize();
                }
                Ok(if datagrams.is_full() {
                    Turn::Over
                } else {
                    Turn::Empty
                })
            },
        )
    }

    /// Waits for a stream's turn to be read, which lasts as long as what is answered.
    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // Nobody ever closes it.
        self.shared.turns.acquire().await.ok()
    }

    /// Waits a moment for room in the queue.
    async fn eased(&self) {
        self.shared.queue.eased().await;
    }

    /// Hands a read's lines to the queue and says what was wrong with the
    /// others, at a limited rate. Whether the queue is about to make room. Of each
    /// sample in the pack, the sender is asked for by its number.
    fn push<S: Display>(
        &self,
        listener: &ListenerCounters,
        pack: &Pack,
        sender: impl Fn(usize) -> S,
    ) -> bool {
        if pack.is_empty() {
            return false;
        }
        let pushed = self.shared.queue.push(listener.id, pack);
        self.tell_losses(pushed);
        self.tell_crowded_out(pack.crowded_out());
        for (number, sample) in pack.samples().iter().enumerate() {
            self.tell(listener, &sender(number), sample);
        }
        pushed.is_tight
    }

    fn tell_losses(&self, pushed: Pushed) {
        if pushed.dropped > 0 {
            self.shared.lost.fetch_add(pushed.dropped, Relaxed);
            if self.may_say(&self.shared.losses) {
                let lines = self.shared.lost.swap(0, Relaxed);
                error!(lines, "the queue is full, the oldest lines are dropped");
            }
        }
    }

    fn tell_crowded_out(&self, samples: u64) {
        if samples > 0 {
            self.shared.crowded_out.fetch_add(samples, Relaxed);
            if self.may_say(&self.shared.crowds) {
                let samples = self.shared.crowded_out.swap(0, Relaxed);
                error!(
                    samples,
                    "statsd.bytes is used up, samples of new names are dropped; send fewer names, or raise it"
                );
            }
        }
    }

    fn tell(&self, listener: &ListenerCounters, peer: &impl Display, sample: &Sample) {
        let reason = sample.reject.reason;
        let now = Instant::now();
        let latest = &self.shared.counters.rejected_lines;
        latest.note(reason, now, || RejectedLine {
            at: SystemTime::now(),
            reason,
            hint: sample.reject.hint,
            excerpt: sample.excerpt(),
            listener: listener.label.clone(),
            sender: peer.to_string(),
        });
        match self.shared.rejections[reason as usize].allow(now) {
            Some(suppressed) => warn!(
                reason = reason.label(),
                listener = %listener.label,
                %peer,
                line = ?String::from_utf8_lossy(&sample.line),
                hint = sample.reject.hint,
                suppressed = (suppressed > 0).then_some(suppressed),
                "line rejected"
            ),
            None => self.suppressed(),
        }
    }

    /// Counts datagrams that the kernel dropped, and says so at a limited rate.
    fn kernel_dropped(&self, listener: &ListenerCounters, datagrams: u32, buffer: usize) {
        listener.kernel_drops.fetch_add(datagrams.into(), Relaxed);
        if self.may_say(&self.shared.kernel_drops) {
            warn!(
                datagrams,
                total = listener.kernel_drops.load(Relaxed),
                listener = %listener.label,
                buffer,
                hint = os::RECEIVE_BUFFER_HINT,
                "the kernel dropped datagrams, the receive buffer was full"
            );
        }
    }

    /// Whether a listener may say now that the system gives it trouble.
    fn may_complain(&self) -> bool {
        self.may_say(&self.shared.troubles)
    }

    fn may_say(&self, throttle: &Throttle) -> bool {
        let allowed = throttle.allow(Instant::now()).is_some();
        if !allowed {
            self.suppressed();
        }
        allowed
    }

    fn suppressed(&self) {
        self.shared.counters.leave_out_log_line();
    }
}

impl ListenSettings {
    /// What these settings say about lines.
    pub fn rules(&self, key: &crate::config::ApiKey) -> Rules {
        Rules {
            names: self.names,
            max_line_bytes: self.max_line_bytes,
            key: key.clone().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Notify;

    use super::*;
    use crate::config::{ApiKey, NameRule};
    use crate::pipeline::queue::Limits;

    fn ingest() -> Ingest {
        let limits = Limits {
            block_bytes: 64 << 10,
            queue_bytes: 1 << 20,
            linger: Duration::ZERO,
            gather: Duration::ZERO,
            max_lines_per_second: None,
        };
        let rules = Rules {
            names: NameRule::Any,
            max_line_bytes: 4096,
            key: ApiKey::none().into(),
        };
        let statsd = StatsdSettings {
            interval: Duration::from_secs(10),
            percentiles: Vec::new(),
            prefix: String::new(),
            bytes: 1 << 20,
        };
        Ingest::new(Queue::new(limits), rules, &statsd, 1000, Arc::default())
    }

    #[tokio::test]
    async fn the_relay_has_its_turn_among_a_thousand_clients() {
        const CLIENTS: u64 = 1000;
        let ingest = ingest();
        let reads = Arc::new(AtomicU64::new(0));
        let lines = Arc::new(Notify::new());
        for _ in 0..CLIENTS {
            let (ingest, reads, lines) = (ingest.clone(), reads.clone(), lines.clone());
            tokio::spawn(async move {
                for _ in 0..3 {
                    let turn = ingest.turn().await;
                    reads.fetch_add(1, Relaxed);
                    lines.notify_one();
                    // At full speed, as in tcp.rs.
                    tokio::task::yield_now().await;
                    drop(turn);
                }
            });
        }
        let (mut most, mut before) = (0, 0);
        while before < 3 * CLIENTS {
            lines.notified().await;
            let now = reads.load(Relaxed);
            most = most.max(now - before);
            before = now;
        }
        assert!(most <= 2 * READS_A_TURN as u64, "{most} reads in a row");
    }
}
