//! What only some systems offer, behind functions that do less elsewhere.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

#[cfg(target_os = "linux")]
mod linux;

/// The receive buffer asked for on datagram sockets. The kernel's default of
/// 208 KiB keeps some 256 small datagrams (FACTS.md), a moment's worth.
pub const RECEIVE_BUFFER: usize = 8 << 20;

/// Raises the limit of open files as far as we may. Answers with the limit in
/// force.
pub fn raise_file_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let in_force = match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    in_force.unwrap_or(u64::MAX)
}

/// Asks for a large receive buffer, past the system's limit where we may.
/// Answers with what was granted, in bytes.
pub fn enlarge_receive_buffer(socket: impl AsFd) -> usize {
    use rustix::net::sockopt;
    #[cfg(target_os = "linux")]
    let forced = sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_ok();
    #[cfg(not(target_os = "linux"))]
    let forced = false;
    if !forced {
        // A smaller buffer than asked for is not an error.
        let _ = sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
    }
    sockopt::socket_recv_buffer_size(&socket).unwrap_or(0)
}

/// What binding ::1 says on a host without IPv6.
pub fn is_missing_family(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(error),
        Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT)
    )
}

/// How many bytes written to a TCP socket its peer has not acknowledged. An
/// error where the system cannot say.
pub fn unacknowledged(socket: impl AsFd) -> io::Result<u64> {
    #[cfg(target_os = "linux")]
    return linux::tcp::unacknowledged(socket.as_fd());
    #[cfg(not(target_os = "linux"))]
    {
        let _ = socket;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// How many bytes written to a TCP socket were never sent. An error where the
/// system cannot say.
pub fn unsent(socket: impl AsFd) -> io::Result<u64> {
    #[cfg(target_os = "linux")]
    return linux::tcp::unsent(socket.as_fd());
    #[cfg(not(target_os = "linux"))]
    {
        let _ = socket;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The window that the peer of a TCP socket advertises now: how much its kernel
/// would take without its process reading. `None` where the system cannot say.
pub fn peer_window(socket: impl AsFd) -> Option<u64> {
    #[cfg(target_os = "linux")]
    return linux::tcp::peer_window(socket.as_fd());
    #[cfg(not(target_os = "linux"))]
    {
        let _ = socket;
        None
    }
}

/// Keeps what is written and not yet sent short, so that the backlog stays in
/// our queue, where it is counted, and not in the kernel's.
pub fn limit_unsent(socket: impl AsFd, bytes: u32) {
    #[cfg(target_os = "linux")]
    {
        // Without it more is in flight, and all else is the same.
        let _ = socket2::SockRef::from(&socket).set_tcp_notsent_lowat(bytes);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, bytes);
}

/// Who listens on an address, where that can be found out: `nginx (pid 42)`.
pub fn port_owner(is_udp: bool, address: SocketAddr) -> Option<String> {
    #[cfg(target_os = "linux")]
    return linux::port_owner(is_udp, address);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (is_udp, address);
        None
    }
}
