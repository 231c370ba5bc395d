//! Sockets that were bound for us, by the service manager: matched to listeners
//! by kind and address.
//!
//! Whoever bound them keeps them open, and hands them to the next process as
//! well: what waits in them when this one ends is not lost. So their buffers are
//! left as they are, and so is their backlog at the end.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net as unix;
use std::sync::Mutex;
use std::sync::PoisonError;

use socket2::{Domain, Socket, Type};

use crate::config::UnixAddress;
use crate::os;

use super::unix::is_at;

/// Sockets that were given to us. They stay ours for the life of the process:
/// nobody else could bind their addresses, so a reload may want them again.
#[derive(Debug, Default)]
pub struct ActivatedSockets {
    sockets: Vec<Socket>,
    /// Which of them listeners use, or used.
    used: Mutex<Vec<bool>>,
}

impl ActivatedSockets {
    /// Takes sockets over. Answers with a word about each that is of no use.
    pub fn new(descriptors: Vec<OwnedFd>) -> (Self, Vec<String>) {
        let mut activated = Self::default();
        let mut useless = Vec::new();
        for descriptor in descriptors {
            let socket = Socket::from(descriptor);
            match usable(&socket) {
                Ok(()) => activated.sockets.push(socket),
                Err(why) => useless.push(format!("{} ({why})", Name(&socket))),
            }
        }
        activated.used = Mutex::new(vec![false; activated.sockets.len()]);
        (activated, useless)
    }

    /// The sockets that no listener has asked for.
    pub fn unused(&self) -> Vec<String> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let sockets = self.sockets.iter().zip(used.iter());
        sockets
            .filter(|(_, used)| !**used)
            .map(|(socket, _)| Name(socket).to_string())
            .collect()
    }

    /// The datagram socket that is bound to an address.
    pub fn udp(&self, address: SocketAddr) -> Option<io::Result<UdpSocket>> {
        self.find(Type::DGRAM, |socket| is_bound_to(socket, address))
    }

    /// The listening socket that is bound to an address.
    pub fn tcp(&self, address: SocketAddr) -> Option<io::Result<TcpListener>> {
        self.find(Type::STREAM, |socket| is_bound_to(socket, address))
    }

    /// The listening Unix socket that is bound to an address.
    pub fn unix_stream(&self, address: &UnixAddress) -> Option<io::Result<unix::UnixListener>> {
        self.find(Type::STREAM, |socket| is_at(socket, address))
    }

    /// The Unix datagram socket that is bound to an address.
    pub fn unix_datagram(&self, address: &UnixAddress) -> Option<io::Result<unix::UnixDatagram>> {
        self.find(Type::DGRAM, |socket| is_at(socket, address))
    }

    /// A socket that keeps others from a port.
    pub fn at_port(&self, is_udp: bool, port: u16) -> Option<String> {
        let kind = if is_udp { Type::DGRAM } else { Type::STREAM };
        let is_there = |socket: &&Socket| {
            let local = socket.local_addr().ok().and_then(|local| local.as_socket());
            let is_kind = socket.r#type().ok() == Some(kind);
            is_kind && local.is_some_and(|local| local.port() == port)
        };
        let holder = self.sockets.iter().find(is_there)?;
        let name = Name(holder);
        Some(format!("the socket unit, which has {name}"))
    }

    fn find<T: From<Socket>>(
        &self,
        kind: Type,
        is_wanted: impl Fn(&Socket) -> bool,
    ) -> Option<io::Result<T>> {
        let is_wanted = |socket: &Socket| socket.r#type().ok() == Some(kind) && is_wanted(socket);
        let at = self.sockets.iter().position(is_wanted)?;
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used[at] = true;
        Some(self.sockets[at].try_clone().map(T::from))
    }
}

fn usable(socket: &Socket) -> Result<(), String> {
    let domain = socket.domain().map_err(|_| "no socket".to_owned())?;
    if ![Domain::IPV4, Domain::IPV6, Domain::UNIX].contains(&domain) {
        return Err("neither IP nor Unix".to_owned());
    }
    match socket.r#type() {
        Ok(Type::DGRAM) => {}
        Ok(Type::STREAM) if os::is_listening(socket) => {}
        Ok(Type::STREAM) => return Err("a connection; leave Accept= out".to_owned()),
        _ => return Err("neither a stream nor datagrams".to_owned()),
    }
    socket
        .set_nonblocking(true)
        .map_err(|error| error.to_string())
}

fn is_bound_to(socket: &Socket, address: SocketAddr) -> bool {
    let local = socket.local_addr().ok().and_then(|local| local.as_socket());
    local.is_some_and(|local| (local.ip(), local.port()) == (address.ip(), address.port()))
}

/// A socket as the configuration would name it.
struct Name<'a>(&'a Socket);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_stream = self.0.r#type().ok() == Some(Type::STREAM);
        let Ok(local) = self.0.local_addr() else {
            return f.write_str("a descriptor that is no socket");
        };
        if let Some(address) = local.as_socket() {
            let kind = if is_stream { "tcp" } else { "udp" };
            return write!(f, "{kind}:{address}");
        }
        let kind = if is_stream { "stream" } else { "datagram" };
        if let Some(path) = local.as_pathname() {
            return write!(f, "unix_{kind}:{}", path.display());
        }
        match local.as_abstract_namespace() {
            Some(name) => write!(f, "unix_{kind}:@{}", String::from_utf8_lossy(name)),
            None => write!(f, "unix_{kind} without a name"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_found_by_kind_and_address() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("stream.sock");
        let stream = unix::UnixListener::bind(&path).unwrap();
        let connection = std::net::TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        let (udp_at, tcp_at) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
        let file = tempfile::tempfile().unwrap();
        let (activated, useless) = ActivatedSockets::new(vec![
            udp.into(),
            tcp.into(),
            stream.into(),
            connection.into(),
            file.into(),
        ]);
        assert_eq!(useless.len(), 2, "{useless:?}");
        assert!(useless[0].contains("a connection"), "{useless:?}");
        assert!(useless[1].contains("no socket"), "{useless:?}");

        assert_eq!(activated.unused().len(), 3);
        let holder = activated.at_port(true, udp_at.port()).unwrap();
        assert!(holder.ends_with(&format!("udp:{udp_at}")), "{holder}");
        assert_eq!(activated.at_port(false, udp_at.port()), None);
        assert!(activated.udp(tcp_at).is_none() && activated.tcp(udp_at).is_none());
        let found = activated.udp(udp_at).unwrap().unwrap();
        assert_eq!(found.local_addr().unwrap(), udp_at);
        assert!(activated.tcp(tcp_at).unwrap().is_ok());
        assert_eq!(
            activated.unused(),
            [format!("unix_stream:{}", path.display())]
        );
        assert!(activated.unix_stream(&UnixAddress::Path(path)).is_some());
        assert!(activated.unused().is_empty());
    }
}
