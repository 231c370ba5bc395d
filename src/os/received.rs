//! What is known of datagrams that were received together.

use std::fmt;
use std::net::SocketAddr;

/// The number of datagrams received at once: the call is most of what a small one costs. More
/// would hardly save anything, and each takes 64 KiB of memory where datagrams are large.
#[cfg(target_os = "linux")]
pub const BATCH: usize = 32;
#[cfg(not(target_os = "linux"))]
pub const BATCH: usize = 1;

/// What is known of one datagram beside its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Received {
    /// How much of its place it fills.
    pub length: usize,
    /// Whether its end was cut off.
    pub truncated: bool,
    /// Who sent it.
    pub sender: Sender,
}

/// Who sent something, as far as the system says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sender {
    /// It does not.
    #[default]
    Unknown,
    /// From an address.
    Address(SocketAddr),
    /// A process of this host; 0 where it lives in a name space of its own.
    Process {
        /// Its id.
        pid: u32,
        /// The user that it runs as.
        uid: u32,
    },
}

/// What a socket's senders are known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedBy {
    /// Their address.
    Address,
    /// Their process: Unix sockets that [`super::name_processes`] was told of.
    Process,
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown"),
            Self::Address(address) => write!(f, "{address}"),
            Self::Process { pid: 0, uid } => write!(f, "uid {uid}"),
            Self::Process { pid, uid } => write!(f, "pid {pid} uid {uid}"),
        }
    }
}
