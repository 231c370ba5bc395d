//! Where an upstream will be, and what it speaks there.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;

use super::port::Port;
use crate::support::certs::Certs;

/// Where the HTTP doubles want to be sent to.
pub const PATH: &str = "/api/v1/sink";

/// A port that refuses connections until a double listens on it, and an
/// authority of its own where TLS is spoken: a row that takes one holds over
/// plain connections and over TLS alike.
#[derive(Clone)]
pub struct Site {
    port: Arc<Port>,
    certs: Option<Arc<Certs>>,
    server: Option<Arc<ServerConfig>>,
    is_http: bool,
}

impl Site {
    /// Lines over TCP.
    pub fn tcp() -> Self {
        Self::new(None, false)
    }

    /// Lines over TLS.
    pub fn tls() -> Self {
        Self::new(Some(Certs::new()), false)
    }

    /// Requests over TCP.
    pub fn http() -> Self {
        Self::new(None, true)
    }

    /// Requests over TLS.
    pub fn https() -> Self {
        Self::new(Some(Certs::new()), true)
    }

    fn new(certs: Option<Certs>, is_http: bool) -> Self {
        let server = certs.as_ref().map(|certs| certs.server(&["localhost"]));
        Self {
            port: Arc::new(Port::reserve()),
            certs: certs.map(Arc::new),
            server,
            is_http,
        }
    }

    /// The same with another TLS server there.
    pub fn with_server(mut self, server: impl FnOnce(&Certs) -> Arc<ServerConfig>) -> Self {
        self.server = self.certs.as_deref().map(server);
        self
    }

    /// The same at another of our addresses.
    pub fn on(mut self, address: Ipv4Addr) -> Self {
        self.port = Arc::new(Port::reserve_at(address));
        self
    }

    /// As `sink.url`.
    pub fn url(&self) -> String {
        let address = self.port.address();
        match (self.is_http, &self.certs) {
            (false, None) => self.port.url(),
            (false, Some(_)) => self.port.tls_url(),
            (true, None) => format!("http://{address}{PATH}"),
            (true, Some(_)) => format!("https://localhost:{}{PATH}", address.port()),
        }
    }

    pub fn port(&self) -> &Port {
        &self.port
    }

    /// The authority behind the server's certificate.
    pub fn certs(&self) -> Option<&Certs> {
        self.certs.as_deref()
    }

    /// Whom the daemon is to trust.
    pub fn ca_file(&self) -> Option<PathBuf> {
        self.certs.as_ref().map(|certs| certs.ca_file())
    }

    /// How the upstream proves that it is `localhost`.
    pub fn server(&self) -> Option<Arc<ServerConfig>> {
        self.server.clone()
    }
}
