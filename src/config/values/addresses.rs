//! Where lines come from: addresses and paths to listen at.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;
use std::str::FromStr;

use toml::Value as Written;

use super::bounds::{Item, text_of};
use crate::config::setting::{Kind, Unreadable};
use crate::os;

/// Where to listen, over IP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddress {
    /// As it was written; part of the listener's label.
    pub text: String,
    /// What to bind. `localhost` is both loopback addresses.
    pub addresses: Vec<SocketAddr>,
    /// Whether the wildcard `[::]` leaves IPv4 to another address of the same key.
    pub only_v6: bool,
}

impl ListenAddress {
    /// Reads `localhost:2003`, `127.0.0.1:2003`, `[::1]:2003`, `0.0.0.0:2003`; a port
    /// alone, `:2003` or `2003`, is one of localhost.
    pub fn parse(text: &str) -> Result<Self, String> {
        let port = text.strip_prefix("localhost:");
        let port = port.or(text.strip_prefix(':')).unwrap_or(text);
        let addresses = if port.bytes().all(|byte| byte.is_ascii_digit()) {
            port.parse().ok().map(|port| {
                vec![
                    SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                    SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
                ]
            })
        } else {
            let address = SocketAddr::from_str(text).ok();
            address.or_else(|| in_zone(text)).map(|at| vec![at])
        };
        match addresses {
            Some(addresses) => Ok(Self {
                text: text.to_owned(),
                addresses,
                only_v6: false,
            }),
            None => Err(format!(
                "\"{text}\" is not an address to listen on; write \"localhost:2003\", \"127.0.0.1:2003\" or \"[::1]:2003\""
            )),
        }
    }

    /// Whether a client that connects to `target` on this host reaches this listener.
    pub fn is_reached_at(&self, target: SocketAddr) -> bool {
        let reaches = |address: &SocketAddr| is_reached_at(*address, self.only_v6, target);
        self.addresses.iter().any(reaches)
    }

    /// Whether only this host can reach it.
    pub fn is_loopback(&self) -> bool {
        self.addresses
            .iter()
            .all(|address| address.ip().is_loopback())
    }
}

/// Reads `[fe80::1%eth0]:2003`; the standard library knows zones by number only.
fn in_zone(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.strip_prefix('[')?.split_once("]:")?;
    let (address, zone) = address.split_once('%')?;
    let index = os::interface_index(zone).or_else(|| {
        // As in a URL, RFC 6874.
        zone.strip_prefix("25").and_then(os::interface_index)
    });
    let is_name = |c: char| c.is_ascii_graphic() && !"[]%/".contains(c);
    if zone.is_empty() || !zone.chars().all(is_name) {
        return None;
    }
    // The interface may come later; until then, binding answers "no such device".
    let index = index.unwrap_or(u32::MAX);
    let address = SocketAddrV6::new(address.parse().ok()?, port.parse().ok()?, 0, index);
    Some(address.into())
}

/// Whether a client that connects to `target`, an address of this host, reaches a socket
/// that is bound to `bound`. The wildcard `[::]` serves IPv4 as well, unless it is
/// `only_v6` (ipv6(7)).
pub fn is_reached_at(bound: SocketAddr, only_v6: bool, target: SocketAddr) -> bool {
    let ip = match target.ip().to_canonical() {
        // Connecting to a wildcard reaches the loopback address.
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let serves = match bound.ip() {
        IpAddr::V4(any) if any.is_unspecified() => ip.is_ipv4(),
        IpAddr::V6(any) if any.is_unspecified() => ip.is_ipv6() || !only_v6,
        one => one.to_canonical() == ip,
    };
    bound.port() == target.port() && serves
}

/// Where to listen on a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnixAddress {
    /// In the file system.
    Path(PathBuf),
    /// In Linux's abstract name space, written `@name`.
    Abstract(String),
}

impl UnixAddress {
    /// Reads a path, or `@name`.
    pub fn parse(text: &str) -> Result<Self, String> {
        // sun_path holds 108 bytes, with a NUL at one end; unix(7).
        const MAX: usize = 107;
        let fits = !text.contains('\0') && text.len() <= MAX;
        match text.strip_prefix('@') {
            Some(name) if fits && !name.is_empty() => Ok(Self::Abstract(name.to_owned())),
            None if fits && text.starts_with('/') => Ok(Self::Path(text.into())),
            _ => Err(format!(
                "\"{}\" is not a Unix socket; write an absolute path of at most {MAX} bytes, or \"@name\"",
                text.escape_debug()
            )),
        }
    }
}

impl Item for ListenAddress {
    const LIST: (&'static str, &'static str) = ("a list of texts", "[\"localhost:2003\"]");

    fn parse(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

impl Kind for ListenAddress {
    type Value = Self;

    fn read(written: &Written) -> Result<Self, Unreadable> {
        let with_none = |message| format!("{message}, or \"\" for none");
        Ok(Self::parse(text_of(written)?).map_err(with_none)?)
    }
}

impl Item for UnixAddress {
    const LIST: (&'static str, &'static str) =
        ("a list of texts", "[\"/run/sidecarbon/graphite.sock\"]");

    fn parse(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

impl fmt::Display for UnixAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Abstract(name) => write!(f, "@{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_is_both_loopback_addresses() {
        let address = ListenAddress::parse("localhost:2003").unwrap();
        assert_eq!(address.addresses.len(), 2);
        assert!(address.is_loopback());
        assert!(!ListenAddress::parse("0.0.0.0:2003").unwrap().is_loopback());
        for port in ["2003", ":2003"] {
            let alone = ListenAddress::parse(port).unwrap();
            assert_eq!(alone.addresses, address.addresses, "{port}");
        }
        for bad in [
            "",
            ":",
            "localhost",
            "example.com:2003",
            "localhost:99999",
            "99999",
        ] {
            assert!(ListenAddress::parse(bad).is_err(), "{bad}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn link_local_addresses_have_a_zone() {
        let scope = |text: &str| match ListenAddress::parse(text).unwrap().addresses[..] {
            [SocketAddr::V6(address)] => address.scope_id(),
            _ => panic!("{text}"),
        };
        let lo = scope("[fe80::1%lo]:2003");
        assert!((1..u32::MAX).contains(&lo), "{lo}");
        assert_eq!(scope("[fe80::1%25lo]:2003"), lo);
        assert_eq!(scope("[fe80::1%7]:2003"), 7);
        assert_eq!(scope("[fe80::1%missing0]:2003"), u32::MAX);
        for bad in [
            "[fe80::1%]:1",
            "[10.0.0.1%lo]:1",
            "[fe80::1%lo]",
            "[fe80::1%l o]:1",
            "fe80::1%lo:1",
        ] {
            assert!(ListenAddress::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_reaches_a_listener() {
        for (bound, only_v6, target, reaches) in [
            ("127.0.0.1:1", false, "127.0.0.1:1", true),
            ("127.0.0.1:1", false, "127.0.0.1:2", false),
            ("127.0.0.1:1", false, "127.0.0.2:1", false),
            ("127.0.0.1:1", false, "0.0.0.0:1", true),
            ("127.0.0.1:1", false, "[::ffff:127.0.0.1]:1", true),
            ("127.0.0.1:1", false, "[::1]:1", false),
            ("0.0.0.0:1", false, "10.0.0.1:1", true),
            ("0.0.0.0:1", false, "[::1]:1", false),
            ("[::1]:1", false, "[::]:1", true),
            ("[::]:1", false, "[2001:db8::1]:1", true),
            ("[::]:1", false, "10.0.0.1:1", true),
            ("[::]:1", true, "10.0.0.1:1", false),
            ("[::]:1", true, "[::1]:1", true),
        ] {
            let (from, to) = (bound.parse().unwrap(), target.parse().unwrap());
            assert_eq!(
                is_reached_at(from, only_v6, to),
                reaches,
                "{bound} {target}"
            );
        }
    }

    #[test]
    fn unix_sockets() {
        assert!(UnixAddress::parse("/run/sidecarbon.sock").is_ok());
        assert!(UnixAddress::parse("@sidecarbon").is_ok());
        for bad in ["", "@", "relative", "/\0"] {
            assert!(UnixAddress::parse(bad).is_err(), "{bad:?}");
        }
        assert!(UnixAddress::parse(&format!("/{}", "x".repeat(107))).is_err());
    }
}
