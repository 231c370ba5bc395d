//! Signals, through signal-hook, as events of the daemon's loop.
//!
//! As process 1 of a container, the daemon also becomes the parent of processes
//! whose own parent has ended, and has to reap them.

use std::io;
use std::thread;

use rustix::process::{WaitOptions, wait};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::mpsc;

use crate::panics;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Read the configuration again.
    Reload,
    /// Drain and end; the second time, end at once.
    Stop,
}

/// The signals from now on. Their own thread reads them, so that none is
/// missed while the loop is busy.
pub fn listen() -> io::Result<mpsc::UnboundedReceiver<Signal>> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    let is_first_process = std::process::id() == 1;
    if is_first_process {
        signals.handle().add_signal(SIGCHLD)?;
    }
    let (sender, receiver) = mpsc::unbounded_channel();
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            if is_first_process {
                reap();
            }
            for signal in signals.forever() {
                panics::inject("signals");
                if signal == SIGCHLD {
                    reap();
                    continue;
                }
                let event = if signal == SIGHUP {
                    Signal::Reload
                } else {
                    Signal::Stop
                };
                if sender.send(event).is_err() {
                    return;
                }
            }
        })?;
    Ok(receiver)
}

/// Several children can end with one signal. The daemon starts none itself.
fn reap() {
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}

/// Waits, while the daemon drains, for the signal that ends it at once. A
/// reload makes no difference any more.
pub async fn second_stop(signals: &mut mpsc::UnboundedReceiver<Signal>) {
    loop {
        match signals.recv().await {
            Some(Signal::Stop) => return,
            Some(Signal::Reload) => {}
            None => std::future::pending().await,
        }
    }
}
