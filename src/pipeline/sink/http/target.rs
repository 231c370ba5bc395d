//! Where requests go, and with which headers.
//!
//! The one place of HTTP where the key is exposed.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request};
use zeroize::Zeroizing;

use crate::config::{ApiKey, Endpoint};
use crate::pipeline::sink::failure::Failure;
use crate::stats::FailureKind;

use super::body::Bodies;

/// Where requests go, and with which headers.
pub struct Target {
    host: HeaderValue,
    path: String,
    authorization: Option<HeaderValue>,
    /// What answers must not show.
    pub key: ApiKey,
    bodies: Bodies,
}

impl Target {
    /// Requests to a path of a host, with a key as the user.
    pub fn new(secure: bool, endpoint: &Endpoint, path: &str, key: &ApiKey) -> Self {
        let default_port = if secure { 443 } else { 80 };
        let with_port = endpoint.without_zone().to_string();
        let host = match with_port.rsplit_once(':') {
            Some((host, _)) if endpoint.port == default_port => host,
            _ => &with_port,
        };
        Self {
            host: HeaderValue::from_str(host).unwrap_or(HeaderValue::from_static("")),
            path: path.to_owned(),
            authorization: authorization(key),
            key: key.clone(),
            bodies: Bodies::default(),
        }
    }

    /// A request with these lines as its body, one part after the other.
    pub fn request<'a>(
        &self,
        method: Method,
        parts: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(&self.path)
            .header(HOST, &self.host)
            .header(
                USER_AGENT,
                concat!("sidecarbon/", env!("CARGO_PKG_VERSION")),
            )
            .header(CONTENT_TYPE, "text/plain; charset=utf-8");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        request
            .body(Full::new(self.bodies.holding(parts)))
            .map_err(|error| {
                let what = format!("its path cannot be requested: {error}");
                Failure::misconfigured(FailureKind::Status, what)
            })
    }
}

/// `Basic base64(KEY:)`, with an empty password (docs/facts.md).
fn authorization(key: &ApiKey) -> Option<HeaderValue> {
    if key.is_empty() {
        return None;
    }
    let mut user = Zeroizing::new(Vec::with_capacity(key.len() + 1));
    user.extend_from_slice(key.expose());
    user.push(b':');
    let encoded = Zeroizing::new(BASE64_STANDARD.encode(&*user));
    let value = Zeroizing::new(format!("Basic {}", *encoded));
    let mut value = HeaderValue::from_str(&value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
