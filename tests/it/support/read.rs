//! Reading, on a machine that may stand still for a moment.

use std::io::{self, ErrorKind, Read};

/// Reads what there is, once there is something. A read with a time limit is
/// interrupted when its process was stopped and goes on (signal(7)); that says
/// nothing about the peer.
pub fn read_some(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}
