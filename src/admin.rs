//! The admin endpoint: metrics and health, for machines.
//!
//! It has a thread and a runtime of its own, so that it answers when the
//! pipeline is busy, can tell when it is stuck, and cannot hold it up. It only
//! reads, takes GET and HEAD, and bounds everything that a client could make
//! large: connections, headers, time.

mod metrics;
pub mod status;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tracing::{debug, info, warn};
use tracing_appender::non_blocking::ErrorCounter;

use crate::config::ListenAddress;
use crate::os;
use crate::pipeline::queue::Queue;
use crate::stats::Counters;

use status::Status;

/// Scrapers and people are few. Past so many on a socket the oldest gives way,
/// so that visitors who say nothing keep nobody waiting.
const MAX_CONNECTIONS: usize = 32;

/// A request is one line and some headers.
const MAX_HEADER_BYTES: usize = 8192;

/// To send a request's headers, and the life of a whole connection: silent
/// clients must not hold the few places.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// A pipeline that does not answer for so long does not move.
const PULSE_TIMEOUT: Duration = Duration::from_secs(5);

/// After an error of accept(2) that would repeat at once.
const REST: Duration = Duration::from_millis(100);

/// What the admin endpoint looks at: a handle.
#[derive(Debug, Clone)]
pub struct Watched {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: Queue,
    counters: Arc<Counters>,
    started: Instant,
    log_lines_dropped: ErrorCounter,
    draining: AtomicBool,
    pulse: mpsc::Sender<oneshot::Sender<()>>,
}

/// A running admin endpoint, if the settings want one.
#[derive(Debug)]
pub struct Admin {
    watched: Watched,
    server: Option<Server>,
}

#[derive(Debug)]
struct Server {
    /// Dropped: the server stops.
    _stop: watch::Sender<()>,
    /// Resolves when its thread has ended.
    ended: oneshot::Receiver<()>,
}

impl Watched {
    /// Looks at a pipeline. Call it from the pipeline's runtime, whose pulse
    /// it will feel.
    pub fn new(queue: Queue, counters: Arc<Counters>, log_lines_dropped: ErrorCounter) -> Self {
        let (pulse, mut asked) = mpsc::channel::<oneshot::Sender<()>>(MAX_CONNECTIONS);
        tokio::spawn(async move {
            while let Some(answer) = asked.recv().await {
                // Whoever asked may have gone.
                let _ = answer.send(());
            }
        });
        Self {
            shared: Arc::new(Shared {
                queue,
                counters,
                started: Instant::now(),
                log_lines_dropped,
                draining: AtomicBool::new(false),
                pulse,
            }),
        }
    }

    /// From now on the daemon is not ready.
    pub fn drain_begins(&self) {
        self.shared.draining.store(true, Relaxed);
    }

    fn is_draining(&self) -> bool {
        self.shared.draining.load(Relaxed)
    }

    /// Whether the pipeline's runtime gets round to answering.
    async fn moves(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        let ask = async { self.shared.pulse.send(answer).await.is_ok() && answered.await.is_ok() };
        tokio::time::timeout(PULSE_TIMEOUT, ask)
            .await
            .unwrap_or(false)
    }
}

impl Admin {
    /// Serves at an address, or nowhere.
    pub fn start(address: Option<&ListenAddress>, watched: Watched) -> io::Result<Self> {
        let server = address
            .map(|at| Server::start(at, watched.clone()))
            .transpose()?;
        Ok(Self { watched, server })
    }

    /// Serves nowhere.
    pub fn off(watched: Watched) -> Self {
        Self {
            watched,
            server: None,
        }
    }

    /// Serves at another address. On an error the old one stays.
    pub fn rebind(&mut self, address: Option<&ListenAddress>) -> io::Result<()> {
        self.server = address
            .map(|at| Server::start(at, self.watched.clone()))
            .transpose()?;
        Ok(())
    }

    /// What it looks at.
    pub fn watched(&self) -> &Watched {
        &self.watched
    }

    /// Ends when its thread died, which it does not by itself.
    pub async fn failed(&mut self) -> String {
        match &mut self.server {
            None => std::future::pending().await,
            Some(server) => {
                let _ = (&mut server.ended).await;
                "the admin endpoint died".to_owned()
            }
        }
    }
}

impl Server {
    fn start(address: &ListenAddress, watched: Watched) -> io::Result<Self> {
        let listeners = bind(address)?;
        let (stop, stopping) = watch::channel(());
        let (alive, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        thread::Builder::new().name("admin".into()).spawn(move || {
            // Dropped at the end of the thread, however it comes.
            let _alive = alive;
            runtime.block_on(serve(listeners, watched, stopping));
        })?;
        Ok(Self { _stop: stop, ended })
    }
}

fn bind(address: &ListenAddress) -> io::Result<Vec<StdListener>> {
    let mut listeners: Vec<StdListener> = Vec::new();
    let mut missing = None;
    for at in &address.addresses {
        let mut at = *at;
        if let (0, Some(first)) = (at.port(), listeners.first()) {
            at.set_port(first.local_addr()?.port());
        }
        match StdListener::bind(at) {
            Ok(listener) => {
                listener.set_nonblocking(true)?;
                listeners.push(listener);
            }
            // One family of localhost is enough.
            Err(error) if os::is_missing_family(&error) => missing = Some((at, error)),
            Err(error) => return Err(describe(at, &error)),
        }
    }
    match missing {
        Some((at, error)) if listeners.is_empty() => return Err(describe(at, &error)),
        Some((at, error)) => {
            warn!(listener = %format_args!("admin:{}", address.text), address = %at, %error, "this host lacks the address; going on without it");
        }
        None => {}
    }
    for listener in &listeners {
        let local = listener.local_addr()?;
        info!(listener = %format_args!("admin:{}", address.text), address = %local, "listening");
    }
    Ok(listeners)
}

fn describe(address: SocketAddr, error: &io::Error) -> io::Error {
    let holder = (error.kind() == io::ErrorKind::AddrInUse)
        .then(|| os::port_owner(false, address))
        .flatten()
        .map_or_else(String::new, |holder| format!(" by {holder}"));
    io::Error::new(error.kind(), format!("{address}: {error}{holder}"))
}

async fn serve(listeners: Vec<StdListener>, watched: Watched, mut stopping: watch::Receiver<()>) {
    let mut tasks = JoinSet::new();
    for listener in listeners {
        match TcpListener::from_std(listener) {
            Ok(listener) => {
                tasks.spawn(accept(listener, watched.clone()));
            }
            Err(error) => warn!(%error, "an admin socket cannot be used"),
        }
    }
    tokio::select! {
        // The sender is dropped when the daemon wants this to end.
        _ = stopping.changed() => {}
        // None ends by itself: the thread ends, and the daemon notices.
        _ = tasks.join_next() => {}
    }
}

async fn accept(listener: TcpListener, watched: Watched) {
    // Ended with this task.
    let mut connections = JoinSet::new();
    let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(%error, "an admin connection was not accepted");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        while let Some(ended) = connections.try_join_next() {
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
        oldest_first.retain(|connection| !connection.is_finished());
        if oldest_first.len() >= MAX_CONNECTIONS
            && let Some(oldest) = oldest_first.pop_front()
        {
            oldest.abort();
        }
        let talk = tokio::time::timeout(CONNECTION_TIMEOUT, converse(stream, watched.clone()));
        oldest_first.push_back(connections.spawn(talk));
    }
}

async fn converse(stream: TcpStream, watched: Watched) {
    let service = service_fn(move |request| {
        let watched = watched.clone();
        async move { Ok::<_, Infallible>(answer(&request, &watched).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        debug!(%error, "an admin connection broke");
    }
}

async fn answer(request: &Request<Incoming>, watched: &Watched) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        refusal
            .headers_mut()
            .insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    match request.uri().path() {
        "/metrics" => {
            let Shared {
                queue,
                counters,
                log_lines_dropped,
                ..
            } = &*watched.shared;
            let dropped = log_lines_dropped.dropped_lines() as u64;
            let page = metrics::render(&queue.snapshot(), counters, dropped);
            text(StatusCode::OK, page)
        }
        "/api/status" => {
            let Shared {
                queue,
                counters,
                started,
                ..
            } = &*watched.shared;
            json(&Status::of(
                &queue.snapshot(),
                counters,
                started.elapsed(),
                watched.is_draining(),
            ))
        }
        "/healthz" if watched.moves().await => text(StatusCode::OK, "ok\n"),
        "/healthz" => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "the pipeline does not move\n",
        ),
        // The upstream and the queue are no part of it: a pod must not leave
        // its service because its metrics cannot.
        "/readyz" if watched.is_draining() => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        "/readyz" => text(StatusCode::OK, "ok\n"),
        _ => text(
            StatusCode::NOT_FOUND,
            "not here; there are /metrics, /api/status, /healthz and /readyz\n",
        ),
    }
}

fn json(content: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec_pretty(content) {
        Ok(body) => page(StatusCode::OK, "application/json", body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    page(status, "text/plain; version=0.0.4; charset=utf-8", body)
}

fn page(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        hyper::header::HeaderValue::from_static(content_type),
    );
    headers.insert(
        CACHE_CONTROL,
        hyper::header::HeaderValue::from_static("no-store"),
    );
    response
}
