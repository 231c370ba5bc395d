//! A sink that would send lines back to a listener of the same daemon.
//!
//! Only what this host knows without asking anybody is looked at here: addresses, and
//! the names of `/etc/hosts`. All else shows when the sink connects (`sink/own.rs`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::config::file::File;
use crate::config::setting::quoted;
use crate::config::values::{Endpoint, SinkUrl};

use super::{Environment, ListenSettings, Report, SinkSettings};

/// Refuses a sink, or a proxy before it, that is a listener of ours.
pub fn refuse(
    file: &File,
    sink: &SinkSettings,
    listen: &ListenSettings,
    around: &Environment,
    report: &mut Report,
) {
    let (is_udp, endpoint) = match &sink.url {
        SinkUrl::Stdout => return,
        SinkUrl::Udp(endpoint) => (true, endpoint),
        SinkUrl::Tls(endpoint) | SinkUrl::Tcp(endpoint) | SinkUrl::Http { endpoint, .. } => {
            (false, endpoint)
        }
    };
    let proxy = sink.proxy.as_ref().filter(|_| !is_udp);
    let endpoint = proxy.map_or(endpoint, |proxy| &proxy.endpoint);
    let targets = targets(endpoint, around);
    let mut listeners = listen.by_key(is_udp);
    if let (false, Some(admin)) = (is_udp, &*file.admin.listen) {
        listeners.push((file.admin.listen.path(), admin));
    }
    let own = listeners.into_iter().find(|(_, listener)| {
        let mut targets = targets.iter();
        targets.any(|target| listener.is_reached_at(*target))
    });
    if let Some((listener_key, listener)) = own {
        let message = format!(
            "leads to sidecarbon itself: {endpoint} is {} of {listener_key}; write the address of the upstream, or listen on another port",
            quoted(&listener.text)
        );
        report.problem(match proxy {
            Some(_) => file.sink.proxy.refuse(message),
            None => file.sink.url.refuse(message),
        });
    }
}

/// The addresses of this host at which an endpoint is, as far as this host knows.
fn targets(endpoint: &Endpoint, around: &Environment) -> Vec<SocketAddr> {
    let host = endpoint.host.trim_end_matches('.').to_ascii_lowercase();
    let ips: Vec<IpAddr> = if let Ok(ip) = host.parse() {
        vec![ip]
    } else if host == "localhost" || host.ends_with(".localhost") {
        // RFC 6761, 6.3
        vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
    } else {
        hosts_addresses(around.hosts.as_deref().unwrap_or_default(), &host)
    };
    let of_this_host = ips.into_iter().filter(|ip| is_of_this_host(*ip));
    of_this_host
        .map(|ip| SocketAddr::new(ip, endpoint.port))
        .collect()
}

/// The addresses of a name in the text of `/etc/hosts` (hosts(5)).
fn hosts_addresses(hosts: &str, name: &str) -> Vec<IpAddr> {
    let has_name = |line: &str| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let ip = words.next()?.parse().ok()?;
        words
            .any(|word| word.eq_ignore_ascii_case(name))
            .then_some(ip)
    };
    hosts.lines().filter_map(has_name).collect()
}

/// Whether an address is one of this host. The way to such an address begins at the same
/// address; no packet is sent to learn that.
fn is_of_this_host(ip: IpAddr) -> bool {
    const ANY_PORT: u16 = 9;
    let ip = ip.to_canonical();
    if ip.is_loopback() || ip.is_unspecified() {
        return true;
    }
    let any: IpAddr = if ip.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let begins_at = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((ip, ANY_PORT))?;
        socket.local_addr()
    };
    begins_at().is_ok_and(|local| local.ip() == ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_etc_hosts() {
        let hosts = "127.0.0.1 localhost\n# 10.0.0.1 relay\n10.0.0.2\trelay Relay.example # here\n::1 relay\n";
        let ips = |name| hosts_addresses(hosts, name);
        assert_eq!(
            ips("relay.example"),
            ["10.0.0.2".parse::<IpAddr>().unwrap()]
        );
        assert_eq!(ips("relay").len(), 2);
        assert!(ips("here").is_empty());
    }

    #[test]
    fn which_addresses_are_of_this_host() {
        for own in [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "0.0.0.0",
            "::ffff:127.0.0.1",
        ] {
            assert!(is_of_this_host(own.parse().unwrap()), "{own}");
        }
        // Documentation addresses (RFC 5737, RFC 3849) are nobody's.
        for other in ["192.0.2.1", "2001:db8::1"] {
            assert!(!is_of_this_host(other.parse().unwrap()), "{other}");
        }
    }
}
