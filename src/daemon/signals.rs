//! Signals, through signal-hook, as events of the daemon's loop.

use std::io;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::mpsc;

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
    let (sender, receiver) = mpsc::unbounded_channel();
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
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
