//! The upstream: reads what the relay sends, over TCP, TLS or HTTP, and books
//! each line.

mod http;

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use memchr::memrchr;
use rustls::{ServerConnection, StreamOwned};
use socket2::{Domain, Socket, Type};

use crate::bench::arrivals::Arrivals;
use crate::bench::certs::Certs;

/// What is read at once, at most.
const READ_BYTES: usize = 256 << 10;

/// What a slow upstream reads at once: small, so that its pace is even.
const SLOW_READ_BYTES: usize = 8 << 10;

/// How lines come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Tls,
    Http,
}

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Reads as fast as it can.
    Quick,
    /// Reads so many lines a second.
    Slow(u64),
    /// Refuses connections until it is opened.
    Dead,
}

pub struct Upstream {
    transport: Transport,
    manner: Manner,
    socket: Socket,
    certs: Certs,
    arrivals: Arc<Arrivals>,
}

impl Upstream {
    /// On a port of its own, which is held even while it is dead.
    pub fn start(transport: Transport, manner: Manner, arrivals: &Arc<Arrivals>) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any.into()).expect("a port");
        let upstream = Self {
            transport,
            manner,
            socket,
            certs: Certs::new(),
            arrivals: arrivals.clone(),
        };
        if manner != Manner::Dead {
            upstream.open();
        }
        upstream
    }

    /// Accepts connections from now on.
    pub fn open(&self) {
        self.socket.listen(128).expect("a bound socket listens");
        let listener: TcpListener = self.socket.try_clone().expect("a descriptor").into();
        let serve = self.server();
        thread::spawn(move || {
            // Ends when the socket is shut down.
            while let Ok((stream, _)) = listener.accept() {
                let serve = serve.clone();
                thread::spawn(move || serve(stream));
            }
        });
    }

    /// As `sink.url`.
    pub fn url(&self) -> String {
        let address = self.address();
        match self.transport {
            Transport::Tcp => format!("tcp://{address}"),
            Transport::Tls => format!("tls://{address}"),
            Transport::Http => format!("http://{address}/api/v1/sink"),
        }
    }

    pub fn transport(&self) -> Transport {
        self.transport
    }

    pub fn address(&self) -> SocketAddr {
        let address = self.socket.local_addr().expect("a bound socket");
        address.as_socket().expect("an IP address")
    }

    /// As `sink.tls.ca_file`.
    pub fn ca_file(&self) -> PathBuf {
        self.certs.ca_file()
    }

    fn server(&self) -> Arc<dyn Fn(TcpStream) + Send + Sync> {
        let arrivals = self.arrivals.clone();
        let pace = match self.manner {
            Manner::Slow(pace) => Some(pace),
            Manner::Quick | Manner::Dead => None,
        };
        match self.transport {
            Transport::Tcp => Arc::new(move |mut stream| read_lines(&mut stream, &arrivals, pace)),
            Transport::Tls => {
                let config = self.certs.server(&["127.0.0.1"]);
                Arc::new(move |stream| {
                    let session = ServerConnection::new(config.clone()).expect("a session");
                    read_lines(&mut StreamOwned::new(session, stream), &arrivals, pace);
                })
            }
            Transport::Http => Arc::new(move |stream| {
                // A connection that breaks shows in the lines that are lost.
                let _ = http::serve(stream, &arrivals);
            }),
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // One that never listened cannot be shut down, nor need be.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

/// To the end of the stream. What no newline ends there is no line.
fn read_lines(stream: &mut impl Read, arrivals: &Arrivals, pace: Option<u64>) {
    let begun = Instant::now();
    let mut total = 0;
    let mut held = 0;
    let size = pace.map_or(READ_BYTES, |_| SLOW_READ_BYTES);
    let mut buffer = vec![0; size];
    while let Ok(read @ 1..) = stream.read(&mut buffer[held..]) {
        let now = Instant::now();
        let filled = held + read;
        let whole = memrchr(b'\n', &buffer[..filled]).map_or(0, |newline| newline + 1);
        total += arrivals.book_lines(&buffer[..whole], now);
        buffer.copy_within(whole..filled, 0);
        held = filled - whole;
        if let Some(pace) = pace {
            let due = Duration::from_secs_f64(total as f64 / pace as f64);
            thread::sleep(due.saturating_sub(begun.elapsed()));
        }
    }
}
