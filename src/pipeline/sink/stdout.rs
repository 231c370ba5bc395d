//! Lines to standard output, as people want to see them: the key shown as
//! `<key>`. The embedded default.
//!
//! The write happens on another thread. An output that blocks holds up this
//! sink alone; lines wait in the queue meanwhile.

use tokio::io::AsyncWriteExt;

use crate::config::ApiKey;
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
    out: tokio::io::Stdout,
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
            out: tokio::io::stdout(),
        }
    }

    /// Prints the lines of a lease and settles them as they are written.
    pub async fn deliver(&mut self, mut lease: Lease) -> Result<(), Failure> {
        while lease.lines() > 0 {
            let taken = self
                .encoder
                .encode(lease.bytes(), WRITE_BYTES, &mut self.buffer);
            lease.send(0..taken);
            let written = async {
                self.out.write_all(self.buffer.bytes()).await?;
                self.out.flush().await
            };
            if let Err(error) = written.await {
                return Err(Failure::unavailable(
                    FailureKind::Io,
                    format!("cannot write to standard output: {error}"),
                ));
            }
            lease.settle(taken);
        }
        Ok(())
    }
}
