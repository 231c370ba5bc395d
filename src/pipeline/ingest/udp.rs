//! Datagrams: receive, never answer. Unix datagrams use the same loop.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::select;
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::os::{self, Datagrams, NamedBy};
use crate::stats::ListenerCounters;

use super::{Ingest, Stopping, Turn};

/// After an error of the socket itself, which should not happen.
const REST: Duration = Duration::from_millis(100);

/// The kernel is asked for its drops so soon after datagrams have come, and then
/// no more until others do: all of them show, and an idle daemon does not wake.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// What the kernel has dropped at one socket, however often a reload hands the
/// socket on.
#[derive(Debug, Default)]
pub struct KernelDrops {
    seen: AtomicU32,
}

/// A datagram socket of any family.
pub trait DatagramSocket: AsFd + Send + Sync + 'static {
    /// What its senders are known by.
    const NAMED_BY: NamedBy;

    /// Waits until there is something to receive.
    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send;

    /// Calls `receive` if there is something to receive.
    fn try_io<R>(&self, receive: impl FnOnce() -> io::Result<R>) -> io::Result<R>;
}

/// Opens a receiving socket.
pub fn bind(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM.nonblocking(),
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() && address.ip().is_loopback() {
        socket.set_only_v6(true)?;
    }
    os::enlarge_receive_buffer(&socket);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Receives until told to stop, then what is still in the socket's buffer.
pub async fn serve<S: DatagramSocket>(
    socket: S,
    ingest: Ingest,
    counters: Arc<ListenerCounters>,
    drops: Arc<KernelDrops>,
    mut stopping: Stopping,
) {
    let mut next_look = std::pin::pin!(sleep(LOOK_INTERVAL));
    let mut has_received = false;
    let look = || {
        let dropped = drops.new_ones(&socket);
        if dropped > 0 {
            ingest.kernel_dropped(&counters, dropped, os::receive_buffer(&socket));
        }
    };
    loop {
        select! {
            biased;
            () = &mut next_look, if has_received => {
                has_received = false;
                look();
            }
            readable = socket.readable() => {
                if !has_received {
                    has_received = true;
                    next_look.as_mut().reset(Instant::now() + LOOK_INTERVAL);
                }
                let turn = readable.and_then(|()| {
                    ingest.read_datagrams(&counters, |datagrams| receive(&socket, datagrams))
                });
                match turn {
                    Ok(Turn::Empty) => {}
                    Ok(Turn::Over) => tokio::task::yield_now().await,
                    Err(error) => {
                        if ingest.may_complain() {
                            warn!(%error, listener = %counters.label, "cannot receive");
                        }
                        sleep(REST).await;
                    }
                }
            }
            () = stopping.wait() => break,
        }
    }
    // What the runtime knows may be older than the stop: the last questions go
    // to the system itself. An error is as good as an end here.
    let receive_now = |datagrams: &mut Datagrams| datagrams.receive(&socket, S::NAMED_BY);
    while !stopping.leaves_datagrams()
        && let Ok(Turn::Over) = ingest.read_datagrams(&counters, receive_now)
    {
        tokio::task::yield_now().await;
    }
    look();
}

/// Receives a batch. One that is not full has emptied the socket: the runtime is
/// told so, by the error that it knows, and asks the system no second time.
fn receive<S: DatagramSocket>(socket: &S, datagrams: &mut Datagrams) -> io::Result<()> {
    let received = socket.try_io(|| {
        datagrams.receive(socket, S::NAMED_BY)?;
        if datagrams.is_full() {
            Ok(())
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        }
    });
    match received {
        Err(error) if datagrams.is_empty() => Err(error),
        _ => Ok(()),
    }
}

impl KernelDrops {
    /// How many datagrams were dropped since last asked.
    fn new_ones(&self, socket: impl AsFd) -> u32 {
        // Systems that do not say have dropped none that we know of.
        let total = os::dropped_datagrams(socket).unwrap_or(0);
        total.wrapping_sub(self.seen.swap(total, Relaxed))
    }
}

impl DatagramSocket for UdpSocket {
    const NAMED_BY: NamedBy = NamedBy::Address;

    async fn readable(&self) -> io::Result<()> {
        Self::readable(self).await
    }

    fn try_io<R>(&self, receive: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        Self::try_io(self, Interest::READABLE, receive)
    }
}
