//! The same two loops on Unix sockets: how they are bound, and named.

use std::fs;
use std::io;
use std::os::unix::net as unix;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};

use crate::config::UnixAddress;
use crate::os::{self, Sender};
use crate::stats::bound::{UnixFile, identity};

use super::tcp::{Acceptor, ReadyStream};

/// Whoever can reach the directory may send, as on a port of localhost. A
/// directory with tighter permissions narrows it down.
const MODE: u32 = 0o666;

/// A listener's socket file. One of ours is removed when the listener goes, if it still
/// is the same file.
#[derive(Debug)]
pub struct BoundPath {
    path: PathBuf,
    file: UnixFile,
    is_activated: bool,
}

/// Opens a listening stream socket.
pub fn bind_stream(address: &UnixAddress) -> io::Result<(unix::UnixListener, Option<BoundPath>)> {
    let (listener, path) = bind(address, unix::UnixListener::bind_addr)?;
    listener.set_nonblocking(true)?;
    Ok((listener, path))
}

/// Opens a receiving datagram socket.
pub fn bind_datagram(address: &UnixAddress) -> io::Result<(unix::UnixDatagram, Option<BoundPath>)> {
    let (socket, path) = bind(address, unix::UnixDatagram::bind_addr)?;
    socket.set_nonblocking(true)?;
    os::enlarge_receive_buffer(&socket);
    os::name_processes(&socket);
    Ok((socket, path))
}

/// Binds; a stale path, which nobody answers at, is replaced, a live one is
/// not.
fn bind<S>(
    address: &UnixAddress,
    bind: impl Fn(&unix::SocketAddr) -> io::Result<S>,
) -> io::Result<(S, Option<BoundPath>)> {
    let path = match address {
        UnixAddress::Abstract(name) => return Ok((bind(&abstract_address(name)?)?, None)),
        UnixAddress::Path(path) => path,
    };
    let socket_address = unix::SocketAddr::from_pathname(path)?;
    let socket = match bind(&socket_address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if identity(path).is_none() {
                return Err(io::Error::other(
                    "there is a file of another kind at this path",
                ));
            }
            if is_live(path, Type::STREAM)? || is_live(path, Type::DGRAM)? {
                return Err(error);
            }
            fs::remove_file(path)?;
            bind(&socket_address)?
        }
        bound => bound?,
    };
    // From here on the path goes if anything goes wrong.
    let bound = BoundPath::new(path, false);
    os::set_socket_file_mode(path, MODE)?;
    Ok((socket, Some(bound)))
}

/// Whether somebody answers at a path. Without waiting: a live listener may
/// have a full backlog.
fn is_live(path: &Path, kind: Type) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, kind.nonblocking(), None)?;
    Ok(match socket.connect(&SockAddr::unix(path)?) {
        Ok(()) => true,
        // A socket of the other kind is looked at by itself.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::PROTOTYPE) => false,
        Err(error) => error.kind() != io::ErrorKind::ConnectionRefused,
    })
}

/// Whether a socket is bound to an address.
pub fn is_at(socket: &Socket, address: &UnixAddress) -> bool {
    socket.local_addr().is_ok_and(|local| match address {
        UnixAddress::Path(path) => local.as_pathname() == Some(path),
        UnixAddress::Abstract(name) => local.as_abstract_namespace() == Some(name.as_bytes()),
    })
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &str) -> io::Result<unix::SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    unix::SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_name: &str) -> io::Result<unix::SocketAddr> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "only Linux has abstract socket names; write a path",
    ))
}

impl BoundPath {
    fn new(path: &Path, is_activated: bool) -> Self {
        Self {
            path: path.to_owned(),
            file: UnixFile::at(path),
            is_activated,
        }
    }

    /// The file of a socket that was bound for us.
    pub fn activated(address: &UnixAddress) -> Option<Self> {
        match address {
            UnixAddress::Path(path) => Some(Self::new(path, true)),
            UnixAddress::Abstract(_) => None,
        }
    }

    /// The file, to be looked for.
    pub fn file(&self) -> UnixFile {
        self.file.clone()
    }

    /// Whether somebody has removed the file, and only a new socket can have it again.
    pub fn has_to_be_bound_again(&self) -> bool {
        !self.is_activated && !self.file.is_in_place()
    }
}

impl Drop for BoundPath {
    fn drop(&mut self) {
        if !self.is_activated && self.file.is_in_place() {
            // Gone already is as good.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Acceptor for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, Sender)> {
        let (stream, _) = Self::accept(self).await?;
        let peer = sender_of(&stream);
        Ok((stream, peer))
    }

    fn accept_now(&self) -> io::Result<(UnixStream, Sender)> {
        let stream = unix::UnixStream::from(rustix::net::accept(self)?);
        stream.set_nonblocking(true)?;
        let stream = UnixStream::from_std(stream)?;
        let peer = sender_of(&stream);
        Ok((stream, peer))
    }
}

/// Clients are hardly ever bound to a name; the process is known.
fn sender_of(stream: &UnixStream) -> Sender {
    match stream.peer_cred() {
        Ok(peer) => Sender::Process {
            pid: peer
                .pid()
                .and_then(|pid| pid.try_into().ok())
                .unwrap_or_default(),
            uid: peer.uid(),
        },
        Err(_) => Sender::Unknown,
    }
}

impl ReadyStream for UnixStream {
    async fn readable(&self) -> io::Result<()> {
        Self::readable(self).await
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Self::try_read(self, buffer)
    }
}
