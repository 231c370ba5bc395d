//! Lines over HTTP: a `POST` of bare lines, the key as the user name of Basic
//! authentication.
//!
//! A 2xx is the one answer of any transport that says that an application has
//! the lines. How one is asked for is in `http/exchange.rs`, what others mean in
//! `http/answer.rs`, what is known of a request without one in
//! `http/connection.rs`, how much goes at once in `http/size.rs`, how the lines
//! that are refused are found in `bisection.rs`.

mod answer;
mod ask;
mod body;
mod connection;
mod exchange;
mod size;
mod status_line;
mod target;

use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, error};

use crate::config::Uncertain;
use crate::pipeline::queue::Lease;
use crate::stats::{Counters, DropReason, FailureKind, Throttle};

use super::bisect::{Bisection, Candidate, Next};
use super::connect::{Connector, Dialer, Reached};
use super::failure::Failure;
use super::tls::{self, describe};
use super::{Deliver, RENEWAL_PAUSE, SinkEvent, jittered_age};

use connection::Connection;
use size::RequestSize;

pub use answer::Answer;
pub use ask::{Question, Reply};
pub use target::Target;

/// How much of an answer's body is read. Only errors have one of use.
const MAX_BODY: usize = 4096;

/// Refused lines that are named in the log in a minute.
const REJECTED_LINES_LOGGED: u32 = 20;

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
    dialer: Dialer,
    target: Target,
    manner: Manner,
    counters: Arc<Counters>,
    connection: Option<Connection>,
    /// Answers in a row that are no HTTP.
    unreadable: u32,
    size: RequestSize,
    rejected_lines: Throttle,
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
            dialer: Dialer::new(connector, counters.clone()),
            target,
            manner,
            counters,
            connection: None,
            unreadable: 0,
            size: RequestSize::within(manner.timeout),
            rejected_lines: Throttle::with_burst(Duration::from_secs(60), REJECTED_LINES_LOGGED),
        }
    }

    async fn use_connection(&mut self, reached: Reached) -> Result<(), Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::unavailable(FailureKind::Io, error);
        let Reached { wire, address, .. } = reached;
        let is_confirmed = wire.is_confirmed();
        let socket = wire.socket().try_clone().map_err(|error| failed(&error))?;
        let accepted = wire.socket().accepted_handle();
        let (sender, connection, answers) = connection::handshake(wire)
            .await
            .map_err(|error| failed(&error))?;
        let driver = tokio::spawn(async move {
            // Its errors reach the request that they concern.
            let _ = connection.await;
        });
        let now = Instant::now();
        self.connection = Some(Connection {
            sender,
            driver,
            socket,
            accepted,
            address,
            is_confirmed,
            answers,
            expires: now + jittered_age(self.manner.max_age),
            last_used: now,
            requests: 0,
        });
        Ok(())
    }

    /// A lease and those after it, as many as a request may hold. What was refused
    /// with others has come back in pieces, which go together again.
    fn gather(&self, first: Lease) -> Vec<Lease> {
        let most = self.size.to_fill(first.block_bytes(), Instant::now());
        let mut bytes = first.bytes().len();
        let mut leases = vec![first];
        while bytes < most
            && let Some(next) = leases[0].another()
        {
            bytes += next.bytes().len();
            if bytes > most {
                // It goes back to its place, and is next.
                break;
            }
            leases.push(next);
        }
        leases
    }

    /// Sends the lines of a refused lease in pieces, until those that the
    /// upstream refuses stand alone.
    async fn bisect(&mut self, mut bisection: Bisection) -> Result<(), Failure> {
        loop {
            match bisection.next() {
                Next::Try(mut piece) => match self.post(slice::from_mut(&mut piece)).await? {
                    Answer::Accepted => bisection.accepted(),
                    Answer::Refused(words) => {
                        let rejected_line = bisection.refused(piece, words);
                        self.give_up(rejected_line);
                    }
                    Answer::TooLarge(words) => {
                        let pieces = self.too_large(vec![piece], &words);
                        for piece in pieces {
                            bisection.halve(piece);
                        }
                    }
                    Answer::Failed(failure) => return Err(failure),
                },
                Next::Done => return Ok(()),
                // The next line may tell, and should not wait for long.
                Next::NobodyElse(words) => {
                    return Err(Failure::unavailable(
                        FailureKind::Status,
                        format!(
                            "the upstream refuses all lines that wait ({words}); they are held until it takes another, check sink.url if it takes none"
                        ),
                    ));
                }
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
    fn give_up(&self, rejected_line: Option<Candidate>) {
        if let Some(Candidate { lease, words }) = rejected_line {
            let line = String::from_utf8_lossy(lease.bytes().trim_ascii_end()).into_owned();
            match self.rejected_lines.allow(Instant::now()) {
                Some(_) => error!(
                    line,
                    answer = words,
                    "the upstream refuses this line, it is dropped"
                ),
                None => self.counters.suppress_log_line(),
            }
            lease.give_up_all(DropReason::Refused);
        }
    }

    /// Remembers that a request was too large. A single line that is goes; of
    /// several, fewer may pass.
    fn too_large(&mut self, leases: Vec<Lease>, words: &str) -> Vec<Lease> {
        let bytes = bytes_of(&leases);
        let lines: u64 = leases.iter().map(Lease::lines).sum();
        if lines < 2 {
            error!(
                bytes,
                answer = words,
                "a line is too large for the upstream, it is dropped"
            );
            for lease in leases {
                lease.give_up_all(DropReason::TooLarge);
            }
            return Vec::new();
        }
        debug!(bytes, answer = words, "a request was too large");
        self.size.too_large(bytes, Instant::now());
        leases
    }
}

impl Deliver for HttpSink {
    async fn connect(&mut self) -> Result<(), Failure> {
        if let Some(connection) = &self.connection
            && !connection.is_usable().await
        {
            self.connection = None;
        }
        let reached = match &mut self.connection {
            None => self.dialer.connect().await?,
            Some(connection) if connection.is_expired() => {
                // What works is not closed before there is another.
                let Some(renewed) = self.dialer.finished() else {
                    self.dialer.begin();
                    return Ok(());
                };
                let mut renewed = renewed.ok();
                if let Some(reached) = &mut renewed
                    && !reached.wire.is_open().await
                {
                    renewed = None;
                }
                let Some(reached) = renewed else {
                    debug!("the connection is not renewed, it goes on");
                    connection.expires = Instant::now() + RENEWAL_PAUSE;
                    return Ok(());
                };
                reached
            }
            Some(_) => return Ok(()),
        };
        self.use_connection(reached).await
    }

    async fn deliver(&mut self, mut lease: Lease) -> Result<(), Failure> {
        let most = whole_lines(lease.bytes(), self.size.to_cut(Instant::now()));
        if most < lease.bytes().len() {
            // The rest goes back to its place, and is next.
            lease.split_off(most);
        }
        let mut leases = self.gather(lease);
        match self.post(&mut leases).await? {
            Answer::Accepted => {}
            Answer::Refused(words) => self.bisect(Bisection::new(leases, words)).await?,
            // They go back, and come with fewer others.
            Answer::TooLarge(words) => drop(self.too_large(leases, &words)),
            Answer::Failed(failure) => return Err(failure),
        }
        Ok(())
    }

    async fn poll_acks(&mut self) -> Result<SinkEvent, Failure> {
        let Some(connection) = &mut self.connection else {
            return std::future::pending().await;
        };
        // A driver that was cancelled or died has ended as well.
        let _ = (&mut connection.driver).await;
        self.connection = None;
        Ok(SinkEvent::Ended)
    }

    fn client_certificate_expiry(&self) -> Option<Duration> {
        self.dialer.client_certificate_expiry()
    }
}

/// How many bytes whole lines take of `most`: those of one line at least.
fn whole_lines(lines: &[u8], most: usize) -> usize {
    if lines.len() <= most {
        return lines.len();
    }
    memchr::memrchr(b'\n', &lines[..most])
        .or_else(|| memchr::memchr(b'\n', lines))
        .map_or(lines.len(), |newline| newline + 1)
}

fn bytes_of(leases: &[Lease]) -> usize {
    leases.iter().map(|lease| lease.bytes().len()).sum()
}

/// What kind of failure an error of hyper is.
fn kind_of(error: &hyper::Error) -> FailureKind {
    let inner = std::error::Error::source(error);
    if error.is_parse() {
        FailureKind::Status
    } else if inner.and_then(tls::error_in).is_some() {
        // Such as a client certificate that is refused after the handshake.
        FailureKind::Tls
    } else {
        FailureKind::Closed
    }
}

fn with_sources(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        let tls = tls::error_in(inner);
        text += &tls.map_or_else(
            || format!(": {inner}"),
            |tls| format!(": {}", describe(tls)),
        );
        source = inner.source();
    }
    text
}
