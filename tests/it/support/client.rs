//! What clients do, and what they never see: a byte.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixStream};
use std::time::Duration;

use super::read::read_some;
use super::wait::DEADLINE;

/// A stream that can be half-closed.
pub trait Connection: Read + Write {
    fn hang_up(&self) -> io::Result<()>;
    fn read_for_at_most(&self, limit: Duration) -> io::Result<()>;
}

impl Connection for TcpStream {
    fn hang_up(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
    fn read_for_at_most(&self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit))
    }
}

impl Connection for UnixStream {
    fn hang_up(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
    fn read_for_at_most(&self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit))
    }
}

/// Writes, half-closes as `nc -N` does, and waits for the daemon to close.
#[track_caller]
pub fn say_and_hang_up(mut stream: impl Connection, bytes: impl AsRef<[u8]>) {
    stream.write_all(bytes.as_ref()).expect("the daemon reads");
    stream.hang_up().expect("an open connection");
    closes_silently(&mut stream);
}

/// Waits until the daemon has closed the connection; it may not write before.
#[track_caller]
pub fn closes_silently(stream: &mut impl Connection) {
    stream.read_for_at_most(DEADLINE).expect("a read deadline");
    match read_some(stream, &mut [0; 64]) {
        Ok(0) => {}
        Ok(read) => panic!("the daemon wrote {read} bytes to a client"),
        // Bytes that the daemon left unread make its close a reset.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the daemon does not close: {error}"),
    }
}

/// Whether the connection is open and the daemon has written nothing to it.
pub fn is_silent(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).expect("an open socket");
    let silent = match read_some(stream, &mut [0; 64]) {
        Ok(0) => false,
        Ok(read) => panic!("the daemon wrote {read} bytes to a client"),
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    };
    stream.set_nonblocking(false).expect("an open socket");
    silent
}

/// Breaks the connection off with an RST.
pub fn reset(stream: TcpStream) {
    let socket = socket2::Socket::from(stream);
    socket
        .set_linger(Some(Duration::ZERO))
        .expect("an open socket");
}

/// Sends one datagram to one of the daemon's addresses.
#[track_caller]
pub fn udp_to(address: SocketAddr, bytes: impl AsRef<[u8]>) {
    let any = if address.is_ipv4() {
        "127.0.0.1:0"
    } else {
        "[::1]:0"
    };
    let socket = UdpSocket::bind(any).expect("a client's socket");
    socket.send_to(bytes.as_ref(), address).expect("a datagram");
}

/// Opens a connection to a Unix stream listener.
#[track_caller]
pub fn unix_stream(address: &str) -> UnixStream {
    UnixStream::connect_addr(&unix_address(address)).expect("a Unix stream listener")
}

/// Sends one Unix datagram.
#[track_caller]
pub fn unix_datagram(address: &str, bytes: impl AsRef<[u8]>) {
    let socket = UnixDatagram::unbound().expect("a client's socket");
    socket
        .send_to_addr(bytes.as_ref(), &unix_address(address))
        .expect("a Unix datagram listener");
}

fn unix_address(address: &str) -> UnixAddr {
    match address.strip_prefix('@') {
        Some(name) => UnixAddr::from_abstract_name(name),
        None => UnixAddr::from_pathname(address),
    }
    .expect("a Unix address")
}
