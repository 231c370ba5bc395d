//! Clients of the admin endpoint: few at a time, none for long, and bounded in
//! everything that they could make large.
//!
//! In: listening sockets. Out: one question to `answer.rs` a request. Whoever
//! says nothing is the first to give way when the places run out, so that a
//! scraper finds one whatever others do.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustix::io::Errno;
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;
use tracing::{debug, warn};

use crate::deadline::timeout;
use crate::panics;

use super::Watched;
use super::answer::answer;
use super::host_check::Exposure;

/// Scrapers and people are few. Past this number of on a socket one gives way.
pub const MAX_CONNECTIONS: usize = 32;

/// A request is one line and some headers.
const MAX_HEADER_BYTES: usize = 8192;

/// To send a request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// The life of a connection; then it is closed after the answer that it waits
/// for.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// To take that last answer.
const LAST_ANSWER: Duration = Duration::from_secs(10);

/// After a reload has moved the endpoint, to answer those who came before.
const LAST_VISITS: Duration = Duration::from_secs(10);

/// After that, a client that has connected is about to send its request.
const LAST_REQUEST: Duration = Duration::from_millis(250);

/// After an error of accept(2) that would repeat at once.
const REST: Duration = Duration::from_millis(100);

/// Serves until told to stop.
pub async fn serve(
    listeners: Vec<StdListener>,
    watched: Watched,
    mut stopping: watch::Receiver<()>,
) {
    let mut tasks = JoinSet::new();
    for listener in listeners {
        match TcpListener::from_std(listener) {
            Ok(listener) => {
                tasks.spawn(accept(listener, watched.clone(), stopping.clone()));
            }
            Err(error) => warn!(%error, "an admin socket cannot be used"),
        }
    }
    select! {
        // At a stop, one task ends before the others.
        biased;
        // The sender is dropped when the daemon wants this to end.
        _ = stopping.changed() => {
            let _ = timeout(LAST_VISITS, tasks.join_all()).await;
        }
        // None ends by itself: the thread ends, and the daemon log.
        _ = tasks.join_next() => {}
    }
}

async fn accept(listener: TcpListener, watched: Watched, mut stopping: watch::Receiver<()>) {
    let reach = listener.local_addr().map_or(Exposure::Host, Exposure::of);
    let mut places = Slots::default();
    let mut taken_in_a_row = 0;
    // Ended with this task.
    let mut connections = JoinSet::new();
    loop {
        let accepted = select! {
            biased;
            // Those in the backlog come before the stop.
            accepted = listener.accept() => accepted,
            // What the runtime knows of the backlog may be older than the stop.
            _ = stopping.changed() => match accept_now(&listener) {
                Ok(Some(accepted)) => Ok(accepted),
                Ok(None) => break,
                Err(error) => Err(error),
            },
        };
        panics::inject("admin");
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(_) if stopping.has_changed().is_err() => break,
            Err(error) => {
                debug!(%error, "an admin connection was not accepted");
                sleep(REST).await;
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
        places.evict_for();
        let has_asked = Arc::new(AtomicBool::new(false));
        let visit = converse(
            stream,
            reach,
            watched.clone(),
            has_asked.clone(),
            stopping.clone(),
        );
        let task = connections.spawn(visit);
        places.taken.push_back(Slot { task, has_asked });
        // Whoever has sent a request already is heard before others take the place.
        taken_in_a_row += 1;
        if taken_in_a_row == MAX_CONNECTIONS / 2 {
            taken_in_a_row = 0;
            tokio::task::yield_now().await;
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// A connection that waits in the backlog, asked of the system itself.
fn accept_now(listener: &TcpListener) -> io::Result<Option<(TcpStream, SocketAddr)>> {
    let stream = match rustix::net::accept(listener) {
        Ok(stream) => std::net::TcpStream::from(stream),
        Err(Errno::AGAIN) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    stream.set_nonblocking(true)?;
    let peer = stream.peer_addr()?;
    Ok(Some((TcpStream::from_std(stream)?, peer)))
}

/// Who is there, in the order in which they came.
#[derive(Debug, Default)]
struct Slots {
    taken: VecDeque<Slot>,
}

#[derive(Debug)]
struct Slot {
    task: AbortHandle,
    has_asked: Arc<AtomicBool>,
}

impl Slots {
    /// Makes sure of a place: that of who has been silent for longest, or else of
    /// who has been there for longest.
    fn evict_for(&mut self) {
        self.taken.retain(|visitor| !visitor.task.is_finished());
        if self.taken.len() < MAX_CONNECTIONS {
            return;
        }
        let is_silent = |visitor: &Slot| !visitor.has_asked.load(Relaxed);
        let leaves = self.taken.iter().position(is_silent).unwrap_or(0);
        if let Some(visitor) = self.taken.remove(leaves) {
            visitor.task.abort();
        }
    }
}

async fn converse(
    stream: TcpStream,
    reach: Exposure,
    watched: Watched,
    has_asked: Arc<AtomicBool>,
    mut stopping: watch::Receiver<()>,
) {
    // A visitor who says nothing costs no buffer.
    if !matches!(timeout(HEADER_TIMEOUT, stream.readable()).await, Ok(Ok(()))) {
        return;
    }
    let service = service_fn(move |request| {
        has_asked.store(true, Relaxed);
        panics::inject("visitor");
        let watched = watched.clone();
        async move { Ok::<_, Infallible>(answer(&request, reach, &watched).await) }
    });
    let connection = http1::Builder::new()
        .timer(RunningTime)
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let served = async {
        select! {
            biased;
            // A request that has arrived is read before the endpoint moves.
            ended = &mut connection => Some(ended),
            () = async { stopping.changed().await.ok(); sleep(LAST_REQUEST).await } => None,
        }
    };
    let ended = if let Ok(Some(ended)) = timeout(CONNECTION_TIMEOUT, served).await {
        ended
    } else {
        connection.as_mut().graceful_shutdown();
        timeout(LAST_ANSWER, connection).await.unwrap_or(Ok(()))
    };
    if let Err(error) = ended {
        debug!(%error, "an admin connection broke");
    }
}

/// Timers of the HTTP library that count the time in which this process ran.
#[derive(Debug)]
struct RunningTime;

struct Rest(Pin<Box<dyn Future<Output = ()> + Send + Sync>>);

impl Timer for RunningTime {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(Rest(Box::pin(async move {
            let _ = timeout(duration, pending::<()>()).await;
        })))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(deadline.saturating_duration_since(Instant::now()))
    }
}

impl Sleep for Rest {}

impl Future for Rest {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}
