//! Who may ask: everybody who can reach the socket, but no web page of another
//! origin through the browser of somebody who can.
//!
//! Pages of other origins may send requests here and, as there is no CORS
//! header, not read the answers. What is left to them is to have their own name
//! resolve to this address ("DNS rebinding"): the browser then takes us for them.
//! It tells us that name as `Host`, so names count:
//!
//! - An address cannot be rebound, and `localhost` is resolved by the browser.
//! - Where only this host can reach the socket, nothing else is accepted.
//! - Where others can, scrapers come by whatever name they have for us: that of
//!   a Kubernetes service, of a compose file, of a domain. They are accepted by
//!   any name, as they are no browsers. Browsers, which always send
//!   `Accept-Language` and let no page prevent that, are accepted by names
//!   that no stranger can own: single labels, names of private domains, and
//!   what this host calls itself.
//!
//! Browsers that say by themselves that a request comes from another site
//! (`Sec-Fetch-Site`, `Origin`) are taken at their word; following a link to
//! this page is fine.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{ACCEPT_LANGUAGE, HOST, HeaderMap, ORIGIN};
use hyper::http::uri::Authority;
use hyper::{Request, StatusCode, Version};

/// Domains of which nobody owns a part on the public net: RFC 6761, RFC 6762,
/// RFC 8375, and ICANN's reservation of `.internal`.
const PRIVATE_DOMAINS: [&str; 4] = [".localhost", ".local", ".home.arpa", ".internal"];

/// Who can reach a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// This host alone.
    Host,
    /// Others as well.
    Network,
}

impl Exposure {
    /// Of a socket that is bound there.
    pub fn of(bound: SocketAddr) -> Self {
        if bound.ip().is_loopback() {
            Self::Host
        } else {
            Self::Network
        }
    }
}

/// Why a request is not answered.
pub type Refusal = (StatusCode, &'static str);

/// Whether a request may be answered.
pub fn check<B>(request: &Request<B>, reach: Exposure) -> Result<(), Refusal> {
    let headers = request.headers();
    let mut hosts = headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        // Health checks of load balancers; browsers always say whom they ask.
        (None, _) if request.version() < Version::HTTP_11 => return Ok(()),
        (Some(host), None) => host,
        _ => return Err((StatusCode::BAD_REQUEST, "a request has one Host header\n")),
    };
    let host: Authority = host
        .as_bytes()
        .try_into()
        .map_err(|_| (StatusCode::BAD_REQUEST, "the Host header is not a host\n"))?;
    let asked = request.uri().authority();
    if !is_ours(&host, headers, reach) || asked.is_some_and(|name| !is_ours(name, headers, reach)) {
        return Err((
            StatusCode::FORBIDDEN,
            "unknown Host header; use localhost or the IP address (protection against DNS rebinding)\n",
        ));
    }
    if is_of_another_origin(headers, &host) {
        return Err((
            StatusCode::FORBIDDEN,
            "requests from pages of another origin are not answered\n",
        ));
    }
    Ok(())
}

fn is_ours(authority: &Authority, headers: &HeaderMap, reach: Exposure) -> bool {
    let name = authority.host().to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    let address = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    if name == "localhost" || address.unwrap_or(name).parse::<IpAddr>().is_ok() {
        return true;
    }
    reach == Exposure::Network && (!is_browser(headers) || is_private(name))
}

/// A page can change the value of `Accept-Language`, but not leave it out.
fn is_browser(headers: &HeaderMap) -> bool {
    headers.contains_key(ACCEPT_LANGUAGE)
        || headers.contains_key(ORIGIN)
        || headers.contains_key("sec-fetch-site")
}

fn is_private(name: &str) -> bool {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy().to_ascii_lowercase();
    !name.contains('.')
        || name == host
        || PRIVATE_DOMAINS.iter().any(|domain| name.ends_with(domain))
}

fn is_of_another_origin(headers: &HeaderMap, host: &Authority) -> bool {
    let says = |name: &str, words: &[&str]| {
        headers
            .get(name)
            .is_some_and(|value| words.iter().any(|word| value == word))
    };
    let follows_link =
        says("sec-fetch-mode", &["navigate"]) && says("sec-fetch-dest", &["document"]);
    let is_from_elsewhere = headers.contains_key("sec-fetch-site")
        && !says("sec-fetch-site", &["same-origin", "none"])
        && !follows_link;
    let has_other_origin = headers.get(ORIGIN).is_some_and(|origin| {
        let origin = origin.to_str().ok();
        let origin = origin.and_then(|origin| origin.split_once("://"));
        origin.is_none_or(|(_, origin)| !origin.eq_ignore_ascii_case(host.as_str()))
    });
    is_from_elsewhere || has_other_origin
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(reach: Exposure, headers: &[(&str, &str)]) -> bool {
        let mut request = Request::get("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(&request.body(()).unwrap(), reach).is_ok()
    }

    #[test]
    fn a_loopback_socket_answers_to_addresses_and_localhost() {
        for host in [
            "localhost",
            "localhost:2023",
            "LOCALHOST.:2023",
            "127.0.0.1:2023",
            "127.1.2.3",
            "[::1]:2023",
            "10.0.0.1:80",
        ] {
            assert!(answered(Exposure::Host, &[("host", host)]), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:2023",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "box",
            "box.local",
            "[::1",
            "",
            "a b",
        ] {
            assert!(!answered(Exposure::Host, &[("host", host)]), "{host}");
        }
        assert!(!answered(Exposure::Host, &[]));
        let twice = [("host", "localhost"), ("host", "localhost")];
        assert!(!answered(Exposure::Host, &twice));
        let old = Request::get("/").version(Version::HTTP_10);
        assert!(check(&old.body(()).unwrap(), Exposure::Host).is_ok());
        let proxied = Request::get("http://evil.example/").header("host", "localhost");
        assert!(check(&proxied.body(()).unwrap(), Exposure::Host).is_err());
    }

    #[test]
    fn scrapers_come_by_any_name_and_browsers_by_names_that_nobody_can_own() {
        let browser = ("accept-language", "en");
        for (host, for_browsers) in [
            ("10.1.2.3:2023", true),
            ("[fd00::7]:2023", true),
            ("sidecarbon:2023", true),
            ("box.local", true),
            ("sidecarbon.monitoring.svc.cluster.local", true),
            ("sidecarbon.monitoring.svc:2023", false),
            ("metrics.example.com:2023", false),
        ] {
            let host = ("host", host);
            assert!(answered(Exposure::Network, &[host]), "{host:?}");
            let by_browser = answered(Exposure::Network, &[host, browser]);
            assert_eq!(by_browser, for_browsers, "{host:?}");
        }
        let name = rustix::system::uname();
        let name = name.nodename().to_str().unwrap().to_owned();
        assert!(answered(Exposure::Network, &[("host", &name), browser]));
    }

    #[test]
    fn browsers_are_taken_at_their_word() {
        let host = ("host", "localhost:2023");
        for (site, mode, dest, passes) in [
            ("none", "navigate", "document", true),
            ("same-origin", "cors", "empty", true),
            ("cross-site", "navigate", "document", true),
            ("cross-site", "navigate", "iframe", false),
            ("cross-site", "no-cors", "image", false),
            ("same-site", "cors", "empty", false),
        ] {
            let headers = [
                host,
                ("sec-fetch-site", site),
                ("sec-fetch-mode", mode),
                ("sec-fetch-dest", dest),
            ];
            assert_eq!(answered(Exposure::Host, &headers), passes, "{headers:?}");
        }
        for (origin, passes) in [
            ("http://localhost:2023", true),
            ("http://localhost:3000", false),
            ("https://evil.example", false),
            ("null", false),
        ] {
            let headers = [host, ("origin", origin)];
            assert_eq!(answered(Exposure::Host, &headers), passes, "{origin}");
        }
    }
}
