//! Lines to standard output, as people want to see them: the key shown as
//! `<key>`. The embedded default.
//!
//! The write happens on another thread. An output that blocks holds up this
//! sink alone; lines wait in the queue meanwhile.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

use crate::blocking::{self, NO_THREAD_REMEDY};
use crate::config::ApiKey;
use crate::panics;
use crate::pipeline::queue::Lease;
use crate::stats::FailureKind;

use super::Deliver;
use super::encode::{Encoder, WireBuffer};
use super::failure::Failure;
use super::window::{begun_lines, whole_lines};

/// Written at once; a pipe holds as much (pipe(7)).
const WRITE_BYTES: usize = 64 << 10;

/// Prints lines.
#[derive(Debug)]
pub struct StdoutSink {
    encoder: Encoder,
    buffer: WireBuffer,
}

/// Lines that are being written: if nobody waits for the outcome, they count as sent.
struct Writing<'a> {
    lease: &'a mut Lease,
    bytes: usize,
}

impl StdoutSink {
    /// Prints to this process's standard output, with `<key>.` before each name unless
    /// lines leave without a key.
    pub fn new(is_bare: bool) -> Self {
        Self {
            encoder: if is_bare {
                Encoder::new(&ApiKey::none())
            } else {
                Encoder::masked()
            },
            buffer: WireBuffer::default(),
        }
    }
}

impl Deliver for StdoutSink {
    async fn connect(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    async fn deliver(&mut self, mut lease: Lease) -> Result<(), Failure> {
        let failed = |error: &dyn std::fmt::Display| {
            let what = format!("cannot write to standard output: {error}");
            Failure::unavailable(FailureKind::Io, what)
        };
        // Without a buffer in between, which would keep what was refused and write it
        // later, beside the copies.
        let out = io::stdout().as_fd().try_clone_to_owned();
        let out = Arc::new(File::from(out.map_err(|error| failed(&error))?));
        while lease.lines() > 0 {
            let bytes = self
                .encoder
                .encode(lease.bytes(), WRITE_BYTES, &mut self.buffer);
            let piece = self.buffer.bytes().to_vec();
            let writing = Writing {
                lease: &mut lease,
                bytes,
            };
            let out = out.clone();
            let started = blocking::start("stdout", move || {
                panics::inject("stdout");
                // One after the other: a former delivery may not have waited.
                let _turn = io::stdout().lock();
                write(&*out, &piece)
            });
            let written = started.map_err(|error| {
                let what = "no thread is available to write to standard output";
                Failure::unavailable(
                    FailureKind::Io,
                    format!("{what}: {error}; {NO_THREAD_REMEDY}"),
                )
            })?;
            let (accepted, result) = written.await;
            writing.finish(self.encoder.overhead(), accepted);
            result.map_err(|error| failed(&error))?;
        }
        Ok(())
    }
}

impl Writing<'_> {
    /// This number of bytes of the output was accepted.
    fn finish(self, overhead: usize, accepted: usize) {
        let lines = &self.lease.bytes()[..self.bytes];
        let begun = begun_lines(lines, overhead, accepted);
        let (whole, _) = whole_lines(lines, overhead, accepted);
        self.lease.send(0..begun);
        self.lease.settle(whole);
        std::mem::forget(self);
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.lease.send(0..self.bytes);
    }
}

/// Writes all of it. How many bytes were accepted, also before an error.
#[expect(
    clippy::disallowed_methods,
    reason = "`write_all` does not say how much was accepted before an error"
)]
fn write(mut out: impl Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut accepted = 0;
    while accepted < bytes.len() {
        match out.write(&bytes[accepted..]) {
            Ok(0) => return (accepted, Err(io::ErrorKind::WriteZero.into())),
            Ok(more) => accepted += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (accepted, Err(error)),
        }
    }
    (accepted, Ok(()))
}
