//! A TCP connection to one address of the upstream.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tracing::debug;

use crate::deadline;
use crate::stats::FailureKind;

use super::failure::Failure;
use super::own::refuse_own_listener;

/// A connection that died while idle is noticed within a minute. Where data is
/// under way, `TCP_USER_TIMEOUT` does that, and keepalive does not run.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;

/// How connections are made.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For the connection to one address.
    pub connect: Duration,
    /// Without any acknowledgement.
    pub write: Duration,
}

/// Connects to one address.
pub async fn connect(address: SocketAddr, timeouts: Timeouts) -> Result<TcpStream, Failure> {
    let failed = |what: String| Failure::unavailable(FailureKind::Connect, what);
    let attempt = deadline::timeout(timeouts.connect, TcpStream::connect(address));
    let stream = match attempt.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => return Err(failed(format!("no answer within {:?}", timeouts.connect))),
    };
    if is_ourselves(&stream) {
        // Without a reset our end would stay in TIME-WAIT on the upstream's own port, and
        // keep the upstream from binding it for a minute.
        let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        return Err(failed("nothing listens there".to_owned()));
    }
    refuse_own_listener(&stream)?;
    if let Err(error) = tune(&stream, timeouts) {
        debug!(%error, "a socket option was refused");
    }
    debug!(%address, "connected");
    Ok(stream)
}

/// Connecting to a free port of this host can draw that very port for our own
/// end (RFC 9293, 3.5, simultaneous open): the lines would come back to us.
fn is_ourselves(stream: &TcpStream) -> bool {
    matches!((stream.local_addr(), stream.peer_addr()), (Ok(local), Ok(peer)) if local == peer)
}

fn tune(stream: &TcpStream, timeouts: Timeouts) -> io::Result<()> {
    // Batches are made here; waiting for more in the kernel only delays them.
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(timeouts.write))?;
    #[cfg(not(target_os = "linux"))]
    let _ = timeouts.write;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_PROBES),
    )
}
