//! Streams: accept, read, never write. Unix streams use the same loops.

use std::fmt::Display;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::stats::{CloseReason, ListenerCounters};

use super::client::{Client, Ending};
use super::connections::Seat;
use super::{Ingest, Stopping};

/// How long accepting rests when descriptors or memory run out. Retrying at
/// once would spin: the connection stays in the backlog (accept(2)).
const REST: Duration = Duration::from_millis(100);

/// A peer that vanished without a word is noticed after some four minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(120);

/// A burst of clients that all reconnect at once should not be turned away;
/// the system's limit still holds.
const BACKLOG: i32 = 1024;

/// Where connections come from.
pub trait Acceptor: Send + 'static {
    /// What is accepted.
    type Stream: ReadyStream;

    /// The next connection, with its peer's name for the log.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, String)>> + Send;
}

/// A stream that can be read into a shared buffer once it is readable, so that
/// an idle one holds no buffer.
pub trait ReadyStream: Send + Sync + 'static {
    /// Waits until there is something to read.
    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send;

    /// Reads what there is.
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize>;
}

/// Opens a listening socket.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() && address.ip().is_loopback() {
        socket.set_only_v6(true)?;
    }
    // Connections of a former life in TIME_WAIT do not block the port.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts and serves connections until told to stop, then takes those that
/// wait in the backlog, lets all be read until they would block, and ends.
pub async fn serve<A: Acceptor>(
    acceptor: A,
    ingest: Ingest,
    counters: Arc<ListenerCounters>,
    mut stopping: Stopping,
) {
    let mut clients = JoinSet::new();
    loop {
        let accepted = select! {
            biased;
            Some(ended) = clients.join_next() => {
                propagate(ended);
                continue;
            }
            accepted = acceptor.accept() => accepted,
            () = stopping.wait() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                counters.opened();
                let seat = ingest.connections().seat();
                let reception = receive(
                    stream,
                    peer,
                    ingest.clone(),
                    counters.clone(),
                    seat,
                    stopping.clone(),
                );
                clients.spawn(reception);
            }
            Err(error) if is_exhaustion(&error) => {
                warn!(%error, listener = %counters.label, "cannot accept a connection; the longest idle one is closed");
                ingest.connections().make_room();
                tokio::time::sleep(REST).await;
            }
            // The client was gone before we came to it.
            Err(error) => {
                debug!(%error, listener = %counters.label, "a connection was not accepted");
            }
        }
    }
    while let Some(ended) = clients.join_next().await {
        propagate(ended);
    }
}

/// A defect in a client's task is a defect of the daemon.
fn propagate(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

/// Reads one client's stream to its end.
async fn receive<S: ReadyStream>(
    stream: S,
    peer: impl Display + Send,
    ingest: Ingest,
    counters: Arc<ListenerCounters>,
    seat: Seat,
    mut stopping: Stopping,
) {
    let mut client = Client::default();
    let (reason, ending) = loop {
        select! {
            // What can be read is read before anything else, so that neither
            // a stop nor an eviction loses what already is here.
            biased;
            readable = stream.readable() => {
                let read = readable.and_then(|()| {
                    ingest.read_stream(&counters, &peer, &mut client, |buffer| stream.try_read(buffer))
                });
                match read {
                    Ok(Progress::Read) => seat.active(),
                    Ok(Progress::Ended) => break (CloseReason::Client, Some(Ending::Clean)),
                    Ok(Progress::Foreign) => break (CloseReason::Protocol, None),
                    Err(error) if is_transient(&error) => {}
                    Err(error) => {
                        debug!(%error, %peer, listener = %counters.label, "a connection broke");
                        break (CloseReason::Error, Some(Ending::Broken));
                    }
                }
                // A client at full speed leaves turns for the others.
                tokio::task::yield_now().await;
            }
            () = seat.evicted() => break (CloseReason::Limit, Some(Ending::Broken)),
            () = stopping.wait() => break (CloseReason::Shutdown, Some(Ending::Broken)),
        }
    };
    if let Some(ending) = ending {
        ingest.end_stream(&counters, &peer, client, ending);
    }
    drop(stream);
    counters.closed(reason);
}

/// What a read of a stream brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Bytes.
    Read,
    /// The end.
    Ended,
    /// Another protocol.
    Foreign,
}

fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// The errors of accept(2) that stay until something is closed.
fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| exhausted.contains(&errno))
}

impl Acceptor for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, String)> {
        let (stream, peer) = Self::accept(self).await?;
        // Not worth a word when it is refused: it only reaps dead peers.
        let _ = SockRef::from(&stream)
            .set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_IDLE));
        Ok((stream, peer.to_string()))
    }
}

impl ReadyStream for TcpStream {
    async fn readable(&self) -> io::Result<()> {
        Self::readable(self).await
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Self::try_read(self, buffer)
    }
}
