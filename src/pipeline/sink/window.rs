//! What was written to one connection and is not acknowledged yet.
//!
//! ```text
//!   leases   [ lease A            ][ lease B            ]
//!   chunks   [ settled | sent  | s ent   | sent | to be written ]
//!   offsets  ─────────┬────────────────────────┬────────────────▶ bytes of the socket
//!               acknowledged                written
//! ```
//!
//! In: leases, the chunks of them that were written with the offset at which
//! each ends, and the offset up to which the peer's kernel has acknowledged.
//! Out: lines settled. Offsets count the bytes that the socket accepted, below
//! TLS, so that handshake and records are counted by construction. No I/O, no
//! clock: a simulation can drive it.

use std::collections::VecDeque;

use memchr::memchr_iter;

use crate::pipeline::queue::Lease;

/// Everything in flight on one connection.
#[derive(Debug)]
pub struct Window {
    leases: VecDeque<Sent>,
    /// How much longer a line is on the wire than in its block, where lines can
    /// be told apart there. Inside TLS records they cannot: a record arrives
    /// whole or not at all.
    line_overhead: Option<usize>,
    /// What was acknowledged lately, and may yet die unread with the peer.
    recent: VecDeque<Recent>,
    /// The most that the peer has had room for.
    largest_room: u64,
}

#[derive(Debug)]
struct Sent {
    lease: Lease,
    chunks: VecDeque<Chunk>,
    /// How many of the lease's bytes are in chunks.
    written: usize,
}

/// Whole lines that went to the socket in one piece.
#[derive(Debug)]
struct Chunk {
    /// How many bytes of the lease it holds.
    bytes: usize,
    /// The socket's offset at its first byte.
    start: u64,
    /// The offset behind its last byte, once it is wholly written.
    end: Option<u64>,
}

#[derive(Debug)]
struct Recent {
    end: u64,
    lines: u64,
}

impl Window {
    /// An empty window. `line_overhead` is the length of the prefix of each
    /// line, or `None` where chunks are records.
    pub fn new(line_overhead: Option<usize>) -> Self {
        Self {
            leases: VecDeque::new(),
            line_overhead,
            recent: VecDeque::new(),
            largest_room: 0,
        }
    }

    /// Takes a lease whose lines are to be written next.
    pub fn begin(&mut self, lease: Lease) {
        self.leases.push_back(Sent {
            lease,
            chunks: VecDeque::new(),
            written: 0,
        });
    }

    /// The lines of the newest lease that are still to be written.
    pub fn unwritten(&self) -> &[u8] {
        self.leases
            .back()
            .map_or(&[], |sent| &sent.lease.bytes()[sent.written..])
    }

    /// The next `bytes` of the newest lease are about to be written at this
    /// offset.
    pub fn writing(&mut self, bytes: usize, start: u64) {
        if let Some(sent) = self.leases.back_mut() {
            sent.lease.send(sent.written..sent.written + bytes);
            sent.written += bytes;
            sent.chunks.push_back(Chunk {
                bytes,
                start,
                end: None,
            });
        }
    }

    /// The chunk that was being written ends at this offset.
    pub fn written(&mut self, end: u64) {
        if let Some(chunk) = self
            .leases
            .back_mut()
            .and_then(|sent| sent.chunks.back_mut())
        {
            chunk.end = Some(end);
        }
    }

    /// The peer's kernel has acknowledged everything before this offset, and
    /// has room for so much. Settles what that covers; whether that was
    /// anything.
    pub fn acknowledge(&mut self, offset: u64, room: u64) -> bool {
        self.largest_room = self.largest_room.max(room);
        let mut progress = false;
        while let Some(sent) = self.leases.front_mut() {
            while let Some(end) = sent.chunks.front().and_then(|chunk| chunk.end)
                && end <= offset
            {
                let lines = sent.settle_chunk();
                self.recent.push_back(Recent { end, lines });
                progress = true;
            }
            if !sent.chunks.is_empty() || sent.lease.lines() > 0 {
                break;
            }
            self.leases.pop_front();
        }
        self.forget(offset);
        progress
    }

    /// Whether nothing waits for an acknowledgement.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// How many bytes of lines wait for one.
    pub fn bytes(&self) -> usize {
        self.leases
            .iter()
            .map(|sent| sent.lease.bytes().len())
            .sum()
    }

    /// The connection is dead, and this is the last offset that the peer's
    /// kernel acknowledged. Settles to the line; what is left goes back to the
    /// queue. After a reset, answers how many lines the peer may have
    /// acknowledged and never read.
    pub fn end(mut self, offset: u64, was_reset: bool) -> u64 {
        self.acknowledge(offset, 0);
        if let (Some(overhead), Some(sent)) = (self.line_overhead, self.leases.front_mut())
            && let Some(chunk) = sent.chunks.front()
        {
            let arrived = usize::try_from(offset.saturating_sub(chunk.start)).unwrap_or(0);
            let (bytes, lines) = whole_lines(&sent.lease.bytes()[..chunk.bytes], overhead, arrived);
            sent.lease.settle(bytes);
            self.recent.push_back(Recent { end: offset, lines });
        }
        if was_reset {
            self.recent.iter().map(|recent| recent.lines).sum()
        } else {
            0
        }
    }

    /// Forgets what the peer must have read by now: its buffer holds no more
    /// than the window that it advertised, and Linux lets it grow to twice
    /// that.
    fn forget(&mut self, offset: u64) {
        let readable = offset.saturating_sub(2 * self.largest_room);
        while self
            .recent
            .front()
            .is_some_and(|recent| recent.end <= readable)
        {
            self.recent.pop_front();
        }
    }
}

impl Sent {
    fn settle_chunk(&mut self) -> u64 {
        let Some(chunk) = self.chunks.pop_front() else {
            return 0;
        };
        let before = self.lease.lines();
        self.lease.settle(chunk.bytes);
        self.written -= chunk.bytes;
        before - self.lease.lines()
    }
}

/// Of lines that are each longer by `overhead` on the wire: how many bytes, and
/// how many lines, the first `arrived` bytes of the wire hold whole.
fn whole_lines(lines: &[u8], overhead: usize, arrived: usize) -> (usize, u64) {
    let mut whole = (0, 0);
    for newline in memchr_iter(b'\n', lines) {
        let count = whole.1 + 1;
        let on_the_wire = newline + 1 + usize::try_from(count).unwrap_or(usize::MAX) * overhead;
        if on_the_wire > arrived {
            break;
        }
        whole = (newline + 1, count);
    }
    whole
}
