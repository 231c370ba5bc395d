//! What is measured, a file each.

mod drain;
mod flow;
mod full;
mod idle;
mod latency;
mod search;
mod slow;
mod start;
mod syscalls;

use crate::bench::options::{Options, Scenario};
use crate::bench::relay::Kind;
use crate::bench::report::Figure;
use crate::bench::upstream::Transport;

/// The figures of one run; or why there are none.
pub type Outcome = Result<Vec<Figure>, String>;

/// The first cell of its table.
pub fn title(scenario: &Scenario) -> String {
    match scenario {
        Scenario::Tcp { connections } => format!("TCP, {connections} connections"),
        Scenario::Tls => "TCP, 8 connections, to TLS".to_owned(),
        Scenario::Http => "TCP, 8 connections, to HTTP".to_owned(),
        Scenario::Udp {
            lines,
            search: true,
            ..
        } => format!("UDP, {lines} lines a datagram, highest rate"),
        Scenario::Udp { lines, rate, .. } => {
            format!("UDP, {lines} lines a datagram, {rate} datagrams/s")
        }
        Scenario::Latency => format!("TCP, {} lines/s", latency::LINES_A_SECOND),
        Scenario::Drain => format!("backlog of {} lines", drain::LINES),
        Scenario::Idle { seconds } => format!("idle, {seconds} s"),
        Scenario::Start => format!("start, {} times", start::TIMES),
        Scenario::Full => "queue of 4 MiB, full".to_owned(),
        Scenario::Slow => "slow upstream".to_owned(),
        Scenario::Syscalls { lines, rate } => {
            format!("UDP, {lines} lines a datagram, {rate} datagrams/s, counted")
        }
    }
}

/// What is measured. The floor keeps nothing, so that where lines wait there is
/// none, nor anything to wake it when it is idle.
pub fn kinds(scenario: &Scenario) -> &'static [Kind] {
    match scenario {
        Scenario::Drain | Scenario::Full | Scenario::Slow | Scenario::Idle { .. } => {
            &[Kind::Daemon]
        }
        _ => &[Kind::Floor, Kind::Daemon],
    }
}

/// Whether lines may be lost: where the kernel drops datagrams.
pub fn may_lose(scenario: &Scenario) -> bool {
    matches!(scenario, Scenario::Udp { .. } | Scenario::Syscalls { .. })
}

/// One run.
pub fn measure(scenario: &Scenario, kind: Kind, options: Options) -> Outcome {
    let flow = |transport, connections| flow::stream(kind, options, transport, connections);
    Ok(match scenario {
        Scenario::Tcp { connections } => flow(Transport::Tcp, *connections),
        Scenario::Tls => flow(Transport::Tls, 8),
        Scenario::Http => flow(Transport::Http, 8),
        Scenario::Udp {
            lines,
            search: true,
            ..
        } => return search::measure(kind, options, *lines),
        Scenario::Udp { lines, rate, .. } => flow::datagrams(kind, options, *lines, *rate),
        Scenario::Latency => latency::measure(kind, options),
        Scenario::Drain => drain::measure(kind, options),
        Scenario::Idle { seconds } => idle::measure(kind, options, *seconds),
        Scenario::Start => start::measure(kind, options),
        Scenario::Full => full::measure(kind, options),
        Scenario::Slow => slow::measure(kind, options),
        Scenario::Syscalls { lines, rate } => {
            return syscalls::measure(kind, options, *lines, *rate);
        }
    })
}
