//! Datagrams, many at once, and what the kernel did to others.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use super::options;
use crate::os::datagrams::{BATCH, Received};

/// An address as the kernel writes it, of the two families that we can read.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Address([u8; size_of::<libc::sockaddr_in6>()]);

/// `recvmmsg(2)` into as many places as there are, up to a batch, without
/// waiting.
pub fn receive<'a>(
    socket: BorrowedFd<'_>,
    places: impl Iterator<Item = &'a mut [u8]>,
    received: &mut Vec<Received>,
) -> io::Result<()> {
    let mut addresses = [Address([0; size_of::<libc::sockaddr_in6>()]); BATCH];
    let mut vectors = [MaybeUninit::<libc::iovec>::uninit(); BATCH];
    let mut headers = [MaybeUninit::<libc::mmsghdr>::uninit(); BATCH];
    let mut count = 0;
    let slots = addresses.iter_mut().zip(&mut vectors).zip(&mut headers);
    for (place, ((address, vector), header)) in places.zip(slots) {
        let vector = vector.write(libc::iovec {
            iov_base: place.as_mut_ptr().cast(),
            iov_len: place.len(),
        });
        // SAFETY: zeroes are a valid `mmsghdr`: null pointers and lengths of 0.
        let mut empty: libc::mmsghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        empty.msg_hdr.msg_name = ptr::from_mut(address).cast();
        empty.msg_hdr.msg_namelen = libc::socklen_t::try_from(size_of::<Address>()).unwrap_or(0);
        empty.msg_hdr.msg_iov = ptr::from_mut(vector);
        empty.msg_hdr.msg_iovlen = 1;
        header.write(empty);
        count += 1;
    }
    let headers = &mut headers[..count];
    let count = libc::c_uint::try_from(count).unwrap_or(0);
    // SAFETY: the descriptor is open for the length of the borrow. The first
    // `count` headers are initialised; each points to one vector and one address
    // of its own, which outlive the call and are not used during it, and the
    // vector to a place that `places` lent exclusively, of the length given.
    let filled = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr().cast(),
            count,
            libc::MSG_DONTWAIT,
            ptr::null_mut(),
        )
    };
    let Ok(filled) = usize::try_from(filled) else {
        return Err(io::Error::last_os_error());
    };
    for (header, address) in headers.iter().zip(&addresses).take(filled) {
        // SAFETY: initialised above.
        let header = unsafe { header.assume_init_ref() };
        received.push(Received {
            length: usize::try_from(header.msg_len).unwrap_or(0),
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            peer: address.read(header.msg_hdr.msg_namelen),
        });
    }
    Ok(())
}

impl Address {
    /// `None` for unnamed senders and other families (ip(7), ipv6(7)).
    fn read(&self, length: libc::socklen_t) -> Option<SocketAddr> {
        let bytes = self.0.get(..usize::try_from(length).ok()?)?;
        let (family, rest) = bytes.split_first_chunk::<2>()?;
        let (port, rest) = rest.split_first_chunk::<2>()?;
        let ip = match libc::c_int::from(u16::from_ne_bytes(*family)) {
            libc::AF_INET => IpAddr::from(*rest.first_chunk::<4>()?),
            // After the flow label.
            libc::AF_INET6 => IpAddr::from(*rest.get(4..)?.first_chunk::<16>()?),
            _ => return None,
        };
        Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
    }
}

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
    use crate::os::Datagrams;

    #[test]
    fn a_batch_is_received_whole_with_its_senders() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let receiver = UdpSocket::bind(local).unwrap();
            let sender = UdpSocket::bind(local).unwrap();
            let large = vec![b'x'; 60_000];
            let sent: [&[u8]; 4] = [b"one", b"", &large, b"four"];
            for bytes in sent {
                sender
                    .send_to(bytes, receiver.local_addr().unwrap())
                    .unwrap();
            }
            let mut datagrams = Datagrams::default();
            datagrams.receive(&receiver).unwrap();
            let arrived: Vec<&[u8]> = datagrams.iter().map(|(bytes, _)| bytes).collect();
            assert_eq!(arrived, sent);
            for (_, received) in datagrams.iter() {
                assert_eq!(received.peer, sender.local_addr().ok());
                assert!(!received.truncated);
            }
            assert!(!datagrams.is_full());
            let nothing = datagrams.receive(&receiver).unwrap_err();
            assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn what_does_not_fit_is_cut_and_said_to_be() {
        let (sender, receiver) = std::os::unix::net::UnixDatagram::pair().unwrap();
        sender.send(&vec![b'x'; 70_000]).unwrap();
        let mut datagrams = Datagrams::default();
        datagrams.receive(&receiver).unwrap();
        let (bytes, facts) = datagrams.iter().next().unwrap();
        assert_eq!(bytes.len(), 65_536);
        assert!(facts.truncated && facts.peer.is_none());
        datagrams.zeroize();
        assert!(
            datagrams
                .iter()
                .all(|(bytes, _)| bytes.iter().all(|byte| *byte == 0))
        );
    }

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
