//! A connection to an HTTP server, and what its socket knows of a request that
//! got no answer.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::os;

use super::super::wire::Wire;
use super::status_line::{Listener, Overheard};

/// Common servers close idle connections after a minute; ours go first, so
/// that no request meets one that is just being closed.
const MAX_IDLE: Duration = Duration::from_secs(50);

/// What an idle socket holds is read within this time.
const IS_READ: Duration = Duration::from_millis(50);
const READ_LOOK: Duration = Duration::from_millis(1);

/// Longer heads are not read to their ends: their status line is enough. A few
/// times of what servers send at most.
const MAX_HEAD: usize = 64 << 10;
const MAX_FIELDS: usize = 256;

/// Moves the bytes of a connection.
pub type Driver = http1::Connection<TokioIo<Overheard<Wire>>, Full<Bytes>>;

/// Begins to speak HTTP. Whatever an answer's fields are like, it is an answer.
pub async fn handshake(wire: Wire) -> hyper::Result<(SendRequest<Full<Bytes>>, Driver, Listener)> {
    let (stream, answers) = Overheard::new(wire);
    let (sender, driver) = http1::Builder::new()
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .ignore_invalid_headers_in_responses(true)
        .max_headers(MAX_FIELDS)
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await?;
    Ok((sender, driver, answers))
}

/// A connection, with at most one request on its way.
#[derive(Debug)]
pub struct Connection {
    pub sender: SendRequest<Full<Bytes>>,
    /// Moves the bytes of the connection.
    pub driver: JoinHandle<()>,
    /// The socket, to be asked what the peer's kernel has.
    pub socket: OwnedFd,
    /// How many bytes the socket has accepted.
    pub accepted: Arc<AtomicU64>,
    /// Where it leads.
    pub address: SocketAddr,
    /// Whether the server had accepted our TLS client certificate when the connection was
    /// made, or had not asked for one.
    pub is_confirmed: bool,
    /// What the upstream says.
    pub answers: Listener,
    pub expires: Instant,
    pub last_used: Instant,
    pub requests: u64,
}

/// What is known of a request that got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The upstream never had all of it.
    Incomplete,
    /// The same, on a connection that had worked before: the server closed it
    /// as it was used.
    Stale,
    /// The upstream may have acted on it.
    Unknown,
}

impl Connection {
    /// Whether the next request may go on it. The server may have closed it while
    /// this process was suspended: what the socket holds is read before.
    pub async fn is_usable(&self) -> bool {
        if self.sender.is_closed() || Instant::now() >= self.last_used + MAX_IDLE {
            return false;
        }
        // A new one may hold tickets of TLS, and has not been idle.
        let mut looks = IS_READ.as_millis() / READ_LOOK.as_millis();
        while self.requests > 0 && os::has_unread(&self.socket) {
            sleep(READ_LOOK).await;
            looks -= 1;
            if looks == 0 || self.sender.is_closed() {
                return false;
            }
        }
        true
    }

    /// Whether it is time for another one.
    pub fn is_expired(&self) -> bool {
        self.expires <= Instant::now()
    }

    /// What is known of the request that just failed. What never was complete
    /// is cut off, so that it does not become so.
    pub async fn fate(mut self, complete_at: u64, was_reset: bool) -> Fate {
        if self.may_be_complete(complete_at, was_reset) {
            return Fate::Unknown;
        }
        self.reset_at_close();
        self.driver.abort();
        // Its end closes the socket's other handle.
        let _ = (&mut self.driver).await;
        self.stale_or(Fate::Incomplete)
    }

    /// Whether the upstream may have all of a request. If the socket has not
    /// accepted at least the lines, it was never complete. Nor was it if some
    /// of it was never sent, or not acknowledged by the peer's end of the
    /// connection or the deadline; a reset may overtake an acknowledgement, so
    /// after one that proves nothing.
    pub fn may_be_complete(&self, complete_at: u64, was_reset: bool) -> bool {
        let left = if was_reset {
            os::unsent(&self.socket)
        } else {
            os::unacknowledged(&self.socket)
        };
        let is_written = self.accepted.load(Relaxed) >= complete_at;
        is_written && !matches!(left, Ok(1..))
    }

    pub fn reset_at_close(&self) {
        // A socket that cannot be told is dead already.
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
    }

    pub fn stale_or(&self, fate: Fate) -> Fate {
        if self.requests > 0 { Fate::Stale } else { fate }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
