//! Who is asked whether the key is right, where the sink cannot tell.

use crate::config::source::Source;
use crate::config::values::{Endpoint, Proxy, SinkUrl};

use super::Surroundings;

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

/// Who is asked, if anybody.
pub fn find(
    source: &mut Source,
    around: &Surroundings,
    warnings: &mut Vec<String>,
) -> Option<KeyCheck> {
    const WRITE: &str = "write \"https://api.hostedgraphite.com/api/v1/metric/search?pattern=x\"";
    let url = source.text("probe.key_check_url", |text| {
        if text.is_empty() {
            return Ok(None);
        }
        if !text.starts_with("https://") && !text.starts_with("http://") {
            return Err(format!("is no https:// URL; {WRITE}"));
        }
        SinkUrl::parse(text).map(Some)
    });
    let Some(SinkUrl::Http {
        secure,
        endpoint,
        path,
    }) = url.flatten()
    else {
        return None;
    };
    if !secure {
        warnings.push(
            "probe.key_check_url is http://, so the key travels in clear; write https:// where you can"
                .into(),
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
