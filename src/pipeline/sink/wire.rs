//! A connection to the upstream, plain or TLS. How one is made is in `connect.rs`.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_rustls::client::TlsStream;

use crate::deadline;
use crate::stats::FailureKind;

use super::counted::Counted;
use super::encode::{Encoder, WireBuffer};
use super::failure::Failure;
use super::tls;

/// How much is read from the upstream in one go, to be thrown away.
const DISCARD_BYTES: usize = 4096;

/// How much the upstream may say before other tasks have their turn.
const DISCARDS_A_TURN: usize = 16;

/// A connection that can be written to.
#[derive(Debug)]
pub enum Wire {
    /// Bare TCP.
    Plain(Counted),
    /// TLS over TCP.
    Tls(Box<Session>),
}

/// TLS over TCP. In TLS 1.3 a server judges our certificate after our side of the
/// handshake is done (RFC 8446, 4.4.2): until it has said anything but an alert, what we
/// write may be thrown away with the connection.
#[derive(Debug)]
pub struct Session {
    stream: TlsStream<Counted>,
    /// Whether the server has accepted our certificate, or has not asked for one.
    is_confirmed: bool,
}

impl Wire {
    /// Writes encoded lines, which are in `out` already, while everything that
    /// the upstream says is read and thrown away: unread bytes would turn a
    /// close into a reset that destroys what we wrote, and an end of file must
    /// stop us before a write that is lost. `timeout` bounds the time without
    /// progress.
    ///
    /// An upstream may take its time. Meanwhile the lines are not kept as they
    /// are on the wire, with the key: they are encoded again when it is ready.
    pub async fn write_lines(
        &mut self,
        lines: &[u8],
        encoder: &Encoder,
        out: &mut WireBuffer,
        timeout: Duration,
    ) -> Result<(), Failure> {
        let total = out.bytes().len();
        let mut done = 0;
        while done < total {
            let step = std::future::poll_fn(|cx| {
                if let Poll::Ready(ended) = self.poll_discard(cx) {
                    out.clear();
                    return Poll::Ready(Err(ended));
                }
                if out.bytes().is_empty() {
                    encoder.encode(lines, usize::MAX, out);
                }
                let written = Pin::new(&mut *self).poll_write(cx, &out.bytes()[done..]);
                out.clear();
                written.map_err(|error| lost(&error))
            });
            done += progress(timeout, step).await?;
        }
        let flush = std::future::poll_fn(|cx| {
            if let Poll::Ready(ended) = self.poll_discard(cx) {
                return Poll::Ready(Err(ended));
            }
            Pin::new(&mut *self)
                .poll_flush(cx)
                .map_err(|error| lost(&error))
        });
        progress(timeout, flush).await
    }

    /// The TLS session, if there is one.
    pub fn session(&self) -> Option<&rustls::ClientConnection> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(session) => Some(session.stream.get_ref().1),
        }
    }

    /// The socket below.
    pub fn socket(&self) -> &Counted {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(session) => session.stream.get_ref().0,
        }
    }

    /// Whether the upstream is known to accept us: what its kernel acknowledges counts.
    pub fn is_confirmed(&self) -> bool {
        match self {
            Self::Plain(_) => true,
            Self::Tls(session) => session.is_confirmed || session.has_ticket(),
        }
    }

    /// Whether the upstream has not ended the connection, as far as is known here.
    pub async fn is_open(&mut self) -> bool {
        let ended = std::future::poll_fn(|cx| Poll::Ready(self.poll_discard(cx)));
        ended.await.is_pending()
    }

    /// Reads, and throws away, until the upstream ends the connection.
    pub async fn ended(&mut self) -> Failure {
        std::future::poll_fn(|cx| self.poll_discard(cx)).await
    }

    /// Closes in order and reads to the upstream's end, so that nothing of what
    /// was written is destroyed. Whether the upstream had read all of it.
    pub async fn close(&mut self, deadline: Duration) -> bool {
        let goodbye = async {
            self.shutdown().await?;
            let mut buffer = [0; DISCARD_BYTES];
            while self.read(&mut buffer).await? > 0 {}
            io::Result::Ok(())
        };
        let ended = deadline::timeout(deadline, goodbye).await;
        match ended {
            Ok(Ok(())) => true,
            // A peer that ends TLS without close_notify has read all the same.
            Ok(Err(error)) => error.kind() == io::ErrorKind::UnexpectedEof,
            Err(_) => false,
        }
    }

    /// Reads what there is. Ready once the connection has ended.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<Failure> {
        let mut space = [MaybeUninit::uninit(); DISCARD_BYTES];
        for _ in 0..DISCARDS_A_TURN {
            let mut buffer = ReadBuf::uninit(&mut space);
            match ready!(Pin::new(&mut *self).poll_read(cx, &mut buffer)) {
                Ok(()) if buffer.filled().is_empty() => {
                    return Poll::Ready(closed());
                }
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Poll::Ready(closed());
                }
                Err(error) => return Poll::Ready(lost(&error)),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Session {
    /// After the handshake. `is_confirmed` says that the server has not asked for a
    /// certificate, or has accepted it already.
    pub fn new(stream: TlsStream<Counted>, is_confirmed: bool) -> Self {
        Self {
            stream,
            is_confirmed,
        }
    }

    /// Waits until the server has accepted our certificate, as a session ticket or any data
    /// tells. A server may send neither, so that is not waited for longer than `limit`.
    pub async fn confirm(&mut self, limit: Duration) -> Result<(), Failure> {
        let confirmed = std::future::poll_fn(|cx| self.poll_confirmed(cx));
        deadline::timeout(limit, confirmed).await.unwrap_or(Ok(()))
    }

    fn poll_confirmed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        if self.is_confirmed || self.has_ticket() {
            return Poll::Ready(Ok(()));
        }
        // Looks at data without consuming it: it may be the beginning of an answer.
        let heard = Pin::new(&mut self.stream).poll_fill_buf(cx);
        let heard = heard.map_ok(|data| !data.is_empty());
        match heard {
            Poll::Ready(Ok(true)) => {
                self.is_confirmed = true;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Ok(false)) => Poll::Ready(Err(closed())),
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Poll::Ready(Err(closed()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(lost(&error))),
            Poll::Pending if self.has_ticket() => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Session tickets come after the server has accepted our certificate (RFC 8446, 4.6.1).
    fn has_ticket(&self) -> bool {
        self.stream.get_ref().1.tls13_tickets_received() > 0
    }

    /// A server that refuses us sends an alert and closes. A write then fails with less than
    /// the alert says, which waits to be read.
    fn with_reason<T>(
        &mut self,
        step: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        let Poll::Ready(Err(error)) = step else {
            return step;
        };
        let mut space = [MaybeUninit::uninit(); DISCARD_BYTES];
        for _ in 0..DISCARDS_A_TURN {
            let mut buffer = ReadBuf::uninit(&mut space);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(Err(reason)) if is_alert(&reason) => {
                    return Poll::Ready(Err(reason));
                }
                _ => break,
            }
        }
        Poll::Ready(Err(error))
    }
}

async fn progress<T>(
    timeout: Duration,
    step: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    deadline::timeout(timeout, step).await.unwrap_or_else(|_| {
        Err(Failure::unavailable(
            FailureKind::Timeout,
            format!("the upstream has acknowledged nothing for {timeout:?}"),
        ))
    })
}

fn closed() -> Failure {
    Failure::unavailable(FailureKind::Ended, "the upstream closed the connection")
}

fn lost(error: &io::Error) -> Failure {
    match tls::error_in(error) {
        Some(error) => Failure::unavailable(FailureKind::Tls, tls::describe(error)),
        None => Failure::unavailable(
            FailureKind::Closed,
            format!("the connection broke: {error}"),
        ),
    }
}

fn is_alert(error: &io::Error) -> bool {
    matches!(tls::error_in(error), Some(rustls::Error::AlertReceived(_)))
}

/// Whether an error, or one of its sources, is an alert by which a server refuses a
/// handshake: `handshake_failure`, those about certificates, `access_denied`,
/// `decrypt_error` and `certificate_required` (RFC 8446, 6).
pub fn is_refusal(error: &(dyn std::error::Error + 'static)) -> bool {
    let alert = match tls::error_in(error) {
        Some(rustls::Error::AlertReceived(alert)) => u8::from(*alert),
        _ => return error.source().is_some_and(is_refusal),
    };
    matches!(alert, 40 | 42..=49 | 51 | 116)
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(session) => {
                let before = buffer.filled().len();
                let read = ready!(Pin::new(&mut session.stream).poll_read(cx, buffer));
                session.is_confirmed |= buffer.filled().len() > before;
                Poll::Ready(read)
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(session) => {
                let step = Pin::new(&mut session.stream).poll_write(cx, bytes);
                session.with_reason(step, cx)
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(session) => {
                let step = Pin::new(&mut session.stream).poll_flush(cx);
                session.with_reason(step, cx)
            }
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(session) => {
                let step = Pin::new(&mut session.stream).poll_shutdown(cx);
                session.with_reason(step, cx)
            }
        }
    }
}
