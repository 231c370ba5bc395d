//! Where lines come from, and which are taken.

use std::net::{IpAddr, SocketAddr};

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
    /// Past so many streams the longest idle one is closed.
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

impl ListenSettings {
    /// The addresses over IP with their keys, of datagrams or of streams.
    pub fn by_key(&self, is_udp: bool) -> Vec<(&'static str, &ListenAddress)> {
        let keys: &[(&str, &[ListenAddress])] = if is_udp {
            &[("listen.udp", &self.udp), ("listen.statsd", &self.statsd)]
        } else {
            &[
                ("listen.tcp", &self.tcp),
                ("listen.statsd", &self.statsd),
                ("listen.pickle", &self.pickle),
            ]
        };
        keys.iter()
            .flat_map(|(key, addresses)| addresses.iter().map(|address| (*key, address)))
            .collect()
    }
}

/// Lets the addresses of one key share a port where `[::]` can leave IPv4 to another of
/// them, and refuses those that cannot. `admin` is the address of the admin endpoint, if
/// somebody asked for it.
pub fn share_ports(
    source: &mut Source,
    listen: &mut ListenSettings,
    admin: Option<&ListenAddress>,
) {
    let ListenSettings {
        udp,
        tcp,
        statsd,
        pickle,
        ..
    } = listen;
    for addresses in [udp, tcp, statsd, pickle] {
        leave_ipv4_to_others(addresses);
    }
    refuse_overlaps(source, &listen.by_key(true));
    let mut streams = listen.by_key(false);
    streams.extend(admin.map(|admin| ("admin.listen", admin)));
    refuse_overlaps(source, &streams);
    let streams = listen
        .unix_stream
        .iter()
        .map(|at| ("listen.unix_stream", at));
    let datagrams = listen.unix_datagram.iter();
    let datagrams = datagrams.map(|at| ("listen.unix_datagram", at));
    refuse_same_files(source, &streams.chain(datagrams).collect::<Vec<_>>());
}

/// `[::]` serves IPv4 too, unless an IPv4 address is named for the same port.
fn leave_ipv4_to_others(addresses: &mut [ListenAddress]) {
    let ipv4: Vec<u16> = addresses
        .iter()
        .flat_map(|listener| &listener.addresses)
        .filter(|address| address.is_ipv4())
        .map(SocketAddr::port)
        .collect();
    for listener in addresses {
        let is_shared = |address: &SocketAddr| {
            address.is_ipv6() && address.ip().is_unspecified() && ipv4.contains(&address.port())
        };
        listener.only_v6 = listener.addresses.iter().any(is_shared);
    }
}

/// Two listeners cannot share an address, and a wildcard shares them all. The
/// listeners that are given are those whose sockets are of one kind.
fn refuse_overlaps(source: &mut Source, listeners: &[(&str, &ListenAddress)]) {
    let serves_all = |listener: &ListenAddress, ip: IpAddr| {
        ip.is_unspecified() && ip.is_ipv6() && !listener.only_v6
    };
    let overlap = |one: (&ListenAddress, &SocketAddr), other: (&ListenAddress, &SocketAddr)| {
        let (one_ip, other_ip) = (one.1.ip(), other.1.ip());
        let is_one_family = one_ip.is_ipv4() == other_ip.is_ipv4()
            && (one_ip == other_ip || one_ip.is_unspecified() || other_ip.is_unspecified());
        one.1.port() == other.1.port()
            && one.1.port() != 0
            && (is_one_family || serves_all(one.0, one_ip) || serves_all(other.0, other_ip))
    };
    for (index, (first_key, first)) in listeners.iter().enumerate() {
        for (key, second) in &listeners[index + 1..] {
            let shared = second.addresses.iter().find(|address| {
                let mut others = first.addresses.iter();
                others.any(|other| overlap((second, address), (first, other)))
            });
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

/// A socket file has one listener. Abstract names are one for each kind of socket.
fn refuse_same_files(source: &mut Source, listeners: &[(&str, &UnixAddress)]) {
    for (index, (first_key, first)) in listeners.iter().enumerate() {
        for (key, second) in &listeners[index + 1..] {
            let is_file = matches!(second, UnixAddress::Path(_));
            if first == second && (is_file || first_key == key) {
                let where_else = if first_key == key {
                    "twice".to_owned()
                } else {
                    format!("and so does {first_key}")
                };
                let message = format!("names {second} {where_else}; keep one");
                source.refuse(key, message);
            }
        }
    }
}
