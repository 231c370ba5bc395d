//! Who is asked whether the key is right, where the sink cannot tell.

use crate::config::file::Probe;
use crate::config::values::{Endpoint, Proxy, SinkUrl};

use super::{Environment, Report};

/// A question over HTTP that only a valid key is answered: the key is its Basic
/// user, and nothing is written.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyCheck {
    /// Whether it is `https`.
    pub secure: bool,
    /// Host and port.
    pub endpoint: Endpoint,
    /// Path and query.
    pub path: String,
    /// Through which the connection is made.
    pub proxy: Option<Proxy>,
}

/// The check, if there is one.
pub fn find(file: &Probe, around: &Environment, report: &mut Report) -> Option<KeyCheck> {
    const WRITE: &str = "write \"https://api.hostedgraphite.com/api/v1/metric/search?pattern=x\"";
    let text = file.key_check_url.as_str();
    if text.is_empty() {
        return None;
    }
    let url = if text.starts_with("https://") || text.starts_with("http://") {
        SinkUrl::parse(text)
    } else {
        Err(format!("is not an https:// URL; {WRITE}"))
    };
    let (secure, endpoint, path) = match url {
        Ok(SinkUrl::Http {
            secure,
            endpoint,
            path,
        }) => (secure, endpoint, path),
        Ok(_) => return None,
        Err(message) => {
            report.problem(file.key_check_url.refuse(message));
            return None;
        }
    };
    if !secure {
        report.warn(
            "probe.key_check_url is http://, so the key travels in clear; write https:// where you can",
        );
    }
    let proxy = around.proxy_for(&endpoint).filter(|_| secure);
    Some(KeyCheck {
        // An invalid one is a problem where the sink needs it.
        proxy: proxy.and_then(|(_, text)| Proxy::parse(text).ok()),
        secure,
        endpoint,
        path,
    })
}
