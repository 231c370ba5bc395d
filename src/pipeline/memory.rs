//! How much memory the daemon takes at most, and of what: for `check`, and for a warning where a
//! control group has less.
//!
//! In: the settings. Out: a sum of parts, each of which is enforced where the memory is allocated.
//! What the kernel keeps for sockets is apart: version 2 of control groups counts it, version 1
//! does not.

use std::fmt::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::{ListenSettings, Settings};
use crate::os;

use super::listen;
use super::listen::connections::{Bounds, MAX_LEAVING};

/// The program and what it links, its threads' stacks, the compressor, the TLS connection, the
/// admin endpoint, the log: measured, with a reserve.
const PROGRAM: usize = 14 << 20;

/// What the task of a connection takes, measured.
const TASK: usize = 2 << 10;

/// What the kernel takes for a connection beside what it has received: socket, file, and its
/// place in the poll set. Their sizes are in slabinfo(5).
const KERNEL_OBJECTS: usize = 6 << 10;

/// Blocks that are copied while they are sent.
const SENT_AT_ONCE: usize = 2;

/// The most memory that the settings allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    process: Vec<Part>,
    kernel: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    bytes: usize,
    what: String,
}

impl Memory {
    /// What the settings allow, with socket buffers as this process is granted them.
    pub fn of(settings: &Settings) -> Self {
        let Settings { listen, statsd, .. } = settings;
        let connections = listen.max_connections.saturating_add(MAX_LEAVING);
        let receives_streams = !(listen.tcp.is_empty()
            && listen.unix_stream.is_empty()
            && listen.statsd.is_empty()
            && listen.pickle.is_empty());
        let mut process = vec![
            part(settings.queue_bytes, "waiting lines (queue.bytes)"),
            part(
                PROGRAM + SENT_AT_ONCE * settings.batch_bytes,
                "the program, its threads, and what is being sent",
            ),
            part(
                listen::BUFFERS_BYTES * (1 + threads_beside(listen)),
                "receive buffers",
            ),
        ];
        if receives_streams {
            process.push(part(
                Bounds::buffer_bytes(settings.queue_bytes),
                "unfinished lines and frames (a quarter of queue.bytes, 4 to 16 MiB)",
            ));
            process.push(part(
                connections.saturating_mul(TASK),
                format!("{connections} connections (listen.max_connections, and {MAX_LEAVING} that are leaving)"),
            ));
        }
        if !listen.statsd.is_empty() {
            process.push(part(
                statsd.bytes + statsd.bytes / 8,
                "StatsD (statsd.bytes, and an eighth to work with)",
            ));
        }
        if !listen.pickle.is_empty() {
            process.push(part(
                super::decode::PICKLE_BYTES,
                "one pickle while it is read",
            ));
        }
        Self {
            process,
            kernel: kernel(listen, connections, receives_streams),
        }
    }

    /// In the process.
    pub fn process(&self) -> usize {
        sum(&self.process)
    }

    /// In the kernel, for sockets.
    pub fn kernel(&self) -> usize {
        sum(&self.kernel)
    }

    /// A warning, where the control group of this process has less.
    pub fn warning(&self) -> Option<String> {
        let limit = os::memory_limit()?;
        let (process, kernel) = (self.process(), self.kernel());
        let needed = if limit.counts_sockets {
            process.saturating_add(kernel)
        } else {
            process
        };
        (limit.bytes < needed).then(|| {
            format!(
                "the memory limit of this control group is {}, and sidecarbon may need {} (process {}, kernel {}); raise the limit, or lower queue.bytes or listen.max_connections, or all waiting lines may be lost; \"sidecarbon check\" shows the sum",
                Mib(limit.bytes),
                Mib(needed),
                Mib(process),
                Mib(kernel)
            )
        })
    }

    /// The sum and its parts, as comments of a configuration file.
    pub fn render(&self) -> String {
        let mut out = String::from("\n# Memory, at most:\n");
        let mut line = |bytes: usize, what: &str| {
            // Writing to memory cannot fail.
            let _ = writeln!(out, "# {:>12}  {what}", Mib(bytes).to_string());
        };
        for Part { bytes, what } in &self.process {
            line(*bytes, what);
        }
        line(self.process(), "= process");
        for Part { bytes, what } in &self.kernel {
            line(*bytes, what);
        }
        line(self.kernel(), "= kernel, for sockets");
        line(
            self.process().saturating_add(self.kernel()),
            "= sum: the memory limit of a container or service",
        );
        out
    }
}

fn part(bytes: usize, what: impl Into<String>) -> Part {
    Part {
        bytes,
        what: what.into(),
    }
}

fn sum(parts: &[Part]) -> usize {
    parts
        .iter()
        .fold(0, |sum, part| sum.saturating_add(part.bytes))
}

/// Threads that receive beside the first.
fn threads_beside(listen: &ListenSettings) -> usize {
    let addresses = listen.udp.iter().map(|listen| listen.addresses.len());
    (listen.udp_threads - 1) * addresses.sum::<usize>()
}

fn kernel(listen: &ListenSettings, connections: usize, receives_streams: bool) -> Vec<Part> {
    let mut parts = Vec::new();
    let sockets = |listen: &[crate::config::ListenAddress]| {
        let addresses = listen.iter().flat_map(|listen| &listen.addresses);
        addresses.copied().collect::<Vec<SocketAddr>>()
    };
    let udp = sockets(&listen.udp).len() * listen.udp_threads + sockets(&listen.statsd).len();
    if udp > 0 {
        let granted = granted_to_udp();
        parts.push(part(
            udp.saturating_mul(granted),
            format!("{udp} UDP sockets, {} each as granted here", Mib(granted)),
        ));
    }
    if receives_streams {
        parts.push(part(
            connections.saturating_mul(KERNEL_OBJECTS),
            format!("{connections} connections"),
        ));
    }
    if !(listen.tcp.is_empty() && listen.statsd.is_empty() && listen.pickle.is_empty()) {
        let granted = listen::tcp_receive_buffer();
        parts.push(part(
            connections.saturating_mul(granted),
            format!(
                "what TCP has received and sidecarbon has not read, {} KiB each as granted here",
                granted >> 10
            ),
        ));
    }
    parts
}

/// The receive buffer of a datagram socket, as this process is granted it.
fn granted_to_udp() -> usize {
    let any = [
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
    ];
    let sockets = any
        .into_iter()
        .filter_map(|address| listen::bind_udp(address, false, false).ok());
    sockets
        .map(os::receive_buffer)
        .max()
        // Twice what is asked for, as the kernel doubles it (socket(7), SO_RCVBUF).
        .unwrap_or(2 * os::RECEIVE_BUFFER)
}

/// A size in MiB.
struct Mib(usize);

impl fmt::Display for Mib {
    #[expect(
        clippy::cast_precision_loss,
        reason = "one digit behind the point is shown"
    )]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never less than it is.
        let tenths = (self.0 as f64 / f64::from(1 << 20) * 10.0).ceil();
        write!(f, "{:.1} MiB", tenths / 10.0)
    }
}

#[cfg(test)]
mod tests;
