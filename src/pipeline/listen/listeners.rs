//! Which listeners there are, and the tasks that serve them. What they are is in
//! `listeners/spec`, how they come by their sockets in `listeners/bind`.
//!
//! A reload binds what is new before it stops what is gone, so that it can be
//! refused as a whole. A socket whose address stays keeps its buffer and its
//! backlog, even when the listener around it is written differently.

mod bind;
mod socket;
mod spec;
mod thread;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::select;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tracing::{info, warn};

use crate::config::ListenSettings;
use crate::deadline::timeout;
use crate::os::{self, NamedBy};
use crate::stats::Counters;
use crate::stats::bound::{self, Bound, Registration};

use super::unix::BoundPath;
use super::{ActivatedSockets, Ingest, Service, Stop, Stopping, tcp, udp};
pub use bind::BindError;
use bind::Binder;
use socket::{Held, ReadySocket};
use spec::{Place, Spec};

/// The last reads of datagrams end by themselves, when a buffer's worth was read. So
/// long they have on a machine that is busy with others.
const LAST_DATAGRAMS: Duration = Duration::from_secs(2);

/// One listener, bound: its sockets, and its path in the file system.
#[derive(Debug)]
struct Listener {
    spec: Spec,
    /// Removes the path when the listener goes: while its socket still lives,
    /// so that no successor can have taken the path by then.
    path: Option<BoundPath>,
    /// Told to those who must know where clients reach us.
    registrations: Vec<Registration>,
    sockets: Vec<Held>,
    /// Dropped or set: the tasks stop.
    stop: watch::Sender<Stop>,
}

/// All listeners that run.
#[derive(Debug)]
pub struct Listeners {
    ingest: Ingest,
    counters: Arc<Counters>,
    activated: ActivatedSockets,
    running: Vec<Listener>,
    streams: JoinSet<()>,
    datagrams: JoinSet<()>,
    missing_thread: Option<io::Error>,
}

/// Sockets that are bound, known to the runtime, and not yet put to use.
#[derive(Debug)]
pub struct Plan {
    new: Vec<(Listener, Vec<Ready>)>,
    wanted: Vec<Spec>,
}

/// A socket for a task to serve, and its address for the log.
#[derive(Debug)]
struct Ready {
    address: String,
    /// Where the listener's name does not tell.
    protocol: Option<&'static str>,
    socket: ReadySocket,
    is_activated: bool,
    is_beside: bool,
}

impl Listeners {
    /// No listener yet, but sockets for some.
    pub fn new(ingest: Ingest, counters: Arc<Counters>, activated: ActivatedSockets) -> Self {
        Self {
            ingest,
            counters,
            activated,
            running: Vec::new(),
            streams: JoinSet::new(),
            datagrams: JoinSet::new(),
            missing_thread: None,
        }
    }

    /// Why a socket has no thread of its own that should have one; told once.
    pub fn missing_thread(&mut self) -> Option<io::Error> {
        self.missing_thread.take()
    }

    /// The sockets that were given to us and that no listener wants.
    pub fn unused(&self) -> Vec<String> {
        self.activated.unused()
    }

    /// Binds what the settings name and does not run yet. Nothing changes
    /// before [`Listeners::apply`].
    pub fn plan(&self, settings: &ListenSettings) -> Result<Plan, BindError> {
        let wanted = Spec::all(settings);
        let binder = self.binder(&wanted);
        let mut new = Vec::new();
        // A socket that takes over a port may get datagrams at once: after that, nothing
        // should fail any more.
        let mut specs: Vec<&Spec> = wanted.iter().collect();
        specs.sort_by_key(|spec| binder.takes_over(spec));
        for spec in specs {
            if !self.running.iter().any(|running| running.serves(spec)) {
                let (sockets, mut path) = binder.bind(spec)?;
                // Datagrams and streams stop one after the other.
                let (datagrams, streams): (Vec<Held>, Vec<Held>) = sockets
                    .into_iter()
                    .partition(|held| held.bound.is_of_datagrams());
                for sockets in [datagrams, streams] {
                    if sockets.is_empty() {
                        continue;
                    }
                    let listener = Listener {
                        spec: spec.clone(),
                        sockets,
                        path: path.take(),
                        registrations: Vec::new(),
                        stop: watch::Sender::new(Stop::NotYet),
                    };
                    let ready = listener.ready()?;
                    new.push((listener, ready));
                }
            }
        }
        Ok(Plan { new, wanted })
    }

    fn binder(&self, wanted: &[Spec]) -> Binder<'_> {
        let (_stays, goes): (Vec<&Listener>, Vec<_>) = self
            .running
            .iter()
            .partition(|listener| wanted.iter().any(|spec| listener.serves(spec)));
        Binder {
            goes,
            activated: &self.activated,
        }
    }

    /// Starts what is new, stops what is gone.
    pub fn apply(&mut self, mut plan: Plan) {
        let binder = self.binder(&plan.wanted);
        for (listener, ready) in &mut plan.new {
            ready.extend(listener.widen(&binder));
        }
        let is_new = |listener: &Listener| {
            let mut new = plan.new.iter();
            new.any(|(new, _)| new.spec == listener.spec)
        };
        let (stays, goes): (Vec<Listener>, Vec<_>) = std::mem::take(&mut self.running)
            .into_iter()
            .partition(|running| plan.wanted.contains(&running.spec) && !is_new(running));
        self.running = stays;
        for (listener, ready) in plan.new {
            self.start(listener, ready);
        }
        // What arrives later must find another socket, or be refused: nobody would read it.
        for held in goes.iter().flat_map(|listener| &listener.sockets) {
            if !held.is_activated && !self.holds(held) {
                // Where the system cannot do this, a moment's arrivals may be lost.
                let _ = held.bound.stop_arrivals();
            }
        }
        // Dropping a listener tells its tasks to stop; they end by themselves.
        drop(goes);
    }

    /// Whether a running listener has another handle of a socket.
    fn holds(&self, held: &Held) -> bool {
        let sockets = self.running.iter().flat_map(|listener| &listener.sockets);
        sockets
            .into_iter()
            .any(|other| other.bound.is_same_socket(&held.bound))
    }

    /// Ends when a task died, which none does by itself.
    pub async fn failed(&mut self) -> JoinError {
        loop {
            let ended = select! {
                Some(ended) = self.streams.join_next() => ended,
                Some(ended) = self.datagrams.join_next() => ended,
                else => std::future::pending().await,
            };
            // Or stopped by a reload.
            if let Err(error) = ended {
                return error;
            }
        }
    }

    /// Stops reading, whatever is still to come.
    pub async fn abandon(&mut self) {
        self.streams.shutdown().await;
        self.datagrams.shutdown().await;
        self.running.clear();
    }

    /// Stops accepting, reads what has arrived, and ends. Datagrams come last:
    /// while streams are read to their ends, for so long at most, their senders go
    /// on. They have a time of their own: whatever streams do, what has come is
    /// read, and what the kernel has dropped is counted.
    pub async fn drain(&mut self, stop: Stop, streams: Duration) -> Result<(), JoinError> {
        for (are_datagrams, limit) in [(false, streams), (true, LAST_DATAGRAMS)] {
            for listener in &self.running {
                if listener.is_of_datagrams() == are_datagrams {
                    listener.stop.send_replace(stop);
                }
            }
            let tasks = if are_datagrams {
                &mut self.datagrams
            } else {
                &mut self.streams
            };
            if let Ok(ended) = timeout(limit, end_of(tasks)).await {
                ended?;
            } else {
                warn!(
                    kind = if are_datagrams {
                        "datagrams"
                    } else {
                        "streams"
                    },
                    "reading what has arrived takes too long; the rest is not read"
                );
                tasks.shutdown().await;
            }
        }
        self.running.clear();
        Ok(())
    }

    fn start(&mut self, mut listener: Listener, ready: Vec<Ready>) {
        listener.register();
        let counters = self
            .counters
            .listener(listener.spec.kind(), &listener.spec.label());
        for Ready {
            address,
            protocol,
            socket,
            is_activated,
            is_beside,
        } in ready
        {
            if !is_beside {
                let from = is_activated.then_some("the service manager");
                info!(listener = %counters.label, protocol, %address, from, "listening");
            }
            if let ReadySocket::Udp(socket, _) = &socket
                && !is_beside
            {
                let buffer = os::receive_buffer(socket);
                if buffer < os::RECEIVE_BUFFER {
                    info!(
                        listener = %counters.label,
                        %address,
                        buffer,
                        wanted = os::RECEIVE_BUFFER,
                        hint = os::RECEIVE_BUFFER_HINT,
                        "a small receive buffer: bursts of datagrams may be dropped by the kernel"
                    );
                }
            }
            let service = Service {
                ingest: self.ingest.clone(),
                counters: counters.clone(),
                protocol: listener.spec.protocol,
                stopping: Stopping::new(listener.stop.subscribe(), is_activated),
            };
            self.serve(socket, is_beside, service);
        }
        self.running.push(listener);
    }

    fn serve(&mut self, socket: ReadySocket, is_beside: bool, service: Service) {
        let Self {
            streams,
            datagrams,
            missing_thread,
            ..
        } = self;
        match socket {
            ReadySocket::Udp(socket, drops) => {
                let receiving = udp::serve(socket, NamedBy::Address, drops, service);
                let thread = is_beside.then(thread::Waiting::start).transpose();
                match thread {
                    Ok(Some(thread)) => datagrams.spawn(thread.run(receiving)),
                    Ok(None) => datagrams.spawn(receiving),
                    Err(error) => {
                        *missing_thread = Some(error);
                        datagrams.spawn(receiving)
                    }
                }
            }
            ReadySocket::UnixDatagram(socket) => {
                // The kernel drops none here: the sender is told.
                let drops = Arc::default();
                datagrams.spawn(udp::serve(socket, NamedBy::Process, drops, service))
            }
            ReadySocket::Tcp(listener) => streams.spawn(tcp::serve(listener, service)),
            ReadySocket::UnixStream(listener) => streams.spawn(tcp::serve(listener, service)),
        };
    }
}

/// Waits for the end of tasks, or the first that died.
async fn end_of(tasks: &mut JoinSet<()>) -> Result<(), JoinError> {
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    Ok(())
}

impl Listener {
    /// Whether it is this listener, and clients can reach it.
    fn serves(&self, spec: &Spec) -> bool {
        let is_gone = |path: &BoundPath| path.has_to_be_bound_again();
        self.spec == *spec && !self.path.as_ref().is_some_and(is_gone)
    }

    fn register(&mut self) {
        let label = self.spec.label();
        let at_ip = self.sockets.iter().filter_map(|held| held.bound.place());
        let at_path = self.path.iter().map(|path| bound::Place::Unix(path.file()));
        let register = |place| {
            bound::register(Bound {
                label: label.clone(),
                place,
            })
        };
        self.registrations = at_ip.chain(at_path).map(register).collect();
    }

    fn is_of_datagrams(&self) -> bool {
        self.sockets.iter().all(|held| held.bound.is_of_datagrams())
    }

    fn ready(&self) -> Result<Vec<Ready>, BindError> {
        let sockets = self.sockets.iter().map(|socket| self.ready_one(socket));
        sockets
            .collect::<io::Result<_>>()
            .map_err(|source| BindError::new(&self.spec, "it", source))
    }

    /// Adds the sockets for the other threads that receive.
    fn widen(&mut self, binder: &Binder<'_>) -> Vec<Ready> {
        let sockets = self.sockets.iter();
        let beside: Vec<(Held, Ready)> = sockets
            .flat_map(|first| {
                binder.bind_beside(&self.spec, first, |socket| {
                    let ready = self.ready_one(&socket)?;
                    Ok((socket, ready))
                })
            })
            .collect();
        let (sockets, ready): (Vec<Held>, Vec<Ready>) = beside.into_iter().unzip();
        self.sockets.extend(sockets);
        ready
    }

    fn ready_one(&self, socket: &Held) -> io::Result<Ready> {
        let address = match socket.bound.ip_address() {
            Some(address) => address?.to_string(),
            None => self.spec.place.to_string(),
        };
        let is_of_both = matches!(self.spec.place, Place::UdpAndTcp(_));
        Ok(Ready {
            address,
            protocol: is_of_both.then(|| socket.bound.protocol()).flatten(),
            socket: socket.bound.ready()?,
            is_activated: socket.is_activated,
            is_beside: socket.is_beside,
        })
    }
}
