//! What the kernel did to datagrams.

use std::io;
use std::os::fd::BorrowedFd;

use super::options;

/// `SO_MEMINFO` (Linux 4.12): the socket's count of datagrams that found no
/// room. It is exact, and shows drops even when no datagram follows.
pub fn dropped(socket: BorrowedFd<'_>) -> io::Result<u32> {
    /// `SK_MEMINFO_DROPS` of linux/sock_diag.h, an index into numbers of four bytes.
    const DROPS: usize = 8;
    let mut answer = [0_u8; (DROPS + 1) * size_of::<u32>()];
    let filled = options::get(socket, libc::SOL_SOCKET, libc::SO_MEMINFO, &mut answer)?;
    options::number_at(&answer, filled, DROPS * size_of::<u32>())
        .ok_or_else(|| io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn every_datagram_is_there_or_counted() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        rustix::net::sockopt::set_socket_recv_buffer_size(&receiver, 4096).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..1000 {
            sender
                .send_to(&[b'x'; 100], receiver.local_addr().unwrap())
                .unwrap();
        }
        let dropped = dropped(receiver.as_fd()).unwrap();
        receiver.set_nonblocking(true).unwrap();
        let there = std::iter::from_fn(|| receiver.recv(&mut [0; 200]).ok()).count();
        assert!(dropped > 0);
        assert_eq!(there + dropped as usize, 1000);
    }
}
