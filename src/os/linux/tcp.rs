//! Three questions to a TCP socket that no safe crate asks.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::options;

/// `ioctl(SIOCOUTQ)`, tcp(7): what was written and is not acknowledged, the
/// unsent part included. It goes on answering after a reset, until the socket
/// is closed (docs/facts.md).
pub fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<u64> {
    // By its other name.
    queue_length(socket, libc::TIOCOUTQ)
}

/// `ioctl(SIOCOUTQNSD)`, tcp(7): what was written and never sent.
pub fn unsent(socket: BorrowedFd<'_>) -> io::Result<u64> {
    queue_length(socket, libc::SIOCOUTQNSD)
}

fn queue_length(socket: BorrowedFd<'_>, request: libc::Ioctl) -> io::Result<u64> {
    let mut bytes: c_int = 0;
    // SAFETY: the descriptor is open for the length of the borrow, and for
    // these two requests the kernel writes one int, to a place that is one.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), request, &raw mut bytes) };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    u64::try_from(bytes).map_err(io::Error::other)
}

/// `tcpi_snd_wnd` of `TCP_INFO` (Linux 5.4): the window that the peer last
/// advertised. `None` on older kernels, which answer with less.
pub fn peer_window(socket: BorrowedFd<'_>) -> Option<u64> {
    /// Its place in `struct tcp_info` of linux/tcp.h, which only ever grows at
    /// its end.
    const OFFSET: usize = 228;
    const END: usize = OFFSET + size_of::<u32>();
    let mut info = [0_u8; END];
    let filled = options::get(socket, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info).ok()?;
    options::number_at(&info, filled, OFFSET).map(u64::from)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_kernel_knows_what_is_unacknowledged_even_after_a_reset() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        ours.write_all(b"hello").unwrap();
        theirs.read_exact(&mut [0; 5]).unwrap();
        assert_eq!(unacknowledged(ours.as_fd()).unwrap(), 0);
        assert!(peer_window(ours.as_fd()).unwrap() > 0);

        drop(theirs);
        // The peer is gone: its kernel answers these bytes with a reset.
        ours.write_all(b"lost").unwrap();
        let _ = ours.read(&mut [0; 1]);
        while ours.write_all(b"x").is_ok() {}
        assert!(unacknowledged(ours.as_fd()).unwrap() >= 4);
    }
}
