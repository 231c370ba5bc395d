//! A client that goes on writing while something else happens.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::client::say_and_hang_up;
use super::daemon::Daemon;
use super::numbered::payload;

/// Between two writes.
const BREATH: Duration = Duration::from_millis(2);

/// A client at work, with a TCP connection of its own.
pub struct Load {
    enough: Arc<AtomicBool>,
    thread: JoinHandle<Vec<String>>,
}

impl Load {
    /// Writes about so many lines a second, cut anywhere.
    #[expect(
        clippy::disallowed_methods,
        reason = "no other task shares this thread"
    )]
    pub fn start(daemon: &Daemon, name: &str, lines_per_second: usize) -> Self {
        let mut stream = daemon.connect();
        let enough = Arc::new(AtomicBool::new(false));
        let name = name.to_owned();
        let each = (lines_per_second / 500).max(1);
        let thread = thread::spawn({
            let enough = Arc::clone(&enough);
            move || {
                let mut sent = Vec::new();
                while !enough.load(Ordering::SeqCst) {
                    let first = sent.len();
                    sent.extend(
                        (first..first + each)
                            .map(|number| format!("{name}.{number:06} {number} 1700000000")),
                    );
                    stream
                        .write_all(&payload(&sent[first..]))
                        .expect("the daemon reads");
                    thread::sleep(BREATH);
                }
                say_and_hang_up(stream, "");
                sent
            }
        });
        Self { enough, thread }
    }

    /// Ends, and returns what it has written. The daemon has read all of it.
    #[track_caller]
    pub fn stop(self) -> Vec<String> {
        self.enough.store(true, Ordering::SeqCst);
        self.thread.join().expect("the client")
    }
}
