//! Where lines go: `sink.url`.

use std::fmt;

use toml::Value as Written;

use super::Endpoint;
use super::bounds::text_of;
use crate::config::file::nearest;
use crate::config::setting::{Kind, Unreadable};

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
                let near = nearest(other, SCHEMES.into_iter())
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

impl Kind for SinkUrl {
    type Value = Self;

    fn read(written: &Written) -> Result<Self, Unreadable> {
        Ok(Self::parse(text_of(written)?)?)
    }
}

fn bad_authority(scheme: &str, authority: &str, example: u16) -> String {
    let host = authority.split(':').next().unwrap_or_default();
    if host.is_empty() {
        format!("has no host; write \"{scheme}://carbon.example.com:{example}\"")
    } else if authority.contains(':') {
        format!(
            "\"{authority}\" is not a host and port; write \"{scheme}://carbon.example.com:{example}\", or \"{scheme}://[2001:db8::1]:{example}\""
        )
    } else {
        format!(
            "\"{scheme}://{authority}\" has no port; write \"{scheme}://{authority}:{example}\""
        )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sink_urls() {
        for text in [
            "tls://carbon.hostedgraphite.com:20030",
            "tcp://10.0.0.1:2003",
            "udp://[::1]:2003",
            "udp://[fe80::1%eth0]:2003",
            "https://[fe80::1%br-lan.100]:443/",
            "https://www.hostedgraphite.com:443/api/v1/sink",
            "http://localhost:8080/",
            "stdout:",
        ] {
            assert_eq!(SinkUrl::parse(text).unwrap().to_string(), text);
        }
        for (text, shown) in [
            ("tls://[fe80::1%25eth0]:2003", "tls://[fe80::1%eth0]:2003"),
            ("tcp://[fe80::1%2]:2003", "tcp://[fe80::1%2]:2003"),
            ("tcp://[fe80::1%25]:2003", "tcp://[fe80::1%25]:2003"),
        ] {
            assert_eq!(SinkUrl::parse(text).unwrap().to_string(), shown);
        }
        for bad in [
            "tcp://[fe80::1%]:1",
            "tcp://[fe80::1%a b]:1",
            "tcp://[10.0.0.1%eth0]:1",
            "tcp://host%eth0:1",
        ] {
            assert!(SinkUrl::parse(bad).is_err(), "{bad}");
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
}
