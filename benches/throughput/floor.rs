//! The least that a relay can do, as a process of its own: it receives, puts a
//! prefix before each line and sends on. It checks nothing, keeps nothing and
//! is stopped by an upstream that is not there.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;

use memchr::memchr;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use sidecarbon::os::{self, Datagrams, NamedBy};

use crate::bench::KEY;

/// What is read at once from a connection.
const READ_BYTES: usize = 64 << 10;

/// Those that are waited for: three sockets, then connections by their number.
const UPSTREAM: u64 = 0;
const UDP: u64 = 1;
const TCP: u64 = 2;
const CONNECTIONS: usize = 3;

/// How many may be ready at once.
const EVENTS: usize = 256;

struct Floor {
    upstream: TcpStream,
    prefix: Vec<u8>,
    out: Vec<u8>,
    buffer: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    /// The beginning of a line whose end has not come yet.
    held: Vec<u8>,
}

/// Runs until the upstream ends.
pub fn run(tcp: SocketAddr, upstream: SocketAddr) {
    let mut floor = Floor {
        upstream: TcpStream::connect(upstream).expect("the upstream"),
        prefix: format!("{KEY}.").into_bytes(),
        out: Vec::new(),
        buffer: vec![0; READ_BYTES],
    };
    // As the daemon does.
    floor.upstream.set_nodelay(true).expect("a socket");
    let listener = TcpListener::bind(tcp).expect("a port");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    os::enlarge_receive_buffer(&socket);
    os::raise_file_limit();
    let ready = Epoll::new(EpollCreateFlags::empty()).expect("a descriptor");
    watch(&ready, &floor.upstream, UPSTREAM);
    watch(&ready, &socket, UDP);
    watch(&ready, &listener, TCP);
    let tcp = listener.local_addr().expect("a port");
    eprintln!("listening listener=tcp address={tcp}");
    let udp = socket.local_addr().expect("a port");
    eprintln!("listening listener=udp address={udp}");

    let mut datagrams = Datagrams::default();
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut events = [EpollEvent::empty(); EVENTS];
    loop {
        let count = ready.wait(&mut events, EpollTimeout::NONE);
        for event in &events[..count.unwrap_or(0)] {
            match event.data() {
                UPSTREAM => return,
                UDP => floor.pass_datagrams(&socket, &mut datagrams),
                TCP => {
                    let (stream, _) = listener.accept().expect("a connection");
                    watch(&ready, &stream, (connections.len() + CONNECTIONS) as u64);
                    let held = Vec::new();
                    connections.push(Some(Connection { stream, held }));
                }
                number => {
                    let place = &mut connections[number as usize - CONNECTIONS];
                    let is_open = place.as_mut().is_some_and(|one| floor.pass_stream(one));
                    if !is_open {
                        *place = None;
                    }
                }
            }
        }
    }
}

fn watch(ready: &Epoll, socket: impl AsFd, number: u64) {
    let event = EpollEvent::new(EpollFlags::EPOLLIN, number);
    ready.add(socket, event).expect("a place");
}

impl Floor {
    /// One batch: one call to receive it, one to send it.
    fn pass_datagrams(&mut self, socket: &UdpSocket, datagrams: &mut Datagrams) {
        if datagrams.receive(socket, NamedBy::Address).is_err() {
            return;
        }
        self.out.clear();
        for (lines, _) in datagrams.iter() {
            prefix(lines, &self.prefix, &mut self.out);
        }
        self.send();
    }

    /// One read. Whether there may be another.
    fn pass_stream(&mut self, connection: &mut Connection) -> bool {
        let Ok(read @ 1..) = connection.stream.read(&mut self.buffer) else {
            return false;
        };
        self.out.clear();
        let mut lines = &self.buffer[..read];
        if let (false, Some(newline)) = (connection.held.is_empty(), memchr(b'\n', lines)) {
            let (end, rest) = lines.split_at(newline + 1);
            connection.held.extend_from_slice(end);
            prefix(&connection.held, &self.prefix, &mut self.out);
            connection.held.clear();
            lines = rest;
        }
        let rest = prefix(lines, &self.prefix, &mut self.out);
        connection.held.extend_from_slice(rest);
        self.send();
        true
    }

    fn send(&mut self) {
        self.upstream.write_all(&self.out).expect("the upstream");
    }
}

/// Copies lines, each behind a prefix. What is left has no newline.
fn prefix<'a>(mut lines: &'a [u8], prefix: &[u8], out: &mut Vec<u8>) -> &'a [u8] {
    while let Some(newline) = memchr(b'\n', lines) {
        let (line, rest) = lines.split_at(newline + 1);
        out.extend_from_slice(prefix);
        out.extend_from_slice(line);
        lines = rest;
    }
    lines
}
