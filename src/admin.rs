//! The admin endpoint: metrics and health for machines, a page for people.
//!
//! It has a thread and a runtime of its own, so that it answers when the
//! pipeline is busy, can tell when it is stuck, and cannot hold it up. It only
//! reads. Who is let in is in `admin/clients.rs` and `admin/guard.rs`, what is
//! answered in `admin/answer.rs` and the files that it names.

mod answer;
mod host_check;
mod metrics;
mod page;
mod server;
pub mod status;
mod view;

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc as channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{info, warn};
use tracing_appender::non_blocking::ErrorCounter;

use crate::blocking::NO_THREAD_REMEDY;
use crate::config::{ListenAddress, Settings};
use crate::deadline;
use crate::os;
use crate::panics;
use crate::pipeline::queue::Queue;
use crate::stats::Counters;
use crate::stats::bound::{self, Bound, Place, Registration};

use view::SettingsInForce;

/// A crowd that says nothing must not fill the queue before the door.
const BACKLOG: i32 = 1024;

/// A pipeline that does not answer for so long does not move.
const LIVENESS_TIMEOUT: Duration = Duration::from_secs(5);

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
    liveness: mpsc::Sender<oneshot::Sender<()>>,
    settings: Mutex<SettingsInForce>,
}

/// A running admin endpoint, if the settings want one.
#[derive(Debug)]
pub struct Admin {
    watched: Watched,
    server: Option<Server>,
}

/// Why the admin endpoint cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be bound.
    #[error(transparent)]
    Bind(#[from] io::Error),
    /// The system has no thread to give.
    #[error("cannot start a thread: {0}; {NO_THREAD_REMEDY}")]
    Thread(io::Error),
}

#[derive(Debug)]
struct Server {
    sockets: Vec<AdminSocket>,
    /// Dropped: the server stops.
    _stop: watch::Sender<()>,
    /// Resolves when its thread has ended.
    ended: oneshot::Receiver<()>,
}

/// A server at another address, not yet alone.
#[derive(Debug)]
pub struct Rebound(Option<Server>);

/// A socket of the admin endpoint.
#[derive(Debug)]
struct AdminSocket {
    /// The address that was asked for.
    asked: SocketAddr,
    listener: StdListener,
    _registration: Registration,
}

impl Watched {
    /// Looks at a pipeline. Call it from the pipeline's runtime, whose pulse
    /// it will feel.
    pub fn new(queue: Queue, counters: Arc<Counters>, log_lines_dropped: ErrorCounter) -> Self {
        let (liveness, mut asked) = mpsc::channel::<oneshot::Sender<()>>(server::MAX_CONNECTIONS);
        tokio::spawn(async move {
            while let Some(answer) = asked.recv().await {
                panics::inject("liveness");
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
                liveness,
                settings: Mutex::default(),
            }),
        }
    }

    /// These settings are in force from now on.
    pub fn set_settings(&self, settings: &Settings) {
        *self.lock_settings() = SettingsInForce::of(settings);
    }

    fn lock_settings(&self) -> MutexGuard<'_, SettingsInForce> {
        let settings = &self.shared.settings;
        settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the daemon is not ready.
    pub fn drain_begins(&self) {
        self.shared.draining.store(true, Relaxed);
    }

    fn is_draining(&self) -> bool {
        self.shared.draining.load(Relaxed)
    }

    /// Whether the pipeline's runtime gets round to answering.
    async fn is_responsive(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        let ask =
            async { self.shared.liveness.send(answer).await.is_ok() && answered.await.is_ok() };
        deadline::timeout(LIVENESS_TIMEOUT, ask)
            .await
            .unwrap_or(false)
    }
}

impl Admin {
    /// Serves at an address, or nowhere.
    pub fn start(address: Option<&ListenAddress>, watched: Watched) -> Result<Self, StartError> {
        let server = address
            .map(|at| Server::start(at, watched.clone(), &[]))
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

    /// Serves at another address beside the old one. Dropped, the other one goes.
    pub fn prepare(&self, address: Option<&ListenAddress>) -> Result<Rebound, StartError> {
        let new = address.map(|at| Server::start(at, self.watched.clone(), self.sockets()));
        Ok(Rebound(new.transpose()?))
    }

    fn sockets(&self) -> &[AdminSocket] {
        self.server.as_ref().map_or(&[], |server| &server.sockets)
    }

    /// Goes on at the other address alone.
    pub fn apply(&mut self, Rebound(new): Rebound) {
        let kept = |socket: &AdminSocket| {
            let mut new = new.iter().flat_map(|server| &server.sockets);
            new.any(|new| new.asked == socket.asked && socket.asked.port() != 0)
        };
        for socket in self.sockets().iter().filter(|socket| !kept(socket)) {
            // Where the system cannot do this, a moment's requests may be lost.
            let _ = os::ignore_connections(&socket.listener);
        }
        self.server = new;
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
    /// Starts at an address, at which another server may still have sockets.
    fn start(
        address: &ListenAddress,
        watched: Watched,
        old: &[AdminSocket],
    ) -> Result<Self, StartError> {
        let sockets = bind(address, old)?;
        let listeners = sockets.iter().map(|socket| socket.listener.try_clone());
        let listeners = listeners.collect::<io::Result<Vec<_>>>()?;
        let (stop, stopping) = watch::channel(());
        let (alive, ended) = oneshot::channel();
        let (report, reported) = channel::channel();
        let serve = move || {
            // Dropped at the end of the thread, however it comes.
            let _alive = alive;
            // Made and dropped here: within another runtime, dropping it panics.
            match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => {
                    drop(report.send(Ok(())));
                    runtime.block_on(server::serve(listeners, watched, stopping));
                }
                Err(error) => drop(report.send(Err(error))),
            }
        };
        let thread = thread::Builder::new().name("admin".into());
        thread.spawn(serve).map_err(StartError::Thread)?;
        reported.recv().map_err(io::Error::other)??;
        Ok(Self {
            sockets,
            _stop: stop,
            ended,
        })
    }
}

fn bind(address: &ListenAddress, old: &[AdminSocket]) -> io::Result<Vec<AdminSocket>> {
    let label = format!("admin:{}", address.text);
    let mut sockets: Vec<AdminSocket> = Vec::new();
    let mut missing = None;
    for asked in &address.addresses {
        let mut at = *asked;
        if let (0, Some(first)) = (at.port(), sockets.first()) {
            at.set_port(first.listener.local_addr()?.port());
        }
        match bind_one(at, old) {
            Ok(listener) => {
                let place = Place::Tcp {
                    address: listener.local_addr()?,
                    only_v6: false,
                };
                let label = label.clone();
                sockets.push(AdminSocket {
                    asked: *asked,
                    listener,
                    _registration: bound::register(Bound { label, place }),
                });
            }
            // One family of localhost is enough.
            Err(error) if os::is_missing_family(&error) => missing = Some((at, error)),
            Err(error) => return Err(describe(at, &error)),
        }
    }
    match missing {
        Some((at, error)) if sockets.is_empty() => return Err(describe(at, &error)),
        Some((at, error)) => {
            warn!(listener = %label, address = %at, %error, "this host does not have the address; it is skipped");
        }
        None => {}
    }
    for socket in &sockets {
        let local = socket.listener.local_addr()?;
        info!(listener = %label, address = %local, "listening");
    }
    Ok(sockets)
}

/// Binds one address. At a reload, the old server's socket is taken over where it has
/// the same address, and is no hindrance where it has the same port.
fn bind_one(at: SocketAddr, old: &[AdminSocket]) -> io::Result<StdListener> {
    let is_same = |socket: &&AdminSocket| socket.asked == at && at.port() != 0;
    if let Some(same) = old.iter().find(is_same) {
        return same.listener.try_clone();
    }
    let has_port = |socket: &&AdminSocket| {
        let local = socket.listener.local_addr();
        local.is_ok_and(|local| local.port() == at.port())
    };
    let leaving = old.iter().filter(has_port);
    let leaving: Vec<_> = leaving
        .map(|socket| SockRef::from(&socket.listener))
        .collect();
    let port = os::Port {
        is_udp: false,
        number: at.port(),
    };
    let socket = os::bind_beside_leaving(port, &leaving, |shares_port| {
        let socket = Socket::new(
            Domain::for_address(at),
            Type::STREAM.nonblocking(),
            Some(Protocol::TCP),
        )?;
        // Connections of a former process in TIME_WAIT do not block the port.
        socket.set_reuse_address(true)?;
        if shares_port {
            socket.set_reuse_port(true)?;
        }
        socket.bind(&at.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket)
    })?;
    Ok(socket.into())
}

fn describe(address: SocketAddr, error: &io::Error) -> io::Error {
    let holder = (error.kind() == io::ErrorKind::AddrInUse)
        .then(|| os::port_owner(false, address))
        .flatten()
        .map_or_else(String::new, |holder| format!(" by {holder}"));
    io::Error::new(error.kind(), format!("{address}: {error}{holder}"))
}
