//! What only some systems offer, behind functions that do less elsewhere.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use socket2::SockRef;
use tokio::io::unix::AsyncFd;

mod datagrams;
mod handover;
#[cfg(target_os = "linux")]
mod linux;
mod received;
mod secret;

pub use datagrams::Datagrams;
pub use handover::{Port, bind_beside_leaving, ignore_connections, refuse_datagrams};
pub use received::{NamedBy, Sender};
pub use secret::Secret;

/// The receive buffer asked for on datagram sockets. The kernel's default of
/// 208 KiB keeps some 256 small datagrams (docs/facts.md), a moment's worth.
pub const RECEIVE_BUFFER: usize = 8 << 20;

/// How to have it, where we may not take it.
pub const RECEIVE_BUFFER_HINT: &str = "sysctl -w net.core.rmem_max=8388608";

/// The descriptors that a service manager has passed to this process, each with
/// its name. Call it before anything else is opened.
pub fn inherited_descriptors() -> Vec<(String, OwnedFd)> {
    #[cfg(target_os = "linux")]
    return linux::inherited::take();
    #[cfg(not(target_os = "linux"))]
    Vec::new()
}

/// Whether a stream socket takes connections, and is not one. Where the system
/// cannot say, nobody passes any.
pub fn is_listening(socket: impl AsFd) -> bool {
    #[cfg(target_os = "linux")]
    return rustix::net::sockopt::socket_acceptconn(socket).unwrap_or(false);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = socket;
        true
    }
}

/// A file without a name that lives in memory alone.
pub fn memory_file(name: &str) -> io::Result<File> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{MemfdFlags, memfd_create};
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        Ok(File::from(memfd_create(name, flags)?))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = name;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Sets the permissions of a socket file of ours, and of nothing else: chmod(2) would
/// follow a symbolic link that somebody with rights in the directory put in its place.
pub fn set_socket_file_mode(path: &Path, mode: u32) -> io::Result<()> {
    use rustix::fs::{FileType, Mode};
    let mode = Mode::from_raw_mode(mode);
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{OFlags, chmod, fstat, open};
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = open(path, flags, Mode::empty())?;
        let found = fstat(&file)?;
        let is_socket = FileType::from_raw_mode(found.st_mode) == FileType::Socket;
        if !is_socket || found.st_uid != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other(
                "somebody else has replaced the file at this path",
            ));
        }
        // fchmod(2) refuses such a descriptor; its name leads to the same file (open(2)).
        Ok(chmod(format!("/proc/self/fd/{}", file.as_raw_fd()), mode)?)
    }
    #[cfg(not(target_os = "linux"))]
    {
        use rustix::fs::{AtFlags, CWD, chmodat, statat};
        let found = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::Socket {
            return Err(io::Error::other(
                "somebody else has replaced the file at this path",
            ));
        }
        Ok(chmodat(CWD, path, mode, AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

/// Numbers in a memory file, shared with whoever has the file: they are there when the
/// process that wrote them was killed.
#[cfg(target_os = "linux")]
pub use linux::shared::SharedNumbers;

/// Only on Linux is there anybody to share them with.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
pub struct SharedNumbers<const N: usize>(std::convert::Infallible);

#[cfg(not(target_os = "linux"))]
impl<const N: usize> SharedNumbers<N> {
    /// An error: nobody keeps files here.
    pub fn map(_file: &File) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// A number.
    pub fn get(&self, _place: usize) -> u64 {
        match self.0 {}
    }

    /// Changes a number.
    pub fn set(&self, _place: usize, _number: u64) {
        match self.0 {}
    }
}

/// Makes sure that nobody changes a memory file any more. It may be cut: its
/// memory goes back while it is read.
pub fn seal(file: &File) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{SealFlags, fcntl_add_seals};
        let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SEAL;
        Ok(fcntl_add_seals(file, seals)?)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = file;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Raises the limit of open files as far as we may. Answers with the limit in
/// force.
pub fn raise_file_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let in_force = match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    in_force.unwrap_or(u64::MAX)
}

/// Asks for a large receive buffer, past the system's limit where we may.
pub fn enlarge_receive_buffer(socket: impl AsFd) {
    use rustix::net::sockopt;
    #[cfg(target_os = "linux")]
    let forced = sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_ok();
    #[cfg(not(target_os = "linux"))]
    let forced = false;
    if !forced {
        // A smaller buffer than asked for is not an error.
        let _ = sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
    }
}

/// Whether several sockets may share a port, each with its part of the datagrams.
pub const SHARES_PORTS: bool = cfg!(target_os = "linux");

/// Makes the runtime watch a socket for something to receive, until what comes
/// back is dropped.
pub fn watch_for_datagrams(socket: BorrowedFd<'_>) -> io::Result<AsyncFd<BorrowedFd<'_>>> {
    #[cfg(target_os = "linux")]
    return linux::udp::watch(socket);
    #[cfg(not(target_os = "linux"))]
    #[expect(
        deprecated,
        reason = "what replaces it is unsafe, and only on Linux is that allowed"
    )]
    AsyncFd::with_interest(socket, tokio::io::Interest::READABLE)
}

/// Asks for the process that sent each datagram of a Unix socket. The answer fills
/// the room that is received into beside the datagram: without it, senders could
/// pass descriptors there, which nobody would ever close.
pub fn name_processes(socket: impl AsFd) {
    #[cfg(target_os = "linux")]
    {
        // Without it the senders are unknown.
        let _ = rustix::net::sockopt::set_socket_passcred(socket, true);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
}

/// The receive buffer of a socket, in bytes; 0 where the system cannot say.
pub fn receive_buffer(socket: impl AsFd) -> usize {
    rustix::net::sockopt::socket_recv_buffer_size(socket).unwrap_or(0)
}

/// Allocations from here on are the system's own, of whole pages, and go back to
/// it when they are freed.
const LARGE_ALLOCATION: usize = 32 << 10;

/// What an allocator keeps beside each allocation.
const ALLOCATION_HEADER: usize = 16;

/// Keeps large allocations apart from small ones. Otherwise freed blocks of
/// lines stay resident between others, and memory is not what the bound says.
///
/// And has one arena for the small ones. Each thread would reserve another 64 MiB of
/// address space, which `ulimit -v` counts, for allocations that hardly ever meet.
pub fn set_up_allocator() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        linux::memory::set_mmap_threshold(LARGE_ALLOCATION);
        linux::memory::use_one_arena();
    }
}

/// Keeps the memory and the environment of this process, which hold the key, from other
/// processes of the same user and from core dumps. Call it first: until then a debugger
/// may attach.
pub fn protect_secrets() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        // PR_SET_DUMPABLE(2const): no core dump, no ptrace(2), and /proc/PID belongs to
        // root.
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    }
    let limit = Rlimit {
        current: Some(0),
        maximum: getrlimit(Resource::Core).maximum,
    };
    // Lowering it is always permitted.
    let _ = setrlimit(Resource::Core, limit);
}

/// What an allocation of this number of bytes really takes.
pub fn allocated(bytes: usize) -> usize {
    const PAGE: usize = 4096;
    let with_header = bytes + ALLOCATION_HEADER;
    if bytes >= LARGE_ALLOCATION {
        with_header.next_multiple_of(PAGE)
    } else {
        with_header
    }
}

/// The memory limit that is in force for this process by its control group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimit {
    /// The limit, of the group or of one that it is in.
    pub bytes: usize,
    /// Whether the kernel's buffers of sockets count as well.
    pub counts_sockets: bool,
}

/// The memory limit of this process, where there is one and it can be seen.
pub fn memory_limit() -> Option<MemoryLimit> {
    #[cfg(target_os = "linux")]
    return linux::cgroup::memory_limit();
    #[cfg(not(target_os = "linux"))]
    None
}

/// What binding ::1 says on a host without IPv6.
pub fn is_missing_family(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(error),
        Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT)
    )
}

/// Whether a read of this non-blocking socket would find bytes, the end, or an error.
pub fn has_unread(socket: impl AsFd) -> bool {
    let peeked = SockRef::from(&socket).peek(&mut [MaybeUninit::uninit()]);
    !peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// How many bytes written to a TCP socket its peer has not acknowledged. An
/// error where the system cannot say.
pub fn unacknowledged(socket: impl AsFd) -> io::Result<u64> {
    #[cfg(target_os = "linux")]
    return linux::tcp::unacknowledged(socket.as_fd());
    #[cfg(not(target_os = "linux"))]
    {
        let _ = socket;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// How many bytes written to a TCP socket were never sent. An error where the
/// system cannot say.
pub fn unsent(socket: impl AsFd) -> io::Result<u64> {
    #[cfg(target_os = "linux")]
    return linux::tcp::unsent(socket.as_fd());
    #[cfg(not(target_os = "linux"))]
    {
        let _ = socket;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The window that the peer of a TCP socket advertises now: how much its kernel
/// would take without its process reading. `None` where the system cannot say.
pub fn peer_window(socket: impl AsFd) -> Option<u64> {
    #[cfg(target_os = "linux")]
    return linux::tcp::peer_window(socket.as_fd());
    #[cfg(not(target_os = "linux"))]
    {
        let _ = socket;
        None
    }
}

/// Keeps what is written and not yet sent short, so that the backlog stays in
/// our queue, where it is counted, and not in the kernel's.
pub fn limit_unsent(socket: impl AsFd, bytes: u32) {
    #[cfg(target_os = "linux")]
    {
        // Without it more is in flight, and all else is the same.
        let _ = socket2::SockRef::from(&socket).set_tcp_notsent_lowat(bytes);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, bytes);
}

/// How many datagrams the kernel has dropped because this socket's buffer was
/// full. An error where the system cannot say.
pub fn dropped_datagrams(socket: impl AsFd) -> io::Result<u32> {
    #[cfg(target_os = "linux")]
    return linux::udp::dropped(socket.as_fd());
    #[cfg(not(target_os = "linux"))]
    {
        let _ = socket;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Lets other threads go first when there is more to do than can be done.
pub fn yield_to_other_threads() {
    #[cfg(target_os = "linux")]
    linux::yield_to_other_threads();
}

/// Who listens on an address, where that can be found out: `nginx (pid 42)`.
pub fn port_owner(is_udp: bool, address: SocketAddr) -> Option<String> {
    #[cfg(target_os = "linux")]
    return linux::port_owner(is_udp, address);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (is_udp, address);
        None
    }
}

/// The number of a network interface, by which the kernel knows the zone of a link-local
/// address. Only Linux is asked by name.
pub fn interface_index(name: &str) -> Option<u32> {
    #[cfg(target_os = "linux")]
    return linux::interface_index(name);
    #[cfg(not(target_os = "linux"))]
    return name.parse().ok();
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_a_socket_file_of_ours_gets_its_permissions() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let mode = |name: &str| fs::metadata(path(name)).unwrap().permissions().mode() & 0o777;
        let _socket = UnixListener::bind(path("socket")).unwrap();
        set_socket_file_mode(&path("socket"), 0o666).unwrap();
        assert_eq!(mode("socket"), 0o666);

        fs::write(path("private"), "").unwrap();
        fs::set_permissions(path("private"), fs::Permissions::from_mode(0o600)).unwrap();
        symlink(path("private"), path("link")).unwrap();
        symlink(path("socket"), path("link to a socket")).unwrap();
        for name in ["private", "link", "link to a socket", "missing"] {
            set_socket_file_mode(&path(name), 0o777).unwrap_err();
        }
        assert_eq!((mode("private"), mode("socket")), (0o600, 0o666));
    }
}
