//! Where lines come from, and which are taken.

use std::net::{IpAddr, SocketAddr};

use crate::config::file::{File, Listen};
use crate::config::problem::{Origin, Problem};
use crate::config::setting::{Setting, quoted};
use crate::config::values::{Item, ListenAddress, NameRule, UnixAddress};

use super::Report;

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

/// The listeners of the file.
pub fn resolve(file: &Listen, report: &mut Report) -> ListenSettings {
    for list in [&file.udp, &file.tcp, &file.statsd, &file.pickle] {
        for address in list.iter().filter(|address| !address.is_loopback()) {
            report.warn(format!(
                "{} {}: whoever can reach this address can write into the account",
                list.path(),
                address.text
            ));
        }
    }
    let listen = ListenSettings {
        udp: file.udp.to_vec(),
        tcp: file.tcp.to_vec(),
        unix_stream: file.unix_stream.to_vec(),
        unix_datagram: file.unix_datagram.to_vec(),
        pickle: file.pickle.to_vec(),
        statsd: file.statsd.to_vec(),
        names: *file.names,
        max_line_bytes: *file.max_line_bytes,
        max_connections: *file.max_connections as usize,
        udp_threads: *file.udp_threads as usize,
    };
    let over_ip = listen.by_key(true).len() + listen.by_key(false).len();
    if over_ip + listen.unix_stream.len() + listen.unix_datagram.len() == 0 {
        report.warn("there is no listener, so no line can come in");
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
/// them, and refuses those that cannot.
pub fn share_ports(file: &File, listen: &mut ListenSettings, report: &mut Report) {
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
    let of = &file.listen;
    let mut datagrams = named(&of.udp, &listen.udp);
    datagrams.extend(named(&of.statsd, &listen.statsd));
    refuse_overlaps(report, &datagrams);
    let mut streams = named(&of.tcp, &listen.tcp);
    streams.extend(named(&of.statsd, &listen.statsd));
    streams.extend(named(&of.pickle, &listen.pickle));
    // The default one may be taken by another instance; that refuses no listener.
    let admin = file
        .admin
        .listen
        .as_ref()
        .filter(|_| file.admin.listen.is_set());
    let key = &file.admin.listen;
    streams.extend(admin.map(|admin| (key.path(), key.origin(), admin)));
    refuse_overlaps(report, &streams);
    let mut files = named(&of.unix_stream, &listen.unix_stream);
    files.extend(named(&of.unix_datagram, &listen.unix_datagram));
    refuse_same_files(report, &files);
}

/// A value with the path and the origin of its key.
type Named<'a, T> = (&'static str, &'a Origin, &'a T);

fn named<'a, T: Item>(key: &'a Setting<Vec<T>>, values: &'a [T]) -> Vec<Named<'a, T>> {
    let name = |value| (key.path(), key.origin(), value);
    values.iter().map(name).collect()
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
fn refuse_overlaps(report: &mut Report, listeners: &[Named<'_, ListenAddress>]) {
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
    for (index, (first_key, _, first)) in listeners.iter().enumerate() {
        for (key, origin, second) in &listeners[index + 1..] {
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
            report.problem(Problem::new(origin, key, message));
        }
    }
}

/// A socket file has one listener. Abstract names are one for each kind of socket.
fn refuse_same_files(report: &mut Report, listeners: &[Named<'_, UnixAddress>]) {
    for (index, (first_key, _, first)) in listeners.iter().enumerate() {
        for (key, origin, second) in &listeners[index + 1..] {
            let is_file = matches!(second, UnixAddress::Path(_));
            let is_one_key = first_key == key;
            if first == second && (is_file || is_one_key) {
                let where_else = if is_one_key {
                    "twice".to_owned()
                } else {
                    format!("and so does {first_key}")
                };
                let message = format!("names {second} {where_else}; keep one");
                report.problem(Problem::new(origin, key, message));
            }
        }
    }
}
