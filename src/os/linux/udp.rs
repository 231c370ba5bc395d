//! Datagrams, many at once, and what the kernel did to others.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::options;
use crate::os::received::{BATCH, NamedBy, Received, Sender};

/// An address as the kernel writes it, of the two families that we can read.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Address([u8; size_of::<libc::sockaddr_in6>()]);

/// Room for one control message with `struct ucred`, unix(7): a header of
/// sixteen bytes, three numbers, and padding.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; 32]);

/// `recvmmsg(2)` into as many places as there are, up to a batch, without
/// waiting.
pub fn receive<'a>(
    socket: BorrowedFd<'_>,
    places: impl Iterator<Item = &'a mut [u8]>,
    named_by: NamedBy,
    received: &mut Vec<Received>,
) -> io::Result<()> {
    let mut controls = [MaybeUninit::<Control>::uninit(); BATCH];
    let mut addresses = [Address([0; size_of::<libc::sockaddr_in6>()]); BATCH];
    let mut vectors = [MaybeUninit::<libc::iovec>::uninit(); BATCH];
    let mut headers = [MaybeUninit::<libc::mmsghdr>::uninit(); BATCH];
    let mut count = 0;
    let slots = addresses.iter_mut().zip(&mut controls).zip(&mut vectors);
    let slots = slots.zip(&mut headers);
    for (place, (((address, control), vector), header)) in places.zip(slots) {
        let vector = vector.write(libc::iovec {
            iov_base: place.as_mut_ptr().cast(),
            iov_len: place.len(),
        });
        // SAFETY: zeroes are a valid `mmsghdr`: null pointers and lengths of 0.
        let mut empty: libc::mmsghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        match named_by {
            NamedBy::Address => {
                let length = libc::socklen_t::try_from(size_of::<Address>());
                empty.msg_hdr.msg_name = ptr::from_mut(address).cast();
                empty.msg_hdr.msg_namelen = length.unwrap_or(0);
            }
            NamedBy::Process => {
                let control = control.write(Control([0; size_of::<Control>()]));
                empty.msg_hdr.msg_control = ptr::from_mut(control).cast();
                empty.msg_hdr.msg_controllen = size_of::<Control>() as _;
            }
        }
        empty.msg_hdr.msg_iov = ptr::from_mut(vector);
        empty.msg_hdr.msg_iovlen = 1;
        header.write(empty);
        count += 1;
    }
    let headers = &mut headers[..count];
    let count = libc::c_uint::try_from(count).unwrap_or(0);
    // SAFETY: the descriptor is open for the length of the borrow. The first
    // `count` headers are initialised; each points to one vector and one address
    // or control buffer of its own, which outlive the call and are not used
    // during it, and the vector to a place that `places` lent exclusively, all of
    // the lengths given.
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
    let slots = headers.iter().zip(&addresses).zip(&controls);
    for ((header, address), control) in slots.take(filled) {
        // SAFETY: initialised above.
        let header = unsafe { header.assume_init_ref() };
        let sender = match named_by {
            NamedBy::Address => address.read(header.msg_hdr.msg_namelen),
            NamedBy::Process => {
                // SAFETY: initialised above, as senders are named by processes.
                let control = unsafe { control.assume_init_ref() };
                control.read()
            }
        };
        received.push(Received {
            length: usize::try_from(header.msg_len).unwrap_or(0),
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            sender: sender.unwrap_or_default(),
        });
    }
    Ok(())
}

/// Makes the runtime watch for something to receive.
pub fn watch(socket: BorrowedFd<'_>) -> io::Result<AsyncFd<BorrowedFd<'_>>> {
    // SAFETY: what is borrowed stays open, and the same, while it is borrowed.
    let registered = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
    Ok(registered?)
}

impl Address {
    /// `None` for unnamed senders and other families (ip(7), ipv6(7)).
    fn read(&self, length: libc::socklen_t) -> Option<Sender> {
        let bytes = self.0.get(..usize::try_from(length).ok()?)?;
        let (family, rest) = bytes.split_first_chunk::<2>()?;
        let (port, rest) = rest.split_first_chunk::<2>()?;
        let ip = match libc::c_int::from(u16::from_ne_bytes(*family)) {
            libc::AF_INET => IpAddr::from(*rest.first_chunk::<4>()?),
            // After the flow label.
            libc::AF_INET6 => IpAddr::from(*rest.get(4..)?.first_chunk::<16>()?),
            _ => return None,
        };
        let address = SocketAddr::new(ip, u16::from_be_bytes(*port));
        Some(Sender::Address(address))
    }
}

impl Control {
    /// `None` where the kernel wrote no credentials, and left zeroes.
    fn read(&self) -> Option<Sender> {
        let numbers: Vec<u32> = self.0[size_of::<usize>()..]
            .chunks_exact(size_of::<u32>())
            .map(|bytes| u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            .collect();
        let is = |number: u32, expected: libc::c_int| number.cast_signed() == expected;
        match numbers[..] {
            [level, kind, pid, uid, ..]
                if is(level, libc::SOL_SOCKET) && is(kind, libc::SCM_CREDENTIALS) =>
            {
                Some(Sender::Process { pid, uid })
            }
            _ => None,
        }
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
            datagrams.receive(&receiver, NamedBy::Address).unwrap();
            let arrived: Vec<&[u8]> = datagrams.iter().map(|(bytes, _)| bytes).collect();
            assert_eq!(arrived, sent);
            for (_, received) in datagrams.iter() {
                let address = sender.local_addr().unwrap();
                assert_eq!(received.sender, Sender::Address(address));
                assert!(!received.truncated);
            }
            assert!(!datagrams.is_full());
            let nothing = datagrams.receive(&receiver, NamedBy::Address).unwrap_err();
            assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn what_does_not_fit_is_cut_and_said_to_be() {
        let (sender, receiver) = std::os::unix::net::UnixDatagram::pair().unwrap();
        sender.send(&vec![b'x'; 70_000]).unwrap();
        let mut datagrams = Datagrams::default();
        datagrams.receive(&receiver, NamedBy::Process).unwrap();
        let (bytes, facts) = datagrams.iter().next().unwrap();
        assert_eq!(bytes.len(), 65_536);
        assert!(facts.truncated && facts.sender == Sender::Unknown);
        datagrams.zeroize();
        assert!(
            datagrams
                .iter()
                .all(|(bytes, _)| bytes.iter().all(|byte| *byte == 0))
        );
    }

    #[test]
    fn the_process_behind_a_unix_socket_is_known_if_asked_for() {
        let (sender, receiver) = std::os::unix::net::UnixDatagram::pair().unwrap();
        crate::os::name_processes(&receiver);
        for line in [b"one", b"two"] {
            sender.send(line).unwrap();
        }
        let mut datagrams = Datagrams::default();
        datagrams.receive(&receiver, NamedBy::Process).unwrap();
        let us = Sender::Process {
            pid: std::process::id(),
            uid: rustix::process::getuid().as_raw(),
        };
        let senders: Vec<Sender> = datagrams.iter().map(|(_, facts)| facts.sender).collect();
        assert_eq!(senders, [us, us]);
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
