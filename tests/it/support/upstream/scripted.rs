//! An HTTP server that answers as each test says, also with what is no answer.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::{ServerConnection, StreamOwned};
use socket2::SockRef;

use super::acceptor::{Acceptor, After};
use super::site::Site;
use crate::support::http::Message;
use crate::support::inbox::Inbox;
use crate::support::switch::Switch;

/// A double whose every answer is decided by the test.
pub struct Scripted {
    inbox: Arc<Inbox>,
    acceptor: Acceptor,
    answered: Arc<Mutex<Vec<Answered>>>,
    asked: Arc<AtomicUsize>,
    site: Site,
}

/// A request, as the test sees it.
#[derive(Debug)]
pub struct Asked {
    /// Counted over all connections, from 0.
    pub number: usize,
    /// What it wants to put here; empty where it is answered unread.
    pub lines: Vec<String>,
    /// The length of the body, as announced.
    pub bytes: usize,
    authorization: String,
}

/// A request that was answered, and how.
#[derive(Debug, Clone)]
pub struct Answered {
    /// 0 where it was no answer.
    pub status: u16,
    /// When it was there, whole.
    pub at: Instant,
}

/// What the server does.
#[derive(Clone)]
pub struct Reply {
    stores: bool,
    bytes: Vec<u8>,
    pause: Duration,
    then: Then,
}

#[derive(Clone)]
enum Then {
    GoOn,
    Close,
    CloseWhen(Switch),
    /// Ends its side and reads on until the client ends the other.
    Linger,
    Reset,
    /// Says nothing more until the client has had enough.
    Silence,
}

impl Reply {
    /// Stores the lines and says so.
    pub fn take() -> Self {
        Self::status(202).storing()
    }

    /// Answers with this status and stores nothing.
    pub fn status(status: u16) -> Self {
        Self::answer(status, "", "")
    }

    /// The same with a header field, such as `Retry-After: 1`.
    pub fn with_field(status: u16, field: &str) -> Self {
        Self::answer(status, &format!("{field}\r\n"), "")
    }

    /// The same with words in the body.
    pub fn saying(status: u16, words: &str) -> Self {
        Self::answer(status, "", words)
    }

    fn answer(status: u16, fields: &str, body: &str) -> Self {
        let length = body.len();
        Self::bytes(format!(
            "HTTP/1.1 {status} Scripted\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
        ))
    }

    /// Whatever this is.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            stores: false,
            bytes: bytes.into(),
            pause: Duration::ZERO,
            then: Then::GoOn,
        }
    }

    /// No answer.
    pub fn nothing() -> Self {
        Self::bytes("")
    }

    /// Stores the lines, whatever the answer says.
    pub fn storing(mut self) -> Self {
        self.stores = true;
        self
    }

    /// Writes byte by byte, with a pause after each.
    pub fn slowly(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// Closes the connection then.
    pub fn then_close(self) -> Self {
        self.then(Then::Close)
    }

    /// Closes the idle connection once the switch is on.
    pub fn then_close_when(self, switch: &Switch) -> Self {
        self.then(Then::CloseWhen(switch.clone()))
    }

    /// Closes it the polite way: what the client still writes is read.
    pub fn then_linger(self) -> Self {
        self.then(Then::Linger)
    }

    /// Resets the connection then.
    pub fn then_reset(self) -> Self {
        self.then(Then::Reset)
    }

    /// Keeps the connection and says nothing more.
    pub fn then_silence(self) -> Self {
        self.then(Then::Silence)
    }

    fn then(mut self, then: Then) -> Self {
        self.then = then;
        self
    }

    fn code(&self) -> u16 {
        let text = String::from_utf8_lossy(&self.bytes);
        let code = text
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3));
        code.and_then(|code| code.parse().ok()).unwrap_or(0)
    }
}

impl Asked {
    /// Whether it bears this key.
    pub fn has_key(&self, key: &str) -> bool {
        self.authorization == format!("Basic {}", STANDARD.encode(format!("{key}:")))
    }
}

impl Scripted {
    /// Answers each request when it is there.
    pub fn start(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::at(&Site::http(), script)
    }

    /// The same, where connections were refused until now.
    pub fn at(site: &Site, script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve(site, |_| false, script)
    }

    /// Answers the first `impatient` requests when it has read their heads.
    pub fn impatient(
        impatient: usize,
        script: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::serve(&Site::http(), move |number| number < impatient, script)
    }

    /// As `sink.url`.
    pub fn url(&self) -> String {
        self.site.url()
    }

    /// Where it is.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// The requests so far.
    pub fn answered(&self) -> Vec<Answered> {
        self.answered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How many requests have come.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// How many requests got this status.
    pub fn count(&self, status: u16) -> usize {
        let answered = self.answered();
        answered
            .iter()
            .filter(|answer| answer.status == status)
            .count()
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.acceptor.connections()
    }

    /// Connections that have ended.
    pub fn ended(&self) -> usize {
        self.acceptor.ended()
    }

    /// Every line that was stored, once the daemon has closed its connections.
    #[track_caller]
    pub fn finish(mut self) -> Vec<String> {
        self.acceptor.wait_until_left();
        assert_eq!(self.fragments(), [""; 0], "bodies without a last newline");
        self.lines()
    }

    fn serve(
        site: &Site,
        is_early: impl Fn(usize) -> bool + Send + Sync + 'static,
        script: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let inbox = Arc::new(Inbox::default());
        let answered = Arc::new(Mutex::new(Vec::new()));
        let requests = Arc::new(AtomicUsize::new(0));
        let asked = Arc::clone(&requests);
        let tls = site.server();
        let acceptor = Acceptor::start(site.port().listen(None), {
            let (inbox, answered) = (Arc::clone(&inbox), Arc::clone(&answered));
            move |stream, _| {
                let desk = Desk {
                    inbox: &inbox,
                    answered: &answered,
                    requests: &requests,
                };
                stream.set_nodelay(true).expect("an open socket");
                let socket = stream.try_clone().expect("a second handle");
                // Either side may break it off at any time.
                let _ = match &tls {
                    None => desk.serve(stream, &socket, &is_early, &script),
                    Some(config) => {
                        let session =
                            ServerConnection::new(Arc::clone(config)).expect("a TLS session");
                        let stream = StreamOwned::new(session, stream);
                        desk.serve(stream, &socket, &is_early, &script)
                    }
                };
                After::Close
            }
        });
        Self {
            inbox,
            acceptor,
            answered,
            asked,
            site: site.clone(),
        }
    }
}

impl Deref for Scripted {
    type Target = Inbox;

    fn deref(&self) -> &Inbox {
        &self.inbox
    }
}

/// What the connections share.
struct Desk<'a> {
    inbox: &'a Inbox,
    answered: &'a Mutex<Vec<Answered>>,
    requests: &'a AtomicUsize,
}

impl Desk<'_> {
    fn serve(
        &self,
        stream: impl Read + Write,
        socket: &TcpStream,
        is_early: &impl Fn(usize) -> bool,
        script: &impl Fn(&Asked) -> Reply,
    ) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        while let Some(request) = Message::read_head(&mut stream)? {
            let field = |name| request.field(name).unwrap_or_default();
            let length: usize = field("content-length").parse().unwrap_or(0);
            let number = self.requests.fetch_add(1, Ordering::SeqCst);
            let mut body = Vec::new();
            if !is_early(number) {
                body.resize(length, 0);
                stream.read_exact(&mut body)?;
            }
            let at = Instant::now();
            let asked = Asked {
                number,
                lines: String::from_utf8_lossy(&body)
                    .lines()
                    .map(str::to_owned)
                    .collect(),
                bytes: length,
                authorization: field("authorization").to_owned(),
            };
            let reply = script(&asked);
            if reply.stores {
                let mut lines = self.inbox.stream();
                lines.feed(&body);
                lines.end();
            }
            self.answered
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(Answered {
                    status: reply.code(),
                    at,
                });
            write(stream.get_mut(), &reply)?;
            match reply.then {
                Then::GoOn => {}
                Then::Close => break,
                Then::CloseWhen(switch) => {
                    switch.wait();
                    break;
                }
                Then::Linger => {
                    socket.shutdown(Shutdown::Write)?;
                    io::copy(&mut stream, &mut io::sink())?;
                    break;
                }
                Then::Reset => {
                    SockRef::from(socket).set_linger(Some(Duration::ZERO))?;
                    break;
                }
                Then::Silence => {
                    io::copy(&mut stream, &mut io::sink())?;
                    break;
                }
            }
        }
        Ok(())
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "no other task shares this thread"
)]
fn write(stream: &mut impl Write, reply: &Reply) -> io::Result<()> {
    if reply.pause.is_zero() {
        return stream.write_all(&reply.bytes);
    }
    for byte in &reply.bytes {
        stream.write_all(&[*byte])?;
        thread::sleep(reply.pause);
    }
    Ok(())
}
