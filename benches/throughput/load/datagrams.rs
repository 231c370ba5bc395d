//! Lines in datagrams, many by one system call.

use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::time::Instant;

use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, sendmmsg};

use crate::bench::lines::Text;

use super::Pace;

/// Datagrams in one call, at most: no more than the kernel can hand on before
/// the receiver has a chance to run.
const BATCH: usize = 64;

/// Sends at a steady rate, and says how many datagrams a second it has been.
pub fn steady(
    address: SocketAddr,
    text: &Text,
    range: Range<usize>,
    lines_each: usize,
    datagrams_a_second: u64,
) -> f64 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(address).expect("the relay");
    let starts: Vec<usize> = range.clone().step_by(lines_each).collect();
    let mut headers = MultiHeaders::preallocate(BATCH, None);
    let begun = Instant::now();
    let pace = Pace::of(datagrams_a_second);
    let mut sent = 0;
    while sent < starts.len() {
        let due = pace.due(sent).min(starts.len()).min(sent + BATCH);
        let batch: Vec<[IoSlice; 1]> = starts[sent..due]
            .iter()
            .map(|start| *start..(start + lines_each).min(range.end))
            .map(|lines| [IoSlice::new(text.lines(lines))])
            .collect();
        sent += send(&socket, &mut headers, &batch);
    }
    sent as f64 / begun.elapsed().as_secs_f64()
}

/// Says how many the kernel took.
fn send(
    socket: &UdpSocket,
    headers: &mut MultiHeaders<SockaddrIn>,
    batch: &[[IoSlice; 1]],
) -> usize {
    const CONNECTED: [Option<SockaddrIn>; BATCH] = [None; BATCH];
    const NO_CONTROL: [ControlMessage; 0] = [];
    let results = sendmmsg(
        socket.as_raw_fd(),
        headers,
        batch,
        CONNECTED,
        NO_CONTROL,
        MsgFlags::empty(),
    );
    results.expect("the relay listens").count()
}
