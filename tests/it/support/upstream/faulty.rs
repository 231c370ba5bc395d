//! Upstreams that take lines over TCP and TLS and treat each connection as
//! they are told.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use socket2::SockRef;

use super::acceptor::{Acceptor, After};
use super::cut::{cut_off, restore};
use super::port::Port;
use super::site::Site;
use crate::support::certs::Certs;
use crate::support::inbox::{Inbox, Stream};
use crate::support::read::read_some;
use crate::support::wait::{DEADLINE, wait_for};

/// Small enough that the kernel does not read for one that does not.
const SMALL_BUFFER: usize = 64 * 1024;

/// What dies unread with a peer, at least.
const UNREAD: usize = 8 * 1024;

/// With nothing new for so long, a buffer is full.
const FULL: Duration = Duration::from_millis(200);

/// More than what died unread on one connection comes first on the next.
const SECOND_TIME: usize = 3 * SMALL_BUFFER;

/// What becomes of one connection.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// Nothing: it is read to its end.
    Reads,
    /// It is read for so long. Then no packet gets in any more; what got in is
    /// read and acknowledged, and an RST ends it. So the peer's kernel and the
    /// peer agree on what has arrived.
    Resets(Duration),
    /// So many reads find lines; right after the last of them an RST ends it.
    ResetsAfterReads(usize),
    /// The same as [`Fault::Resets`] with a FIN in place of the RST; what comes
    /// later is refused.
    Ends(Duration),
    /// As [`Fault::Ends`], once it was silent for so long.
    EndsIdle(Duration),
    /// It is read for so long, and past what may have come a second time. Then
    /// lines are left unread, and die with it.
    Dies(Duration),
    /// It is read for so long, then its other direction is ended, and it is
    /// read to its end.
    HalfCloses(Duration),
    /// It is not read before [`Faulty::behave`].
    Stalls,
    /// So many bytes are read, then there is such a pause, and so on.
    Sips(usize, Duration),
    /// It is read for so long; from then on the network is gone.
    Vanishes(Duration),
    /// It is closed without a look at it.
    Closes,
    /// It is greeted in plain text, then read.
    Greets(&'static str),
}

/// A double that records lines. Dropping it is the upstream going down.
pub struct Faulty {
    inbox: Arc<Inbox>,
    acceptor: Acceptor,
    mood: Arc<Mood>,
    is_tls: bool,
    url: String,
}

/// Whether it behaves by now.
#[derive(Default)]
struct Mood {
    good: Mutex<bool>,
    changed: Condvar,
    /// Connections that it was good to from the beginning.
    spared: AtomicUsize,
}

impl Faulty {
    /// Treats its connections by their number, from 0.
    pub fn tcp(faults: impl Fn(usize) -> Fault + Send + Sync + 'static) -> Self {
        Self::tcp_at(&Port::reserve(), faults)
    }

    /// As [`Faulty::tcp`], on a port that refused connections until now.
    pub fn tcp_at(port: &Port, faults: impl Fn(usize) -> Fault + Send + Sync + 'static) -> Self {
        Self::start(port, None, faults)
    }

    /// As [`Faulty::tcp`], for `localhost` with a certificate of the authority.
    pub fn tls(certs: &Certs, faults: impl Fn(usize) -> Fault + Send + Sync + 'static) -> Self {
        Self::tls_at(&Port::reserve(), certs.server(&["localhost"]), faults)
    }

    /// There, over TLS or not.
    pub fn at(site: &Site, faults: impl Fn(usize) -> Fault + Send + Sync + 'static) -> Self {
        Self::start(site.port(), site.server(), faults)
    }

    /// A TLS server with this certificate.
    pub fn tls_at(
        port: &Port,
        config: Arc<ServerConfig>,
        faults: impl Fn(usize) -> Fault + Send + Sync + 'static,
    ) -> Self {
        Self::start(port, Some(config), faults)
    }

    /// Over TLS; what the client says after its first message is read after this
    /// pause, as from a peer that is far away.
    pub fn far(site: &Site, pause: Duration) -> Self {
        Self::start_with(
            Some(SMALL_BUFFER),
            site.port(),
            site.server(),
            pause,
            |_| Fault::Reads,
        )
    }

    /// As [`Faulty::tcp`], with as large a buffer as the kernel likes.
    pub fn tcp_roomy(faults: impl Fn(usize) -> Fault + Send + Sync + 'static) -> Self {
        Self::start_with(None, &Port::reserve(), None, Duration::ZERO, faults)
    }

    /// From now on every new connection is read to its end, and so is every
    /// one that stalls.
    pub fn behave(&self) {
        *self.mood.lock() = true;
        self.mood.changed.notify_all();
    }

    /// The same, and waits for a connection that is treated well: by then the
    /// daemon knows what has become of the others.
    #[track_caller]
    pub fn recover(&self) {
        self.behave();
        wait_for("a connection that is treated well", || {
            self.mood.spared.load(Ordering::SeqCst) > 0
        });
    }

    /// As `sink.url`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.acceptor.connections()
    }

    /// Connections that have ended.
    pub fn ended(&self) -> usize {
        self.acceptor.ended()
    }

    /// Everything that arrived, once the daemon has closed its connections. A
    /// broken connection may end in half a line, which counts for nothing;
    /// inside TLS there is no such thing.
    #[track_caller]
    pub fn finish(mut self) -> Vec<String> {
        self.behave();
        self.acceptor.wait_until_left();
        if self.is_tls {
            assert_eq!(self.fragments(), [""; 0], "half lines");
        }
        self.lines()
    }

    fn start(
        port: &Port,
        tls: Option<Arc<ServerConfig>>,
        faults: impl Fn(usize) -> Fault + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(Some(SMALL_BUFFER), port, tls, Duration::ZERO, faults)
    }

    fn start_with(
        buffer: Option<usize>,
        port: &Port,
        tls: Option<Arc<ServerConfig>>,
        pause: Duration,
        faults: impl Fn(usize) -> Fault + Send + Sync + 'static,
    ) -> Self {
        let inbox = Arc::new(Inbox::default());
        let mood = Arc::new(Mood::default());
        let is_tls = tls.is_some();
        let acceptor = Acceptor::start(port.listen(buffer), {
            let (inbox, mood) = (Arc::clone(&inbox), Arc::clone(&mood));
            move |stream, number| {
                let fault = if *mood.lock() {
                    mood.spared.fetch_add(1, Ordering::SeqCst);
                    Fault::Reads
                } else {
                    faults(number)
                };
                let socket = stream.try_clone().expect("a second handle");
                let lines = inbox.stream();
                match &tls {
                    None => Guest::new(stream, socket, lines).treat(fault, &mood),
                    Some(config) => {
                        let session =
                            ServerConnection::new(Arc::clone(config)).expect("a TLS session");
                        let stream = StreamOwned::new(
                            session,
                            Far {
                                stream,
                                reads: 0,
                                pause,
                            },
                        );
                        Guest::new(stream, socket, lines).treat(fault, &mood)
                    }
                }
            }
        });
        Self {
            inbox,
            acceptor,
            mood,
            is_tls,
            url: if is_tls { port.tls_url() } else { port.url() },
        }
    }
}

impl Deref for Faulty {
    type Target = Inbox;

    fn deref(&self) -> &Inbox {
        &self.inbox
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.behave();
    }
}

/// A stream whose second read comes late.
struct Far {
    stream: TcpStream,
    reads: usize,
    pause: Duration,
}

impl Read for Far {
    #[expect(
        clippy::disallowed_methods,
        reason = "no other task shares this thread"
    )]
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.reads += 1;
        if self.reads == 2 {
            thread::sleep(self.pause);
        }
        self.stream.read(buffer)
    }
}

impl Write for Far {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        #[expect(clippy::disallowed_methods, reason = "passed on as it is")]
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

impl Mood {
    fn lock(&self) -> std::sync::MutexGuard<'_, bool> {
        self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_until_good(&self) {
        while !*self.lock() {
            self.wait_until_good_for(DEADLINE);
        }
    }

    /// The same, but for so long at most.
    fn wait_until_good_for(&self, limit: Duration) {
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), limit, |good| !*good);
        drop(waited);
    }
}

/// One connection.
struct Guest<'a, S> {
    stream: S,
    socket: TcpStream,
    lines: Stream<'a>,
    buffer: Vec<u8>,
    /// Bytes read so far.
    taken: usize,
}

/// How reading came to a stop.
#[derive(Debug, PartialEq, Eq)]
enum Stop {
    /// The connection has ended.
    End,
    /// There was nothing to read for the time allowed.
    Silence,
}

impl<'a, S: Read> Guest<'a, S> {
    fn new(stream: S, socket: TcpStream, lines: Stream<'a>) -> Self {
        Self {
            stream,
            socket,
            lines,
            buffer: vec![0; 32 * 1024],
            taken: 0,
        }
    }

    fn treat(mut self, fault: Fault, mood: &Mood) -> After {
        let after = self.suffer(fault, mood);
        self.lines.end();
        after
    }

    fn suffer(&mut self, fault: Fault, mood: &Mood) -> After {
        let lives = match fault {
            Fault::Resets(after)
            | Fault::Ends(after)
            | Fault::HalfCloses(after)
            | Fault::Vanishes(after) => self.read_for(after),
            Fault::Dies(after) => self.read_for(after) && self.read_past(SECOND_TIME),
            Fault::EndsIdle(after) => self.read(Some(after)) == Stop::Silence,
            Fault::ResetsAfterReads(reads) => {
                (0..reads).all(|_| self.read_once(None) != Some(Stop::End))
            }
            Fault::Reads | Fault::Stalls | Fault::Sips(..) | Fault::Closes | Fault::Greets(_) => {
                true
            }
        };
        if !lives {
            return After::Close;
        }
        match fault {
            Fault::Reads => self.read_to_end(),
            Fault::Resets(_) => {
                self.stop_arrivals();
                self.linger_zero();
            }
            Fault::ResetsAfterReads(_) => self.linger_zero(),
            Fault::Ends(_) | Fault::EndsIdle(_) => {
                self.stop_arrivals();
                // Whatever comes for a side that was ended is answered by an
                // RST and not acknowledged.
                let _ = self.socket.shutdown(Shutdown::Both);
                restore(&self.socket);
            }
            Fault::Dies(_) => self.wait_for_unread(),
            Fault::HalfCloses(_) => {
                let _ = self.socket.shutdown(Shutdown::Write);
                self.read_to_end();
            }
            Fault::Stalls => {
                mood.wait_until_good();
                self.read_to_end();
            }
            Fault::Sips(bytes, pause) => {
                self.buffer.truncate(bytes);
                while self.read_once(None).is_none() {
                    mood.wait_until_good_for(pause);
                }
            }
            Fault::Vanishes(_) => {
                self.stop_arrivals();
                return After::Hold;
            }
            Fault::Closes => {}
            Fault::Greets(text) => {
                // It may be gone already.
                let _ = self.socket.write_all(text.as_bytes());
                self.read_to_end();
            }
        }
        After::Close
    }

    /// Reads for so long; whether the connection lives on.
    fn read_for(&mut self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            if self.read_once(Some(left)) == Some(Stop::End) {
                return false;
            }
        }
    }

    /// Reads until it has had so many bytes; whether the connection lives on.
    fn read_past(&mut self, bytes: usize) -> bool {
        while self.taken < bytes {
            if self.read_once(None).is_some() {
                return false;
            }
        }
        true
    }

    fn read_to_end(&mut self) {
        self.read(None);
    }

    /// Reads to the end, or until it was silent for so long.
    fn read(&mut self, silence: Option<Duration>) -> Stop {
        loop {
            if let Some(stop) = self.read_once(silence) {
                return stop;
            }
        }
    }

    fn read_once(&mut self, silence: Option<Duration>) -> Option<Stop> {
        self.socket
            .set_read_timeout(silence)
            .expect("an open socket");
        self.step()
    }

    fn step(&mut self) -> Option<Stop> {
        match read_some(&mut self.stream, &mut self.buffer) {
            Ok(0) => Some(Stop::End),
            Ok(read) => {
                self.taken += read;
                self.lines.feed(&self.buffer[..read]);
                None
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => Some(Stop::Silence),
                _ => Some(Stop::End),
            },
        }
    }

    /// Lets nothing more in, reads what is there, and acknowledges it.
    fn stop_arrivals(&mut self) {
        cut_off(&self.socket);
        self.socket.set_nonblocking(true).expect("an open socket");
        while self.step().is_none() {}
        self.socket.set_nonblocking(false).expect("an open socket");
        // An acknowledgement may be held back for a while.
        SockRef::from(&self.socket)
            .set_tcp_quickack(true)
            .expect("an open socket");
    }

    /// Closing is a reset.
    fn linger_zero(&self) {
        SockRef::from(&self.socket)
            .set_linger(Some(Duration::ZERO))
            .expect("an open socket");
    }

    /// Closing with unread bytes is a reset as well, and they are gone.
    fn wait_for_unread(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        let mut bytes = vec![0; UNREAD];
        let mut since = Instant::now();
        self.socket.set_nonblocking(true).expect("an open socket");
        while Instant::now() < deadline {
            // The end of a large packet can fill the buffer by itself. Then
            // nothing more comes until it is read.
            if since.elapsed() > FULL {
                since = Instant::now();
                if self.step() == Some(Stop::End) {
                    break;
                }
            }
            match self.socket.peek(&mut bytes) {
                Ok(0) => break,
                Ok(UNREAD..) => break,
                Err(error) if error.kind() != ErrorKind::WouldBlock => break,
                Ok(_) | Err(_) => thread::yield_now(),
            }
        }
    }
}
