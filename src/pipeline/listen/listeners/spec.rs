//! Listeners as the configuration names them.

use std::fmt;

use crate::config::{ListenAddress, ListenSettings, UnixAddress};
use crate::pipeline::decode::protocol::Protocol;
use crate::stats::ListenerKind;

/// One listener as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Where it is.
    pub place: Place,
    /// What is spoken there.
    pub protocol: Protocol,
    /// How many threads receive there, where it is of datagrams over IP.
    pub threads: usize,
}

/// A kind of socket, and the address that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Datagrams over IP.
    Udp(ListenAddress),
    /// Streams over IP.
    Tcp(ListenAddress),
    /// Streams over Unix sockets.
    UnixStream(UnixAddress),
    /// Datagrams over Unix sockets.
    UnixDatagram(UnixAddress),
    /// Datagrams and streams over IP, at the same ports.
    UdpAndTcp(ListenAddress),
}

impl Spec {
    /// All that the settings name.
    pub fn all(settings: &ListenSettings) -> Vec<Self> {
        let of = |protocol| {
            move |place| {
                let threads = match place {
                    Place::Udp(_) => settings.udp_threads,
                    _ => 1,
                };
                Self {
                    place,
                    protocol,
                    threads,
                }
            }
        };
        let udp = settings.udp.iter().cloned().map(Place::Udp);
        let tcp = settings.tcp.iter().cloned().map(Place::Tcp);
        let unix_stream = settings.unix_stream.iter().cloned();
        let unix_datagram = settings.unix_datagram.iter().cloned();
        let statsd = settings.statsd.iter().cloned();
        let pickle = settings.pickle.iter().cloned();
        udp.chain(tcp)
            .chain(unix_stream.map(Place::UnixStream))
            .chain(unix_datagram.map(Place::UnixDatagram))
            .map(of(Protocol::Lines))
            .chain(statsd.map(Place::UdpAndTcp).map(of(Protocol::Statsd)))
            .chain(pickle.map(Place::Tcp).map(of(Protocol::Pickle)))
            .collect()
    }

    /// The key that names it.
    pub fn kind(&self) -> ListenerKind {
        match (self.protocol, &self.place) {
            (Protocol::Lines, Place::Udp(_)) => ListenerKind::Udp,
            (Protocol::Lines, Place::Tcp(_)) => ListenerKind::Tcp,
            (Protocol::Lines, Place::UnixStream(_)) => ListenerKind::UnixStream,
            (Protocol::Lines, Place::UnixDatagram(_)) => ListenerKind::UnixDatagram,
            (Protocol::Statsd, _) | (_, Place::UdpAndTcp(_)) => ListenerKind::Statsd,
            (Protocol::Pickle, _) => ListenerKind::Pickle,
        }
    }

    /// Kind and address as configured.
    pub fn label(&self) -> String {
        format!("{}:{}", self.kind().label(), self.place)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(address) | Self::Tcp(address) | Self::UdpAndTcp(address) => {
                f.write_str(&address.text)
            }
            Self::UnixStream(address) | Self::UnixDatagram(address) => address.fmt(f),
        }
    }
}
