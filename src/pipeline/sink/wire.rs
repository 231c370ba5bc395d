//! A connection to the upstream, plain or TLS, and how one is made.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::config::{Endpoint, Proxy};
use crate::deadline;
use crate::stats::FailureKind;

use super::counted::Counted;
use super::encode::{Encoder, WireBuffer};
use super::failure::Failure;
use super::proxy;
use super::resolve::Resolver;
use super::tcp::{self, Timeouts};
use super::tls::Tls;

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
    Tls(Box<TlsStream<Counted>>),
}

/// Makes connections to one upstream.
#[derive(Debug)]
pub struct Connector {
    upstream: Endpoint,
    proxy: Option<Proxy>,
    /// Of the upstream, or of the proxy where there is one.
    resolver: Resolver,
    tls: Option<Tls>,
    timeouts: Timeouts,
}

impl Connector {
    /// Connects to an endpoint, through a proxy and with TLS where asked to.
    pub fn new(
        upstream: Endpoint,
        tls: Option<Tls>,
        proxy: Option<Proxy>,
        timeouts: Timeouts,
    ) -> Self {
        let first_hop = proxy
            .as_ref()
            .map_or_else(|| upstream.clone(), |proxy| proxy.endpoint.clone());
        Self {
            resolver: Resolver::new(first_hop, timeouts.connect),
            upstream,
            proxy,
            tls,
            timeouts,
        }
    }

    /// The way to the upstream: resolve, connect, tunnel, handshake.
    pub async fn connect(&mut self) -> Result<Wire, Failure> {
        let addresses = self.resolve().await?;
        let mut stream = self.reach(&addresses).await?;
        self.tunnel(&mut stream).await?;
        self.secure(stream).await
    }

    /// What the first step is about: the upstream, or the proxy.
    pub fn first_hop(&self) -> &Endpoint {
        self.resolver.endpoint()
    }

    /// The proxy, where there is one.
    pub fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }

    /// The first step: the addresses of the first hop.
    pub async fn resolve(&mut self) -> Result<Vec<SocketAddr>, Failure> {
        self.resolver.resolve().await
    }

    /// The second: a TCP connection to the first of them that answers.
    pub async fn reach(&self, addresses: &[SocketAddr]) -> Result<TcpStream, Failure> {
        tcp::connect(addresses, self.timeouts).await
    }

    /// The third: through the proxy, if there is one.
    pub async fn tunnel(&self, stream: &mut TcpStream) -> Result<(), Failure> {
        match &self.proxy {
            None => Ok(()),
            Some(proxy) => {
                proxy::tunnel(stream, proxy, &self.upstream, self.timeouts.connect).await
            }
        }
    }

    /// The last: the handshake, if there is to be one.
    pub async fn secure(&self, stream: TcpStream) -> Result<Wire, Failure> {
        let stream = Counted::new(stream);
        Ok(match &self.tls {
            None => Wire::Plain(stream),
            Some(tls) => Wire::Tls(Box::new(tls.handshake(stream).await?)),
        })
    }
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
            Self::Tls(stream) => Some(stream.get_ref().1),
        }
    }

    /// The socket below.
    pub fn socket(&self) -> &Counted {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    /// Reads, and throws away, until the upstream ends the connection.
    pub async fn ended(&mut self) -> Failure {
        std::future::poll_fn(|cx| self.poll_discard(cx)).await
    }

    /// Says goodbye and reads to the upstream's end, so that nothing of what
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

async fn progress<T>(
    timeout: Duration,
    step: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    deadline::timeout(timeout, step).await.unwrap_or_else(|_| {
        Err(Failure::unavailable(
            FailureKind::Timeout,
            format!("the upstream has taken nothing for {timeout:?}"),
        ))
    })
}

fn closed() -> Failure {
    Failure::unavailable(FailureKind::Ended, "the upstream closed the connection")
}

fn lost(error: &io::Error) -> Failure {
    let is_alert = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        .is_some();
    if is_alert {
        // After the handshake, for example where a client certificate is wanted.
        return Failure::unavailable(FailureKind::Tls, format!("the upstream ended TLS: {error}"));
    }
    Failure::unavailable(
        FailureKind::Closed,
        format!("the connection broke: {error}"),
    )
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
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
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
