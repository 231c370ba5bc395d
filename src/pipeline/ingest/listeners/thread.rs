//! A task with a thread and a runtime of its own.
//!
//! In: a task that receives. Out: its end, or its panic. It is told to stop as
//! every other is; whoever drops what waits for it ends it all the same.

use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc;
use std::thread::Builder;

use tokio::runtime::Runtime;
use tokio::select;
use tokio::sync::oneshot;
use tracing::warn;

use crate::runtime;

/// What the system shows of such a thread.
const NAME: &str = "datagrams";

/// Runs a task on a thread of its own, to its end. Dropped, it ends the task where
/// that next waits.
pub async fn run(task: impl Future<Output = ()> + Send + 'static) {
    run_on(Builder::new().name(NAME.to_owned()), task).await;
}

async fn run_on(thread: Builder, task: impl Future<Output = ()> + Send + 'static) {
    let (_waited_for, dropped) = oneshot::channel::<()>();
    let (tell, ended) = oneshot::channel();
    // The task follows once there is a thread for it: else it would be lost.
    let (hand_over, handed_over) = mpsc::channel();
    let receive = move || {
        let Ok((runtime, task)) = handed_over.recv() else {
            return;
        };
        let end = panic::catch_unwind(AssertUnwindSafe(|| to_its_end(&runtime, task, dropped)));
        // Nobody waits any more where all ends.
        let _ = tell.send(end);
    };
    let started = runtime::of_one_thread().and_then(|runtime| match thread.spawn(receive) {
        Ok(_) => Ok(runtime),
        Err(error) => {
            // Dropped here, within another one, it would panic.
            runtime.shutdown_background();
            Err(error)
        }
    });
    match started {
        // The thread waits for just this.
        Ok(runtime) => drop(hand_over.send((runtime, task))),
        Err(error) => {
            // Whatever comes to its socket must be received all the same.
            warn!(%error, "no thread can be had; the first one receives for this one as well");
            return task.await;
        }
    }
    if let Ok(Err(panic)) = ended.await {
        panic::resume_unwind(panic);
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
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_task_has_a_thread_of_its_own() {
        let here = thread::current().id();
        let (tell, told) = oneshot::channel();
        run(async move {
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
    async fn where_there_is_no_thread_it_runs_here() {
        // More than any address space has.
        let too_large = Builder::new().stack_size(usize::MAX / 8);
        let here = thread::current().id();
        let (tell, told) = oneshot::channel();
        run_on(too_large, async move {
            tell.send(thread::current().id()).unwrap();
        })
        .await;
        assert_eq!(told.await.unwrap(), here);
    }

    #[tokio::test]
    async fn its_panic_is_ours() {
        let ended = tokio::spawn(run(async { panic!("on purpose") })).await;
        assert!(ended.unwrap_err().is_panic());
    }

    #[tokio::test]
    async fn it_ends_when_nobody_waits_for_it() {
        let (alive, ended) = oneshot::channel::<()>();
        let waiting = tokio::spawn(run(async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        }));
        tokio::task::yield_now().await;
        waiting.abort();
        // It ends with its sender dropped, either way.
        assert!(ended.await.is_err());
    }
}
