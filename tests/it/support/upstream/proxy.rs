//! A proxy that does `CONNECT` and nothing else.

use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::acceptor::{Acceptor, After};
use super::port::Port;
use crate::support::http::Message;

/// A double that records what it was asked to connect to.
pub struct Proxy {
    acceptor: Acceptor,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    pub fn start() -> Self {
        Self::saying("")
    }

    /// One that says this before each of its answers.
    pub fn saying(first: &'static str) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let acceptor = Acceptor::start(Port::reserve().listen(None), {
            let asked = Arc::clone(&asked);
            move |stream, _| {
                // Either side may hang up at any time.
                let _ = tunnel(stream, first, &asked);
                After::Close
            }
        });
        Self { acceptor, asked }
    }

    /// As `sink.proxy`.
    pub fn url(&self) -> String {
        format!("http://{}", self.acceptor.address())
    }

    /// The first lines of the requests so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn tunnel(mut client: TcpStream, first: &str, asked: &Mutex<Vec<String>>) -> io::Result<()> {
    let Some(request) = Message::read_head(&mut client)? else {
        return Ok(());
    };
    asked
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(request.start.clone());
    if request.word(0) != "CONNECT" {
        return client.write_all(b"HTTP/1.1 405 CONNECT only\r\nContent-Length: 0\r\n\r\n");
    }
    let server = TcpStream::connect(request.word(1))?;
    client.write_all(first.as_bytes())?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let back = thread::spawn({
        let (server, client) = (server.try_clone()?, client.try_clone()?);
        move || pump(server, client)
    });
    pump(client, server);
    back.join()
        .map_err(|_| io::Error::other("the way back failed"))
}

/// Copies one direction to its end, and passes the end on.
fn pump(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
