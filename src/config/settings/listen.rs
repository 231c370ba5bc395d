//! Where lines come from, and which are taken.

use std::net::SocketAddr;

use crate::config::source::{Source, quoted};
use crate::config::values::{ListenAddress, NameRule, UnixAddress, choice};

use super::ranges::bytes_within;

/// Where lines come from, and which are taken.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenSettings {
    /// Datagrams over IP.
    pub udp: Vec<ListenAddress>,
    /// Streams over IP.
    pub tcp: Vec<ListenAddress>,
    /// Streams over Unix sockets.
    pub unix_stream: Vec<UnixAddress>,
    /// Datagrams over Unix sockets.
    pub unix_datagram: Vec<UnixAddress>,
    /// Streams over IP of carbon's pickle protocol.
    pub pickle: Vec<ListenAddress>,
    /// StatsD's samples, datagrams and streams over IP.
    pub statsd: Vec<ListenAddress>,
    /// Which names pass.
    pub names: NameRule,
    /// Longer lines are rejected.
    pub max_line_bytes: usize,
    /// At most this number of connections are open; another one evicts one of them.
    pub max_connections: usize,
    /// So many threads receive at each UDP address.
    pub udp_threads: usize,
}

const NAMES: &[(&str, NameRule)] = &[
    ("any", NameRule::Any),
    ("sanitize", NameRule::Sanitize),
    ("strict", NameRule::Strict),
];

/// What the source says of the listeners.
pub fn find(source: &mut Source, warnings: &mut Vec<String>) -> ListenSettings {
    let udp = source.list("listen.udp", ListenAddress::parse);
    let tcp = source.list("listen.tcp", ListenAddress::parse);
    let unix_stream = source.list("listen.unix_stream", UnixAddress::parse);
    let unix_datagram = source.list("listen.unix_datagram", UnixAddress::parse);
    let statsd = source.list("listen.statsd", ListenAddress::parse);
    let pickle = source.list("listen.pickle", ListenAddress::parse);
    let of_udp: (&str, &[ListenAddress]) = ("listen.udp", &udp);
    let of_tcp: (&str, &[ListenAddress]) = ("listen.tcp", &tcp);
    let of_statsd: (&str, &[ListenAddress]) = ("listen.statsd", &statsd);
    let of_pickle: (&str, &[ListenAddress]) = ("listen.pickle", &pickle);
    refuse_overlaps(source, &[of_udp, of_statsd]);
    refuse_overlaps(source, &[of_tcp, of_statsd, of_pickle]);
    for (key, addresses) in [of_udp, of_tcp, of_statsd, of_pickle] {
        for address in addresses.iter().filter(|address| !address.is_loopback()) {
            warnings.push(format!(
                "{key} {}: whoever can reach this address can write into the account",
                address.text
            ));
        }
    }
    let listen = ListenSettings {
        udp,
        tcp,
        unix_stream,
        unix_datagram,
        pickle,
        statsd,
        names: source
            .text("listen.names", choice(NAMES))
            .unwrap_or(NameRule::Any),
        max_line_bytes: bytes_within(source, "listen.max_line_bytes", 64, 64 << 10),
        max_connections: source
            .number("listen.max_connections", 1..1_000_001)
            .unwrap_or(1024) as usize,
        udp_threads: source.number("listen.udp_threads", 1..65).unwrap_or(1) as usize,
    };
    let nothing = listen.udp.is_empty()
        && listen.tcp.is_empty()
        && listen.unix_stream.is_empty()
        && listen.unix_datagram.is_empty()
        && listen.pickle.is_empty()
        && listen.statsd.is_empty();
    if nothing {
        warnings.push("there is no listener, so no line can come in".into());
    }
    listen
}

/// Two listeners cannot share an address, and a wildcard shares them all. The
/// keys that are given are those whose sockets are of one kind.
fn refuse_overlaps(source: &mut Source, keys: &[(&str, &[ListenAddress])]) {
    let overlap = |a: &SocketAddr, b: &SocketAddr| {
        let (one, other) = (a.ip(), b.ip());
        a.port() == b.port()
            && a.port() != 0
            && one.is_ipv4() == other.is_ipv4()
            && (one == other || one.is_unspecified() || other.is_unspecified())
    };
    let listeners: Vec<(&str, &ListenAddress)> = keys
        .iter()
        .flat_map(|(key, addresses)| addresses.iter().map(|address| (*key, address)))
        .collect();
    for (index, (first_key, first)) in listeners.iter().enumerate() {
        for (key, second) in &listeners[index + 1..] {
            let shared = second
                .addresses
                .iter()
                .find(|address| first.addresses.iter().any(|other| overlap(address, other)));
            let Some(shared) = shared else {
                continue;
            };
            let (one, other) = (quoted(&first.text), quoted(&second.text));
            let message = if first_key == key {
                format!("names {shared} in both {one} and {other}; keep one")
            } else {
                format!(
                    "{other} shares {shared} with {one} of {first_key}; give each a port of its own"
                )
            };
            source.refuse(key, message);
        }
    }
}
