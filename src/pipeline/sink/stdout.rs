//! Lines to standard output, as people want to see them: the key shown as
//! `<key>`. The embedded default.
//!
//! The write happens on another thread. An output that blocks holds up this
//! sink alone; lines wait in the queue meanwhile.

use std::io::{self, Write};
use std::sync::mpsc;
use std::thread;

use tokio::sync::oneshot;

use crate::blocking::NO_THREAD_REMEDY;
use crate::panics;
use crate::pipeline::queue::Lease;
use crate::stats::FailureKind;

use super::encode::{Encoder, WireBuffer};
use super::failure::Failure;

/// Written at once; a pipe holds as much (pipe(7)).
const WRITE_BYTES: usize = 64 << 10;

/// Prints lines.
#[derive(Debug)]
pub struct StdoutSink {
    encoder: Encoder,
    buffer: WireBuffer,
    /// Started with the first lines.
    printer: Option<Printer>,
}

impl StdoutSink {
    /// Prints to this process's standard output.
    pub fn new() -> Self {
        Self {
            encoder: Encoder::masked(),
            buffer: WireBuffer::default(),
            printer: None,
        }
    }

    /// Prints the lines of a lease and settles them as they are written.
    pub async fn deliver(&mut self, mut lease: Lease) -> Result<(), Failure> {
        while lease.lines() > 0 {
            let printer = match self.printer.take() {
                Some(printer) => printer,
                None => Printer::start().map_err(|error| {
                    failed(format!(
                        "no thread is available to write to standard output: {error}; {NO_THREAD_REMEDY}"
                    ))
                })?,
            };
            let printer = self.printer.insert(printer);
            // What a former delivery did not wait for.
            printer.wait().await.map_err(|error| refused(&error))?;
            let taken = self
                .encoder
                .encode(lease.bytes(), WRITE_BYTES, &mut self.buffer);
            lease.send(0..taken);
            printer.print(self.buffer.bytes());
            printer.wait().await.map_err(|error| refused(&error))?;
            lease.settle(taken);
        }
        Ok(())
    }
}

fn failed(what: String) -> Failure {
    Failure::unavailable(FailureKind::Io, what)
}

fn refused(error: &io::Error) -> Failure {
    failed(format!("cannot write to standard output: {error}"))
}

/// A thread that writes, one piece at a time.
#[derive(Debug)]
struct Printer {
    pieces: mpsc::Sender<(Vec<u8>, oneshot::Sender<io::Result<()>>)>,
    written: Option<oneshot::Receiver<io::Result<()>>>,
}

impl Printer {
    fn start() -> io::Result<Self> {
        let (pieces, to_write) = mpsc::channel::<(Vec<u8>, oneshot::Sender<_>)>();
        thread::Builder::new()
            .name("stdout".into())
            .spawn(move || {
                for (piece, tell) in to_write {
                    panics::inject("stdout");
                    let mut out = io::stdout().lock();
                    let written = out.write_all(&piece).and_then(|()| out.flush());
                    // The delivery may have been dropped.
                    let _ = tell.send(written);
                }
            })?;
        Ok(Self {
            pieces,
            written: None,
        })
    }

    fn print(&mut self, piece: &[u8]) {
        let (tell, written) = oneshot::channel();
        // A thread that has died is noticed by `wait`.
        let _ = self.pieces.send((piece.to_vec(), tell));
        self.written = Some(written);
    }

    /// Waits until the last piece is written. May be dropped at any time.
    async fn wait(&mut self) -> io::Result<()> {
        let Some(written) = &mut self.written else {
            return Ok(());
        };
        let result = written.await;
        self.written = None;
        result.unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
    }
}
