//! The admin endpoint: metrics and health for machines, a page for people.
//!
//! It has a thread and a runtime of its own, so that it answers when the
//! pipeline is busy, can tell when it is stuck, and cannot hold it up. It only
//! reads. Who is let in is in `admin/visitors.rs` and `admin/guard.rs`, what is
//! answered in `admin/answer.rs` and the files that it names.

mod answer;
mod guard;
mod metrics;
mod page;
pub mod status;
mod view;
mod visitors;

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc as channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{info, warn};
use tracing_appender::non_blocking::ErrorCounter;

use crate::blocking::NO_THREAD_REMEDY;
use crate::config::{ListenAddress, Settings};
use crate::os;
use crate::panics;
use crate::pipeline::queue::Queue;
use crate::stats::Counters;

use view::SettingsInForce;

/// A crowd that says nothing must not fill the queue before the door.
const BACKLOG: i32 = 1024;

/// A pipeline that does not answer for so long does not move.
const PULSE_TIMEOUT: Duration = Duration::from_secs(5);

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
    /// Dropped: the server stops.
    _stop: watch::Sender<()>,
    /// Resolves when its thread has ended.
    ended: oneshot::Receiver<()>,
}

impl Watched {
    /// Looks at a pipeline. Call it from the pipeline's runtime, whose pulse
    /// it will feel.
    pub fn new(queue: Queue, counters: Arc<Counters>, log_lines_dropped: ErrorCounter) -> Self {
        let (pulse, mut asked) = mpsc::channel::<oneshot::Sender<()>>(visitors::MAX_CONNECTIONS);
        tokio::spawn(async move {
            while let Some(answer) = asked.recv().await {
                panics::inject("pulse");
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
                settings: Mutex::default(),
            }),
        }
    }

    /// These settings are in force from now on.
    pub fn is_set(&self, settings: &Settings) {
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
    pub fn start(address: Option<&ListenAddress>, watched: Watched) -> Result<Self, StartError> {
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
    pub fn rebind(&mut self, address: Option<&ListenAddress>) -> Result<(), StartError> {
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
    fn start(address: &ListenAddress, watched: Watched) -> Result<Self, StartError> {
        let listeners = bind(address)?;
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
                    runtime.block_on(visitors::serve(listeners, watched, stopping));
                }
                Err(error) => drop(report.send(Err(error))),
            }
        };
        let thread = thread::Builder::new().name("admin".into());
        thread.spawn(serve).map_err(StartError::Thread)?;
        reported.recv().map_err(io::Error::other)??;
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
                rustix::net::listen(&listener, BACKLOG)?;
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
