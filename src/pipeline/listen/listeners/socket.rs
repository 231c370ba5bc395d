//! Sockets that are bound: as a listener holds them, and as a task serves them.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net as unix;
use std::sync::Arc;

use crate::os;
use crate::pipeline::listen::udp::KernelDrops;
use crate::stats::bound::Place;

/// An address that was asked for, and whether its wildcard leaves IPv4 to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// The address.
    pub address: SocketAddr,
    /// Only for `[::]`.
    pub only_v6: bool,
}

/// A socket that is bound, and the address that was asked for.
#[derive(Debug)]
pub enum Bound {
    /// Datagrams over IP, and what the kernel has dropped of them.
    Udp(Asked, UdpSocket, Arc<KernelDrops>),
    /// Streams over IP.
    Tcp(Asked, TcpListener),
    /// Streams over Unix sockets.
    UnixStream(unix::UnixListener),
    /// Datagrams over Unix sockets.
    UnixDatagram(unix::UnixDatagram),
}

/// A socket of a listener.
#[derive(Debug)]
pub struct Held {
    /// The socket.
    pub bound: Bound,
    /// Somebody else bound it, and keeps it when we go.
    pub is_activated: bool,
    /// It shares its address with another, and has a thread of its own.
    pub is_beside: bool,
}

/// A socket that a task can serve.
#[derive(Debug)]
pub enum ReadySocket {
    /// Datagrams over IP, and what the kernel has dropped of them.
    Udp(UdpSocket, Arc<KernelDrops>),
    /// Streams over IP.
    Tcp(tokio::net::TcpListener),
    /// Streams over Unix sockets.
    UnixStream(tokio::net::UnixListener),
    /// Datagrams over Unix sockets.
    UnixDatagram(unix::UnixDatagram),
}

impl Held {
    /// A second handle.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            bound: self.bound.try_clone()?,
            is_activated: self.is_activated,
            is_beside: self.is_beside,
        })
    }
}

impl Bound {
    /// A socket that we have bound.
    pub fn ours(self) -> Held {
        Held {
            bound: self,
            is_activated: false,
            is_beside: false,
        }
    }

    /// A socket that was bound for us.
    pub fn activated(self) -> Held {
        Held {
            bound: self,
            is_activated: true,
            is_beside: false,
        }
    }

    /// A second handle, registered with the runtime.
    pub fn ready(&self) -> io::Result<ReadySocket> {
        Ok(match self.try_clone()? {
            Self::Udp(_, socket, drops) => ReadySocket::Udp(socket, drops),
            Self::Tcp(_, listener) => {
                ReadySocket::Tcp(tokio::net::TcpListener::from_std(listener)?)
            }
            Self::UnixStream(listener) => {
                ReadySocket::UnixStream(tokio::net::UnixListener::from_std(listener)?)
            }
            Self::UnixDatagram(socket) => ReadySocket::UnixDatagram(socket),
        })
    }

    fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Udp(asked, socket, drops) => {
                Self::Udp(*asked, socket.try_clone()?, drops.clone())
            }
            Self::Tcp(asked, listener) => Self::Tcp(*asked, listener.try_clone()?),
            Self::UnixStream(listener) => Self::UnixStream(listener.try_clone()?),
            Self::UnixDatagram(socket) => Self::UnixDatagram(socket.try_clone()?),
        })
    }

    /// Whether another handle is one of the same socket.
    pub fn is_same_socket(&self, other: &Self) -> bool {
        let inode = |bound: &Self| {
            let found = rustix::fs::fstat(bound.as_fd()).ok()?;
            Some((found.st_dev, found.st_ino))
        };
        inode(self).is_some_and(|own| inode(other) == Some(own))
    }

    /// Lets no more datagrams and connections arrive. What has arrived can still be read
    /// and accepted.
    pub fn stop_arrivals(&self) -> io::Result<()> {
        match self {
            Self::Udp(_, socket, _) => os::refuse_datagrams(socket),
            Self::Tcp(_, listener) => os::ignore_connections(listener),
            // Whoever finds the path finds another socket there, or none.
            Self::UnixStream(_) | Self::UnixDatagram(_) => Ok(()),
        }
    }

    /// Where clients reach it over IP.
    pub fn place(&self) -> Option<Place> {
        let address = self.ip_address()?.ok()?;
        match self {
            Self::Udp(Asked { only_v6, .. }, ..) => Some(Place::Udp {
                address,
                only_v6: *only_v6,
            }),
            Self::Tcp(Asked { only_v6, .. }, _) => Some(Place::Tcp {
                address,
                only_v6: *only_v6,
            }),
            Self::UnixStream(_) | Self::UnixDatagram(_) => None,
        }
    }

    /// Whether nobody is connected to it.
    pub fn is_of_datagrams(&self) -> bool {
        matches!(self, Self::Udp(..) | Self::UnixDatagram(_))
    }

    /// What IP carries to it.
    pub fn protocol(&self) -> Option<&'static str> {
        match self {
            Self::Udp(..) => Some("udp"),
            Self::Tcp(..) => Some("tcp"),
            Self::UnixStream(_) | Self::UnixDatagram(_) => None,
        }
    }

    /// Where the system has bound it; nothing where only a path leads.
    pub fn ip_address(&self) -> Option<io::Result<SocketAddr>> {
        match self {
            Self::Udp(_, socket, _) => Some(socket.local_addr()),
            Self::Tcp(_, listener) => Some(listener.local_addr()),
            Self::UnixStream(_) | Self::UnixDatagram(_) => None,
        }
    }
}

impl AsFd for Bound {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Udp(_, socket, _) => socket.as_fd(),
            Self::Tcp(_, listener) => listener.as_fd(),
            Self::UnixStream(listener) => listener.as_fd(),
            Self::UnixDatagram(socket) => socket.as_fd(),
        }
    }
}
