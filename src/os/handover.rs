//! One listening socket takes the place of another at the same port, and nothing
//! that clients send in between is lost.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use socket2::{SockRef, Socket};

/// A socket that is being left is read to its end, which takes a moment, and much longer
/// where all CPUs are busy.
const LEAVES_WITHIN: Duration = Duration::from_secs(30);

/// Ports that sockets of this process have left lately.
static LEFT: Mutex<Vec<(Port, Instant)>> = Mutex::new(Vec::new());

/// A port of one protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// Whether it is one of UDP; else of TCP.
    pub is_udp: bool,
    /// Its number.
    pub number: u16,
}

/// Binds a new socket at a port that `leaving` sockets of this process still hold, or that
/// it has left just now.
///
/// Linux compares `SO_REUSEPORT` of both sockets at the time of bind(2) (socket(7)). A
/// socket in use has the option for that moment only: at all other times an address that
/// is in use shows as such.
pub fn bind_beside_leaving(
    port: Port,
    leaving: &[SockRef<'_>],
    bind: impl Fn(bool) -> io::Result<Socket>,
) -> io::Result<Socket> {
    let in_use = match bind(false) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => error,
        bound => return bound,
    };
    if leaving.is_empty() && !port.was_left() {
        return Err(in_use);
    }
    // Those that share their port for `listen.udp_threads` keep the option.
    let alone: Vec<_> = leaving
        .iter()
        .filter(|socket| !socket.reuse_port().unwrap_or(true))
        .collect();
    for socket in &alone {
        socket.set_reuse_port(true)?;
    }
    let bound = bind(true);
    for socket in &alone {
        socket.set_reuse_port(false)?;
    }
    let Ok(bound) = bound else {
        // Another process has the address as well.
        return Err(in_use);
    };
    bound.set_reuse_port(false)?;
    Ok(bound)
}

impl Port {
    fn was_left(self) -> bool {
        let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
        left.retain(|(_, at)| at.elapsed() < LEAVES_WITHIN);
        left.iter().any(|(port, _)| *port == self)
    }

    /// A socket at this port is in use no more, and is no hindrance for another one.
    fn is_left(self, socket: &SockRef<'_>) -> io::Result<()> {
        socket.set_reuse_port(true)?;
        let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
        left.push((self, Instant::now()));
        Ok(())
    }
}

/// Makes a datagram socket receive nothing more from clients: it is connected to its own
/// address, from which nobody else can send. What its buffer holds stays there to be
/// read. Datagrams that arrive from now on go to another socket at the port.
pub fn refuse_datagrams(socket: &UdpSocket) -> io::Result<()> {
    let mut own = socket.local_addr()?;
    let port = Port {
        is_udp: true,
        number: own.port(),
    };
    port.is_left(&SockRef::from(socket))?;
    if own.ip().is_unspecified() {
        own.set_ip(match own {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    socket.connect(own)
}

/// Makes a listening socket ignore new connections, while those in its backlog can still
/// be accepted. A client that connects now sends its SYN again after a second (RFC 6298,
/// 2.1), which then reaches another socket at the port, or is refused.
pub fn ignore_connections(listener: &TcpListener) -> io::Result<()> {
    let port = Port {
        is_udp: false,
        number: listener.local_addr()?.port(),
    };
    port.is_left(&SockRef::from(listener))?;
    #[cfg(target_os = "linux")]
    {
        use socket2::SockFilter;
        const FLAGS: u32 = 13;
        const SYN: u32 = 2;
        // A filter sees a segment from the TCP header on. Instructions of classic BPF
        // (linux/filter.h): load the byte with the flags; drop the segment if SYN is set.
        let filter = [
            SockFilter::new(0x30, 0, 0, FLAGS),
            SockFilter::new(0x45, 0, 1, SYN),
            SockFilter::new(0x06, 0, 0, 0),
            SockFilter::new(0x06, 0, 0, u32::MAX),
        ];
        SockRef::from(listener).attach_filter(&filter)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = listener;
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpStream;

    use socket2::{Domain, Type};

    use super::*;

    const FORMS: [&str; 4] = ["127.0.0.1", "0.0.0.0", "::1", "::"];

    fn bind(kind: Type, address: SocketAddr, shares: bool) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), kind, None)?;
        if kind == Type::STREAM {
            socket.set_reuse_address(true)?;
        }
        socket.set_reuse_port(shares)?;
        socket.bind(&address.into())?;
        if kind == Type::STREAM {
            socket.listen(8)?;
        }
        Ok(socket)
    }

    fn at(form: &str, port: u16) -> SocketAddr {
        SocketAddr::new(form.parse().unwrap(), port)
    }

    /// A socket that leaves, and the one that takes its place.
    fn moved(kind: Type, old: &str, new: &str) -> (Socket, Socket, Port) {
        let mut refused = None;
        // Another program may have the port at the other address.
        for _ in 0..50 {
            let leaving = bind(kind, at(old, 0), false).unwrap();
            let port = Port {
                is_udp: kind == Type::DGRAM,
                number: leaving.local_addr().unwrap().as_socket().unwrap().port(),
            };
            let bind = |shares| bind(kind, at(new, port.number), shares);
            match bind_beside_leaving(port, &[SockRef::from(&leaving)], bind) {
                Ok(bound) => return (leaving, bound, port),
                Err(error) => refused = Some(error),
            }
        }
        panic!("{old} to {new}: {refused:?}");
    }

    #[test]
    fn every_form_of_address_can_take_the_place_of_every_other() {
        for kind in [Type::STREAM, Type::DGRAM] {
            for (old, new) in FORMS
                .iter()
                .flat_map(|old| FORMS.map(|new| (*old, new)))
                .filter(|(old, new)| old != new)
            {
                let (leaving, bound, at_port) = moved(kind, old, new);
                let bind = |shares| bind(kind, at(new, at_port.number), shares);
                for socket in [&leaving, &bound] {
                    assert!(!socket.reuse_port().unwrap(), "{old} to {new}");
                }
                // Nobody else may have it.
                let error = bind(false).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{old} to {new}");
                // The next change may come before the socket that was left is closed.
                drop(leaving);
                let left = SockRef::from(&bound);
                at_port.is_left(&left).unwrap();
                bind_beside_leaving(at_port, &[], bind).unwrap();
            }
        }
    }

    #[test]
    fn datagrams_that_come_later_go_to_the_other_socket() {
        for (old, new, to) in [
            ("127.0.0.1", "0.0.0.0", "127.0.0.1"),
            ("127.0.0.1", "::", "127.0.0.1"),
            ("::1", "::", "::1"),
            ("0.0.0.0", "::", "127.0.0.1"),
        ] {
            let (leaving, bound, Port { number: port, .. }) = moved(Type::DGRAM, old, new);
            let (leaving, bound) = (UdpSocket::from(leaving), UdpSocket::from(bound));
            let client = UdpSocket::bind(at(to, 0)).unwrap();
            client.send_to(b"before", at(to, port)).unwrap();
            refuse_datagrams(&leaving).unwrap();
            client.send_to(b"after", at(to, port)).unwrap();
            for (socket, expected) in [(leaving, "before"), (bound, "after")] {
                let mut text = [0; 16];
                let length = socket.recv(&mut text).unwrap();
                assert_eq!(&text[..length], expected.as_bytes(), "{old} to {new}");
                socket.set_nonblocking(true).unwrap();
                assert!(socket.recv(&mut text).is_err(), "{old} to {new}");
            }
        }
    }

    #[test]
    fn a_connection_that_comes_later_reaches_the_other_socket() {
        let (leaving, bound, Port { number: port, .. }) =
            moved(Type::STREAM, "127.0.0.1", "0.0.0.0");
        let (leaving, bound) = (TcpListener::from(leaving), TcpListener::from(bound));
        let _before = TcpStream::connect(at("127.0.0.1", port)).unwrap();
        ignore_connections(&leaving).unwrap();
        let later = std::thread::spawn(move || TcpStream::connect(at("127.0.0.1", port)));
        leaving.accept().unwrap();
        leaving.set_nonblocking(true).unwrap();
        let nobody = leaving.accept().unwrap_err();
        assert_eq!(nobody.kind(), io::ErrorKind::WouldBlock);
        drop(leaving);
        let (mut accepted, _) = bound.accept().unwrap();
        drop(later.join().unwrap().unwrap());
        assert_eq!(accepted.read(&mut [0; 1]).unwrap(), 0);
    }
}
