//! Lines in: from sockets to the queue.
//!
//! In: the listeners that the configuration names. Out: one push to the queue
//! a read. Nothing is ever written to a client, and no client waits for the
//! upstream. The sockets are in `listen/{tcp,udp,unix}`, what their bytes mean
//! is in `decode`, who is bound where in `listen/listeners`, what is logged of
//! lines that do not pass in `listen/ingest_log`.

pub mod connections;
mod ingest_log;
mod listeners;
mod portions;
mod shutdown;
mod socket_activation;
mod tcp;
mod udp;
mod unix;

use std::cell::RefCell;
use std::fmt::Display;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use tokio::sync::{Semaphore, SemaphorePermit};
use zeroize::Zeroize;

use crate::config::{ListenSettings, StatsdSettings};
use crate::os::{Datagrams, Sender};
use crate::stats::{Counters, ListenerCounters, RejectReason};

use super::batch::{BYTES_A_PUSH, Batch};
use super::decode::protocol::Protocol;
use super::decode::{self, Decoder, Ending};
use super::line::Rules;
use super::queue::Queue;
use super::statsd::Statsd;
use connections::{Bounds, Connections};
use ingest_log::IngestLog;
use portions::Portions;
use shutdown::Stopping;
use tcp::{Brought, Progress};

pub use listeners::{BindError, Listeners, Plan};
pub use shutdown::Stop;
pub use socket_activation::ActivatedSockets;
pub use tcp::receive_buffer as tcp_receive_buffer;
pub use udp::bind as bind_udp;

/// No UDP datagram is larger, and a stream has rarely more at once.
pub const READ_BYTES: usize = 64 << 10;

/// So many streams are read before the relay has its turn: with a thousand clients
/// at full speed, one round of all would be more than the queue holds.
const READS_A_TURN: usize = 16;

/// At most this number of datagrams is handed to the queue together, or those that there are;
/// each call of the system brings a part of them.
const DATAGRAMS_A_PUSH: usize = 128;

/// What a thread takes to receive, at most: for streams, for datagrams, and for their lines, to
/// which a timestamp may be added.
pub const BUFFERS_BYTES: usize = READ_BYTES + Datagrams::MOST_BYTES + 4 * BYTES_A_PUSH;

thread_local! {
    /// Every read of a thread goes through this one buffer: none is held
    /// across an await, so idle clients cost none.
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        buffer: vec![0; READ_BYTES].into_boxed_slice(),
        datagrams: None,
        batch: Batch::default(),
    });
}

struct Scratch {
    buffer: Box<[u8]>,
    datagrams: Option<Datagrams>,
    batch: Batch,
}

/// How a turn of receiving datagrams ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// There are no more for now.
    Empty,
    /// There may be more; those that came have left so much room in the kernel's buffer.
    Over(usize),
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
    connections: Arc<Connections>,
    turns: Semaphore,
    statsd: Statsd,
    log: IngestLog,
}

/// What the task of a socket works with.
#[derive(Debug)]
pub struct Service {
    /// Where the lines go.
    ingest: Ingest,
    /// Whose they are.
    counters: Arc<ListenerCounters>,
    /// What the clients speak.
    protocol: Protocol,
    /// When to end.
    stopping: Stopping,
}

impl Ingest {
    /// Puts lines that follow the rules into the queue.
    pub fn new(
        queue: Queue,
        rules: Rules,
        statsd: &StatsdSettings,
        bounds: Bounds,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                queue,
                rules: RwLock::new(Arc::new(rules)),
                statsd: Statsd::new(statsd, counters.clone()),
                log: IngestLog::new(counters),
                connections: Connections::new(bounds),
                turns: Semaphore::new(READS_A_TURN),
            }),
        }
    }

    /// New rules and limits, at a reload.
    pub fn reconfigure(&self, mut rules: Rules, bounds: Bounds) {
        let mut current = self
            .shared
            .rules
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        rules.key.remember(&current.key);
        *current = Arc::new(rules);
        self.shared.connections.set_bounds(bounds);
    }

    /// Other ways to aggregate samples, at a reload.
    pub fn reconfigure_statsd(&self, settings: &StatsdSettings) {
        let Shared {
            statsd, queue, log, ..
        } = &*self.shared;
        statsd.reconfigure(settings, queue, |pushed| log.losses(pushed));
    }

    /// Flushes samples at the end of each interval.
    pub async fn flush_samples(self) {
        let Shared {
            statsd, queue, log, ..
        } = &*self.shared;
        statsd.run(queue, |pushed| log.losses(pushed)).await;
    }

    /// Flushes what samples have come, for the last time.
    pub async fn flush_last_samples(&self) {
        let Shared {
            statsd, queue, log, ..
        } = &*self.shared;
        statsd.flush_rest(queue, |pushed| log.losses(pushed)).await;
    }

    /// Flushes what samples have come, at once.
    pub fn flush_samples_now(&self) {
        let Shared {
            statsd, queue, log, ..
        } = &*self.shared;
        statsd.flush_now(queue, |pushed| log.losses(pushed));
    }

    fn log(&self) -> &IngestLog {
        &self.shared.log
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
        client: &mut Decoder,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Brought> {
        SCRATCH.with_borrow_mut(|Scratch { buffer, batch, .. }| {
            let length = read(buffer)?;
            if length == 0 {
                return Ok(Brought {
                    progress: Progress::Ended,
                    has_lines: false,
                });
            }
            batch.reset(SystemTime::now());
            let (bytes, rules) = (&buffer[..length], self.rules());
            let (mut is_tight, mut has_lines) = (false, false);
            let mut portions = Portions::of(batch, |batch| {
                has_lines |= batch.lines() > 0 || batch.aggregated() > 0;
                is_tight |= self.push(listener, batch, |_| peer);
            });
            let fed = if client.brings_samples() {
                let mut reading = self.shared.statsd.read();
                client.feed(bytes, &rules, &mut reading.fold(portions.batch()))
            } else {
                client.feed(bytes, &rules, &mut portions)
            };
            portions.finish();
            if batch.carried_key() {
                buffer[..length].zeroize();
            }
            buffer[length - client.unseen().min(length)..length].zeroize();
            let progress = if fed.is_break() {
                Progress::OtherProtocol
            } else if is_tight {
                Progress::Tight
            } else if length == buffer.len() {
                Progress::Full
            } else {
                Progress::Read
            };
            Ok(Brought {
                progress,
                has_lines,
            })
        })
    }

    /// Drops what a stream has begun and not finished.
    fn shed(&self, listener: &ListenerCounters, peer: &impl Display, client: &mut Decoder) {
        SCRATCH.with_borrow_mut(|Scratch { batch, .. }| {
            batch.reset(SystemTime::now());
            client.shed(&self.rules(), batch);
            self.push(listener, batch, |_| peer);
        });
    }

    /// The end of a stream, whose last line may lack its newline.
    fn end_stream(
        &self,
        listener: &ListenerCounters,
        peer: &impl Display,
        client: Decoder,
        ending: Ending,
    ) {
        SCRATCH.with_borrow_mut(|Scratch { batch, .. }| {
            batch.reset(SystemTime::now());
            let rules = self.rules();
            if client.brings_samples() {
                let mut reading = self.shared.statsd.read();
                client.finish(ending, &rules, &mut reading.fold(batch));
            } else {
                client.finish(ending, &rules, batch);
            }
            self.push(listener, batch, |_| peer);
        });
    }

    /// Some batches of datagrams, from the socket to the queue.
    fn read_datagrams(
        &self,
        listener: &ListenerCounters,
        protocol: Protocol,
        mut receive: impl FnMut(&mut Datagrams) -> io::Result<()>,
    ) -> io::Result<Turn> {
        SCRATCH.with_borrow_mut(
            |Scratch {
                 datagrams, batch, ..
             }| {
                let datagrams = datagrams.get_or_insert_with(Datagrams::default);
                let mut receives = |datagrams: &mut Datagrams| {
                    datagrams.clear();
                    match receive(datagrams) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
                        received => received.map(|()| true),
                    }
                };
                if !receives(datagrams)? {
                    return Ok(Turn::Empty);
                }
                let rules = self.rules();
                let now = SystemTime::now();
                // One for each sample in the batch.
                let mut senders = [Sender::Unknown; RejectReason::ALL.len()];
                let mut reading = (protocol == Protocol::Statsd).then(|| self.shared.statsd.read());
                let (mut count, mut room) = (0, 0);
                batch.reset(now);
                let ended = loop {
                    for (bytes, received) in datagrams.iter() {
                        let before = batch.samples().len();
                        let is_cut = received.truncated;
                        match &mut reading {
                            None => decode::datagram(protocol, bytes, is_cut, &rules, batch),
                            Some(reading) => {
                                let mut folding = reading.fold(batch);
                                decode::datagram(protocol, bytes, is_cut, &rules, &mut folding);
                            }
                        }
                        senders[before..batch.samples().len()].fill(received.sender);
                        if batch.bytes().len() >= BYTES_A_PUSH {
                            self.push(listener, batch, |sample| senders[sample]);
                            batch.clear();
                        }
                    }
                    if batch.carried_key() {
                        datagrams.zeroize();
                    }
                    count += datagrams.len();
                    room += datagrams.room();
                    if !datagrams.is_full() {
                        break Ok(Turn::Empty);
                    }
                    if count >= DATAGRAMS_A_PUSH || room >= BYTES_A_PUSH {
                        break Ok(Turn::Over(room));
                    }
                    match receives(datagrams) {
                        Ok(true) => {}
                        Ok(false) => break Ok(Turn::Empty),
                        Err(error) => break Err(error),
                    }
                };
                self.push(listener, batch, |sample| senders[sample]);
                ended
            },
        )
    }

    /// Gives back memory that rare large reads of this thread have taken.
    fn release_buffers() {
        SCRATCH.with_borrow_mut(
            |Scratch {
                 datagrams, batch, ..
             }| {
                if datagrams.as_ref().is_some_and(Datagrams::has_grown) {
                    *datagrams = None;
                }
                batch.shrink();
            },
        );
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
    /// others, at a limited rate. Whether the queue is about to evict. Of each
    /// sample in the batch, the sender is asked for by its number.
    fn push<S: Display>(
        &self,
        listener: &ListenerCounters,
        batch: &Batch,
        sender: impl Fn(usize) -> S,
    ) -> bool {
        if batch.is_empty() {
            return false;
        }
        let Shared { queue, log, .. } = &*self.shared;
        let pushed = queue.push(listener.id, batch);
        log.losses(pushed);
        log.no_room(batch.no_room());
        for (number, sample) in batch.samples().iter().enumerate() {
            log.rejected(listener, &sender(number), sample);
        }
        pushed.is_tight
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
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use std::time::Duration;

    use tokio::sync::Notify;

    use super::*;
    use crate::config::{ApiKey, NameRule};
    use crate::pipeline::queue::Limits;

    pub(super) fn ingest() -> Ingest {
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
        let bounds = Bounds {
            connections: 1000,
            buffer_bytes: 4 << 20,
        };
        Ingest::new(Queue::new(limits), rules, &statsd, bounds, Arc::default())
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
