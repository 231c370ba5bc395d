//! Many datagrams by one call, where the system has one for it.

use std::io;
use std::os::fd::AsFd;

use zeroize::Zeroize;

use super::received::{BATCH, NamedBy, Received};

/// What the kernel charges a socket's buffer for a datagram at least, beside its bytes.
const CHARGE: usize = 512;

/// No UDP datagram is larger.
const DATAGRAM_BYTES: usize = 64 << 10;

/// A batch is no larger, but for the first of large datagrams: whoever receives them
/// has others to attend to.
const BATCH_BYTES: usize = 1 << 20;

/// More than this on average, and a full batch would be larger.
const LARGE: usize = BATCH_BYTES / BATCH;

/// So many are received at once then.
const FEW: usize = BATCH_BYTES / DATAGRAM_BYTES;

/// Between two places. A little more than a datagram, so that the beginnings of
/// all of them, where most of what comes is, do not share a line of the cache.
const STRIDE: usize = DATAGRAM_BYTES + 192;

/// What is resident is given back once a batch had more bytes than this.
const RESIDENT_BYTES: usize = 256 << 10;

/// Room for a batch. Only what is filled is ever resident.
#[derive(Debug)]
pub struct Datagrams {
    buffer: Box<[u8]>,
    received: Vec<Received>,
    /// How many could have come.
    places: usize,
    /// How many may come next.
    next_places: usize,
    /// A batch was so large that much of the buffer is resident.
    has_grown: bool,
}

impl Default for Datagrams {
    /// Empty places.
    fn default() -> Self {
        Self {
            buffer: vec![0; BATCH * STRIDE].into_boxed_slice(),
            received: Vec::with_capacity(BATCH),
            places: BATCH,
            next_places: BATCH,
            has_grown: false,
        }
    }
}

impl Datagrams {
    /// The memory that a full batch of the largest takes.
    pub const MOST_BYTES: usize = BATCH * STRIDE;

    /// Whether a batch was so large that the next one needs fresh buffers.
    pub fn has_grown(&self) -> bool {
        self.has_grown
    }

    /// Forgets what came.
    pub fn clear(&mut self) {
        self.received.clear();
    }

    /// Receives what there is, up to a batch, without waiting. At least one, or
    /// an error: `WouldBlock` where there is none.
    pub fn receive(&mut self, socket: impl AsFd, named_by: NamedBy) -> io::Result<()> {
        self.clear();
        self.places = self.next_places;
        let places = self.buffer.chunks_mut(STRIDE).take(self.places);
        let places = places.map(|place| &mut place[..DATAGRAM_BYTES]);
        #[cfg(target_os = "linux")]
        super::linux::udp::receive(socket.as_fd(), places, named_by, &mut self.received)?;
        #[cfg(not(target_os = "linux"))]
        {
            let _ = named_by;
            one(socket, places, &mut self.received)?;
        }
        let bytes = self.bytes();
        self.next_places = places_after(self.received.len(), bytes);
        self.has_grown |= bytes > RESIDENT_BYTES;
        Ok(())
    }

    /// Whether as many came as could.
    pub fn is_full(&self) -> bool {
        self.received.len() == self.places
    }

    fn bytes(&self) -> usize {
        self.received.iter().map(|received| received.length).sum()
    }

    /// How much room they have left in the kernel's buffer, at least.
    pub fn room(&self) -> usize {
        self.bytes() + self.received.len() * CHARGE
    }

    /// How many came.
    pub fn len(&self) -> usize {
        self.received.len()
    }

    /// Whether none came.
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// What came.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Received)> {
        let places = self.buffer.chunks(STRIDE);
        places
            .zip(&self.received)
            .map(|(place, received)| (&place[..received.length], received))
    }

    /// Zeroes what came.
    pub fn zeroize(&mut self) {
        let places = self.buffer.chunks_mut(STRIDE);
        for (place, received) in places.zip(&self.received) {
            place[..received.length].zeroize();
        }
    }
}

/// How many datagrams are received at once after this number of of this number of bytes.
fn places_after(datagrams: usize, bytes: usize) -> usize {
    if bytes > LARGE * datagrams {
        FEW
    } else {
        BATCH
    }
}

#[cfg(not(target_os = "linux"))]
fn one<'a>(
    socket: impl AsFd,
    mut places: impl Iterator<Item = &'a mut [u8]>,
    received: &mut Vec<Received>,
) -> io::Result<()> {
    use rustix::net::{RecvAncillaryBuffer, RecvFlags, ReturnFlags};
    let Some(place) = places.next() else {
        return Ok(());
    };
    let mut slices = [io::IoSliceMut::new(place)];
    let message = rustix::net::recvmsg(
        socket,
        &mut slices,
        &mut RecvAncillaryBuffer::default(),
        RecvFlags::DONTWAIT,
    )?;
    received.push(Received {
        length: message.bytes.min(DATAGRAM_BYTES),
        truncated: message.flags.contains(ReturnFlags::TRUNC),
        sender: message
            .address
            .and_then(|address| address.try_into().ok())
            .map_or(Sender::Unknown, Sender::Address),
    });
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn large_ones_make_the_next_batch_short() {
        assert_eq!(places_after(0, 0), BATCH);
        assert_eq!(places_after(BATCH, BATCH * LARGE), BATCH);
        assert_eq!(places_after(BATCH, BATCH * LARGE + 1), FEW);
        assert_eq!(places_after(1, DATAGRAM_BYTES), FEW);
    }

    #[test]
    fn a_short_batch_is_full_when_its_places_are() {
        const SMALL: usize = 2 * FEW + 1;
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        let mut datagrams = Datagrams::default();
        let mut receive = || {
            // What was sent may take a moment.
            receiver.peek(&mut [0]).unwrap();
            datagrams.receive(&receiver, NamedBy::Address).unwrap();
            (datagrams.iter().count(), datagrams.is_full())
        };
        sender.send(&vec![b'x'; LARGE + 1]).unwrap();
        assert_eq!(receive(), (1, false));
        for _ in 0..SMALL {
            sender.send(b"small").unwrap();
        }
        let (mut arrived, is_full) = receive();
        assert!(arrived <= FEW);
        assert_eq!(is_full, arrived == FEW);
        // There are more places for those that follow, which are fewer.
        while arrived < SMALL {
            let (more, is_full) = receive();
            assert!(!is_full);
            arrived += more;
        }
    }
}
