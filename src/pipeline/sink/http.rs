//! Lines over HTTP: one `POST` of bare lines a lease, the key as the user name
//! of Basic authentication.
//!
//! One of the two places where the key is exposed. A 2xx is the one answer of
//! any transport that says that an application has the lines.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, LOCATION, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use crate::config::{ApiKey, Endpoint};
use crate::pipeline::queue::Lease;
use crate::stats::{Counters, FailureKind};

use super::failure::{Cause, Failure};
use super::jittered_age;
use super::wire::Connector;

/// Common servers close idle connections after a minute; ours go first, so
/// that no request meets one that is just being closed.
const MAX_IDLE: Duration = Duration::from_secs(50);

/// How much of an error's body is read, and how much of it logged.
const MAX_BODY: usize = 4096;
const BODY_LOGGED: usize = 200;

/// Answers with larger headers are no answers.
const MAX_HEADERS: usize = 16 << 10;

/// Where requests go, and with which headers.
pub struct Target {
    host: HeaderValue,
    path: String,
    authorization: Option<HeaderValue>,
    key: ApiKey,
}

/// Posts lines.
#[derive(Debug)]
pub struct HttpSink {
    connector: Connector,
    target: Target,
    request_timeout: Duration,
    max_age: Duration,
    counters: Arc<Counters>,
    connection: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Moves the bytes of the connection.
    driver: JoinHandle<()>,
    expires: Instant,
    last_used: Instant,
    requests: u64,
}

/// A request that got no answer, and whether the connection had worked before.
struct Unanswered {
    failure: Failure,
    is_stale: bool,
}

impl Target {
    /// Requests to a path of a host, with a key as the user.
    pub fn new(secure: bool, endpoint: &Endpoint, path: &str, key: &ApiKey) -> Self {
        let default_port = if secure { 443 } else { 80 };
        let host = if endpoint.port == default_port {
            let shown = endpoint.to_string();
            shown
                .rsplit_once(':')
                .map_or(shown.clone(), |(host, _)| host.to_owned())
        } else {
            endpoint.to_string()
        };
        Self {
            host: HeaderValue::from_str(&host).unwrap_or(HeaderValue::from_static("")),
            path: path.to_owned(),
            authorization: authorization(key),
            key: key.clone(),
        }
    }

    fn request(&self, lines: &[u8]) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::post(&self.path)
            .header(HOST, &self.host)
            .header(
                USER_AGENT,
                concat!("sidecarbon/", env!("CARGO_PKG_VERSION")),
            )
            .header(CONTENT_TYPE, "text/plain; charset=utf-8");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        request
            .body(Full::new(Bytes::copy_from_slice(lines)))
            .map_err(|error| {
                Failure::misconfigured(
                    FailureKind::Status,
                    format!("sink.url cannot be requested: {error}"),
                )
            })
    }
}

/// `Basic base64(KEY:)`, with an empty password (FACTS.md).
fn authorization(key: &ApiKey) -> Option<HeaderValue> {
    if key.is_empty() {
        return None;
    }
    let mut user = Zeroizing::new(Vec::with_capacity(key.len() + 1));
    user.extend_from_slice(key.expose());
    user.push(b':');
    let encoded = Zeroizing::new(BASE64_STANDARD.encode(&*user));
    let value = Zeroizing::new(format!("Basic {}", *encoded));
    let mut value = HeaderValue::from_str(&value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl HttpSink {
    /// A sink that connects when the first lines are due.
    pub fn new(
        connector: Connector,
        target: Target,
        request_timeout: Duration,
        max_age: Duration,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            connector,
            target,
            request_timeout,
            max_age,
            counters,
            connection: None,
        }
    }

    /// Makes sure of a connection that is likely to work.
    pub async fn connect(&mut self) -> Result<(), Failure> {
        self.connection
            .take_if(|connection| !connection.is_usable());
        if self.connection.is_none() {
            let wire = self.connector.connect().await?;
            let (sender, connection) = http1::Builder::new()
                .max_buf_size(MAX_HEADERS)
                .handshake(TokioIo::new(wire))
                .await
                .map_err(|error| Failure::unavailable(FailureKind::Closed, error))?;
            let driver = tokio::spawn(async move {
                // Its errors reach the request that they concern.
                let _ = connection.await;
            });
            let now = Instant::now();
            self.counters.sink_connects.fetch_add(1, Relaxed);
            self.connection = Some(Connection {
                sender,
                driver,
                expires: now + jittered_age(self.max_age),
                last_used: now,
                requests: 0,
            });
        }
        Ok(())
    }

    /// Posts the lines of a lease; a 2xx settles them.
    pub async fn deliver(&mut self, mut lease: Lease) -> Result<(), Failure> {
        let deadline = tokio::time::Instant::now() + self.request_timeout;
        let bytes = lease.bytes().len();
        lease.send(0..bytes);
        let mut answer = self.exchange(lease.bytes(), deadline).await;
        if let Err(Unanswered { is_stale: true, .. }) = answer {
            // The server closed a kept connection as we used it.
            self.connect().await?;
            lease.send(0..bytes);
            answer = self.exchange(lease.bytes(), deadline).await;
        }
        let response = answer.map_err(|unanswered| unanswered.failure)?;
        if response.status().is_success() {
            lease.settle_all();
            self.reuse_after(response, deadline).await;
            return Ok(());
        }
        Err(self.explain(response, deadline).await)
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

    async fn exchange(
        &mut self,
        lines: &[u8],
        deadline: tokio::time::Instant,
    ) -> Result<Response<Incoming>, Unanswered> {
        let unanswered = |failure, is_stale| Unanswered { failure, is_stale };
        let request = self
            .target
            .request(lines)
            .map_err(|failure| unanswered(failure, false))?;
        // Taken out: a connection in the middle of an exchange is of no use to
        // anybody else.
        let Some(mut connection) = self.connection.take() else {
            let failure = Failure::unavailable(FailureKind::Closed, "no connection");
            return Err(unanswered(failure, false));
        };
        let was_used = connection.requests > 0;
        let sent = connection.sender.send_request(request);
        match tokio::time::timeout_at(deadline, sent).await {
            Ok(Ok(response)) => {
                connection.requests += 1;
                connection.last_used = Instant::now();
                self.connection = Some(connection);
                Ok(response)
            }
            Ok(Err(error)) => {
                let is_stale = was_used && (error.is_canceled() || error.is_incomplete_message());
                let kind = if error.is_parse() {
                    FailureKind::Status
                } else {
                    FailureKind::Closed
                };
                let message = format!("no answer to the request: {}", with_sources(&error));
                Err(unanswered(Failure::unavailable(kind, message), is_stale))
            }
            Err(_) => {
                let message = format!("no answer within {:?}", self.request_timeout);
                let failure = Failure::unavailable(FailureKind::Timeout, message);
                Err(unanswered(failure, false))
            }
        }
    }

    /// Keeps the connection if the rest of the answer is short.
    async fn reuse_after(&mut self, response: Response<Incoming>, deadline: tokio::time::Instant) {
        if read_body(response, deadline).await.is_none() {
            self.connection = None;
        }
    }

    async fn explain(
        &mut self,
        response: Response<Incoming>,
        deadline: tokio::time::Instant,
    ) -> Failure {
        let status = response.status();
        let location = response.headers().get(LOCATION).cloned();
        let body = read_body(response, deadline).await;
        if body.is_none() {
            self.connection = None;
        }
        let said = self.quote(&body.unwrap_or_default());
        let cause = |kind, message| Cause { kind, message };
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Failure::Unauthorized(cause(
                FailureKind::Unauthorized,
                format!("the upstream refuses the API key ({status}{said}); correct it and reload"),
            )),
            StatusCode::BAD_REQUEST
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNPROCESSABLE_ENTITY => Failure::Refused(cause(
                FailureKind::Status,
                format!("the upstream refuses the lines ({status}{said})"),
            )),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
                Failure::unavailable(
                    FailureKind::Status,
                    format!("the upstream asks to wait ({status}{said})"),
                )
            }
            status if status.is_redirection() => {
                let to = location
                    .as_ref()
                    .and_then(|location| location.to_str().ok())
                    .map_or_else(String::new, |to| {
                        format!(" to {}", self.quote(to.as_bytes()))
                    });
                Failure::misconfigured(
                    FailureKind::Status,
                    format!(
                        "the upstream redirects{to} ({status}); the key is not sent there, write the right sink.url"
                    ),
                )
            }
            status if status.is_client_error() => Failure::misconfigured(
                FailureKind::Status,
                format!(
                    "the upstream does not take lines here ({status}{said}); check the path in sink.url"
                ),
            ),
            status => Failure::unavailable(
                FailureKind::Status,
                format!("the upstream answered {status}{said}"),
            ),
        }
    }

    /// Words of the server for the log: short, escaped, without the key.
    fn quote(&self, words: &[u8]) -> String {
        let mut words = words.to_vec();
        self.target.key.mask(&mut words);
        let words = String::from_utf8_lossy(&words);
        let words: String = words.trim().chars().take(BODY_LOGGED).collect();
        if words.is_empty() {
            String::new()
        } else {
            format!(": {}", words.escape_debug())
        }
    }
}

/// The body of an answer, as far as it is of use. `None` when it is too long,
/// too slow or cut: the connection cannot be used again.
async fn read_body(response: Response<Incoming>, deadline: tokio::time::Instant) -> Option<Bytes> {
    let body = Limited::new(response.into_body(), MAX_BODY).collect();
    let collected = tokio::time::timeout_at(deadline, body).await.ok()?;
    Some(collected.ok()?.to_bytes())
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

impl Connection {
    fn is_usable(&self) -> bool {
        let now = Instant::now();
        !self.sender.is_closed() && now < self.expires && now < self.last_used + MAX_IDLE
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
