//! Datagrams: receive, never answer. Unix datagrams use the same loop.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::unix::AsyncFdReadyGuard;
use tokio::select;
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::os::{self, Datagrams, NamedBy};
use crate::panics;
use crate::runtime::NoCoalescing;

use super::{Ingest, Service, Turn};

/// After an error of the socket itself, which should not happen.
const REST: Duration = Duration::from_millis(100);

/// The kernel is asked for its drops so soon after datagrams have come, and then
/// no more until others do: all of them show, and an idle daemon does not wake.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// So many batches are received before other tasks have their turn.
const BATCHES_A_TURN: usize = 4;

/// Or about this number of bytes of its buffer, where datagrams are large: as much as streams bring in a
/// turn, of sixteen reads.
const BYTES_A_TURN: usize = 1 << 20;

/// What the kernel has dropped at one socket, however often a reload hands the
/// socket on.
#[derive(Debug, Default)]
pub struct KernelDrops {
    /// Held over the question to the kernel: of two tasks on one socket, as at a
    /// reload, none must come back with an older answer than the other's.
    seen: Mutex<u32>,
}

/// Opens a receiving socket. Sockets that share ports are let in beside others that do.
pub fn bind(address: SocketAddr, only_v6: bool, shares_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM.nonblocking(),
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() && (only_v6 || address.ip().is_loopback()) {
        socket.set_only_v6(true)?;
    }
    os::enlarge_receive_buffer(&socket);
    if shares_port {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Opens another socket at the address of one. The kernel deals datagrams out to
/// the two by their senders' addresses.
///
/// The first was bound alone, so that an address that is taken shows as such; from
/// now on others of the same user may join it.
pub fn bind_beside(first: &std::net::UdpSocket, only_v6: bool) -> io::Result<std::net::UdpSocket> {
    SockRef::from(first).set_reuse_port(true)?;
    Ok(bind(first.local_addr()?, only_v6, true)?.into())
}

/// Receives until told to stop, then what is still in the socket's buffer.
pub async fn serve<S: AsFd + Send + 'static>(
    socket: S,
    named_by: NamedBy,
    drops: Arc<KernelDrops>,
    service: Service,
) {
    let Service {
        ingest,
        counters,
        protocol,
        mut stopping,
    } = service;
    let mut next_look = std::pin::pin!(sleep(LOOK_INTERVAL));
    let mut has_received = false;
    let is_small = overflows_in_a_moment(named_by, os::receive_buffer(&socket));
    let _no_coalescing = is_small.then(NoCoalescing::begin);
    let look = || {
        let dropped = drops.new_ones(|| os::dropped_datagrams(&socket));
        if dropped > 0 {
            ingest
                .log()
                .kernel_dropped(&counters, dropped, os::receive_buffer(&socket));
        }
    };
    let complain = |error: io::Error| {
        if ingest.log().may_complain() {
            warn!(%error, listener = %counters.label, "cannot receive");
        }
    };
    let readiness = loop {
        match os::watch_for_datagrams(socket.as_fd()) {
            Ok(readiness) => break readiness,
            Err(error) => complain(error),
        }
        sleep(REST).await;
    };
    loop {
        select! {
            biased;
            () = &mut next_look, if has_received => {
                has_received = false;
                look();
                Ingest::release_buffers();
            }
            ready = readiness.readable() => {
                if !has_received {
                    has_received = true;
                    next_look.as_mut().reset(Instant::now() + LOOK_INTERVAL);
                }
                panics::inject("udp");
                let turn = ready.and_then(|mut ready| {
                    a_turn(|| {
                        ingest.read_datagrams(&counters, protocol, |datagrams| {
                            receive(&mut ready, datagrams, named_by)
                        })
                    })
                });
                match turn {
                    Ok(Turn::Empty) => continue,
                    Ok(Turn::Over(_)) => tokio::task::yield_now().await,
                    Err(error) => {
                        complain(error);
                        sleep(REST).await;
                    }
                }
                // Where it always is readable, the last branch never has its turn.
                if stopping.has_come() {
                    break;
                }
            }
            () = stopping.wait() => break,
        }
    }
    drop(readiness);
    // What the runtime knows may be older than the stop: the last questions go
    // to the system itself. An error is as good as an end here.
    let receive_now = |datagrams: &mut Datagrams| datagrams.receive(&socket, named_by);
    // At most as much as the buffer can have held: what comes behind that was sent
    // after the stop, and may go on for ever.
    let mut left = os::receive_buffer(&socket).max(os::RECEIVE_BUFFER);
    while !stopping.leaves_datagrams()
        && let Ok(Turn::Over(room)) = ingest.read_datagrams(&counters, protocol, receive_now)
    {
        left = left.saturating_sub(room);
        if left == 0 {
            if ingest.log().may_complain() {
                warn!(listener = %counters.label, "datagrams keep coming during shutdown; the rest is not read");
            }
            break;
        }
        tokio::task::yield_now().await;
    }
    look();
}

/// Whether a socket's senders must not wait for a thread that rests. Only a large
/// buffer holds a hundred times what comes in a moment. And a Unix socket keeps
/// `net.unix.max_dgram_qlen` datagrams, ten where nobody raised it, whatever its
/// buffer is.
fn overflows_in_a_moment(named_by: NamedBy, buffer: usize) -> bool {
    named_by == NamedBy::Process || buffer < os::RECEIVE_BUFFER / 2
}

/// Receives some batches, before others have their turn.
fn a_turn(mut read: impl FnMut() -> io::Result<Turn>) -> io::Result<Turn> {
    let mut received = 0;
    for _ in 0..BATCHES_A_TURN {
        match read()? {
            Turn::Empty => return Ok(Turn::Empty),
            Turn::Over(bytes) => received += bytes,
        }
        if received >= BYTES_A_TURN {
            break;
        }
    }
    Ok(Turn::Over(received))
}

/// Receives a batch. One that is not full has emptied the socket: the runtime is
/// told so, by the error that it knows, and asks the system no second time.
fn receive(
    ready: &mut AsyncFdReadyGuard<'_, BorrowedFd<'_>>,
    datagrams: &mut Datagrams,
    named_by: NamedBy,
) -> io::Result<()> {
    let received = ready.try_io(|socket| {
        datagrams.receive(socket, named_by)?;
        if datagrams.is_full() {
            Ok(())
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        }
    });
    match received {
        Ok(Err(error)) => Err(error),
        Err(_) if datagrams.is_empty() => Err(io::ErrorKind::WouldBlock.into()),
        Ok(Ok(())) | Err(_) => Ok(()),
    }
}

impl KernelDrops {
    /// How many datagrams were dropped since last asked.
    fn new_ones(&self, ask: impl FnOnce() -> io::Result<u32>) -> u32 {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Systems that do not say have dropped none that we know of.
        let total = ask().unwrap_or(*seen);
        total.wrapping_sub(std::mem::replace(&mut seen, total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_over_when_there_are_no_more_or_others_have_waited_enough() {
        const SMALL: Turn = Turn::Over(8 << 10);
        const LARGE: Turn = Turn::Over(600 << 10);
        const HUGE: Turn = Turn::Over(8 << 20);
        let turns: [(&[Turn], Turn, usize); 5] = [
            (&[Turn::Empty], Turn::Empty, 1),
            (&[SMALL, SMALL, Turn::Empty], Turn::Empty, 3),
            (&[SMALL; 9], Turn::Over(32 << 10), BATCHES_A_TURN),
            (&[LARGE; 9], Turn::Over(1200 << 10), 2),
            (&[HUGE; 9], HUGE, 1),
        ];
        for (batches, ends_as, received) in turns {
            let mut left = batches.iter();
            let turn = a_turn(|| Ok(*left.next().unwrap()));
            assert_eq!(turn.unwrap(), ends_as, "{batches:?}");
            assert_eq!(batches.len() - left.len(), received, "{batches:?}");
        }
        let broken = a_turn(|| Err(io::ErrorKind::NotConnected.into()));
        assert_eq!(broken.unwrap_err().kind(), io::ErrorKind::NotConnected);
    }

    #[test]
    fn drops_are_counted_once_whoever_asks() {
        let drops = KernelDrops::default();
        let answers = [
            (Some(3), 3),
            (Some(3), 0),
            (None, 0),
            (Some(u32::MAX), u32::MAX - 3),
            // The kernel's count is as wide.
            (Some(1), 2),
        ];
        for (total, new) in answers {
            let asked = drops.new_ones(|| {
                assert!(drops.seen.try_lock().is_err(), "another may ask meanwhile");
                total.ok_or_else(|| io::ErrorKind::Unsupported.into())
            });
            assert_eq!(asked, new, "{total:?}");
        }
    }

    #[test]
    fn a_small_buffer_overflows_in_a_moment_and_a_unix_socket_always() {
        let (small, large) = (208 << 10, os::RECEIVE_BUFFER);
        assert!(overflows_in_a_moment(NamedBy::Address, small));
        assert!(!overflows_in_a_moment(NamedBy::Address, large));
        assert!(overflows_in_a_moment(NamedBy::Process, small));
        assert!(overflows_in_a_moment(NamedBy::Process, large));
    }
}
