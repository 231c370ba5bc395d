//! A TCP stream that knows how many bytes its socket has accepted.
//!
//! It lies below TLS, so that handshake and records are counted too and the
//! kernel's "not acknowledged" can be taken off.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::os;

/// A counted stream.
#[derive(Debug)]
pub struct Counted {
    stream: TcpStream,
    accepted: Arc<AtomicU64>,
    first_read: FirstRead,
}

/// The first bytes that the peer has sent: they tell its protocol.
#[derive(Debug, Default)]
struct FirstRead {
    bytes: [u8; 5],
    length: usize,
}

impl FirstRead {
    fn note(&mut self, read: &[u8]) {
        let length = read.len().min(self.bytes.len() - self.length);
        self.bytes[self.length..][..length].copy_from_slice(&read[..length]);
        self.length += length;
    }
}

impl Counted {
    /// Counts from now on. What was written before is acknowledged by now: a
    /// proxy has answered it.
    pub fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            accepted: Arc::default(),
            first_read: FirstRead::default(),
        }
    }

    /// The first bytes that were read, five at most.
    pub fn first_read(&self) -> &[u8] {
        &self.first_read.bytes[..self.first_read.length]
    }

    /// Another handle on the socket.
    pub fn try_clone(&self) -> io::Result<OwnedFd> {
        self.stream.as_fd().try_clone_to_owned()
    }

    /// How many bytes the socket has accepted.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    /// The same, to be read by others.
    pub fn accepted_handle(&self) -> Arc<AtomicU64> {
        self.accepted.clone()
    }

    /// How many of them the peer's kernel has acknowledged.
    pub fn acknowledged(&self) -> io::Result<u64> {
        let waiting = os::unacknowledged(&self.stream)?;
        Ok(self.accepted().saturating_sub(waiting))
    }

    /// Whether the connection has not been reset yet.
    pub fn is_open(&self) -> bool {
        // The error is set by a reset, and taken by asking.
        matches!(self.stream.take_error(), Ok(None))
    }

    /// What the peer has room for.
    pub fn peer_window(&self) -> u64 {
        os::peer_window(&self.stream).unwrap_or(0)
    }

    /// From now on, closing throws away what is not acknowledged, here and in
    /// the network: a plain close would let it arrive later, beside the copies
    /// that are sent again.
    pub fn reset_at_close(&self) {
        // A socket that cannot be told is dead already.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}

impl AsFd for Counted {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.first_read.note(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let accepted = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.accepted.fetch_add(accepted as u64, Relaxed);
        Poll::Ready(Ok(accepted))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let accepted = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        self.accepted.fetch_add(accepted as u64, Relaxed);
        Poll::Ready(Ok(accepted))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
