//! Lines over a kept connection, TCP or TLS.
//!
//! In: leases. Out: `KEY.name value time` lines in order. A chunk of whole
//! lines is settled when it was written whole; what was not goes back with the
//! lease, and the next connection begins at a line.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::pipeline::queue::Lease;
use crate::stats::Counters;

use super::encode::{Encoder, WireBuffer};
use super::failure::Failure;
use super::wire::{Connector, Wire};
use super::{CLOSE_DEADLINE, jittered_age};

/// A TLS record holds so many bytes (RFC 8446, 5.1). One that ends in a
/// newline arrives whole or not at all, so half a line never does.
const RECORD_BYTES: usize = 16_384;

/// Written at once without TLS: a block and its keys, roughly.
const WRITE_BYTES: usize = 128 << 10;

/// Sends lines over a kept connection.
#[derive(Debug)]
pub struct StreamSink {
    connector: Connector,
    encoder: Encoder,
    buffer: WireBuffer,
    chunk_bytes: usize,
    write_timeout: Duration,
    max_age: Duration,
    counters: Arc<Counters>,
    connection: Option<Connection>,
    /// Old connections that say goodbye while a new one is at work.
    closing: JoinSet<()>,
}

#[derive(Debug)]
struct Connection {
    wire: Wire,
    /// When a new connection is due.
    expires: Instant,
}

impl StreamSink {
    /// A sink that connects when the first line is due.
    pub fn new(
        connector: Connector,
        encoder: Encoder,
        is_tls: bool,
        write_timeout: Duration,
        max_age: Duration,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            connector,
            encoder,
            buffer: WireBuffer::default(),
            chunk_bytes: if is_tls { RECORD_BYTES } else { WRITE_BYTES },
            write_timeout,
            max_age,
            counters,
            connection: None,
            closing: JoinSet::new(),
        }
    }

    /// Makes sure of a connection.
    pub async fn connect(&mut self) -> Result<(), Failure> {
        while self.closing.try_join_next().is_some() {}
        let expired = |connection: &mut Connection| connection.expires <= Instant::now();
        if let Some(old) = self.connection.take_if(expired) {
            self.closing.spawn(async move {
                old.wire.close(CLOSE_DEADLINE).await;
            });
        }
        if self.connection.is_none() {
            let wire = self.connector.connect().await?;
            self.counters.sink_connects.fetch_add(1, Relaxed);
            self.connection = Some(Connection {
                wire,
                expires: Instant::now() + jittered_age(self.max_age),
            });
        }
        Ok(())
    }

    /// Writes the lines of a lease and settles them as they are written.
    pub async fn deliver(&mut self, mut lease: Lease) -> Result<(), Failure> {
        // Taken out, so that a delivery that is abandoned in the middle of a
        // line takes its connection with it.
        let Some(mut connection) = self.connection.take() else {
            return Ok(());
        };
        while lease.lines() > 0 {
            let taken = self
                .encoder
                .encode(lease.bytes(), self.chunk_bytes, &mut self.buffer);
            lease.send(taken);
            let write = connection
                .wire
                .write_all(self.buffer.bytes(), self.write_timeout);
            let written = write.await;
            self.buffer.clear();
            written?;
            lease.settle(taken);
        }
        self.connection = Some(connection);
        Ok(())
    }

    /// Watches the idle connection. Ends when it has ended; never without one.
    pub async fn ended(&mut self) -> Failure {
        let Some(connection) = &mut self.connection else {
            return std::future::pending().await;
        };
        let failure = connection.wire.ended().await;
        self.connection = None;
        failure
    }

    /// Says goodbye to every connection.
    pub async fn close(mut self) {
        if let Some(connection) = self.connection.take() {
            connection.wire.close(CLOSE_DEADLINE).await;
        }
        self.closing.join_all().await;
    }
}
