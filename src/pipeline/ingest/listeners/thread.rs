//! A task with a thread and a runtime of its own.
//!
//! In: a task that receives. Out: its end, or its panic. It is told to stop as
//! every other is; whoever drops what waits for it ends it all the same.

use std::future::Future;
use std::panic;

use tokio::select;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tracing::warn;

use crate::runtime;

/// Runs a task on a thread of its own, to its end. Dropped, it ends the task where
/// that next waits.
pub async fn run(task: impl Future<Output = ()> + Send + 'static) {
    let runtime = match runtime::of_one_thread() {
        Ok(runtime) => runtime,
        Err(error) => {
            // Whatever comes to its socket must be received all the same.
            warn!(%error, "no thread can be had; the first one receives for this one as well");
            return task.await;
        }
    };
    let (_waited_for, dropped) = oneshot::channel::<()>();
    let ended = spawn_blocking(move || {
        runtime.block_on(async {
            select! {
                () = task => {}
                _ = dropped => {}
            }
        });
    });
    if let Err(error) = ended.await
        && let Ok(panic) = error.try_into_panic()
    {
        panic::resume_unwind(panic);
    }
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
            tell.send(thread::current().id()).unwrap();
        })
        .await;
        assert_ne!(told.await.unwrap(), here);
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
