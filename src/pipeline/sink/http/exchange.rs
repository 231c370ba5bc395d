//! One request and what is known of it in the end.
//!
//! In: leases. Out: the upstream's answer; or a failure, with the lines that are
//! in doubt settled as the configuration says. Whether the others are sent again
//! is for the queue.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderMap;
use hyper::{Method, Response};
use tracing::error;

use crate::config::Uncertain;
use crate::deadline::Deadline;
use crate::pipeline::queue::Lease;
use crate::pipeline::sink::Deliver;
use crate::pipeline::sink::wire::is_refusal;
use crate::stats::{Counters, DropReason, FailureKind};

use super::connection::{Connection, Fate};
use super::status_line::ParsedStatus;
use super::{Answer, Failure, HttpSink, MAX_BODY, answer, bytes_of, kind_of, with_sources};

/// How long the body of a success is read, to keep the connection.
const BODY_OF_SUCCESS: Duration = Duration::from_secs(1);

/// A request whose answer is waited for. Dropped before it came, by a reload or
/// at the end of a drain, it is what it would be if its time were over.
struct Pending<'a> {
    connection: &'a Connection,
    /// The offset of the socket at which it may be complete.
    complete_at: u64,
    leases: &'a mut [Lease],
    uncertain: Uncertain,
    counters: &'a Counters,
}

/// A request that got no answer.
struct Unanswered {
    failure: Failure,
    fate: Fate,
}

impl HttpSink {
    /// One request and its answer, on a connection that is made if there is
    /// none. A 2xx settles the lines; what became of those without an answer is
    /// settled here, too.
    pub(super) async fn post(&mut self, leases: &mut [Lease]) -> Result<Answer, Failure> {
        self.connect().await?;
        let mut answer = self.measured(leases).await;
        if let Err(Unanswered {
            fate: Fate::Stale, ..
        }) = answer
        {
            self.connect().await?;
            answer = self.measured(leases).await;
        }
        let unanswered = match answer {
            Ok(answer) => return Ok(answer),
            Err(unanswered) => unanswered,
        };
        if unanswered.fate == Fate::Unknown {
            let failure = &unanswered.failure;
            doubt(leases, failure, self.manner.uncertain, &self.counters);
        }
        Err(unanswered.failure)
    }

    /// One exchange, and what it means for the size of the next request.
    async fn measured(&mut self, leases: &mut [Lease]) -> Result<Answer, Unanswered> {
        let bytes = bytes_of(leases);
        let begun = Instant::now();
        let address = self
            .connection
            .as_ref()
            .map(|connection| connection.address);
        let mut answer = self.exchange(leases).await;
        match (&mut answer, address) {
            (Ok(_), _) => self.dialer.delivered(),
            (Err(unanswered), Some(address)) if unanswered.fate != Fate::Stale => {
                let has_another = self.dialer.broke(address);
                let failure = unanswered.failure.clone();
                unanswered.failure = failure.with_alternative(has_another);
            }
            (Err(_), _) => {}
        }
        match &answer {
            Ok(Answer::Accepted) => self.size.accepted(bytes, begun.elapsed()),
            Ok(Answer::Refused(_) | Answer::TooLarge(_)) => {}
            Err(unanswered) if unanswered.failure.cause().kind == FailureKind::Timeout => {
                self.size.timed_out(bytes);
            }
            Ok(Answer::Failed(_)) | Err(_) => self.size.failed(),
        }
        answer
    }

    async fn exchange(&mut self, leases: &mut [Lease]) -> Result<Answer, Unanswered> {
        let mut deadline = Deadline::after(self.manner.timeout);
        let nothing_sent = |failure| Unanswered {
            failure,
            fate: Fate::Incomplete,
        };
        let request = self
            .target
            .request(Method::POST, leases.iter().map(Lease::bytes))
            .map_err(nothing_sent)?;
        // Taken out: a connection in the middle of an exchange is of no use to
        // anybody else.
        let Some(mut connection) = self.connection.take() else {
            let failure = Failure::unavailable(FailureKind::Closed, "no connection");
            return Err(nothing_sent(failure));
        };
        let start = connection.accepted.load(Relaxed);
        let complete_at = start + bytes_of(leases) as u64;
        if connection.requests > 0 {
            connection.answers.begin();
        }
        let answer = connection.sender.send_request(request);
        let pending = Pending {
            connection: &connection,
            complete_at,
            leases,
            uncertain: self.manner.uncertain,
            counters: &self.counters,
        };
        let answer = deadline.within(answer).await;
        pending.over();
        if connection.accepted.load(Relaxed) > start {
            note_sent(leases);
        }
        let mut was_reset = false;
        let mut was_cut = false;
        let failure = match answer {
            Ok(Ok(response)) => {
                if response.status().is_success() {
                    // At once: the body may take its time, and say nothing.
                    leases.iter_mut().for_each(Lease::settle_rest);
                }
                self.unreadable = 0;
                return Ok(self.finish(connection, response, deadline).await);
            }
            Ok(Err(error)) if !connection.is_confirmed && is_refusal(&error) => {
                // The server has refused our certificate, so it has read no request.
                let failure = Failure::unavailable(FailureKind::Tls, with_sources(&error));
                return Err(nothing_sent(failure));
            }
            Ok(Err(error)) if error.is_canceled() => {
                let fate = connection.stale_or(Fate::Incomplete);
                let failure = match connection.answers.said() {
                    // Something that speaks first, and not HTTP.
                    ParsedStatus::Unreadable if connection.requests == 0 => self.unreadable(),
                    _ => Failure::unavailable(kind_of(&error), with_sources(&error)),
                };
                return Err(Unanswered { failure, fate });
            }
            Ok(Err(error)) => {
                let message = format!("no answer to the request: {}", with_sources(&error));
                was_reset = !error.is_incomplete_message();
                was_cut = !error.is_parse();
                Failure::unavailable(kind_of(&error), message)
            }
            Err(_) => {
                let message = format!("no answer within {:?}", self.manner.timeout);
                Failure::unavailable(FailureKind::Timeout, message)
            }
        };
        let failure = match connection.answers.said() {
            // A cut in the middle of a line may be anywhere; any other end of the
            // fields does not change what the status says.
            ParsedStatus::Status {
                code,
                ends_in_newline,
            } if ends_in_newline || !was_cut => {
                if code.is_success() {
                    leases.iter_mut().for_each(Lease::settle_rest);
                }
                self.unreadable = 0;
                return Ok(answer::read(code, &HeaderMap::new(), b"", &self.target.key));
            }
            ParsedStatus::Unreadable => {
                let failure = self.unreadable();
                if let Failure::Misconfigured(_) = failure {
                    // Held like everything that such an upstream gets.
                    connection.fate(complete_at, was_reset).await;
                    let fate = Fate::Incomplete;
                    return Err(Unanswered { failure, fate });
                }
                failure
            }
            ParsedStatus::Status { .. } | ParsedStatus::Nothing => failure,
        };
        let fate = match connection.fate(complete_at, was_reset).await {
            // Its time is over, on whichever connection.
            Fate::Stale if failure.cause().kind == FailureKind::Timeout => Fate::Incomplete,
            fate => fate,
        };
        Err(Unanswered { failure, fate })
    }

    /// Reads what is of use of an answer's body. The connection is kept if that
    /// was all of it.
    async fn finish(
        &mut self,
        mut connection: Connection,
        response: Response<Incoming>,
        mut deadline: Deadline,
    ) -> Answer {
        let (parts, body) = response.into_parts();
        // What was accepted is settled soon, whatever the body does.
        if parts.status.is_success() {
            deadline = Deadline::after(deadline.left().min(BODY_OF_SUCCESS));
        }
        let body = Limited::new(body, MAX_BODY).collect();
        let body = match deadline.within(body).await {
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

    /// Another answer that is no HTTP. One may be an accident, such as a server
    /// that is being replaced; the next says that this is no HTTP server.
    fn unreadable(&mut self) -> Failure {
        self.unreadable = self.unreadable.saturating_add(1);
        match answer::unreadable() {
            Failure::Misconfigured(cause) if self.unreadable < 2 => Failure::Unavailable(cause),
            failure => failure,
        }
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
        note_sent(self.leases);
        if self.connection.may_be_complete(self.complete_at, false) {
            let failure = "no answer came in time";
            doubt(self.leases, &failure, self.uncertain, self.counters);
        } else {
            self.connection.reset_at_close();
        }
    }
}

fn note_sent(leases: &mut [Lease]) {
    for lease in leases {
        lease.send(0..lease.bytes().len());
    }
}

/// Nobody knows whether the upstream has acted on these lines.
fn doubt(
    leases: &mut [Lease],
    failure: &dyn std::fmt::Display,
    uncertain: Uncertain,
    counters: &Counters,
) {
    let lines: u64 = leases.iter().map(Lease::lines).sum();
    counters.lines_uncertain.fetch_add(lines, Relaxed);
    if uncertain == Uncertain::Drop {
        error!(
            lines,
            error = %failure,
            "the answer to these lines was lost, they are dropped as sink.uncertain says"
        );
        for lease in leases {
            lease.give_up(lease.bytes().len(), DropReason::Uncertain);
        }
    }
}
