//! Values that can only be built valid. Each parser answers with what is wrong
//! and what to write instead.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use zeroize::Zeroizing;

/// A host and a port to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Where lines go: `sink.url`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkUrl {
    /// `tls://host:port`
    Tls(Endpoint),
    /// `tcp://host:port`
    Tcp(Endpoint),
    /// `udp://host:port`
    Udp(Endpoint),
    /// `https://host/path`, `http://host/path`
    Http {
        /// Whether it is `https`.
        secure: bool,
        /// Host and port.
        endpoint: Endpoint,
        /// Path and query, from the first slash.
        path: String,
    },
    /// `stdout:`
    Stdout,
}

/// Where to listen, over IP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddress {
    /// As it was written; part of the listener's label.
    pub text: String,
    /// What to bind. `localhost` is both loopback addresses.
    pub addresses: Vec<SocketAddr>,
}

/// Where to listen on a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnixAddress {
    /// In the file system.
    Path(PathBuf),
    /// In Linux's abstract name space, written `@name`.
    Abstract(String),
}

/// Which names pass: `listen.names`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameRule {
    /// Whatever cannot break a line; the upstream decides.
    Any,
    /// What the upstream does not document becomes `_`.
    Sanitize,
    /// What the upstream does not document is rejected.
    Strict,
}

/// What becomes of lines whose HTTP answer was lost: `sink.uncertain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uncertain {
    /// They are sent again, and may arrive twice.
    Resend,
    /// They are given up, and may be lost.
    Drop,
}

/// How logs look: `log.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Journald where standard error is the journal, else text.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
    /// With the priority prefix of sd-daemon(3), without time.
    Journald,
    /// As containers do it: to standard output, JSON where that is no terminal.
    Container,
}

/// Through which HTTP proxy: `sink.proxy`.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Where the proxy is.
    pub endpoint: Endpoint,
    /// `user:password`, a secret.
    pub credentials: Option<Zeroizing<String>>,
}

/// `64MiB`: a number with a unit.
pub fn bytes(text: &str) -> Result<usize, String> {
    const UNITS: [(&str, u64); 8] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("kB", 1000),
        ("KB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("B", 1),
    ];
    with_unit(text, &UNITS)
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(|| {
            format!(
                "\"{text}\" is not a size; write a number with KiB, MiB or GiB, such as \"64MiB\""
            )
        })
}

/// `250ms`: a number with a unit.
pub fn duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 5] = [
        ("ms", 1),
        ("s", 1000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
    ];
    with_unit(text, &UNITS)
        .map(Duration::from_millis)
        .ok_or_else(|| {
            format!(
                "\"{text}\" is not a duration; write a number with ms, s, m or h, such as \"30s\""
            )
        })
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit.trim())?.1;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// Sizes as `check` shows them.
pub fn show_bytes(bytes: usize) -> String {
    for (unit, factor) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= factor && bytes.is_multiple_of(factor) {
            return format!("{}{unit}", bytes / factor);
        }
    }
    format!("{bytes}B")
}

impl SinkUrl {
    /// Reads a sink's URL.
    pub fn parse(text: &str) -> Result<Self, String> {
        const SCHEMES: [&str; 6] = ["tls", "tcp", "udp", "https", "http", "stdout"];
        if text == "stdout:" {
            return Ok(Self::Stdout);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            let host = text.split([':', '/']).next().unwrap_or_default();
            return Err(if text.contains('@') || host.is_empty() {
                "has no scheme; write \"tls://host:20030\"".to_owned()
            } else {
                format!("\"{text}\" has no scheme; write \"tls://{host}:20030\"")
            });
        };
        let (authority, path) = match rest.find(['/', '?', '#']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        if authority.contains('@') {
            return Err(
                "holds user information; take it out, the key goes into sink.api_key_file"
                    .to_owned(),
            );
        }
        let line_endpoint = |example: u16| {
            if !path.is_empty() && path != "/" {
                return Err(format!(
                    "\"{text}\" has a path, which only https and http have; write \"{scheme}://{authority}\""
                ));
            }
            Endpoint::parse(authority, None)
                .ok_or_else(|| bad_authority(scheme, authority, example))
        };
        match scheme {
            "tls" => Ok(Self::Tls(line_endpoint(20030)?)),
            "tcp" => Ok(Self::Tcp(line_endpoint(2003)?)),
            "udp" => Ok(Self::Udp(line_endpoint(2003)?)),
            "https" | "http" => {
                let secure = scheme == "https";
                let endpoint = Endpoint::parse(authority, Some(if secure { 443 } else { 80 }))
                    .ok_or_else(|| bad_authority(scheme, authority, 443))?;
                if path.contains('#')
                    || path.contains(|c: char| c.is_whitespace() || c.is_control())
                {
                    return Err(format!(
                        "\"{text}\" has a path that cannot be sent; write \"{scheme}://{authority}/api/v1/sink\""
                    ));
                }
                let path = if path.starts_with('/') {
                    path.to_owned()
                } else {
                    format!("/{path}")
                };
                Ok(Self::Http {
                    secure,
                    endpoint,
                    path,
                })
            }
            other => {
                let near = super::keys::nearest(other, SCHEMES.into_iter())
                    .map_or_else(String::new, |near| format!("; did you mean \"{near}://\"?"));
                Err(format!(
                    "\"{text}\" has an unknown scheme; write tls, tcp, udp, https, http or stdout{near}"
                ))
            }
        }
    }

    /// Whether lines sent there carry a key.
    pub fn wants_key(&self) -> bool {
        *self != Self::Stdout
    }

    /// Whether a handshake protects what is sent there.
    pub fn is_secure(&self) -> bool {
        matches!(self, Self::Tls(_) | Self::Http { secure: true, .. })
    }
}

fn bad_authority(scheme: &str, authority: &str, example: u16) -> String {
    let host = authority.split(':').next().unwrap_or_default();
    if host.is_empty() {
        format!("has no host; write \"{scheme}://carbon.example.com:{example}\"")
    } else if authority.contains(':') {
        format!(
            "\"{authority}\" is no host and port; write \"{scheme}://carbon.example.com:{example}\", or \"{scheme}://[2001:db8::1]:{example}\""
        )
    } else {
        format!(
            "\"{scheme}://{authority}\" has no port; write \"{scheme}://{authority}:{example}\""
        )
    }
}

impl Endpoint {
    fn parse(text: &str, default_port: Option<u16>) -> Option<Self> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (
                host,
                rest.strip_prefix(':').or(rest.is_empty().then_some("")),
            )
        } else {
            let (host, port) = text
                .split_once(':')
                .map_or((text, ""), |(host, port)| (host, port));
            (host, Some(port))
        };
        let valid = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
        if host.is_empty() || host.len() > 253 || !host.chars().all(valid) {
            return None;
        }
        let port = match port? {
            "" => default_port?,
            digits => digits.parse().ok().filter(|port| *port != 0)?,
        };
        Some(Self {
            host: host.to_owned(),
            port,
        })
    }
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

impl fmt::Display for SinkUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls(endpoint) => write!(f, "tls://{endpoint}"),
            Self::Tcp(endpoint) => write!(f, "tcp://{endpoint}"),
            Self::Udp(endpoint) => write!(f, "udp://{endpoint}"),
            Self::Http {
                secure,
                endpoint,
                path,
            } => {
                let scheme = if *secure { "https" } else { "http" };
                write!(f, "{scheme}://{endpoint}{path}")
            }
            Self::Stdout => f.write_str("stdout:"),
        }
    }
}

impl ListenAddress {
    /// Reads `localhost:2003`, `127.0.0.1:2003`, `[::1]:2003`, `0.0.0.0:2003`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let addresses = if let Some(port) = text.strip_prefix("localhost:") {
            port.parse().ok().map(|port| {
                vec![
                    SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                    SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
                ]
            })
        } else {
            SocketAddr::from_str(text).ok().map(|address| vec![address])
        };
        match addresses {
            Some(addresses) => Ok(Self {
                text: text.to_owned(),
                addresses,
            }),
            None => Err(format!(
                "\"{text}\" is no address to listen on; write \"localhost:2003\", \"127.0.0.1:2003\" or \"[::1]:2003\""
            )),
        }
    }

    /// Whether only this host can reach it.
    pub fn is_loopback(&self) -> bool {
        self.addresses
            .iter()
            .all(|address| address.ip().is_loopback())
    }
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
                "\"{}\" is no Unix socket; write an absolute path of at most {MAX} bytes, or \"@name\"",
                text.escape_debug()
            )),
        }
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

/// One word out of a few.
pub fn choice<T: Copy>(
    choices: &'static [(&'static str, T)],
) -> impl Fn(&str) -> Result<T, String> {
    move |text| {
        choices
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, value)| *value)
            .ok_or_else(|| {
                let words: Vec<String> = choices
                    .iter()
                    .map(|(word, _)| format!("\"{word}\""))
                    .collect();
                format!(
                    "\"{}\" is not one of {}",
                    text.escape_debug(),
                    words.join(", ")
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_have_units() {
        assert_eq!(bytes("64MiB"), Ok(64 << 20));
        assert_eq!(bytes("1500 B"), Ok(1500));
        assert_eq!(bytes("2MB"), Ok(2_000_000));
        assert!(bytes("64").unwrap_err().contains("\"64MiB\""));
        assert!(bytes("99999999999GiB").is_err());
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        for bad in ["30", "", "s", "-1s", "1.5s", "5 weeks"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!(show_bytes(64 << 20), "64MiB");
        assert_eq!(show_bytes(1400), "1400B");
    }

    #[test]
    fn sink_urls() {
        for text in [
            "tls://carbon.hostedgraphite.com:20030",
            "tcp://10.0.0.1:2003",
            "udp://[::1]:2003",
            "https://www.hostedgraphite.com:443/api/v1/sink",
            "http://localhost:8080/",
            "stdout:",
        ] {
            assert_eq!(SinkUrl::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(
            SinkUrl::parse("https://example.com").unwrap().to_string(),
            "https://example.com:443/"
        );
    }

    #[test]
    fn a_bad_sink_url_is_answered_with_what_to_write() {
        for (text, remedy) in [
            ("carbon.example.com", "\"tls://carbon.example.com:20030\""),
            (
                "tls://carbon.example.com",
                "\"tls://carbon.example.com:20030\"",
            ),
            ("tcp://h:0", "tcp://carbon.example.com:2003"),
            ("tcp://:2003", "has no host"),
            ("tsl://h:1", "did you mean \"tls://\"?"),
            ("tcp://h:1/path", "write \"tcp://h:1\""),
            ("https://key@example.com/", "sink.api_key_file"),
        ] {
            let message = SinkUrl::parse(text).unwrap_err();
            assert!(message.contains(remedy), "{text}: {message}");
        }
        assert!(!SinkUrl::parse("sesame@h").unwrap_err().contains("sesame"));
        assert!(
            !SinkUrl::parse("tls://sesame@h:1")
                .unwrap_err()
                .contains("sesame")
        );
    }

    #[test]
    fn localhost_is_both_loopback_addresses() {
        let address = ListenAddress::parse("localhost:2003").unwrap();
        assert_eq!(address.addresses.len(), 2);
        assert!(address.is_loopback());
        assert!(!ListenAddress::parse("0.0.0.0:2003").unwrap().is_loopback());
        for bad in ["2003", "example.com:2003", "localhost:99999", ":2003"] {
            assert!(ListenAddress::parse(bad).is_err(), "{bad}");
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
