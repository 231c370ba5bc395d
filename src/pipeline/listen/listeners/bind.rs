//! How listeners come by their sockets: from a listener that a reload ends, from
//! whoever has given them to us, or from the system.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use socket2::SockRef;
use tracing::{info, warn};

use crate::config::ListenAddress;
use crate::os;
use crate::pipeline::listen::unix::BoundPath;
use crate::pipeline::listen::{ActivatedSockets, tcp, udp, unix};

use super::Listener;
use super::socket::{Asked, Bound, Held};
use super::spec::{Place, Spec};

/// So many ports that the system chooses for datagrams are tried for streams.
const PORTS_TRIED: usize = 16;

/// A listener that could not be bound.
#[derive(Debug, thiserror::Error)]
pub struct BindError {
    label: String,
    address: String,
    holder: Option<String>,
    source: io::Error,
}

/// Where sockets come from that need not be bound.
#[derive(Debug)]
pub struct Binder<'a> {
    /// The listeners that are not wanted any more.
    pub goes: Vec<&'a Listener>,
    /// What was bound for us.
    pub activated: &'a ActivatedSockets,
}

impl Binder<'_> {
    /// Binds a listener, and tells the path that goes with it.
    pub fn bind(&self, spec: &Spec) -> Result<(Vec<Held>, Option<BoundPath>), BindError> {
        let bound = match &spec.place {
            Place::Udp(address) => return Ok((self.bind_ip(spec, address, true, None)?, None)),
            Place::Tcp(address) => return Ok((self.bind_ip(spec, address, false, None)?, None)),
            Place::UdpAndTcp(address) => return Ok((self.bind_both(spec, address)?, None)),
            Place::UnixStream(address) => match self.activated.unix_stream(address) {
                Some(activated) => activated.map(|socket| {
                    (
                        Bound::UnixStream(socket).activated(),
                        BoundPath::activated(address),
                    )
                }),
                None => unix::bind_stream(address)
                    .map(|(socket, path)| (Bound::UnixStream(socket).ours(), path)),
            },
            Place::UnixDatagram(address) => match self.activated.unix_datagram(address) {
                Some(activated) => activated.map(|socket| {
                    os::name_processes(&socket);
                    (
                        Bound::UnixDatagram(socket).activated(),
                        BoundPath::activated(address),
                    )
                }),
                None => unix::bind_datagram(address)
                    .map(|(socket, path)| (Bound::UnixDatagram(socket).ours(), path)),
            },
        };
        match bound {
            Ok((socket, path)) => Ok((vec![socket], path)),
            Err(source) => Err(BindError::new(spec, &spec.place, source)),
        }
    }

    /// Binds every address of a listener for datagrams and for streams. Where any
    /// port will do, one that is free for both is looked for.
    fn bind_both(&self, spec: &Spec, listen: &ListenAddress) -> Result<Vec<Held>, BindError> {
        let mut tries = PORTS_TRIED;
        loop {
            let mut bound = self.bind_ip(spec, listen, true, None)?;
            let port = bound.first().and_then(|first| ip_port(&first.bound));
            bound.extend(self.bind_ip(spec, listen, false, port)?);
            tries -= 1;
            if tries == 0 || bound.iter().all(|held| ip_port(&held.bound) == port) {
                return Ok(bound);
            }
        }
    }

    /// Binds every address of a listener. Of `localhost`, one family may be
    /// missing on this host. Where any port will do, `port` is tried first, or
    /// that of the listener's first address.
    fn bind_ip(
        &self,
        spec: &Spec,
        listen: &ListenAddress,
        is_udp: bool,
        port: Option<u16>,
    ) -> Result<Vec<Held>, BindError> {
        let mut bound: Vec<Held> = Vec::new();
        let mut missing = None;
        for address in &listen.addresses {
            let first_port = || bound.first().and_then(|first| ip_port(&first.bound));
            let asked = Asked {
                address: *address,
                only_v6: listen.only_v6,
            };
            match self.bind_address(spec, asked, port.or_else(first_port), is_udp) {
                Ok(socket) => bound.push(socket),
                Err(error) if os::is_missing_family(&error) => missing = Some((address, error)),
                Err(error) => {
                    let activated = || self.activated.at_port(is_udp, address.port());
                    let holder = (error.kind() == io::ErrorKind::AddrInUse)
                        .then(|| activated().or_else(|| os::port_owner(is_udp, *address)))
                        .flatten();
                    return Err(BindError {
                        holder,
                        ..BindError::new(spec, address, error)
                    });
                }
            }
        }
        if let Some((address, error)) = missing {
            if bound.is_empty() {
                return Err(BindError::new(spec, address, error));
            }
            warn!(listener = %spec.label(), %address, %error, "this host does not have the address; it is skipped");
        }
        Ok(bound)
    }

    /// Binds one address, or takes over the socket that is bound there: by a
    /// listener before a reload, or by whoever has given it to us. Where
    /// any port will do, `same_port` is tried.
    fn bind_address(
        &self,
        spec: &Spec,
        asked: Asked,
        same_port: Option<u16>,
        is_udp: bool,
    ) -> io::Result<Held> {
        if let Some(ours) = self.ours_at(spec, asked, is_udp).next() {
            return ours.try_clone();
        }
        let address = asked.address;
        let udp = |socket| Bound::Udp(asked, socket, Arc::default());
        let tcp = |listener| Bound::Tcp(asked, listener);
        let activated = if is_udp {
            self.activated
                .udp(address)
                .map(|activated| activated.map(udp))
        } else {
            self.activated
                .tcp(address)
                .map(|activated| activated.map(tcp))
        };
        if let Some(activated) = activated {
            return activated.map(Bound::activated);
        }
        let bind = |at: SocketAddr| {
            let leaving = self.leaving_at(at.port(), is_udp);
            let bind_ip = if is_udp { udp::bind } else { tcp::bind };
            let port = os::Port {
                is_udp,
                number: at.port(),
            };
            let bind = |shares| bind_ip(at, asked.only_v6, shares);
            let bound = os::bind_beside_leaving(port, &leaving, bind)?;
            io::Result::Ok(if is_udp {
                udp(bound.into()).ours()
            } else {
                tcp(bound.into()).ours()
            })
        };
        if let (0, Some(port)) = (address.port(), same_port)
            && let Ok(bound) = bind(with_port(address, port))
        {
            return Ok(bound);
        }
        bind(address)
    }

    /// Whether listeners that go have bound one of the ports of another listener.
    pub fn takes_over(&self, spec: &Spec) -> bool {
        let (Place::Udp(listen) | Place::Tcp(listen) | Place::UdpAndTcp(listen)) = &spec.place
        else {
            return false;
        };
        let mut ports = listen.addresses.iter().map(SocketAddr::port);
        ports.any(|port| {
            [true, false]
                .iter()
                .any(|is_udp| !self.leaving_at(port, *is_udp).is_empty())
        })
    }

    /// The sockets that listeners that go have bound to a port, at whatever address.
    fn leaving_at(&self, port: u16, is_udp: bool) -> Vec<SockRef<'_>> {
        let sockets = self.goes.iter().flat_map(|listener| &listener.sockets);
        sockets
            .filter(|held| !held.is_activated && ip_port(&held.bound) == Some(port))
            .filter(|held| held.bound.is_of_datagrams() == is_udp)
            .map(|held| SockRef::from(&held.bound))
            .collect()
    }

    /// The sockets for the other threads that receive where one is bound, each made
    /// ready. From now on the kernel deals datagrams to them, so that nothing may
    /// fail any more: as many as can be had.
    pub fn bind_beside<T>(
        &self,
        spec: &Spec,
        first: &Held,
        ready: impl Fn(Held) -> io::Result<T>,
    ) -> Vec<T> {
        let Bound::Udp(asked, socket, _) = &first.bound else {
            return Vec::new();
        };
        let (asked, address) = (*asked, asked.address);
        let why_not = if first.is_activated {
            Some("the service manager has bound this socket")
        } else if !os::SHARES_PORTS {
            Some("this system deals no datagrams out")
        } else {
            None
        };
        if let (Some(why), 2..) = (why_not, spec.threads) {
            info!(listener = %spec.label(), %address, why, "one thread receives here, whatever listen.udp_threads says");
            return Vec::new();
        }
        let mut ours = self.ours_at(spec, asked, true).skip(1);
        let beside = || match ours.next() {
            Some(socket) => socket.try_clone(),
            None => udp::bind_beside(socket, asked.only_v6).map(|socket| Held {
                is_beside: true,
                ..Bound::Udp(asked, socket, Arc::default()).ours()
            }),
        };
        let complain = |error: &io::Error| {
            warn!(listener = %spec.label(), %address, %error, "fewer threads receive here than listen.udp_threads says");
        };
        std::iter::repeat_with(beside)
            .take(spec.threads - 1)
            .map_while(|bound| bound.and_then(&ready).inspect_err(complain).ok())
            .collect()
    }

    /// The sockets of listeners that go that were bound to an address.
    fn ours_at(&self, spec: &Spec, wanted: Asked, is_udp: bool) -> impl Iterator<Item = &Held> {
        // Of several listeners at any port, each keeps to its protocol.
        let protocol = spec.protocol;
        let fits = move |of: &Spec| wanted.address.port() != 0 || of.protocol == protocol;
        let goes = self
            .goes
            .iter()
            .filter(move |listener| fits(&listener.spec));
        let sockets = goes.flat_map(|listener| &listener.sockets);
        sockets.filter(move |socket| match &socket.bound {
            Bound::Udp(asked, ..) => is_udp && *asked == wanted,
            Bound::Tcp(asked, _) => !is_udp && *asked == wanted,
            Bound::UnixStream(_) | Bound::UnixDatagram(_) => false,
        })
    }
}

fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

fn ip_port(bound: &Bound) -> Option<u16> {
    Some(bound.ip_address()?.ok()?.port())
}

impl BindError {
    /// What became of a listener at one of its addresses.
    pub fn new(spec: &Spec, address: impl fmt::Display, source: io::Error) -> Self {
        Self {
            label: spec.label(),
            address: address.to_string(),
            holder: None,
            source,
        }
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
