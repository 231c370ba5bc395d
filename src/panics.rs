//! Panics: noticed wherever they happen, so that the daemon ends in order.
//!
//! A panic ends the task or thread that it happens in, and nothing else. The hook
//! tells the daemon's loop about it, which then keeps the queue, prints the ledger
//! and ends the process.

use std::future::{Future, poll_fn};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::pin::pin;
use std::sync::OnceLock;
use std::task::Poll;
use std::thread;

use tokio::sync::Notify;
use tracing::error;

/// The longest part of a message that is logged, in characters.
const MESSAGE_CHARS: usize = 200;

static FIRST: OnceLock<String> = OnceLock::new();
static NOTICED: Notify = Notify::const_new();

/// From now on, every panic in this process is logged and noticed.
pub fn watch() {
    panic::set_hook(Box::new(|info| {
        let what = describe(info);
        error!("{what}");
        let _ = FIRST.set(what);
        NOTICED.notify_one();
    }));
}

/// Waits for the first panic and describes it.
pub async fn noticed() -> String {
    loop {
        if let Some(first) = first() {
            return first;
        }
        NOTICED.notified().await;
    }
}

/// The first panic, if there was one.
pub fn first() -> Option<String> {
    FIRST.get().cloned()
}

/// Runs a future to its end; `None` if it panics.
pub async fn guard<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|context| {
        let poll = AssertUnwindSafe(|| future.as_mut().poll(context));
        match panic::catch_unwind(poll) {
            Ok(poll) => poll.map(Some),
            Err(_) => Poll::Ready(None),
        }
    })
    .await
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let thread = thread::current();
    let thread = thread.name().unwrap_or("without a name");
    let place = info
        .location()
        .map_or_else(String::new, |location| format!(" at {location}"));
    let payload = info.payload();
    let message = payload.downcast_ref::<String>().map(String::as_str);
    let message = message.or_else(|| payload.downcast_ref::<&str>().copied());
    let message = message.map_or_else(String::new, shorten);
    format!("panic in the thread {thread}{place}: {message}")
}

/// The standard library quotes text in backquotes, which may be a client's line.
fn shorten(message: &str) -> String {
    let end = message.find('`').unwrap_or(message.len());
    let start = message[..end].chars().take(MESSAGE_CHARS);
    start.flat_map(char::escape_debug).collect()
}

/// Panics in tests: at the point, and from the moment, that the environment names as
/// `TEST_PANIC=POINT:FILE`, when the file exists.
///
/// # Panics
///
/// Where it is asked to.
#[cfg(debug_assertions)]
pub fn inject(point: &str) {
    static ASKED: OnceLock<Option<String>> = OnceLock::new();
    let asked = ASKED.get_or_init(|| std::env::var("TEST_PANIC").ok());
    let file = asked
        .as_deref()
        .and_then(|asked| asked.strip_prefix(point)?.strip_prefix(':'));
    let is_now = file.is_some_and(|file| std::path::Path::new(file).exists());
    assert!(!is_now, "injected into {point}");
}

/// Does nothing in a release build.
#[cfg(not(debug_assertions))]
pub const fn inject(_point: &str) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_guard_survives_a_panic() {
        assert_eq!(guard(async { 1 }).await, Some(1));
        let panics = async {
            tokio::task::yield_now().await;
            panic!("on purpose")
        };
        assert_eq!(guard::<()>(panics).await, None);
    }

    #[test]
    fn a_message_quotes_no_text() {
        assert_eq!(
            shorten("no char boundary of `a.b 1`"),
            "no char boundary of "
        );
        assert_eq!(shorten("two\nlines"), "two\\nlines");
        assert_eq!(shorten(&"x".repeat(1000)).len(), MESSAGE_CHARS);
    }
}
