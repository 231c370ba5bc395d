//! Linux alone.

pub mod cgroup;
pub mod inherited;
#[cfg(target_env = "gnu")]
pub mod memory;
mod options;
pub mod secret;
pub mod shared;
pub mod tcp;
pub mod udp;

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

/// Gives the calling thread a lower priority; niceness is a thread's own on
/// Linux (setpriority(2), "C library/kernel differences").
pub fn yield_to_other_threads() {
    const NICENESS: i32 = 5;
    let thread = rustix::thread::gettid();
    // With the usual priority all is the same, but for latency.
    let _ = rustix::process::setpriority_process(Some(thread), NICENESS);
}

/// See netdevice(7): any socket will do to ask.
pub fn interface_index(name: &str) -> Option<u32> {
    let socket = UnixDatagram::unbound().ok()?;
    rustix::net::netdevice::name_to_index(&socket, name).ok()
}

/// How often the tables are looked at: while others come and go, one may miss a
/// socket, as it is read in parts.
const LOOKS: usize = 3;

/// The process that holds a port: its socket in `/proc/net`, then the process
/// with a descriptor on that socket (proc(5)).
pub fn port_owner(is_udp: bool, address: SocketAddr) -> Option<String> {
    let family = match address.ip() {
        IpAddr::V4(_) => "",
        IpAddr::V6(_) => "6",
    };
    let protocol = if is_udp { "udp" } else { "tcp" };
    // A wildcard in the other family can hold the port as well.
    let tables = [
        format!("/proc/net/{protocol}{family}"),
        format!("/proc/net/{protocol}6"),
    ];
    std::iter::repeat_n(tables, LOOKS)
        .flatten()
        .filter_map(|table| fs::read_to_string(table).ok())
        .find_map(|table| socket_inode(&table, is_udp, address.port()))
        .and_then(|inode| process_with_socket(&inode))
}

/// The inode of a socket bound to a port, and listening if it is TCP.
fn socket_inode(table: &str, is_udp: bool, port: u16) -> Option<String> {
    const LISTEN: &str = "0A";
    let suffix = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        (local.ends_with(&suffix) && (is_udp || *state == LISTEN)).then(|| (*inode).to_owned())
    })
}

fn process_with_socket(inode: &str) -> Option<String> {
    let link = format!("socket:[{inode}]");
    let holds = |process: &Path| {
        fs::read_dir(process.join("fd")).is_ok_and(|entries| {
            entries
                .flatten()
                .any(|entry| fs::read_link(entry.path()).is_ok_and(|to| to.as_os_str() == &*link))
        })
    };
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().into_string().ok()?;
        pid.parse::<u32>().ok()?;
        let process = entry.path();
        let name = fs::read_to_string(process.join("comm")).ok()?;
        holds(&process).then(|| format!("{} (pid {pid})", name.trim_end()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_ourselves() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let owner = port_owner(true, socket.local_addr().unwrap()).unwrap();
        assert!(
            owner.ends_with(&format!("(pid {})", std::process::id())),
            "{owner}"
        );
    }
}
