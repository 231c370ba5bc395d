//! Lines in datagrams, filled to a size, never a line cut.
//!
//! UDP acknowledges nothing: a datagram that the kernel took is delivered. The
//! one thing that can be known is a port that nobody listens on. The ICMP
//! answer comes as an error of the next call, so the first datagram after a
//! silence waits a moment for it, and what was refused is sent again.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tracing::error;

use crate::deadline;
use crate::pipeline::queue::{Lease, count_lines};
use crate::stats::{Counters, DropReason, FailureKind};

use super::encode::{Encoder, WireBuffer};
use super::failure::Failure;
use super::own::refuse_own_datagrams;
use super::resolve::Resolver;
use super::{Deliver, RENEWAL_PAUSE};

/// The upstream's machines are swapped all the time; names may be remembered
/// for a minute (docs/facts.md).
const ADDRESS_AGE: Duration = Duration::from_secs(60);

/// The upstream takes no larger ones (docs/facts.md).
const MAX_DATAGRAM_BYTES: usize = 8192;

/// How long the first datagram waits for an ICMP answer. One from the same
/// host or network is there at once.
const REFUSAL_WAIT: Duration = Duration::from_millis(50);

/// A port that took datagrams so recently is not asked again.
const PROVEN_FOR: Duration = Duration::from_secs(5);

/// How long lines wait for the look-up of an address that still works. The look-up goes on.
const LOOK_UP_WAIT: Duration = Duration::from_millis(20);

/// Sends lines in datagrams.
#[derive(Debug)]
pub struct UdpSink {
    resolver: Resolver,
    encoder: Encoder,
    buffer: WireBuffer,
    datagram_bytes: usize,
    max_age: Duration,
    counters: Arc<Counters>,
    connection: Option<Connection>,
    /// Where nobody listened; the addresses behind it come first next time.
    refused_by: Option<SocketAddr>,
}

#[derive(Debug)]
struct Connection {
    socket: UdpSocket,
    address: SocketAddr,
    expires: Instant,
    /// When a datagram was last sent without a refusal.
    proven: Option<Instant>,
}

impl UdpSink {
    /// A sink that resolves the name when the first line is due.
    pub fn new(
        resolver: Resolver,
        encoder: Encoder,
        datagram_bytes: usize,
        max_age: Duration,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            resolver,
            encoder,
            buffer: WireBuffer::default(),
            datagram_bytes,
            max_age: max_age.min(ADDRESS_AGE),
            counters,
            connection: None,
            refused_by: None,
        }
    }
}

impl Deliver for UdpSink {
    async fn connect(&mut self) -> Result<(), Failure> {
        let mut addresses = match &mut self.connection {
            None => self.resolver.resolve().await?,
            Some(connection) if connection.expires <= Instant::now() => {
                // What works goes on while the name cannot be looked up.
                let look_up = self.resolver.resolve();
                match tokio::time::timeout(LOOK_UP_WAIT, look_up).await {
                    Ok(Ok(addresses)) if addresses.contains(&connection.address) => {
                        connection.expires = Instant::now() + self.max_age;
                        return Ok(());
                    }
                    Ok(Ok(addresses)) => addresses,
                    Ok(Err(_)) => {
                        connection.expires = Instant::now() + RENEWAL_PAUSE;
                        return Ok(());
                    }
                    Err(_) => return Ok(()),
                }
            }
            Some(_) => return Ok(()),
        };
        let refused = |address: &SocketAddr| Some(*address) == self.refused_by;
        if let Some(at) = addresses.iter().position(refused) {
            addresses.rotate_left(at + 1);
        }
        let mut tried = Vec::new();
        let mut own = None;
        for address in addresses {
            match open(address).await {
                Ok(socket) => {
                    if let Err(failure) = refuse_own_datagrams(&socket) {
                        own = Some(failure);
                        continue;
                    }
                    self.counters.sink_connects.fetch_add(1, Relaxed);
                    self.counters.upstream.connected(address, tried.join("; "));
                    self.connection = Some(Connection {
                        socket,
                        address,
                        expires: Instant::now() + self.max_age,
                        proven: None,
                    });
                    return Ok(());
                }
                Err(error) => tried.push(format!("{address}: {error}")),
            }
        }
        Err(own.unwrap_or_else(|| Failure::unavailable(FailureKind::Connect, tried.join(", "))))
    }

    async fn deliver(&mut self, mut lease: Lease) -> Result<(), Failure> {
        let Some(connection) = &mut self.connection else {
            let what = "there is no socket";
            return Err(Failure::unavailable(FailureKind::Closed, what));
        };
        let mut limit = self.datagram_bytes;
        while lease.lines() > 0 {
            let taken = self.encoder.encode(lease.bytes(), limit, &mut self.buffer);
            let length = self.buffer.bytes().len();
            if length > MAX_DATAGRAM_BYTES {
                self.buffer.clear();
                too_large(&mut lease, taken);
                continue;
            }
            let mut sent = connection
                .send(self.buffer.bytes(), &mut lease, taken)
                .await;
            if sent.as_ref().is_err_and(is_too_large) {
                // The error may be an earlier datagram's, by which the kernel
                // has learned how much the way takes.
                sent = connection
                    .send(self.buffer.bytes(), &mut lease, taken)
                    .await;
            }
            self.buffer.clear();
            match sent {
                Ok(()) => lease.settle(taken),
                Err(error) if is_too_large(&error) && count_lines(&lease.bytes()[..taken]) > 1 => {
                    limit = length / 2;
                }
                Err(error) if is_too_large(&error) => too_large(&mut lease, taken),
                Err(error) => {
                    self.refused_by = Some(connection.address);
                    // A new socket: whatever errors are still to come belong to
                    // the datagrams of this one.
                    self.connection = None;
                    return Err(explain(&error));
                }
            }
        }
        self.refused_by = None;
        Ok(())
    }
}

impl Connection {
    /// Sends one datagram, with the first bytes of a lease; says whether this or an
    /// earlier one was refused.
    async fn send(&mut self, datagram: &[u8], lease: &mut Lease, bytes: usize) -> io::Result<()> {
        self.socket.send(datagram).await?;
        // It may arrive, whatever follows.
        lease.send(0..bytes);
        let is_proven = self
            .proven
            .is_some_and(|proven| proven.elapsed() < PROVEN_FOR);
        if !is_proven {
            let mut nothing = [0; 1];
            let refusal = self.socket.recv(&mut nothing);
            // An answer of any kind, or none: only a refusal counts.
            if let Ok(Err(error)) = deadline::timeout(REFUSAL_WAIT, refusal).await {
                return Err(error);
            }
        }
        self.proven = Some(Instant::now());
        Ok(())
    }
}

/// Whether datagrams can be sent to an address.
pub async fn reach(address: SocketAddr) -> Result<(), Failure> {
    let socket = open(address)
        .await
        .map_err(|error| Failure::unavailable(FailureKind::Connect, error))?;
    refuse_own_datagrams(&socket)
}

async fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let any = if address.is_ipv4() {
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
    } else {
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    Ok(socket)
}

fn too_large(lease: &mut Lease, bytes: usize) {
    error!(bytes, "a line is too large for a datagram, it is dropped");
    lease.give_up(bytes, DropReason::TooLarge);
}

fn is_too_large(error: &io::Error) -> bool {
    use rustix::io::Errno;
    Errno::from_io_error(error) == Some(Errno::MSGSIZE)
}

fn explain(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::ConnectionRefused {
        Failure::unavailable(
            FailureKind::Connect,
            "nobody listens on the upstream's port",
        )
    } else {
        Failure::unavailable(FailureKind::Io, format!("cannot send: {error}"))
    }
}
