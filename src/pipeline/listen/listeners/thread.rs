//! A task with a thread and a runtime of its own.
//!
//! In: a task that receives. Out: its end, or its panic. It is told to stop as
//! every other is; whoever drops what waits for it ends it all the same. The thread
//! is there before the task: whether there is one is known when a listener starts.

use std::future::Future;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::mpsc;
use std::thread::{self, Builder};

use tokio::runtime::Runtime;
use tokio::select;
use tokio::sync::oneshot;

use crate::panics;
use crate::runtime;

/// What the system shows of such a thread.
const NAME: &str = "datagrams";

/// A thread that waits for a task. Dropped, it ends.
#[derive(Debug)]
pub struct Waiting {
    hand_over: mpsc::Sender<Task>,
    ended: oneshot::Receiver<thread::Result<()>>,
    /// Dropped: the task ends where it next waits.
    waited_for: oneshot::Sender<()>,
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Waiting {
    /// Starts the thread.
    pub fn start() -> io::Result<Self> {
        Self::start_on(Builder::new().name(NAME.to_owned()))
    }

    fn start_on(thread: Builder) -> io::Result<Self> {
        let (waited_for, dropped) = oneshot::channel::<()>();
        let (tell, ended) = oneshot::channel();
        let (hand_over, handed_over) = mpsc::channel::<Task>();
        let (report, reported) = mpsc::channel();
        thread.spawn(move || {
            // Made and dropped here: within another runtime, dropping it panics.
            let runtime = match runtime::of_one_thread() {
                Ok(runtime) => runtime,
                Err(error) => return drop(report.send(Err(error))),
            };
            drop(report.send(Ok(())));
            let Ok(task) = handed_over.recv() else {
                return;
            };
            let end = panic::catch_unwind(AssertUnwindSafe(|| {
                panics::inject("datagrams");
                to_its_end(&runtime, task, dropped);
            }));
            // Nobody waits any more where all ends.
            let _ = tell.send(end);
        })?;
        reported.recv().map_err(io::Error::other)??;
        Ok(Self {
            hand_over,
            ended,
            waited_for,
        })
    }

    /// Runs a task on it, to its end. Dropped, it ends the task where that next waits.
    pub async fn run(self, task: impl Future<Output = ()> + Send + 'static) {
        let Self {
            hand_over,
            ended,
            waited_for: _waited_for,
        } = self;
        // The thread waits for just this.
        drop(hand_over.send(Box::pin(task)));
        if let Ok(Err(panic)) = ended.await {
            panic::resume_unwind(panic);
        }
    }
}

fn to_its_end(runtime: &Runtime, task: impl Future<Output = ()>, dropped: oneshot::Receiver<()>) {
    runtime.block_on(async {
        select! {
            () = task => {}
            _ = dropped => {}
        }
    });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_task_has_a_thread_of_its_own() {
        let here = thread::current().id();
        let (tell, told) = oneshot::channel();
        Waiting::start()
            .unwrap()
            .run(async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                let current = thread::current();
                tell.send((current.id(), current.name().map(str::to_owned)))
                    .unwrap();
            })
            .await;
        let (there, name) = told.await.unwrap();
        assert_ne!(there, here);
        assert_eq!(name.as_deref(), Some(NAME));
    }

    #[tokio::test]
    async fn no_thread_is_an_error() {
        // More than any address space has.
        let too_large = Builder::new().stack_size(usize::MAX / 8);
        assert!(Waiting::start_on(too_large).is_err());
    }

    #[tokio::test]
    async fn it_may_be_dropped_before_its_task_runs() {
        let waiting = Waiting::start().unwrap();
        drop(waiting.run(async {}));
    }

    #[tokio::test]
    async fn its_panic_is_ours() {
        let ended = tokio::spawn(
            Waiting::start()
                .unwrap()
                .run(async { panic!("on purpose") }),
        )
        .await;
        assert!(ended.unwrap_err().is_panic());
    }

    #[tokio::test]
    async fn it_ends_when_nobody_waits_for_it() {
        let (alive, ended) = oneshot::channel::<()>();
        let waiting = tokio::spawn(Waiting::start().unwrap().run(async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        }));
        tokio::task::yield_now().await;
        waiting.abort();
        // It ends with its sender dropped, either way.
        assert!(ended.await.is_err());
    }
}
