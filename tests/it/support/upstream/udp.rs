//! An upstream that takes lines over UDP.

use std::net::{SocketAddr, UdpSocket};
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::port::UdpPort;
use crate::support::inbox::Inbox;
use crate::support::wait::wait_for;

/// A double that records lines and datagrams. Dropping it is the upstream
/// going down.
pub struct UdpUpstream {
    inbox: Arc<Inbox>,
    datagrams: Arc<Mutex<Vec<Vec<u8>>>>,
    address: SocketAddr,
    /// A datagram from here is the last one.
    farewell: UdpSocket,
    thread: Option<JoinHandle<()>>,
}

impl UdpUpstream {
    /// Receives whatever comes.
    pub fn start() -> Self {
        Self::at(&UdpPort::reserve())
    }

    /// As [`UdpUpstream::start`], on a port that refused datagrams until now.
    pub fn at(port: &UdpPort) -> Self {
        let socket = port.receive();
        let address = socket.local_addr().expect("a bound socket");
        let farewell = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let last = farewell.local_addr().expect("a bound socket");
        let inbox = Arc::new(Inbox::default());
        let datagrams = Arc::default();
        let thread = thread::spawn({
            let (inbox, datagrams) = (Arc::clone(&inbox), Arc::clone(&datagrams));
            move || receive(&socket, last, &inbox, &datagrams)
        });
        Self {
            inbox,
            datagrams,
            address,
            farewell,
            thread: Some(thread),
        }
    }

    /// As `sink.url`.
    pub fn url(&self) -> String {
        format!("udp://{}", self.address)
    }

    /// The datagrams as they came.
    pub fn datagrams(&self) -> Vec<Vec<u8>> {
        self.datagrams
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Everything that was sent to it before this call.
    #[track_caller]
    pub fn finish(mut self) -> Vec<String> {
        self.end();
        self.lines()
    }

    fn end(&mut self) {
        if let Some(thread) = self.thread.take() {
            wait_for("the last datagram", || {
                // A full buffer may lose it; then it is sent again.
                let _ = self.farewell.send_to(b"", self.address);
                thread.is_finished()
            });
            thread.join().expect("the receiving thread");
        }
    }
}

impl Drop for UdpUpstream {
    fn drop(&mut self) {
        self.end();
    }
}

impl Deref for UdpUpstream {
    type Target = Inbox;

    fn deref(&self) -> &Inbox {
        &self.inbox
    }
}

fn receive(socket: &UdpSocket, last: SocketAddr, inbox: &Inbox, datagrams: &Mutex<Vec<Vec<u8>>>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).expect("a bound socket");
        if from == last {
            return;
        }
        let datagram = &buffer[..length];
        datagrams
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(datagram.to_vec());
        let mut lines = inbox.stream();
        lines.feed(datagram);
        lines.end_as_line();
    }
}
