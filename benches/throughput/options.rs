//! The command line.

use std::net::SocketAddr;

use clap::{Args, Parser, Subcommand};

/// Measures the whole daemon; all scenarios where none is named.
#[derive(Parser)]
#[command(name = "throughput")]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Option<Command>,

    #[command(flatten)]
    pub options: Options,

    /// What `cargo bench` adds.
    #[arg(long, global = true, hide = true)]
    bench: bool,
}

#[derive(Args, Clone, Copy)]
pub struct Options {
    /// The relay on CPU 1, load and upstream on CPU 0.
    #[arg(long, global = true)]
    pub pin: bool,

    /// How often, floor and daemon in turn; then medians are printed.
    #[arg(long, global = true, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub runs: u64,
}

#[derive(Subcommand)]
pub enum Command {
    #[command(flatten)]
    Run(Scenario),

    /// What is measured beside the daemon, in a process of its own.
    #[command(hide = true)]
    Floor {
        #[arg(long)]
        tcp: SocketAddr,
        #[arg(long)]
        upstream: SocketAddr,
    },
}

#[derive(Subcommand)]
pub enum Scenario {
    /// TCP connections that send as fast as they are read.
    Tcp {
        #[arg(default_value_t = 8)]
        connections: usize,
    },
    /// Eight of them, to a TLS upstream.
    Tls,
    /// Eight of them, to an HTTP upstream.
    Http,
    /// Datagrams at a steady rate, or the highest that is not too much.
    Udp {
        /// In each datagram.
        #[arg(default_value_t = 15)]
        lines: usize,
        /// Datagrams a second.
        #[arg(long, default_value_t = 50_000)]
        rate: u64,
        /// The highest rate with at most a thousandth lost.
        #[arg(long, conflicts_with = "rate")]
        search: bool,
    },
    /// From a client's write to the upstream's read, at 10,000 lines a second.
    Latency,
    /// How fast two million waiting lines leave.
    Drain,
    /// Context switches while nothing is to be done.
    Idle {
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// From the start of the process to the first line at the upstream.
    Start,
    /// A queue that is full: the oldest lines go.
    Full,
    /// An upstream that reads a tenth of what comes.
    Slow,
    /// System calls a thousand datagrams, by perf or strace.
    Syscalls {
        /// In each datagram.
        #[arg(default_value_t = 1)]
        lines: usize,
        /// Datagrams a second.
        #[arg(long, default_value_t = 100_000)]
        rate: u64,
    },
}

/// All of them, in some four minutes.
pub fn all() -> Vec<Scenario> {
    let udp = |lines, search| Scenario::Udp {
        lines,
        rate: 50_000,
        search,
    };
    vec![
        Scenario::Tcp { connections: 1 },
        Scenario::Tcp { connections: 8 },
        Scenario::Tcp { connections: 1000 },
        Scenario::Tls,
        Scenario::Http,
        udp(15, false),
        udp(1, false),
        udp(15, true),
        udp(1, true),
        Scenario::Latency,
        Scenario::Drain,
        Scenario::Idle { seconds: 60 },
        Scenario::Start,
        Scenario::Full,
        Scenario::Slow,
        Scenario::Syscalls {
            lines: 1,
            rate: 100_000,
        },
    ]
}
