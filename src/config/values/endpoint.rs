//! A host and a port.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use crate::os;

/// A host and a port to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an IP address, without brackets; behind a link-local one stands its
    /// zone, `fe80::1%eth0`, which the resolver understands.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Endpoint {
    /// `host:port`, `[address]:port`, or a host alone where there is a default.
    pub fn parse(text: &str, default_port: Option<u16>) -> Option<Self> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']')?;
            let host = with_zone(host)?;
            (
                Cow::Owned(host),
                rest.strip_prefix(':').or(rest.is_empty().then_some("")),
            )
        } else {
            let (host, port) = text
                .split_once(':')
                .map_or((text, ""), |(host, port)| (host, port));
            let valid = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
            if host.is_empty() || host.len() > 253 || !host.chars().all(valid) {
                return None;
            }
            (Cow::Borrowed(host), Some(port))
        };
        let port = match port? {
            "" => default_port?,
            digits => digits.parse().ok().filter(|port| *port != 0)?,
        };
        Some(Self {
            host: host.into_owned(),
            port,
        })
    }

    /// The address, where the host is one. A zone whose interface is missing is left to
    /// the resolver, which says so.
    pub fn address(&self) -> Option<SocketAddr> {
        let Some((address, zone)) = self.host.split_once('%') else {
            let ip: IpAddr = self.host.parse().ok()?;
            return Some(SocketAddr::new(ip, self.port));
        };
        let index = zone.parse().ok().or_else(|| os::interface_index(zone))?;
        let address = SocketAddrV6::new(address.parse().ok()?, self.port, 0, index);
        Some(address.into())
    }

    /// As others know it: a zone means nothing beyond this host, so certificates and
    /// `Host` headers have none (RFC 6874, section 4).
    #[must_use]
    pub fn without_zone(&self) -> Self {
        let host = self.host.split('%').next().unwrap_or_default();
        Self {
            host: host.to_owned(),
            port: self.port,
        }
    }
}

/// `fe80::1%eth0`, in a URL `fe80::1%25eth0` (RFC 6874). Without a zone, the address.
fn with_zone(host: &str) -> Option<String> {
    let Some((address, zone)) = host.split_once('%') else {
        host.parse::<Ipv6Addr>().ok()?;
        return Some(host.to_owned());
    };
    address.parse::<Ipv6Addr>().ok()?;
    let zone = zone
        .strip_prefix("25")
        .filter(|zone| !zone.is_empty())
        .unwrap_or(zone);
    let is_zone = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
    (!zone.is_empty() && zone.chars().all(is_zone)).then(|| format!("{address}%{zone}"))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}
