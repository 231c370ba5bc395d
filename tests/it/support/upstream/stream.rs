//! Upstreams that take lines over TCP and TLS.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::{Deref, Range};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::acceptor::{Acceptor, After};
use super::port::Port;
use crate::support::certs::Certs;
use crate::support::inbox::Inbox;
use crate::support::read::read_some;

/// What a slow reader takes at once, and its rest after that: some MiB/s.
const SIP: usize = 32 * 1024;
const REST: Duration = Duration::from_millis(5);

/// Small enough that the kernel does not read for a slow reader.
const SMALL_BUFFER: usize = 64 * 1024;

/// A double that records lines. Dropping it is the upstream going down.
pub struct Upstream {
    inbox: Arc<Inbox>,
    acceptor: Acceptor,
    url: String,
}

/// How it treats its clients.
#[derive(Debug, Clone, Copy)]
enum Manner {
    Reads,
    ReadsSlowly,
    NeverReads,
    /// Ends a connection that was silent for so long.
    ClosesIdle(Duration),
    /// Writes this at once, as something does that is no TLS server.
    Greets(&'static str),
}

impl Upstream {
    /// Reads whatever comes.
    pub fn tcp() -> Self {
        Self::tcp_at(&Port::reserve())
    }

    /// As [`Upstream::tcp`], on a port that refused connections until now.
    pub fn tcp_at(port: &Port) -> Self {
        Self::plain(port, Manner::Reads)
    }

    /// Reads a few MiB a second.
    pub fn tcp_slow_at(port: &Port) -> Self {
        Self::plain(port, Manner::ReadsSlowly)
    }

    /// Accepts and never reads.
    pub fn tcp_never_reading() -> Self {
        Self::plain(&Port::reserve(), Manner::NeverReads)
    }

    /// Ends connections that are silent for so long.
    pub fn tcp_closing_idle(after: Duration) -> Self {
        Self::plain(&Port::reserve(), Manner::ClosesIdle(after))
    }

    /// Speaks first, in plain text.
    pub fn tcp_greeting(text: &'static str) -> Self {
        Self::plain(&Port::reserve(), Manner::Greets(text))
    }

    /// A TLS server for `localhost` with a certificate of the authority.
    pub fn tls(certs: &Certs) -> Self {
        Self::tls_at(&Port::reserve(), certs)
    }

    /// As [`Upstream::tls`], on a port that refused connections until now.
    pub fn tls_at(port: &Port, certs: &Certs) -> Self {
        Self::secured(port, certs.server(&["localhost"]), Manner::Reads)
    }

    /// As [`Upstream::tls`], reading a few MiB a second.
    pub fn tls_slow_at(port: &Port, certs: &Certs) -> Self {
        Self::secured(port, certs.server(&["localhost"]), Manner::ReadsSlowly)
    }

    /// A TLS server whose certificate is for another name.
    pub fn tls_named(certs: &Certs, name: &str) -> Self {
        Self::secured(&Port::reserve(), certs.server(&[name]), Manner::Reads)
    }

    /// A TLS server for `localhost` whose certificate was good in these years.
    pub fn tls_valid(certs: &Certs, years: Range<i32>) -> Self {
        Self::secured(&Port::reserve(), certs.server_valid(years), Manner::Reads)
    }

    /// A TLS server of this configuration.
    pub fn serving(config: Arc<ServerConfig>) -> Self {
        Self::secured(&Port::reserve(), config, Manner::Reads)
    }

    /// A TLS server that wants a client certificate.
    pub fn tls_asking(certs: &Certs) -> Self {
        Self::secured(&Port::reserve(), certs.server_that_asks(), Manner::Reads)
    }

    /// As `sink.url`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its port as `sink.url` for another scheme and host.
    pub fn url_as(&self, scheme_and_host: &str) -> String {
        format!("{scheme_and_host}:{}", self.acceptor.address().port())
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.acceptor.connections()
    }

    /// Connections that have ended.
    pub fn ended(&self) -> usize {
        self.acceptor.ended()
    }

    /// Goes down politely, and returns when the daemon has noticed.
    #[track_caller]
    pub fn leave(mut self) {
        self.acceptor.hang_up();
    }

    /// Everything that arrived, once the daemon has closed its connections.
    /// There may be no half line in it.
    #[track_caller]
    pub fn finish(mut self) -> Vec<String> {
        self.acceptor.wait_until_left();
        assert_eq!(self.fragments(), [""; 0], "half lines");
        self.lines()
    }

    fn plain(port: &Port, manner: Manner) -> Self {
        Self::start(port, port.url(), manner, move |stream, inbox| {
            let idle = match manner {
                Manner::ClosesIdle(idle) => Some(idle),
                _ => None,
            };
            stream.set_read_timeout(idle).expect("an open socket");
            if let Manner::Greets(text) = manner {
                // It may be gone already.
                let _ = (&stream).write_all(text.as_bytes());
            }
            record(&stream, &stream, inbox, manner);
        })
    }

    fn secured(port: &Port, config: Arc<ServerConfig>, manner: Manner) -> Self {
        Self::start(port, port.tls_url(), manner, move |stream, inbox| {
            let handle = stream.try_clone().expect("a second handle");
            let session = ServerConnection::new(Arc::clone(&config)).expect("a TLS session");
            record(StreamOwned::new(session, stream), &handle, inbox, manner);
        })
    }

    fn start(
        port: &Port,
        url: String,
        manner: Manner,
        serve: impl Fn(TcpStream, &Inbox) + Send + Sync + 'static,
    ) -> Self {
        let buffer = match manner {
            Manner::ReadsSlowly | Manner::NeverReads => Some(SMALL_BUFFER),
            _ => None,
        };
        let inbox = Arc::new(Inbox::default());
        let acceptor = Acceptor::start(port.listen(buffer), {
            let inbox = Arc::clone(&inbox);
            move |stream, _| {
                if matches!(manner, Manner::NeverReads) {
                    return After::Hold;
                }
                serve(stream, &inbox);
                After::Close
            }
        });
        Self {
            inbox,
            acceptor,
            url,
        }
    }
}

impl Deref for Upstream {
    type Target = Inbox;

    fn deref(&self) -> &Inbox {
        &self.inbox
    }
}

/// Reads one connection to its end.
#[expect(
    clippy::disallowed_methods,
    reason = "no other task shares this thread"
)]
fn record(mut stream: impl Read, socket: &TcpStream, inbox: &Inbox, manner: Manner) {
    let mut lines = inbox.stream();
    let mut buffer = vec![0; SIP];
    loop {
        match read_some(&mut stream, &mut buffer) {
            Ok(0) => break,
            Ok(read) => lines.feed(&buffer[..read]),
            Err(error) if is_timeout(error.kind()) => {
                // The polite way to close: what crosses it on its way is read
                // all the same. Nothing can be done for a socket that is gone.
                let _ = socket.shutdown(Shutdown::Write);
                let _ = socket.set_read_timeout(None);
            }
            Err(_) => break,
        }
        if matches!(manner, Manner::ReadsSlowly) {
            thread::sleep(REST);
        }
    }
    lines.end();
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
