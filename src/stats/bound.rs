//! Where this process listens, as it is bound now: for the sink, which must not send
//! lines back to a listener of its own, and for `/readyz`.
//!
//! The sockets of a process are one set, whoever asks; hence one list.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

static BOUND: Mutex<Vec<(u64, Bound)>> = Mutex::new(Vec::new());

/// One socket that clients can reach.
#[derive(Debug, Clone)]
pub struct Bound {
    /// The listener's label, `tcp:localhost:2003`.
    pub label: String,
    /// Where it is.
    pub place: Place,
}

/// How clients reach it.
#[derive(Debug, Clone)]
pub enum Place {
    /// Streams over IP.
    Tcp {
        /// Where the system has bound it.
        address: SocketAddr,
        /// Whether a wildcard leaves IPv4 to others.
        only_v6: bool,
    },
    /// Datagrams over IP.
    Udp {
        /// Where the system has bound it.
        address: SocketAddr,
        /// Whether a wildcard leaves IPv4 to others.
        only_v6: bool,
    },
    /// A socket file.
    Unix(UnixFile),
}

/// A socket file, and which one it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixFile {
    path: PathBuf,
    /// Device and inode; `None` if it was missing from the beginning.
    identity: Option<(u64, u64)>,
}

/// Keeps a socket in the list.
#[derive(Debug)]
pub struct Registration(u64);

/// Adds a socket that clients can reach from now on.
pub fn register(bound: Bound) -> Registration {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let id = NEXT.fetch_add(1, Relaxed);
    lock().push((id, bound));
    Registration(id)
}

/// All sockets that clients can reach.
pub fn all() -> Vec<Bound> {
    lock().iter().map(|(_, bound)| bound.clone()).collect()
}

/// The listeners whose socket files are gone, so that no client finds them.
pub fn unreachable() -> Vec<String> {
    let is_missing =
        |bound: &Bound| matches!(&bound.place, Place::Unix(file) if !file.is_in_place());
    let missing = all().into_iter().filter(is_missing);
    missing.map(|bound| bound.label).collect()
}

fn lock() -> MutexGuard<'static, Vec<(u64, Bound)>> {
    BOUND.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Registration {
    fn drop(&mut self) {
        lock().retain(|(id, _)| *id != self.0);
    }
}

impl UnixFile {
    /// The socket file that is at a path now.
    pub fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            identity: identity(path),
        }
    }

    /// Whether the same file is still there.
    pub fn is_in_place(&self) -> bool {
        self.identity.is_some() && identity(&self.path) == self.identity
    }
}

/// Device and inode of a socket file; `None` for anything else.
pub fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let metadata = std::fs::symlink_metadata(path).ok()?;
    let is_socket = metadata.file_type().is_socket();
    is_socket.then(|| (metadata.dev(), metadata.ino()))
}
