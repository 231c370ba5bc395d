//! TLS to the upstream: the TCP connection and a handshake.
//!
//! The chain and the name are always verified; there is no switch for it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tracing::warn;

use crate::config::{Endpoint, TlsSettings};
use crate::deadline;
use crate::stats::FailureKind;

use super::counted::Counted;
use super::failure::Failure;

/// Two round trips and some arithmetic; a peer that takes longer hangs.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What the configuration names and cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{key} {message}")]
pub struct TlsError {
    /// The key of the configuration that names it.
    pub key: &'static str,
    /// What is wrong with it.
    pub message: String,
}

/// Who the upstream must prove to be, and how.
#[derive(Clone)]
pub struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    /// Loads authorities and our own certificate. `http` asks for HTTP/1.1.
    pub fn new(settings: &TlsSettings, endpoint: &Endpoint, http: bool) -> Result<Self, TlsError> {
        let name = settings.server_name.as_deref().unwrap_or(&endpoint.host);
        let name = ServerName::try_from(name.to_owned()).map_err(|_| {
            refuse(
                "sink.url",
                format!("{name} is no name a certificate can bear"),
            )
        })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| refuse("sink.tls", error))?
            .with_root_certificates(roots(settings)?);
        let mut config = match &settings.client_identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(
                    certificates("sink.tls.client_cert_file", certificate)?,
                    private_key(key)?,
                )
                .map_err(|error| {
                    let message = format!("does not fit sink.tls.client_key_file: {error}");
                    refuse("sink.tls.client_cert_file", message)
                })?,
        };
        if http {
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
        }
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            name,
        })
    }

    /// The handshake.
    pub async fn handshake(&self, stream: Counted) -> Result<TlsStream<Counted>, Failure> {
        let handshake = self.connector.connect(self.name.clone(), stream);
        match deadline::timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(self.explain(&error)),
            Err(_) => Err(Failure::unavailable(
                FailureKind::Tls,
                format!("the TLS handshake took longer than {HANDSHAKE_TIMEOUT:?}"),
            )),
        }
    }

    fn explain(&self, error: &io::Error) -> Failure {
        let rustls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match rustls {
            Some(rustls::Error::InvalidCertificate(certificate)) => Failure::misconfigured(
                FailureKind::Certificate,
                certificate_problem(certificate, &self.name),
            ),
            Some(rustls::Error::InvalidMessage(_)) => Failure::unavailable(
                FailureKind::Tls,
                "the peer does not speak TLS on this port; is it the plain port? Hosted Graphite has TLS on 20030",
            ),
            Some(error) => Failure::unavailable(
                FailureKind::Tls,
                format!("the TLS handshake failed: {error}"),
            ),
            None => Failure::unavailable(
                FailureKind::Tls,
                format!("the connection broke in the TLS handshake: {error}"),
            ),
        }
    }
}

fn certificate_problem(error: &CertificateError, name: &ServerName<'_>) -> String {
    let name = name.to_str();
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!(
                "the upstream's certificate has expired, or this host's clock is wrong: {error}"
            )
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!(
                "the upstream's certificate is not valid yet, or this host's clock is wrong: {error}"
            )
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!(
                "the upstream's certificate is not for {name} ({error}); correct sink.url, or set sink.tls.server_name if you know why"
            )
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
            "the certificate of {name} is signed by an authority that is not trusted here; for a private one set sink.tls.ca_file"
        ),
        other => format!("the upstream's certificate is not accepted: {other}"),
    }
}

fn roots(settings: &TlsSettings) -> Result<RootCertStore, TlsError> {
    const KEY: &str = "sink.tls.ca_file";
    let mut roots = RootCertStore::empty();
    if let Some(path) = &settings.ca_file {
        for certificate in certificates(KEY, path)? {
            roots.add(certificate).map_err(|error| {
                refuse(
                    KEY,
                    format!(
                        "{} holds a certificate that is none: {error}",
                        path.display()
                    ),
                )
            })?;
        }
        return Ok(roots);
    }
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        warn!(%error, "some of the system's certificate authorities cannot be read");
    }
    roots.add_parsable_certificates(native.certs);
    if roots.is_empty() {
        // A container from scratch has no system roots.
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    Ok(roots)
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |error: &dyn std::fmt::Display| {
        refuse(
            key,
            format!(
                "\"{}\" cannot be read as PEM certificates: {error}; name a PEM file that sidecarbon may read",
                path.display()
            ),
        )
    };
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(|error| unreadable(&error))?
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable(&error))?;
    if certificates.is_empty() {
        return Err(refuse(
            key,
            format!("{} holds no certificate in PEM form", path.display()),
        ));
    }
    Ok(certificates)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| {
        refuse(
            "sink.tls.client_key_file",
            format!("{} cannot be read as a PEM key: {error}", path.display()),
        )
    })
}

fn refuse(key: &'static str, message: impl std::fmt::Display) -> TlsError {
    TlsError {
        key,
        message: message.to_string(),
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
