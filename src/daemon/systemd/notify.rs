//! The socket of the service manager.

use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::io::retry_on_intr;
use rustix::net::{
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr,
};

use crate::config;

/// A manager that takes nothing for so long is stuck, and not waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where the manager hears us. The datagrams are few and small; each is sent to
/// the address anew, since the manager may have been started anew.
#[derive(Debug)]
pub struct Notifier {
    socket: UnixDatagram,
    address: SocketAddrUnix,
}

impl Notifier {
    /// The manager that started this process, if it wants to hear.
    pub fn from_environment() -> Option<Self> {
        let address = env::var_os("NOTIFY_SOCKET")?;
        let socket = UnixDatagram::unbound().ok()?;
        socket.set_write_timeout(Some(PATIENCE)).ok()?;
        Some(Self {
            socket,
            address: parse(&address)?,
        })
    }

    /// Tells it something that it has to know.
    pub fn tell(&self, what: &str) -> io::Result<()> {
        let mut nothing = SendAncillaryBuffer::default();
        self.send(what, &mut nothing, SendFlags::empty())
    }

    /// Tells it something that can wait: not if it does not listen just now.
    pub fn mention(&self, what: &str) -> io::Result<()> {
        let mut nothing = SendAncillaryBuffer::default();
        self.send(what, &mut nothing, SendFlags::DONTWAIT)
    }

    /// Gives it a file to keep.
    pub fn store(&self, what: &str, file: &File) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut with = SendAncillaryBuffer::new(&mut space);
        let files = [file.as_fd()];
        if !with.push(SendAncillaryMessage::ScmRights(&files)) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.send(what, &mut with, SendFlags::empty())
    }

    fn send(&self, what: &str, with: &mut SendAncillaryBuffer, flags: SendFlags) -> io::Result<()> {
        let what = config::mask(what);
        let bytes = [IoSlice::new(what.as_bytes())];
        let flags = flags | SendFlags::NOSIGNAL;
        // With a timeout, a suspension of this process ends a call (signal(7)).
        retry_on_intr(|| sendmsg_addr(&self.socket, &self.address, &bytes, with, flags))?;
        Ok(())
    }
}

/// A path, or `@name` for one in the abstract name space.
fn parse(address: &OsStr) -> Option<SocketAddrUnix> {
    match address.as_bytes() {
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name).ok(),
        path @ [b'/', ..] => SocketAddrUnix::new(path).ok(),
        _ => None,
    }
}
