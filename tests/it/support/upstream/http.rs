//! An upstream that takes lines over HTTP.

use std::collections::VecDeque;
use std::io::{BufReader, Read, Write};
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::{ServerConnection, StreamOwned};

use super::acceptor::{Acceptor, After};
use super::port::Port;
use super::site::PATH;
use crate::support::KEY;
use crate::support::certs::Certs;
use crate::support::http::Message;
use crate::support::inbox::Inbox;

/// A double that wants the key as Basic user. The lines of a request that it
/// answered with 202 count as arrived.
pub struct HttpUpstream {
    inbox: Arc<Inbox>,
    acceptor: Acceptor,
    state: Arc<Mutex<State>>,
    url: String,
}

/// A request that was read to its end.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub body: String,
    pub answered: u16,
}

#[derive(Default)]
struct State {
    requests: Vec<Request>,
    /// The answers to the next requests, before it is 202 for good.
    script: VecDeque<u16>,
    authorization: String,
}

impl HttpUpstream {
    /// `http://`.
    pub fn plain() -> Self {
        let port = Port::reserve();
        let url = format!("http://{}{PATH}", port.address());
        Self::start(&port, url, |stream, state, inbox| {
            serve(stream, state, inbox);
        })
    }

    /// `https://`, for `localhost`, with a certificate of the authority.
    pub fn tls(certs: &Certs) -> Self {
        let port = Port::reserve();
        let url = format!("https://localhost:{}{PATH}", port.address().port());
        let config = certs.server(&["localhost"]);
        Self::start(&port, url, move |stream, state, inbox| {
            let session = ServerConnection::new(Arc::clone(&config)).expect("a TLS session");
            serve(StreamOwned::new(session, stream), state, inbox);
        })
    }

    /// The answers to the next requests; 202 follows.
    pub fn answer<const N: usize>(&self, codes: [u16; N]) {
        self.state().script.extend(codes);
    }

    /// Takes this key from now on, and no other.
    pub fn take_key(&self, key: &str) {
        self.state().authorization = authorization(key);
    }

    /// As `sink.url`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The host and port that it listens on, as a proxy is asked for it.
    pub fn authority(&self) -> String {
        let after_scheme = self.url.split("://").nth(1).unwrap_or_default();
        after_scheme
            .split('/')
            .next()
            .unwrap_or_default()
            .to_owned()
    }

    /// Everything that was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.acceptor.connections()
    }

    /// Every line that was answered with 202, once the daemon has closed its
    /// connections.
    #[track_caller]
    pub fn finish(mut self) -> Vec<String> {
        self.acceptor.wait_until_left();
        assert_eq!(self.fragments(), [""; 0], "bodies without a last newline");
        self.lines()
    }

    fn start<F>(port: &Port, url: String, serve: F) -> Self
    where
        F: Fn(std::net::TcpStream, &Mutex<State>, &Inbox) + Send + Sync + 'static,
    {
        let inbox = Arc::new(Inbox::default());
        let state = Arc::new(Mutex::new(State {
            authorization: authorization(KEY),
            ..State::default()
        }));
        let acceptor = Acceptor::start(port.listen(None), {
            let (inbox, state) = (Arc::clone(&inbox), Arc::clone(&state));
            move |stream, _| {
                serve(stream, &state, &inbox);
                After::Close
            }
        });
        Self {
            inbox,
            acceptor,
            state,
            url,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Deref for HttpUpstream {
    type Target = Inbox;

    fn deref(&self) -> &Inbox {
        &self.inbox
    }
}

/// Answers the requests of one connection until it ends.
fn serve(stream: impl Read + Write, state: &Mutex<State>, inbox: &Inbox) {
    let mut stream = BufReader::new(stream);
    while let Ok(Some(request)) = Message::read(&mut stream) {
        let code = judge(&request, &mut lock(state));
        lock(state).requests.push(Request {
            method: request.word(0).to_owned(),
            path: request.word(1).to_owned(),
            body: request.text(),
            answered: code,
        });
        if code == 202 {
            let mut lines = inbox.stream();
            lines.feed(&request.body);
            lines.end();
        }
        let answer = format!("HTTP/1.1 {code} Scripted\r\nContent-Length: 0\r\n\r\n");
        if stream.get_mut().write_all(answer.as_bytes()).is_err() {
            break;
        }
    }
}

fn judge(request: &Message, state: &mut State) -> u16 {
    if request.field("authorization") != Some(&state.authorization) {
        401
    } else if request.word(1) != PATH {
        404
    } else if request.word(0) != "POST" {
        405
    } else if request.field("content-length").is_none() {
        411
    } else {
        state.script.pop_front().unwrap_or(202)
    }
}

fn authorization(key: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{key}:")))
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
