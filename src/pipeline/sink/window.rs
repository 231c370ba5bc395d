//! What was written to one connection and is not settled yet.
//!
//! ```text
//!   leases   [ lease A                  ][ lease B            ]
//!   chunks   [ settled | tail  | sent   ][ s ent | to be written ]
//!   offsets  ──────────────────┬──────────────┬───────────────▶ bytes of the socket
//!                        acknowledged      written
//! ```
//!
//! In: leases, the chunks of them that were written with the offset at which
//! each ends, and the offset up to which the peer's kernel has acknowledged.
//! Out: lines settled. Offsets count the bytes that the socket accepted, below
//! TLS, so that handshake and records are counted by construction.
//!
//! Acknowledged lines may die unread with a peer that resets. Where the
//! configuration asks for it, they stay here a while longer, the tail, and are
//! sent again after a reset. No I/O, no clock: a simulation can drive it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use memchr::memchr_iter;

use crate::pipeline::queue::Lease;

/// How chunks lie on the wire, and how long acknowledged ones are kept.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rules {
    /// How much longer a line is on the wire than in its block, where lines can
    /// be told apart there. Inside TLS records they cannot: a record arrives
    /// whole or not at all.
    pub line_overhead: Option<usize>,
    /// How long after their acknowledgement lines are kept.
    pub tail: Duration,
    /// How many bytes may be called acknowledged that were never sent: none
    /// where the system tells.
    pub unsent: u64,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The peer ended it, so it has read what its kernel acknowledged.
    Clean,
    /// A reset, or dropped: the peer may have read less.
    Reset,
}

/// Everything in flight on one connection.
#[derive(Debug, Default)]
pub struct Window {
    rules: Rules,
    leases: VecDeque<Sent>,
    /// Bytes of queued lines for an acknowledgement.
    unacknowledged: usize,
    /// What was settled lately, and may yet die unread with the peer.
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
    /// When it was acknowledged, once it is.
    acknowledged: Option<Instant>,
    /// Whether it was on a connection before. Lines are sent again from the
    /// tail once: resets that follow each other must not multiply them.
    is_second: bool,
}

#[derive(Debug)]
struct Recent {
    end: u64,
    lines: u64,
}

impl Window {
    /// An empty window.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            ..Self::default()
        }
    }

    /// Takes a lease whose lines are to be written next.
    pub fn begin(&mut self, lease: Lease) {
        self.unacknowledged += lease.bytes().len();
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
            sent.written += bytes;
            sent.chunks.push_back(Chunk {
                bytes,
                start,
                end: None,
                acknowledged: None,
                is_second: false,
            });
        }
    }

    /// The lines of the chunk that is being written.
    pub fn being_written(&self) -> &[u8] {
        let newest = self.leases.back();
        let chunk = newest.and_then(|sent| Some((sent, sent.chunks.back()?)));
        chunk.map_or(&[], |(sent, chunk)| {
            &sent.lease.bytes()[sent.written - chunk.bytes..sent.written]
        })
    }

    /// The chunk that was being written ends at this offset.
    pub fn written(&mut self, end: u64) {
        let Some(sent) = self.leases.back_mut() else {
            return;
        };
        if let Some(chunk) = sent.chunks.back_mut() {
            chunk.end = Some(end);
            sent.lease.send(sent.written - chunk.bytes..sent.written);
        }
    }

    /// The connection is over while a chunk may be half written, and the socket has
    /// accepted everything before this offset. Lines of which it has accepted no byte
    /// do not count as sent.
    pub fn break_off(&mut self, accepted: u64) {
        let overhead = self.rules.line_overhead;
        let Some(sent) = self.leases.back_mut() else {
            return;
        };
        let Some(chunk) = sent.chunks.back().filter(|chunk| chunk.end.is_none()) else {
            return;
        };
        let begin = sent.written - chunk.bytes;
        let accepted = usize::try_from(accepted.saturating_sub(chunk.start)).unwrap_or(usize::MAX);
        let lines = &sent.lease.bytes()[begin..sent.written];
        let bytes = match overhead {
            _ if accepted == 0 => 0,
            Some(overhead) => begun_lines(lines, overhead, accepted),
            // A record, of which any byte may be the last.
            None => lines.len(),
        };
        sent.lease.send(begin..begin + bytes);
    }

    /// The peer's kernel has acknowledged everything before this offset, and
    /// has room for so much. Settles what that covers and is old enough;
    /// whether anything was new.
    pub fn acknowledge(&mut self, offset: u64, room: u64, now: Instant) -> bool {
        self.largest_room = self.largest_room.max(room);
        let before = self.unacknowledged;
        for sent in &mut self.leases {
            let marked = sent.acknowledge(offset, now);
            self.unacknowledged -= marked;
            if marked == 0 && sent.is_waiting() {
                break;
            }
        }
        self.settle(offset, now);
        self.unacknowledged < before
    }

    /// Whether nothing is left here: neither unacknowledged, nor kept.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// Bytes of queued lines for an acknowledgement.
    pub fn unacknowledged(&self) -> usize {
        self.unacknowledged
    }

    /// The connection is over, and this is the last offset that the peer's
    /// kernel acknowledged. Settles to the line; what is left goes back to the
    /// queue. Answers how many lines were settled that the peer may never have
    /// read.
    pub fn end(mut self, offset: u64, ending: Ending, now: Instant) -> u64 {
        if ending == Ending::Clean {
            self.rules.tail = Duration::ZERO;
        }
        self.acknowledge(offset, 0, now);
        self.settle_within_chunk(offset, ending);
        match ending {
            Ending::Clean => 0,
            Ending::Reset => self.recent.iter().map(|recent| recent.lines).sum(),
        }
    }

    /// Settles the chunks in front that are acknowledged and past the tail: old
    /// enough, or so far back that the peer must have read them.
    fn settle(&mut self, offset: u64, now: Instant) {
        // A peer's buffer holds no more than the window that it advertised, and
        // Linux lets that grow to twice as much.
        let surely_read = offset.saturating_sub(2 * self.largest_room + self.rules.unsent);
        while let Some(sent) = self.leases.front_mut() {
            while let Some(chunk) = sent.chunks.front()
                && let (Some(since), Some(end)) = (chunk.acknowledged, chunk.end)
                && (chunk.is_second
                    || now.duration_since(since) >= self.rules.tail
                    || end <= surely_read)
            {
                let lines = sent.settle_chunk();
                self.recent.push_back(Recent { end, lines });
            }
            if !sent.chunks.is_empty() || sent.lease.lines() > 0 {
                break;
            }
            self.leases.pop_front();
        }
        while self
            .recent
            .front()
            .is_some_and(|recent| recent.end <= surely_read)
        {
            self.recent.pop_front();
        }
    }

    /// Settles the lines of a chunk that was acknowledged in part. After a
    /// reset with a tail, they are as young as can be and go back instead.
    fn settle_within_chunk(&mut self, offset: u64, ending: Ending) {
        let (Some(overhead), Some(sent)) = (self.rules.line_overhead, self.leases.front_mut())
        else {
            return;
        };
        let Some(chunk) = sent
            .chunks
            .front()
            .filter(|chunk| chunk.acknowledged.is_none())
        else {
            return;
        };
        if ending == Ending::Reset && !self.rules.tail.is_zero() {
            return;
        }
        let arrived = usize::try_from(offset.saturating_sub(chunk.start)).unwrap_or(0);
        let (bytes, lines) = whole_lines(&sent.lease.bytes()[..chunk.bytes], overhead, arrived);
        sent.lease.settle(bytes);
        self.recent.push_back(Recent { end: offset, lines });
    }
}

impl Sent {
    /// Marks the chunks before an offset. How many bytes of lines that were.
    fn acknowledge(&mut self, offset: u64, now: Instant) -> usize {
        let mut marked = 0;
        let mut end_in_lease = 0;
        for chunk in &mut self.chunks {
            end_in_lease += chunk.bytes;
            if chunk.acknowledged.is_some() {
                continue;
            }
            if chunk.end.is_none_or(|end| end > offset) {
                break;
            }
            chunk.acknowledged = Some(now);
            chunk.is_second = self.lease.acknowledge(end_in_lease);
            marked += chunk.bytes;
        }
        marked
    }

    fn is_waiting(&self) -> bool {
        self.chunks
            .back()
            .is_none_or(|chunk| chunk.acknowledged.is_none())
    }

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

/// The bytes of those lines of which the first `accepted` bytes of the wire hold one at
/// least.
pub fn begun_lines(lines: &[u8], overhead: usize, accepted: usize) -> usize {
    let (whole, number) = whole_lines(lines, overhead, accepted);
    let on_the_wire = whole + usize::try_from(number).unwrap_or(usize::MAX) * overhead;
    if on_the_wire == accepted {
        return whole;
    }
    memchr::memchr(b'\n', &lines[whole..]).map_or(lines.len(), |newline| whole + newline + 1)
}

/// Of lines that are each longer by `overhead` on the wire: how many bytes, and
/// how many lines, the first `arrived` bytes of the wire hold whole.
pub fn whole_lines(lines: &[u8], overhead: usize, arrived: usize) -> (usize, u64) {
    let mut whole = (0, 0);
    for (index, newline) in memchr_iter(b'\n', lines).enumerate() {
        let on_the_wire = newline + 1 + (index + 1) * overhead;
        if on_the_wire > arrived {
            break;
        }
        whole = (newline + 1, index as u64 + 1);
    }
    whole
}

#[cfg(test)]
mod tests;
