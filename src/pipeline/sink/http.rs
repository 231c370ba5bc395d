//! Lines over HTTP: one `POST` of bare lines a lease, the key as the user name
//! of Basic authentication.
//!
//! A 2xx is the one answer of any transport that says that an application has
//! the lines. What other answers mean is in `http/answer.rs`, what is known of a
//! request without one in `http/connection.rs`, how the lines that are refused
//! are found in `triage.rs`.

mod answer;
mod ask;
mod body;
mod connection;
mod target;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Response};
use hyper_util::rt::TokioIo;
use tokio::time::timeout_at;
use tracing::{debug, error};

use crate::config::Uncertain;
use crate::pipeline::queue::Lease;
use crate::stats::{Counters, DropReason, FailureKind, Throttle};

use super::failure::Failure;
use super::jittered_age;
use super::triage::{Next, Suspect, Triage};
use super::wire::Connector;

use connection::{Connection, Fate};

pub use answer::Answer;
pub use ask::{Question, Reply};
pub use target::Target;

/// How much of an answer's body is read. Only errors have one of use.
const MAX_BODY: usize = 4096;

/// How long the body of a success is read, to keep the connection.
const BODY_OF_SUCCESS: Duration = Duration::from_secs(1);

/// Answers with larger headers are no answers.
const MAX_HEADERS: usize = 16 << 10;

/// How long a server's limit on the size of requests is remembered.
const SIZE_REMEMBERED: Duration = Duration::from_secs(600);

/// Refused lines that are named in the log in a minute.
const CULPRITS_NAMED: u32 = 20;

/// How requests are made.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// For a whole exchange.
    pub timeout: Duration,
    /// Then a new connection is made.
    pub max_age: Duration,
    /// What becomes of lines whose answer was lost.
    pub uncertain: Uncertain,
}

/// Posts lines.
#[derive(Debug)]
pub struct HttpSink {
    connector: Connector,
    target: Target,
    manner: Manner,
    counters: Arc<Counters>,
    connection: Option<Connection>,
    /// The largest request that is not too large, and until when that holds.
    size_limit: Option<(usize, Instant)>,
    culprits: Throttle,
}

/// A request whose answer is waited for. Dropped before it came, by a reload or
/// at the end of a drain, it is what it would be if its time were over.
struct Pending<'a> {
    connection: &'a Connection,
    /// The offset of the socket at which it may be complete.
    complete_at: u64,
    lease: &'a mut Lease,
    uncertain: Uncertain,
    counters: &'a Counters,
}

/// A request that got no answer.
struct Unanswered {
    failure: Failure,
    fate: Fate,
}

impl HttpSink {
    /// A sink that connects when the first lines are due.
    pub fn new(
        connector: Connector,
        target: Target,
        manner: Manner,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            connector,
            target,
            manner,
            counters,
            connection: None,
            size_limit: None,
            culprits: Throttle::with_burst(Duration::from_secs(60), CULPRITS_NAMED),
        }
    }

    /// Makes sure of a connection that is likely to work.
    pub async fn connect(&mut self) -> Result<(), Failure> {
        self.connection
            .take_if(|connection| !connection.is_usable());
        if self.connection.is_some() {
            return Ok(());
        }
        let failed = |error: &dyn std::fmt::Display| Failure::unavailable(FailureKind::Io, error);
        let wire = self.connector.connect().await?;
        let socket = wire.socket().try_clone().map_err(|error| failed(&error))?;
        let accepted = wire.socket().accepted_handle();
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEADERS)
            .handshake(TokioIo::new(wire))
            .await
            .map_err(|error| failed(&error))?;
        let driver = tokio::spawn(async move {
            // Its errors reach the request that they concern.
            let _ = connection.await;
        });
        let now = Instant::now();
        self.counters.sink_connects.fetch_add(1, Relaxed);
        self.connection = Some(Connection {
            sender,
            driver,
            socket,
            accepted,
            expires: now + jittered_age(self.manner.max_age),
            last_used: now,
            requests: 0,
        });
        Ok(())
    }

    /// Posts the lines of a lease; a 2xx settles them.
    pub async fn deliver(&mut self, mut lease: Lease) -> Result<(), Failure> {
        let within_limit = self.within_limit(lease.bytes());
        if within_limit < lease.bytes().len() {
            // The rest goes back to its place, and is next.
            lease.split_off(within_limit);
        }
        let (lease, answer) = self.post(lease).await?;
        match answer {
            Answer::Accepted => lease.settle_all(),
            Answer::Refused(words) => self.find_culprits(Triage::new(lease, words)).await?,
            Answer::TooLarge(words) => {
                if let Some(mut lease) = self.too_large(lease, &words) {
                    // Both halves go back, and are tried one by one.
                    let at = self.within_limit(lease.bytes());
                    lease.split_off(at);
                }
            }
            Answer::Failed(failure) => return Err(failure),
        }
        Ok(())
    }

    /// Watches the idle connection. Ends when it has ended; never without one.
    pub async fn ended(&mut self) {
        let Some(connection) = &mut self.connection else {
            return std::future::pending().await;
        };
        // A driver that was cancelled or died has ended as well.
        let _ = (&mut connection.driver).await;
        self.connection = None;
    }

    /// Sends the lines of a refused lease in pieces, until those that the
    /// upstream refuses stand alone.
    async fn find_culprits(&mut self, mut triage: Triage) -> Result<(), Failure> {
        loop {
            match triage.next() {
                Next::Try(piece) => {
                    let (piece, answer) = self.post(piece).await?;
                    match answer {
                        Answer::Accepted => {
                            piece.settle_all();
                            triage.accepted();
                        }
                        Answer::Refused(words) => {
                            let culprit = triage.refused(piece, words);
                            self.give_up(culprit);
                        }
                        Answer::TooLarge(words) => {
                            if let Some(piece) = self.too_large(piece, &words) {
                                triage.halve(piece);
                            }
                        }
                        Answer::Failed(failure) => return Err(failure),
                    }
                }
                Next::Done => return Ok(()),
                Next::RefusesEverything(words) => {
                    return Err(Failure::misconfigured(
                        FailureKind::Status,
                        format!(
                            "the upstream refuses every line ({words}); check sink.url, and what the upstream expects"
                        ),
                    ));
                }
            }
        }
    }

    /// Drops lines that the upstream refuses, by name.
    fn give_up(&self, culprit: Option<Suspect>) {
        if let Some(Suspect { lease, words }) = culprit {
            let line = String::from_utf8_lossy(lease.bytes().trim_ascii_end()).into_owned();
            match self.culprits.allow(Instant::now()) {
                Some(_) => error!(
                    line,
                    answer = words,
                    "the upstream refuses this line, it is dropped"
                ),
                None => self.counters.leave_out_log_line(),
            }
            lease.give_up_all(DropReason::Refused);
        }
    }

    /// Remembers that a request was too large. A single line that is goes; of
    /// several, fewer may pass.
    fn too_large(&mut self, lease: Lease, words: &str) -> Option<Lease> {
        let bytes = lease.bytes().len();
        if lease.lines() < 2 {
            error!(
                bytes,
                answer = words,
                "a line is too large for the upstream, it is dropped"
            );
            lease.give_up_all(DropReason::TooLarge);
            return None;
        }
        debug!(bytes, answer = words, "a request was too large");
        self.size_limit = Some((bytes / 2, Instant::now() + SIZE_REMEMBERED));
        Some(lease)
    }

    /// How many bytes of these lines, whole lines and one at least, a request
    /// may hold.
    fn within_limit(&self, lines: &[u8]) -> usize {
        let limit = match self.size_limit {
            Some((limit, until)) if Instant::now() < until => limit,
            _ => return lines.len(),
        };
        if lines.len() <= limit {
            return lines.len();
        }
        memchr::memrchr(b'\n', &lines[..limit])
            .or_else(|| memchr::memchr(b'\n', lines))
            .map_or(lines.len(), |newline| newline + 1)
    }

    /// One request and its answer, on a connection that is made if there is
    /// none. What became of lines without an answer is settled here.
    async fn post(&mut self, mut lease: Lease) -> Result<(Lease, Answer), Failure> {
        self.connect().await?;
        let mut answer = self.exchange(&mut lease).await;
        if let Err(Unanswered {
            fate: Fate::Stale, ..
        }) = answer
        {
            self.connect().await?;
            answer = self.exchange(&mut lease).await;
        }
        let unanswered = match answer {
            Ok(answer) => return Ok((lease, answer)),
            Err(unanswered) => unanswered,
        };
        if unanswered.fate == Fate::Unknown {
            let failure = &unanswered.failure;
            doubt(&mut lease, failure, self.manner.uncertain, &self.counters);
        }
        Err(unanswered.failure)
    }

    async fn exchange(&mut self, lease: &mut Lease) -> Result<Answer, Unanswered> {
        let deadline = tokio::time::Instant::now() + self.manner.timeout;
        let nothing_sent = |failure| Unanswered {
            failure,
            fate: Fate::Incomplete,
        };
        let request = self
            .target
            .request(Method::POST, lease.bytes())
            .map_err(nothing_sent)?;
        // Taken out: a connection in the middle of an exchange is of no use to
        // anybody else.
        let Some(mut connection) = self.connection.take() else {
            let failure = Failure::unavailable(FailureKind::Closed, "no connection");
            return Err(nothing_sent(failure));
        };
        let length = lease.bytes().len();
        lease.send(0..length);
        let complete_at = connection.accepted.load(Relaxed) + length as u64;
        let answer = connection.sender.send_request(request);
        let pending = Pending {
            connection: &connection,
            complete_at,
            lease,
            uncertain: self.manner.uncertain,
            counters: &self.counters,
        };
        let answer = timeout_at(deadline, answer).await;
        pending.over();
        let mut was_reset = false;
        let failure = match answer {
            Ok(Ok(response)) => return Ok(self.finish(connection, response, deadline).await),
            Ok(Err(error)) if error.is_canceled() => {
                let fate = connection.stale_or(Fate::Incomplete);
                let failure = Failure::unavailable(FailureKind::Closed, with_sources(&error));
                return Err(Unanswered { failure, fate });
            }
            Ok(Err(error)) => {
                let kind = if error.is_parse() {
                    FailureKind::Status
                } else {
                    FailureKind::Closed
                };
                let message = format!("no answer to the request: {}", with_sources(&error));
                was_reset = !error.is_incomplete_message();
                Failure::unavailable(kind, message)
            }
            Err(_) => {
                let message = format!("no answer within {:?}", self.manner.timeout);
                Failure::unavailable(FailureKind::Timeout, message)
            }
        };
        let fate = connection.fate(complete_at, was_reset).await;
        Err(Unanswered { failure, fate })
    }

    /// Reads what is of use of an answer's body. The connection is kept if that
    /// was all of it.
    async fn finish(
        &mut self,
        mut connection: Connection,
        response: Response<Incoming>,
        deadline: tokio::time::Instant,
    ) -> Answer {
        let (parts, body) = response.into_parts();
        // What was accepted is settled soon, whatever the body does.
        let soon = tokio::time::Instant::now() + BODY_OF_SUCCESS;
        let deadline = if parts.status.is_success() {
            deadline.min(soon)
        } else {
            deadline
        };
        let body = Limited::new(body, MAX_BODY).collect();
        let body = match timeout_at(deadline, body).await {
            Ok(Ok(body)) => {
                connection.requests += 1;
                connection.last_used = Instant::now();
                self.connection = Some(connection);
                body.to_bytes()
            }
            // Too long, too slow or cut: the headers have said all the same.
            _ => Bytes::new(),
        };
        answer::read(parts.status, &parts.headers, &body, &self.target.key)
    }
}

impl Pending<'_> {
    /// There is an answer, or a failure.
    fn over(self) {
        std::mem::forget(self);
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if self.connection.may_be_complete(self.complete_at, false) {
            let failure = "the answer was not waited for any longer";
            doubt(self.lease, &failure, self.uncertain, self.counters);
        } else {
            self.connection.reset_at_close();
        }
    }
}

/// Nobody knows whether the upstream has acted on these lines.
fn doubt(
    lease: &mut Lease,
    failure: &dyn std::fmt::Display,
    uncertain: Uncertain,
    counters: &Counters,
) {
    let lines = lease.lines();
    counters.lines_uncertain.fetch_add(lines, Relaxed);
    if uncertain == Uncertain::Drop {
        error!(
            lines,
            error = %failure,
            "the answer to these lines was lost, they are dropped as sink.uncertain says"
        );
        lease.give_up(lease.bytes().len(), DropReason::Uncertain);
    }
}

fn with_sources(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text += &format!(": {inner}");
        source = inner.source();
    }
    text
}
