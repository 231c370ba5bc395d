//! A proxy, and who does not need it.

use std::fmt;
use std::net::IpAddr;

use zeroize::Zeroizing;

use super::Endpoint;

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
                    "is no http:// proxy, the only kind there is; {WRITE}"
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

/// Whether `NO_PROXY` exempts a host: names and their sub-domains, addresses,
/// or `*`, separated by commas.
pub fn is_exempt(host: &str, no_proxy: &str) -> bool {
    no_proxy.split(',').map(str::trim).any(|entry| {
        let entry = entry.trim_start_matches("*.").trim_start_matches('.');
        let entry = entry.rsplit_once(':').map_or(entry, |(name, port)| {
            if port.parse::<u16>().is_ok() && !name.contains(':') {
                name
            } else {
                entry
            }
        });
        let is_subdomain = || {
            let dot = host.len().checked_sub(entry.len() + 1);
            dot.is_some_and(|dot| {
                host.as_bytes()[dot] == b'.' && host[dot + 1..].eq_ignore_ascii_case(entry)
            })
        };
        !entry.is_empty()
            && (entry == "*"
                || host.eq_ignore_ascii_case(entry)
                || (host.parse::<IpAddr>().is_err() && host.is_ascii() && is_subdomain()))
    })
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
    fn no_proxy_names_hosts_and_their_subdomains() {
        for (host, list, exempt) in [
            ("a.example.com", "example.com", true),
            ("a.example.com", "localhost, .example.com", true),
            ("a.example.com", "*.example.com:443", true),
            ("badexample.com", "example.com", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("a", "*", true),
            ("a", "", false),
        ] {
            assert_eq!(is_exempt(host, list), exempt, "{host} {list}");
        }
    }
}
