//! Which sockets are bound, and the tasks that serve them.
//!
//! A reload binds what is new before it stops what is gone, so that it can be
//! refused as a whole. A socket whose address stays keeps its buffer and its
//! backlog, even when the listener around it is written differently.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net as unix_net;
use std::sync::Arc;

use tokio::select;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tracing::{info, warn};

use crate::config::{ListenAddress, ListenSettings, UnixAddress};
use crate::os::{self, NamedBy};
use crate::stats::{Counters, ListenerCounters};

use super::udp::KernelDrops;
use super::unix::BoundPath;
use super::{Given, Ingest, Stop, Stopping, tcp, udp, unix};

/// A listener that could not be bound.
#[derive(Debug, thiserror::Error)]
pub struct BindError {
    label: String,
    address: String,
    holder: Option<String>,
    source: io::Error,
}

/// One listener as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Spec {
    Udp(ListenAddress),
    Tcp(ListenAddress),
    UnixStream(UnixAddress),
    UnixDatagram(UnixAddress),
}

/// A socket that is bound, and the address that was asked for.
#[derive(Debug)]
enum Bound {
    Udp(SocketAddr, UdpSocket, Arc<KernelDrops>),
    Tcp(SocketAddr, TcpListener),
    UnixStream(unix_net::UnixListener),
    UnixDatagram(unix_net::UnixDatagram),
}

/// A socket of a listener.
#[derive(Debug)]
struct Held {
    bound: Bound,
    /// Somebody else bound it, and keeps it when we go.
    is_given: bool,
}

/// One listener, bound: its sockets, and its path in the file system.
#[derive(Debug)]
struct Listener {
    spec: Spec,
    /// Removes the path when the listener goes: while its socket still lives,
    /// so that no successor can have taken the path by then.
    _path: Option<BoundPath>,
    sockets: Vec<Held>,
    /// Dropped or set: the tasks stop.
    stop: watch::Sender<Stop>,
}

/// All listeners that run.
#[derive(Debug)]
pub struct Listeners {
    ingest: Ingest,
    counters: Arc<Counters>,
    given: Given,
    running: Vec<Listener>,
    streams: JoinSet<()>,
    datagrams: JoinSet<()>,
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
    socket: ReadySocket,
    is_given: bool,
}

#[derive(Debug)]
enum ReadySocket {
    Udp(UdpSocket, Arc<KernelDrops>),
    Tcp(tokio::net::TcpListener),
    UnixStream(tokio::net::UnixListener),
    UnixDatagram(unix_net::UnixDatagram),
}

impl Listeners {
    /// No listener yet, but sockets for some.
    pub fn new(ingest: Ingest, counters: Arc<Counters>, given: Given) -> Self {
        Self {
            ingest,
            counters,
            given,
            running: Vec::new(),
            streams: JoinSet::new(),
            datagrams: JoinSet::new(),
        }
    }

    /// The sockets that were given to us and that no listener wants.
    pub fn unused(&self) -> Vec<String> {
        self.given.unused()
    }

    /// Binds what the settings name and does not run yet. Nothing changes
    /// before [`Listeners::apply`].
    pub fn plan(&self, settings: &ListenSettings) -> Result<Plan, BindError> {
        let wanted = specs(settings);
        let mut new = Vec::new();
        for spec in &wanted {
            if !self.running.iter().any(|listener| listener.spec == *spec) {
                let listener = self.bind(spec)?;
                let ready = listener.ready()?;
                new.push((listener, ready));
            }
        }
        Ok(Plan { new, wanted })
    }

    /// Starts what is new, stops what is gone.
    pub fn apply(&mut self, plan: Plan) {
        for (listener, ready) in plan.new {
            self.start(listener, ready);
        }
        // Dropping a listener tells its tasks to stop; they end by themselves.
        self.running
            .retain(|listener| plan.wanted.contains(&listener.spec));
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
    /// while streams are read to their ends, their senders go on.
    pub async fn drain(&mut self, stop: Stop) -> Result<(), JoinError> {
        for are_datagrams in [false, true] {
            for listener in &self.running {
                if listener.spec.is_of_datagrams() == are_datagrams {
                    listener.stop.send_replace(stop);
                }
            }
            let tasks = if are_datagrams {
                &mut self.datagrams
            } else {
                &mut self.streams
            };
            while let Some(ended) = tasks.join_next().await {
                ended?;
            }
        }
        self.running.clear();
        Ok(())
    }

    fn start(&mut self, listener: Listener, ready: Vec<Ready>) {
        let counters = self.counters.listener(&listener.spec.label());
        for Ready {
            address,
            socket,
            is_given,
        } in ready
        {
            let from = is_given.then_some("the service manager");
            info!(listener = %counters.label, %address, from, "listening");
            if let ReadySocket::Udp(socket, _) = &socket {
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
            let stopping = Stopping {
                stop: listener.stop.subscribe(),
                is_given,
            };
            self.serve(socket, counters.clone(), stopping);
        }
        self.running.push(listener);
    }

    fn serve(&mut self, socket: ReadySocket, counters: Arc<ListenerCounters>, stop: Stopping) {
        let ingest = self.ingest.clone();
        let Self {
            streams, datagrams, ..
        } = self;
        match socket {
            ReadySocket::Udp(socket, drops) => {
                let by = NamedBy::Address;
                datagrams.spawn(udp::serve(socket, by, ingest, counters, drops, stop))
            }
            ReadySocket::UnixDatagram(socket) => {
                // The kernel drops none here: the sender is told.
                let drops = Arc::default();
                let by = NamedBy::Process;
                datagrams.spawn(udp::serve(socket, by, ingest, counters, drops, stop))
            }
            ReadySocket::Tcp(listener) => {
                streams.spawn(tcp::serve(listener, ingest, counters, stop))
            }
            ReadySocket::UnixStream(listener) => {
                streams.spawn(tcp::serve(listener, ingest, counters, stop))
            }
        };
    }

    fn bind(&self, spec: &Spec) -> Result<Listener, BindError> {
        let (sockets, path) = match spec {
            Spec::Udp(address) => (self.bind_ip(spec, address, true)?, None),
            Spec::Tcp(address) => (self.bind_ip(spec, address, false)?, None),
            Spec::UnixStream(address) => match self.given.unix_stream(address) {
                Some(given) => given.map(|socket| (Bound::UnixStream(socket).given(), None)),
                None => unix::bind_stream(address)
                    .map(|(socket, path)| (Bound::UnixStream(socket).ours(), path)),
            }
            .map(|(socket, path)| (vec![socket], path))
            .map_err(|source| spec.error(address.to_string(), source))?,
            Spec::UnixDatagram(address) => match self.given.unix_datagram(address) {
                Some(given) => given.map(|socket| (Bound::UnixDatagram(socket).given(), None)),
                None => unix::bind_datagram(address)
                    .map(|(socket, path)| (Bound::UnixDatagram(socket).ours(), path)),
            }
            .map(|(socket, path)| (vec![socket], path))
            .map_err(|source| spec.error(address.to_string(), source))?,
        };
        Ok(Listener {
            spec: spec.clone(),
            sockets,
            _path: path,
            stop: watch::Sender::new(Stop::NotYet),
        })
    }

    /// Binds every address of a listener. Of `localhost`, one family may be
    /// missing on this host.
    fn bind_ip(
        &self,
        spec: &Spec,
        listen: &ListenAddress,
        is_udp: bool,
    ) -> Result<Vec<Held>, BindError> {
        let mut bound: Vec<Held> = Vec::new();
        let mut missing = None;
        for address in &listen.addresses {
            let same_port = bound.first().and_then(|first| first.bound.ip_port());
            match self.bind_address(*address, same_port, is_udp) {
                Ok(socket) => bound.push(socket),
                Err(error) if os::is_missing_family(&error) => missing = Some((address, error)),
                Err(error) => {
                    let given = || self.given.at_port(is_udp, address.port());
                    let holder = (error.kind() == io::ErrorKind::AddrInUse)
                        .then(|| given().or_else(|| os::port_owner(is_udp, *address)))
                        .flatten();
                    return Err(BindError {
                        holder,
                        ..spec.error(address.to_string(), error)
                    });
                }
            }
        }
        if let Some((address, error)) = missing {
            if bound.is_empty() {
                return Err(spec.error(address.to_string(), error));
            }
            warn!(listener = %spec.label(), %address, %error, "this host lacks the address; going on without it");
        }
        Ok(bound)
    }

    /// Binds one address, or takes over the socket that is bound there: by a
    /// listener before a reload, or by whoever has given it to us. Where
    /// any port will do, the one of the listener's first address is tried.
    fn bind_address(
        &self,
        address: SocketAddr,
        same_port: Option<u16>,
        is_udp: bool,
    ) -> io::Result<Held> {
        let ours = self.running.iter().flat_map(|listener| &listener.sockets);
        for socket in ours {
            match &socket.bound {
                Bound::Udp(asked, ..) if is_udp && *asked == address => return socket.try_clone(),
                Bound::Tcp(asked, _) if !is_udp && *asked == address => return socket.try_clone(),
                _ => {}
            }
        }
        let udp = |socket| Bound::Udp(address, socket, Arc::default());
        let tcp = |listener| Bound::Tcp(address, listener);
        let given = if is_udp {
            self.given.udp(address).map(|given| given.map(udp))
        } else {
            self.given.tcp(address).map(|given| given.map(tcp))
        };
        if let Some(given) = given {
            return given.map(Bound::given);
        }
        let bind = |at: SocketAddr| {
            let bound = if is_udp {
                udp::bind(at).map(udp)
            } else {
                tcp::bind(at).map(tcp)
            };
            bound.map(Bound::ours)
        };
        if let (0, Some(port)) = (address.port(), same_port)
            && let Ok(bound) = bind(SocketAddr::new(address.ip(), port))
        {
            return Ok(bound);
        }
        bind(address)
    }
}

impl Spec {
    /// Kind and address as configured.
    fn label(&self) -> String {
        match self {
            Self::Udp(address) => format!("udp:{}", address.text),
            Self::Tcp(address) => format!("tcp:{}", address.text),
            Self::UnixStream(address) => format!("unix_stream:{address}"),
            Self::UnixDatagram(address) => format!("unix_datagram:{address}"),
        }
    }

    fn is_of_datagrams(&self) -> bool {
        matches!(self, Self::Udp(_) | Self::UnixDatagram(_))
    }

    fn error(&self, address: String, source: io::Error) -> BindError {
        BindError {
            label: self.label(),
            address,
            holder: None,
            source,
        }
    }
}

fn specs(settings: &ListenSettings) -> Vec<Spec> {
    let udp = settings.udp.iter().cloned().map(Spec::Udp);
    let tcp = settings.tcp.iter().cloned().map(Spec::Tcp);
    let streams = settings.unix_stream.iter().cloned().map(Spec::UnixStream);
    let datagrams = settings
        .unix_datagram
        .iter()
        .cloned()
        .map(Spec::UnixDatagram);
    udp.chain(tcp).chain(streams).chain(datagrams).collect()
}

impl Listener {
    fn ready(&self) -> Result<Vec<Ready>, BindError> {
        let ready = |socket: &Held| {
            Ok(Ready {
                address: socket.bound.local_address(&self.spec)?,
                socket: socket.bound.ready()?,
                is_given: socket.is_given,
            })
        };
        self.sockets
            .iter()
            .map(ready)
            .collect::<io::Result<_>>()
            .map_err(|source| self.spec.error("it".to_owned(), source))
    }
}

impl Held {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            bound: self.bound.try_clone()?,
            is_given: self.is_given,
        })
    }
}

impl Bound {
    fn ours(self) -> Held {
        Held {
            bound: self,
            is_given: false,
        }
    }

    fn given(self) -> Held {
        Held {
            bound: self,
            is_given: true,
        }
    }

    /// A second handle, registered with the runtime.
    fn ready(&self) -> io::Result<ReadySocket> {
        Ok(match self.try_clone()? {
            Self::Udp(_, socket, drops) => ReadySocket::Udp(socket, drops),
            Self::Tcp(_, listener) => {
                ReadySocket::Tcp(tokio::net::TcpListener::from_std(listener)?)
            }
            Self::UnixStream(listener) => {
                ReadySocket::UnixStream(tokio::net::UnixListener::from_std(listener)?)
            }
            Self::UnixDatagram(socket) => ReadySocket::UnixDatagram(socket),
        })
    }

    fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Udp(asked, socket, drops) => {
                Self::Udp(*asked, socket.try_clone()?, drops.clone())
            }
            Self::Tcp(asked, listener) => Self::Tcp(*asked, listener.try_clone()?),
            Self::UnixStream(listener) => Self::UnixStream(listener.try_clone()?),
            Self::UnixDatagram(socket) => Self::UnixDatagram(socket.try_clone()?),
        })
    }

    fn local_address(&self, spec: &Spec) -> io::Result<String> {
        Ok(match (self, spec) {
            (Self::Udp(_, socket, _), _) => socket.local_addr()?.to_string(),
            (Self::Tcp(_, listener), _) => listener.local_addr()?.to_string(),
            (_, Spec::UnixStream(address) | Spec::UnixDatagram(address)) => address.to_string(),
            _ => String::new(),
        })
    }

    fn ip_port(&self) -> Option<u16> {
        let address = match self {
            Self::Udp(_, socket, _) => socket.local_addr(),
            Self::Tcp(_, listener) => listener.local_addr(),
            _ => return None,
        };
        address.ok().map(|address| address.port())
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            label,
            address,
            holder,
            source,
        } = self;
        if source.kind() == io::ErrorKind::AddrInUse {
            let by = holder.as_deref().unwrap_or("another process");
            write!(
                f,
                "{label}: the address {address} is in use by {by}; stop it, or listen elsewhere"
            )
        } else {
            write!(f, "{label}: cannot listen on {address}: {source}")
        }
    }
}
