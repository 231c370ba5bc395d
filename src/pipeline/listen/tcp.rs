//! Streams: accept, read, never write. Unix streams use the same loops.

use std::future::Future;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::net::RecvFlags;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::deadline::{self, Deadline};
use crate::os::{self, Sender};
use crate::panics;
use crate::stats::{CloseReason, ListenerCounters};

use super::connections::{Holder, Slot};
use super::{Ingest, Service, Stopping};
use crate::pipeline::decode::protocol;
use crate::pipeline::decode::{Decoder, Ending};

/// How long accepting rests when descriptors or memory run out. Retrying at
/// once would spin: the connection stays in the backlog (accept(2)).
const REST: Duration = Duration::from_millis(100);

/// A peer that vanished without a word is noticed after some four minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(120);

/// A client that has connected and said nothing yet is about to. At a stop it has
/// so long to begin; then it would speak to a closed connection, and not know.
const FIRST_WORD: Duration = Duration::from_millis(250);

/// A stream is read for so long after its stop, at most. What waits in its buffers is
/// read long before, unless many clients have full ones: a client that is not at its
/// end by then goes on sending, and would keep its listener, or the drain, for ever.
const LAST_READS: Duration = Duration::from_secs(1);

/// A stream that is evicted is read at most this often before it is closed: others wait for its
/// slot. An idle one has nothing to read, a new one its first lines.
const EVICTED_READS: usize = 4;

/// Clients are accepted for so long after the stop, at most: a full backlog takes a
/// part of it, clients that come as fast as they are accepted have no end.
const LAST_ACCEPTS: Duration = Duration::from_millis(100);

/// A burst of clients that all reconnect at once should not be turned away;
/// the system's limit still holds.
const BACKLOG: i32 = 1024;

/// Where connections come from.
pub trait Acceptor: Send + 'static {
    /// What is accepted.
    type Stream: ReadyStream;

    /// The next connection, and who made it.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Sender)>> + Send;

    /// A connection that waits in the backlog, asked of the system itself.
    fn accept_now(&self) -> io::Result<(Self::Stream, Sender)>;
}

/// A stream that can be read into a shared buffer once it is readable, so that
/// an idle one holds no buffer.
pub trait ReadyStream: AsFd + Send + Sync + 'static {
    /// Waits until there is something to read.
    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send;

    /// Reads what there is, up to the buffer's end.
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// The same, asked of the system itself.
    fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (length, _) = rustix::net::recv(self, buffer, RecvFlags::DONTWAIT)?;
        Ok(length)
    }
}

/// Opens a listening socket. Sockets that share ports are let in beside others that do.
pub fn bind(address: SocketAddr, only_v6: bool, shares_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() && (only_v6 || address.ip().is_loopback()) {
        socket.set_only_v6(true)?;
    }
    if shares_port {
        socket.set_reuse_port(true)?;
    }
    // Connections of a former life in TIME_WAIT do not block the port.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// The receive buffer that the system grants a connection at first; 128 KiB where it cannot say.
pub fn receive_buffer() -> usize {
    const USUAL: usize = 128 << 10;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP));
    socket.map_or(USUAL, os::receive_buffer)
}

/// Accepts and serves connections until told to stop, then takes those that
/// wait in the backlog, lets all be read until they would block, and ends.
///
/// What the runtime knows of a socket may be older than the stop. So the last
/// questions, here and in [`Reception`], go to the system itself.
pub async fn serve<A: Acceptor>(acceptor: A, service: Service) {
    let Service {
        ingest,
        counters,
        protocol,
        stopping,
    } = service;
    let mut clients = JoinSet::new();
    let serve = async |clients: &mut JoinSet<()>, (stream, peer): (A::Stream, Sender)| {
        let reader = Arc::new(Reader {
            peer,
            ingest: ingest.clone(),
            counters: counters.clone(),
            protocol,
            client: Mutex::new(Decoder::new(protocol)),
        });
        let slot = ingest.connections().slot(peer, reader.clone()).await;
        counters.opened();
        let reception = Reception {
            stream,
            reader,
            slot,
            has_spoken: false,
        };
        clients.spawn(reception.run(stopping.clone()));
    };
    let mut stopped = stopping.clone();
    loop {
        let accepted = select! {
            biased;
            Some(ended) = clients.join_next() => {
                propagate(ended);
                continue;
            }
            // Before clients, of whom there may always be another.
            () = stopped.wait() => break,
            accepted = acceptor.accept() => accepted,
        };
        panics::inject("accept");
        match accepted {
            Ok(connection) => serve(&mut clients, connection).await,
            Err(error) if is_exhaustion(&error) => {
                if ingest.log().may_complain() {
                    warn!(%error, listener = %counters.label, "cannot accept a connection; another one is closed");
                }
                ingest.connections().evict_one();
                tokio::time::sleep(REST).await;
            }
            // The client was gone before we came to it.
            Err(error) => {
                debug!(%error, listener = %counters.label, "a connection was not accepted");
            }
        }
    }
    let mut end = Deadline::after(LAST_ACCEPTS);
    while !stopped.leaves_clients() && !end.is_over() {
        let accepted = acceptor.accept_now();
        end.look();
        match accepted {
            Ok(connection) => serve(&mut clients, connection).await,
            Err(error) if others_may_wait(&error) => {}
            Err(_) => break,
        }
    }
    // Clients that connect from now on must not wait for somebody who never accepts.
    drop(acceptor);
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

/// One client's stream, being read.
struct Reception<S> {
    stream: S,
    reader: Arc<Reader>,
    slot: Slot,
    has_spoken: bool,
}

/// What reads of one stream bring, and what is left over between two of them.
#[derive(Debug)]
struct Reader {
    peer: Sender,
    ingest: Ingest,
    counters: Arc<ListenerCounters>,
    protocol: protocol::Protocol,
    client: Mutex<Decoder>,
}

impl Reader {
    fn client(&self) -> MutexGuard<'_, Decoder> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream ended. Whatever is left over is freed.
    fn end(&self, ending: Option<Ending>) {
        let client = mem::replace(&mut *self.client(), Decoder::new(self.protocol));
        if let Some(ending) = ending {
            self.ingest
                .end_stream(&self.counters, &self.peer, client, ending);
        }
    }
}

impl Holder for Reader {
    fn shed(&self) -> usize {
        let mut client = self.client();
        self.ingest.shed(&self.counters, &self.peer, &mut client);
        client.held()
    }
}

impl<S: ReadyStream> Reception<S> {
    /// Reads to the end, or until the stream has to leave.
    async fn run(mut self, mut stopping: Stopping) {
        let ingest = self.reader.ingest.clone();
        let (reason, ending) = loop {
            select! {
                biased;
                readable = self.stream.readable() => {
                    panics::inject("client");
                    let turn = ingest.turn().await;
                    let read = readable.and_then(|()| self.read(S::try_read));
                    match self.judge(read) {
                        ControlFlow::Continue(Progress::Blocked) => continue,
                        ControlFlow::Continue(Progress::Tight) => {
                            drop(turn);
                            ingest.eased().await;
                        }
                        ControlFlow::Continue(Progress::Full) => {
                            // A client at full speed leaves turns for the others.
                            tokio::task::yield_now().await;
                            drop(turn);
                        }
                        ControlFlow::Continue(_) => continue,
                        ControlFlow::Break(ended) => break ended,
                    }
                    // Where it always is readable, the last branches never have their turn.
                    if stopping.has_come() {
                        break self.drain_socket(CloseReason::Shutdown).await;
                    }
                    if self.slot.is_evicted() {
                        break self.drain_socket(CloseReason::Limit).await;
                    }
                }
                () = self.slot.evicted() => break self.drain_socket(CloseReason::Limit).await,
                () = stopping.wait() => break self.drain_socket(CloseReason::Shutdown).await,
            }
        };
        self.reader.end(ending);
        self.reader.counters.closed(reason);
    }

    /// Reads what has arrived, until the stream would block or has had its time.
    async fn drain_socket(&mut self, reason: CloseReason) -> Ended {
        let mut end = Deadline::after(LAST_READS);
        let mut reads_left = match reason {
            CloseReason::Limit => EVICTED_READS,
            _ => usize::MAX,
        };
        if !self.has_spoken && reason == CloseReason::Shutdown {
            // Either way it is read.
            let _ = deadline::timeout(FIRST_WORD, self.stream.readable()).await;
        }
        let ingest = self.reader.ingest.clone();
        loop {
            let turn = ingest.turn().await;
            let read = self.read(S::read_now);
            match self.judge(read) {
                ControlFlow::Continue(Progress::Blocked) => {
                    return (reason, Some(Ending::Broken));
                }
                ControlFlow::Continue(Progress::Tight) => {
                    drop(turn);
                    ingest.eased().await;
                }
                ControlFlow::Continue(_) => tokio::task::yield_now().await,
                ControlFlow::Break(ended) => return ended,
            }
            end.look();
            reads_left -= 1;
            if reads_left == 0 || end.is_over() {
                if ingest.log().may_complain() {
                    warn!(peer = %self.reader.peer, listener = %self.reader.counters.label, "a client keeps sending during shutdown; the rest is not read");
                }
                return (reason, Some(Ending::Broken));
            }
        }
    }

    fn read(
        &mut self,
        read: impl FnOnce(&S, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Progress> {
        let Self { stream, reader, .. } = self;
        let (brought, held) = {
            let mut client = reader.client();
            let brought = reader.ingest.read_stream(
                &reader.counters,
                &reader.peer,
                &mut client,
                |buffer| read(stream, buffer),
            )?;
            (brought, client.held())
        };
        self.has_spoken = true;
        self.slot.active(brought.has_lines, held);
        Ok(brought.progress)
    }

    /// What a read means for the stream.
    fn judge(&self, read: io::Result<Progress>) -> ControlFlow<Ended, Progress> {
        match read {
            Ok(Progress::Ended) => ControlFlow::Break((CloseReason::Client, Some(Ending::Clean))),
            Ok(Progress::OtherProtocol) => ControlFlow::Break((CloseReason::Protocol, None)),
            Ok(progress) => ControlFlow::Continue(progress),
            Err(error) if is_transient(&error) => ControlFlow::Continue(Progress::Blocked),
            Err(error) => {
                debug!(%error, peer = %self.reader.peer, listener = %self.reader.counters.label, "a connection broke");
                ControlFlow::Break((CloseReason::Error, Some(Ending::Broken)))
            }
        }
    }
}

/// Why a stream ended, and how its last line is to be taken; a foreign protocol
/// has none.
type Ended = (CloseReason, Option<Ending>);

/// What a read of a stream brought.
#[derive(Debug, Clone, Copy)]
pub struct Brought {
    /// What it means for the stream.
    pub progress: Progress,
    /// Whether there were lines, samples or points among it that are good.
    pub has_lines: bool,
}

/// What a read means for the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Bytes, probably all there were.
    Read,
    /// Bytes, and there may be more.
    Full,
    /// Bytes, for which the queue is making room.
    Tight,
    /// Nothing for now.
    Blocked,
    /// The end.
    Ended,
    /// Another protocol.
    OtherProtocol,
}

fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// The errors of accept(2) after which it has more to give.
fn others_may_wait(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let passing = [Errno::CONNABORTED, Errno::INTR];
    Errno::from_io_error(error).is_some_and(|errno| passing.contains(&errno))
}

/// The errors of accept(2) that stay until something is closed.
fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| exhausted.contains(&errno))
}

impl Acceptor for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Sender)> {
        let (stream, peer) = Self::accept(self).await?;
        // Not worth a word when it is refused: it only reaps dead peers.
        let _ = SockRef::from(&stream)
            .set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_IDLE));
        Ok((stream, Sender::Address(peer)))
    }

    fn accept_now(&self) -> io::Result<(TcpStream, Sender)> {
        // Of a client that has reset already, only this tells the address.
        let (stream, peer) = rustix::net::acceptfrom(self)?;
        let peer = peer.and_then(|peer| peer.try_into().ok());
        let peer = peer.map_or(Sender::Unknown, Sender::Address);
        let stream = std::net::TcpStream::from(stream);
        stream.set_nonblocking(true)?;
        Ok((TcpStream::from_std(stream)?, peer))
    }
}

impl ReadyStream for TcpStream {
    async fn readable(&self) -> io::Result<()> {
        Self::readable(self).await
    }

    /// A read that does not fill the buffer has emptied the socket: the runtime is
    /// told so, by the error that it knows, and asks the system no second time.
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut read = None;
        let asked = self.try_io(Interest::READABLE, || {
            let (length, _) = rustix::net::recv(self, &mut *buffer, RecvFlags::DONTWAIT)?;
            read = Some(length);
            if (1..buffer.len()).contains(&length) {
                Err(io::ErrorKind::WouldBlock.into())
            } else {
                Ok(())
            }
        });
        read.map_or_else(|| asked.map(|()| 0), Ok)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::BorrowedFd;

    use rustix::io::Errno;
    use tokio::sync::watch;
    use tokio::time::timeout;

    use super::super::shutdown::Stop;
    use super::super::tests::ingest;
    use super::*;
    use crate::stats::Counters;

    /// Much longer than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// A client that has always sent more than is read.
    struct Endless(std::os::unix::net::UnixStream);

    impl AsFd for Endless {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }

    impl ReadyStream for Endless {
        async fn readable(&self) -> io::Result<()> {
            Ok(())
        }

        fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
            const LINE: &[u8] = b"a.b 1 5\n";
            for place in buffer.chunks_exact_mut(LINE.len()) {
                place.copy_from_slice(LINE);
            }
            Ok(buffer.len())
        }

        fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
            self.try_read(buffer)
        }
    }

    #[tokio::test]
    async fn a_client_without_end_sees_its_stop_and_is_not_read_for_ever() {
        for said in [Some(Stop::DrainSockets), None] {
            let ingest = ingest();
            let counters =
                Counters::default().listener(crate::stats::ListenerKind::Tcp, "tcp:here");
            counters.opened();
            let (stream, _other_end) = std::os::unix::net::UnixStream::pair().unwrap();
            let reader = Arc::new(Reader {
                peer: Sender::Unknown,
                ingest: ingest.clone(),
                counters: counters.clone(),
                protocol: protocol::Protocol::Lines,
                client: Mutex::new(Decoder::new(protocol::Protocol::Lines)),
            });
            let slot = ingest
                .connections()
                .slot(Sender::Unknown, reader.clone())
                .await;
            let reception = Reception {
                stream: Endless(stream),
                reader,
                slot,
                has_spoken: false,
            };
            let stop = watch::Sender::new(Stop::NotYet);
            let stopping = Stopping::new(stop.subscribe(), false);
            let reading = tokio::spawn(reception.run(stopping));
            tokio::task::yield_now().await;
            match said {
                Some(said) => drop(stop.send_replace(said)),
                None => drop(stop),
            }
            timeout(PATIENCE, reading).await.unwrap().unwrap();
            assert_eq!(counters.closed_for(CloseReason::Shutdown), 1, "{said:?}");
        }
    }

    #[tokio::test]
    async fn a_client_that_is_gone_already_hides_no_other() {
        let listener = bind("127.0.0.1:0".parse().unwrap(), false, false).unwrap();
        let listener = std::net::TcpListener::from(listener);
        let address = listener.local_addr().unwrap();
        let gone = std::net::TcpStream::connect(address).unwrap();
        let gone_from = gone.local_addr().unwrap();
        // Its close is a reset.
        SockRef::from(&gone)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(gone);
        let other = std::net::TcpStream::connect(address).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        // A client may take a moment to come: it is waited for.
        rustix::io::ioctl_fionbio(&listener, false).unwrap();
        for from in [gone_from, other.local_addr().unwrap()] {
            let (_, peer) = listener.accept_now().unwrap();
            assert_eq!(peer, Sender::Address(from));
        }
        rustix::io::ioctl_fionbio(&listener, true).unwrap();
        let nobody = listener.accept_now().unwrap_err();
        assert_eq!(nobody.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn an_error_of_one_client_is_not_the_end_of_the_backlog() {
        for errno in [Errno::CONNABORTED, Errno::INTR] {
            assert!(others_may_wait(&errno.into()), "{errno}");
        }
        for errno in [Errno::AGAIN, Errno::MFILE, Errno::NFILE, Errno::INVAL] {
            assert!(!others_may_wait(&errno.into()), "{errno}");
        }
    }
}
