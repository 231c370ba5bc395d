//! A proxy, and who does not need it.

use std::fmt;
use std::net::IpAddr;

use toml::Value as Written;
use zeroize::Zeroizing;

use super::Endpoint;
use super::bounds::text_of;
use crate::config::setting::{Kind, Unreadable, quoted};

/// Through which HTTP proxy: `sink.proxy`.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Where the proxy is.
    pub endpoint: Endpoint,
    /// `user:password`, a secret.
    pub credentials: Option<Zeroizing<String>>,
}

impl Proxy {
    /// Reads `http://[user:password@]host:port`. What is wrong is said without
    /// the text, which may hold a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        const WRITE: &str = "write \"http://proxy.example.com:3128\"";
        let rest = match text.split_once("://") {
            Some(("http", rest)) => rest,
            Some(_) => {
                return Err(format!(
                    "is not an http:// proxy, the only kind that is supported; {WRITE}"
                ));
            }
            None => text,
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (credentials, authority) = match authority.rsplit_once('@') {
            Some((credentials, authority)) => (Some(percent_decoded(credentials)), authority),
            None => (None, authority),
        };
        let endpoint = Endpoint::parse(authority, Some(3128))
            .ok_or_else(|| format!("has no host; {WRITE}"))?;
        Ok(Self {
            endpoint,
            credentials,
        })
    }
}

impl Kind for Proxy {
    type Value = Self;

    fn read(written: &Written) -> Result<Self, Unreadable> {
        Ok(Self::parse(text_of(written)?)?)
    }

    fn show(proxy: &Self, _: &Written) -> String {
        quoted(&proxy.to_string())
    }
}

/// Characters that a URL cannot hold are written `%40` there.
fn percent_decoded(text: &str) -> Zeroizing<String> {
    let mut decoded = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        let escaped = (*byte == b'%')
            .then(|| std::str::from_utf8(tail.get(..2)?).ok())
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(escaped.unwrap_or(*byte));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    Zeroizing::new(String::from_utf8_lossy(&decoded).into_owned())
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let masked = if self.credentials.is_some() {
            "<credentials>@"
        } else {
            ""
        };
        write!(f, "http://{masked}{}", self.endpoint)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// Whether `NO_PROXY` exempts a host. As curl reads it: entries are separated
/// by commas or blanks; a name stands for itself and its sub-domains, with or
/// without a dot before it; `*` is everybody; addresses may have a length
/// (CIDR). And as Go reads it: an entry with a port is for that port only, and
/// `*.` may stand before a name. Quotes, which some files with variables keep,
/// do not count.
pub fn is_exempt(endpoint: &Endpoint, no_proxy: &str) -> bool {
    let host = endpoint.host.trim_end_matches('.');
    no_proxy
        .split(|c: char| c == ',' || c.is_whitespace())
        .map(|entry| entry.trim_matches(['"', '\'']))
        .filter(|entry| !entry.is_empty())
        .any(|entry| match entry {
            "*" => true,
            entry => {
                let (entry, port) = split_port(entry);
                port.is_none_or(|port| port == endpoint.port) && matches_host(entry, host)
            }
        })
}

/// `name:443`, `10.0.0.1:443` and `[::1]:443` without their ports.
fn split_port(entry: &str) -> (&str, Option<u16>) {
    let Some((host, port)) = entry.rsplit_once(':') else {
        return (entry, None);
    };
    // The colon of an address without brackets is not one before a port.
    if host.contains(':') && !host.ends_with(']') {
        return (entry, None);
    }
    port.parse()
        .map_or((entry, None), |port| (host, Some(port)))
}

fn matches_host(entry: &str, host: &str) -> bool {
    if let Ok(address) = host.parse::<IpAddr>() {
        return holds(entry, address.to_canonical());
    }
    let name = entry.strip_prefix("*.").unwrap_or(entry);
    let name = name.trim_start_matches('.').trim_end_matches('.');
    let (host, name) = (host.as_bytes(), name.as_bytes());
    let Some(before) = host.len().checked_sub(name.len()) else {
        return false;
    };
    !name.is_empty()
        && host[before..].eq_ignore_ascii_case(name)
        && (before == 0 || host[before - 1] == b'.')
}

/// Whether an address, or a network such as `10.0.0.0/8`, holds another one.
fn holds(entry: &str, address: IpAddr) -> bool {
    let (network, length) = match entry.split_once('/') {
        None => (entry, None),
        Some((network, length)) => match length.parse::<u32>() {
            Ok(length) => (network, Some(length)),
            Err(_) => return false,
        },
    };
    let network = network.trim_start_matches('[').trim_end_matches(']');
    let Ok(network) = network.parse::<IpAddr>() else {
        return false;
    };
    let (network, address, bits) = match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => (
            u128::from(network.to_bits()),
            u128::from(address.to_bits()),
            32,
        ),
        (IpAddr::V6(network), IpAddr::V6(address)) => (network.to_bits(), address.to_bits(), 128),
        (IpAddr::V6(network), address) if length.is_none() => {
            return network.to_canonical() == address;
        }
        _ => return false,
    };
    let length = length.unwrap_or(bits);
    let differing = network ^ address;
    length <= bits && differing.checked_shr(bits - length).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxys_password_is_not_shown() {
        let proxy = Proxy::parse("http://user:sesame@proxy:3128/").unwrap();
        assert_eq!(proxy.endpoint.to_string(), "proxy:3128");
        assert!(!format!("{proxy} {proxy:?}").contains("sesame"));
        let proxy = Proxy::parse("http://u:a%40b%zz@proxy").unwrap();
        assert_eq!(proxy.credentials.unwrap().as_str(), "u:a@b%zz");
        assert!(
            !Proxy::parse("ftp://u:sesame@p")
                .unwrap_err()
                .contains("sesame")
        );
    }

    #[test]
    fn no_proxy_is_read_as_curl_and_go_read_it() {
        for (to, list, exempt) in [
            ("a.example.com:443", "example.com", true),
            ("a.example.com:443", "localhost, .example.com", true),
            ("example.com:443", ".example.com", true),
            ("badexample.com:443", "example.com", false),
            ("example.com:443", "a.example.com", false),
            ("A.Example.COM:443", "eXample.com", true),
            ("example.com.:443", "example.com", true),
            ("example.com:443", "example.com.", true),
            ("a.example.com:443", "*.example.com", true),
            ("a.example.com:443", "*.example.com:443", true),
            ("a.example.com:443", "example.com:8443", false),
            ("a:443", "*", true),
            ("a:443", "b,*", true),
            ("a:443", "", false),
            ("a:443", ".", false),
            ("a:443", "*.", false),
            // Blanks, quotes.
            ("c:443", "a b\tc", true),
            ("c:443", "a,\n c ,b", true),
            ("c:443", "\"a,c\"", true),
            ("a:443", "\"a,c\"", true),
            ("b:443", "'a' 'b'", true),
            // Addresses and networks.
            ("10.0.0.1:443", "10.0.0.1", true),
            ("10.0.0.1:443", "10.0.0.1:443", true),
            ("10.0.0.1:443", "10.0.0.1:80", false),
            ("10.200.3.4:443", "10.0.0.0/8", true),
            ("11.0.0.1:443", "10.0.0.0/8", false),
            ("192.168.1.129:443", "192.168.1.128/25", true),
            ("192.168.1.127:443", "192.168.1.128/25", false),
            ("9.9.9.9:443", "0.0.0.0/0", true),
            ("10.0.0.1:443", "10.0.0.1/32", true),
            ("10.0.0.1:443", "10.0.0.1/33", false),
            ("10.0.0.1:443", "10.0.0.1/x", false),
            ("210.0.0.1:443", "10.0.0.1", false),
            ("10.0.0.1:443", "0.1", false),
            ("[fd00::1]:443", "fd00::/8", true),
            ("[fe00::1]:443", "fd00::/8", false),
            ("[::1]:443", "::1", true),
            ("[::1]:443", "[::1]", true),
            ("[::1]:443", "[::1]:443", true),
            ("[::1]:443", "[::1]:80", false),
            ("[::1]:443", "0:0:0:0:0:0:0:1", true),
            ("[::1]:443", "::/0", true),
            ("[::1]:443", "0.0.0.0/0", false),
            ("[::ffff:10.0.0.1]:443", "10.0.0.0/8", true),
            // A network is for addresses, not for names that have them.
            ("localhost:443", "127.0.0.0/8", false),
        ] {
            let endpoint = Endpoint::parse(to, None).unwrap();
            assert_eq!(is_exempt(&endpoint, list), exempt, "{to} {list}");
        }
    }
}
