//! Ports that stay ours while nobody listens on them, so that an upstream can
//! be down and come up where it was.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::support::wait::wait_for;

const BACKLOG: i32 = 1024;

/// A TCP port that refuses connections until somebody listens on it.
pub struct Port {
    // Bound and never listening: that refuses, and keeps the port ours.
    _reserved: Socket,
    address: SocketAddr,
}

/// A UDP port that refuses datagrams until somebody receives on it.
pub struct UdpPort {
    // Connected to nobody: the kernel refuses datagrams of everybody else.
    _reserved: Socket,
    address: SocketAddr,
}

impl Port {
    /// Takes a free port.
    pub fn reserve() -> Self {
        Self::reserve_at(Ipv4Addr::LOCALHOST)
    }

    /// Takes a free port of one of our addresses.
    pub fn reserve_at(address: Ipv4Addr) -> Self {
        Self::bind((address, 0).into())
    }

    /// The same port of another of our addresses.
    pub fn at(&self, address: Ipv4Addr) -> Self {
        Self::bind((address, self.address.port()).into())
    }

    fn bind(address: SocketAddr) -> Self {
        let socket = bound(Type::STREAM, Protocol::TCP, address);
        Self {
            address: address_of(&socket),
            _reserved: socket,
        }
    }

    /// As `sink.url`.
    pub fn url(&self) -> String {
        format!("tcp://{}", self.address)
    }

    /// As `sink.url`, for a TLS upstream.
    pub fn tls_url(&self) -> String {
        format!("tls://localhost:{}", self.address.port())
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens, as soon as this is called. A small buffer makes a slow reader
    /// slow at once.
    pub fn listen(&self, receive_buffer: Option<usize>) -> TcpListener {
        let socket = bound(Type::STREAM, Protocol::TCP, self.address);
        if let Some(bytes) = receive_buffer {
            socket
                .set_recv_buffer_size(bytes)
                .expect("a receive buffer");
        }
        socket.listen(BACKLOG).expect("nobody else listens here");
        socket.into()
    }
}

impl UdpPort {
    /// Takes a free port.
    pub fn reserve() -> Self {
        let socket = bound(Type::DGRAM, Protocol::UDP, any_port());
        let address = address_of(&socket);
        let discard = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        socket
            .connect(&SockAddr::from(discard))
            .expect("a UDP socket");
        Self {
            _reserved: socket,
            address,
        }
    }

    /// As `sink.url`.
    pub fn url(&self) -> String {
        format!("udp://{}", self.address)
    }

    /// Receives, as soon as this is called.
    pub fn receive(&self) -> UdpSocket {
        let socket = bound(Type::DGRAM, Protocol::UDP, self.address);
        // A burst of a test must fit, whatever the machine does meanwhile.
        socket
            .set_recv_buffer_size(4 * 1024 * 1024)
            .expect("a receive buffer");
        socket.into()
    }
}

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn bound(kind: Type, protocol: Protocol, address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, kind, Some(protocol)).expect("a socket");
    // Lets the reservation and the listener share the port.
    socket.set_reuse_address(true).expect("a socket option");
    // Another test may be starting a program: until that has begun, it holds a
    // copy of the listener that was here before.
    wait_for("an address of ours", || {
        match socket.bind(&address.into()) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => false,
            bound => {
                bound.expect("an address of ours");
                true
            }
        }
    });
    socket
}

fn address_of(socket: &Socket) -> SocketAddr {
    let address = socket.local_addr().expect("a bound socket");
    address.as_socket().expect("an IP address")
}
