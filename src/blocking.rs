//! Work that may block, such as a name lookup or reading a file, on a thread of its
//! own.
//!
//! `tokio::task::spawn_blocking` panics where the system has no thread to give; here
//! that is an ordinary error, after which the caller tries again later.

use std::future::Future;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;

use tokio::sync::oneshot;

/// What to do about it.
pub const NO_THREAD_REMEDY: &str = "raise the limit on processes and threads: TasksMax, ulimit -u, or the PID limit of the container or pod";

/// The result of work on another thread, to be awaited. Dropping it does not end
/// the work.
#[derive(Debug)]
pub struct Job<T>(oneshot::Receiver<thread::Result<T>>);

/// Starts work on a thread of its own.
pub fn start<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Job<T>> {
    let (tell, told) = oneshot::channel();
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let result = panic::catch_unwind(AssertUnwindSafe(work));
            // The caller may have stopped waiting.
            let _ = tell.send(result);
        })?;
    Ok(Job(told))
}

impl<T> Future for Job<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.0).poll(context).map(|told| match told {
            Ok(Ok(result)) => result,
            // A defect on the other thread is a defect of the one that waits.
            Ok(Err(panic)) => panic::resume_unwind(panic),
            Err(error) => panic::resume_unwind(Box::new(error)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_has_a_result_or_its_panic() {
        assert_eq!(start("test", || 7).unwrap().await, 7);
        let job = start("test", || panic!("on purpose")).unwrap();
        let ended: Result<(), _> = tokio::spawn(job).await;
        assert!(ended.unwrap_err().is_panic());
    }
}
