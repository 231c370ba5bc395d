//! Lines over TCP connections.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::Range;
use std::thread;

use crate::bench::lines::Text;

use super::Pace;

/// So many connections are served by threads of their own; more of them share.
const THREADS: usize = 8;

/// Lines in a write: less than the socket's buffer holds.
const LINES_A_WRITE: usize = 500;

/// Connections to one address.
pub fn connect(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let connect = |_| {
        let stream = TcpStream::connect(address).expect("the relay listens");
        stream.set_nodelay(true).expect("a socket");
        stream
    };
    (0..count).map(connect).collect()
}

/// As fast as they are taken, each connection its share, in turn.
pub fn flat_out(streams: &[TcpStream], text: &Text, range: Range<usize>) {
    let threads = streams.len().min(THREADS);
    let writes = range.len().div_ceil(streams.len()).min(LINES_A_WRITE);
    let pieces = range.clone().step_by(writes);
    let pieces: Vec<Range<usize>> = pieces
        .map(|from| from..(from + writes).min(range.end))
        .collect();
    thread::scope(|scope| {
        for thread in 0..threads {
            let pieces = &pieces;
            scope.spawn(move || {
                for (number, piece) in pieces.iter().enumerate() {
                    let connection = number % streams.len();
                    if connection % threads == thread {
                        let mut stream = &streams[connection];
                        stream
                            .write_all(text.lines(piece.clone()))
                            .expect("it reads");
                    }
                }
            });
        }
    });
}

/// At a steady rate, over one connection. `writing` is told before each write.
pub fn steady(
    mut stream: &TcpStream,
    text: &Text,
    range: Range<usize>,
    lines_a_second: u64,
    writing: impl Fn(Range<usize>),
) {
    let pace = Pace::of(lines_a_second);
    let mut sent = 0;
    while sent < range.len() {
        let due = pace.due(sent).min(range.len());
        let piece = range.start + sent..range.start + due;
        writing(piece.clone());
        stream.write_all(text.lines(piece)).expect("it reads");
        sent = due;
    }
}

/// Says that no more comes, and waits until all has been read.
pub fn finish(streams: Vec<TcpStream>) {
    for stream in &streams {
        stream.shutdown(Shutdown::Write).expect("a connection");
    }
    for mut stream in streams {
        let rest = stream.read(&mut [0; 1]).expect("it closes");
        assert_eq!(rest, 0, "a client is never written to");
    }
}
