use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::SystemTime;

use super::*;
use crate::config::{ApiKey, NameRule};
use crate::pipeline::batch::Batch;
use crate::pipeline::line::Rules;
use crate::pipeline::queue::Limits;
use crate::pipeline::sink::Cause;
use crate::stats::{FailureKind, ListenerId};

const RETRY: RetrySettings = RetrySettings {
    first: Duration::from_millis(250),
    max: Duration::from_secs(30),
};

/// What the scripted upstream does with the next batch.
enum Step {
    Take,
    /// Takes the first line, then fails.
    TakeOne,
    Fail,
    RefuseKey,
    /// Never answers.
    Hang,
}

#[derive(Clone, Default)]
struct Upstream {
    script: Arc<Mutex<VecDeque<Step>>>,
    taken: Arc<Mutex<Vec<String>>>,
}

impl Upstream {
    fn scripted(steps: impl IntoIterator<Item = Step>) -> Self {
        let upstream = Self::default();
        upstream.script.lock().unwrap().extend(steps);
        upstream
    }

    fn take(&self, lease: &mut Lease, lines: usize) {
        let text = String::from_utf8(lease.bytes().to_vec()).unwrap();
        let taken: Vec<&str> = text.split_inclusive('\n').take(lines).collect();
        lease.settle(taken.concat().len());
        let names = taken
            .iter()
            .map(|line| line.split(' ').next().unwrap().to_owned());
        self.taken.lock().unwrap().extend(names);
    }
}

impl Deliver for Upstream {
    async fn connect(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    async fn deliver(&mut self, mut lease: Lease) -> Result<(), Failure> {
        let step = self
            .script
            .lock()
            .unwrap()
            .pop_front()
            .unwrap_or(Step::Take);
        let cause = |kind| Cause::new(kind, "scripted");
        match step {
            Step::Take => {
                self.take(&mut lease, usize::MAX);
                Ok(())
            }
            Step::TakeOne => {
                self.take(&mut lease, 1);
                Err(Failure::Unavailable(cause(FailureKind::Closed)))
            }
            Step::Fail => Err(Failure::Unavailable(cause(FailureKind::Connect))),
            Step::RefuseKey => Err(Failure::Unauthorized(cause(FailureKind::Unauthorized))),
            Step::Hang => std::future::pending().await,
        }
    }

    fn has_room(&self) -> bool {
        true
    }

    async fn poll_acks(&mut self) -> Result<SinkEvent, Failure> {
        std::future::pending().await
    }

    async fn close(self) {}
}

struct Running {
    queue: Queue,
    replacements: mpsc::UnboundedSender<Replacement<Upstream>>,
    relay: tokio::task::JoinHandle<()>,
    next: u32,
}

impl Running {
    fn start(upstream: &Upstream) -> Self {
        let queue = Queue::new(Limits {
            block_bytes: 64,
            queue_bytes: 1 << 20,
            linger: Duration::ZERO,
            max_lines_per_second: None,
            gather: Duration::ZERO,
        });
        let (replacements, incoming) = mpsc::unbounded_channel();
        let first = Replacement {
            sink: upstream.clone(),
            retry: RETRY,
        };
        let relay = Relay::new(
            queue.clone(),
            first,
            Arc::default(),
            incoming,
            mpsc::unbounded_channel().0,
        );
        Self {
            queue,
            replacements,
            relay: tokio::spawn(relay.run()),
            next: 0,
        }
    }

    fn push(&mut self, lines: u32) {
        let rules = Rules {
            names: NameRule::Any,
            max_line_bytes: 99,
            key: ApiKey::none().into(),
        };
        let mut batch = Batch::default();
        batch.reset(SystemTime::now());
        for number in self.next..self.next + lines {
            batch.add(format!("m{number} 1 5").as_bytes(), &rules);
        }
        self.next += lines;
        self.queue.push(ListenerId(0), &batch);
    }

    async fn drained(self) -> Queue {
        self.queue.close();
        self.relay.await.unwrap();
        self.queue
    }
}

fn names(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|number| format!("m{number}")).collect()
}

#[tokio::test(start_paused = true)]
async fn failures_are_waited_out_and_order_is_kept() {
    let upstream = Upstream::scripted([Step::Fail, Step::Fail, Step::TakeOne, Step::Fail]);
    let mut running = Running::start(&upstream);
    running.push(50);
    let queue = running.drained().await;
    assert_eq!(*upstream.taken.lock().unwrap(), names(0..50));
    let ledger = queue.snapshot().ledger;
    assert_eq!((ledger.delivered(), ledger.imbalance()), (50, 0));
}

#[tokio::test(start_paused = true)]
async fn a_refused_key_holds_everything_until_a_new_sink_comes() {
    let wrong = Upstream::scripted((0..1000).map(|_| Step::RefuseKey));
    let mut running = Running::start(&wrong);
    running.push(5);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(running.queue.snapshot().ledger.queued(), 5);
    // The longest delay, jittered down to its half, for an hour.
    let attempts = 1000 - wrong.script.lock().unwrap().len();
    assert!((120..=241).contains(&attempts), "{attempts} attempts");

    let right = Upstream::default();
    let sink = right.clone();
    let replacement = Replacement { sink, retry: RETRY };
    let began = tokio::time::Instant::now();
    running.replacements.send(replacement).unwrap();
    running.drained().await;
    assert_eq!(*right.taken.lock().unwrap(), names(0..5));
    assert!(began.elapsed() < Duration::from_secs(1), "goes on at once");
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_hangs_is_given_up_soon_after_a_reload() {
    let stuck = Upstream::scripted([Step::Hang]);
    let mut running = Running::start(&stuck);
    running.push(5);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(running.queue.snapshot().ledger.in_flight(), 5);
    let fresh = Upstream::default();
    let replacement = Replacement {
        sink: fresh.clone(),
        retry: RETRY,
    };
    running.replacements.send(replacement).unwrap();
    running.drained().await;
    assert_eq!(*fresh.taken.lock().unwrap(), names(0..5));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_relay_loses_nothing() {
    let upstream = Upstream::scripted([Step::TakeOne, Step::Hang]);
    let mut running = Running::start(&upstream);
    running.push(5);
    tokio::time::sleep(Duration::from_secs(5)).await;
    running.relay.abort();
    assert!(running.relay.await.unwrap_err().is_cancelled());
    let ledger = running.queue.snapshot().ledger;
    assert_eq!(
        (ledger.delivered(), ledger.queued(), ledger.in_flight()),
        (1, 4, 0)
    );
}
