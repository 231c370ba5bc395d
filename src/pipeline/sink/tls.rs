//! TLS to the upstream: the TCP connection and a handshake.
//!
//! The chain and the name are always verified; there is no switch for it.

mod error;
mod files;
mod verifier;

use std::cell::Cell;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, InconsistentKeys, ProtocolVersion, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tracing::warn;
use x509_cert::Certificate;
use x509_cert::der::Decode;

use crate::config::{Endpoint, TlsSettings};
use crate::deadline;
use crate::stats::FailureKind;

use super::counted::Counted;
use super::failure::Failure;
use verifier::Verifier;

pub use error::{describe, error_in};
pub use files::{Fingerprint, fingerprint};

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
    confirm_timeout: Duration,
    verifier: Arc<Verifier>,
    client_expiry: Option<Duration>,
}

tokio::task_local! {
    /// Whether the server has asked for our certificate in the handshake of this task.
    static WAS_ASKED: Cell<bool>;
}

/// Notes that a server asks for a certificate: rustls tells nobody else.
#[derive(Debug)]
struct Noting(Arc<dyn ResolvesClientCert>);

impl ResolvesClientCert for Noting {
    fn resolve(&self, issuers: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        // Outside of a handshake there is nothing to note.
        let _ = WAS_ASKED.try_with(|was_asked| was_asked.set(true));
        self.0.resolve(issuers, schemes)
    }

    fn only_raw_public_keys(&self) -> bool {
        self.0.only_raw_public_keys()
    }

    fn has_certs(&self) -> bool {
        self.0.has_certs()
    }
}

impl Tls {
    /// Loads authorities and our own certificate. `http` asks for HTTP/1.1.
    pub fn new(settings: &TlsSettings, endpoint: &Endpoint, http: bool) -> Result<Self, TlsError> {
        let host = endpoint.without_zone().host;
        let name = settings.server_name.as_deref().unwrap_or(&host);
        let name = ServerName::try_from(name.to_owned()).map_err(|_| {
            refuse(
                "sink.url",
                format!("{name} is not a name that a certificate can have"),
            )
        })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = Arc::new(roots(settings)?);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(|error| refuse("sink.tls", error))?;
        let verifier = Arc::new(Verifier::new(verifier));
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| refuse("sink.tls", error))?
            // It answers as the standard verifier does, which it asks.
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone());
        let mut client_expiry = None;
        let mut config = match &settings.client_identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates("sink.tls.client_cert_file", certificate)?;
                client_expiry = chain.first().and_then(expiry);
                builder
                    .with_client_auth_cert(chain, private_key(key)?)
                    .map_err(|error| refuse("sink.tls.client_cert_file", unfit(&error)))?
            }
        };
        config.client_auth_cert_resolver = Arc::new(Noting(config.client_auth_cert_resolver));
        if http {
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
        }
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            name,
            confirm_timeout: settings.confirm_timeout,
            verifier,
            client_expiry,
        })
    }

    /// How long a TLS 1.3 server may take to accept the client certificate.
    pub fn confirm_timeout(&self) -> Duration {
        self.confirm_timeout
    }

    /// The handshake, and whether it tells that the server accepts the client certificate,
    /// or has not asked for one.
    pub async fn connect(&self, stream: Counted) -> Result<(TlsStream<Counted>, bool), Failure> {
        let handshake = WAS_ASKED.scope(Cell::new(false), async {
            let handshake = self.connector.connect(self.name.clone(), stream);
            let stream = handshake.into_fallible().await?;
            let version = stream.get_ref().1.protocol_version();
            let is_judged_later = version == Some(ProtocolVersion::TLSv1_3);
            let is_confirmed = !(is_judged_later && WAS_ASKED.with(Cell::get));
            Ok((stream, is_confirmed))
        });
        match deadline::timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(session)) => Ok(session),
            Ok(Err((error, stream))) => Err(self.explain(&error, stream.first_read())),
            Err(_) => Err(Failure::unavailable(
                FailureKind::Tls,
                format!(
                    "the TLS handshake took longer than {HANDSHAKE_TIMEOUT:?}; a port without TLS may stay silent: is it the plain port?"
                ),
            )),
        }
    }

    /// What went wrong; `first` are the first bytes that the peer has sent.
    fn explain(&self, error: &io::Error, first: &[u8]) -> Failure {
        let tls = error_in(error);
        if let Some(rustls::Error::InvalidCertificate(certificate)) = tls {
            let name = self.name.to_str();
            let presented = self.verifier.refused();
            return Failure::misconfigured(
                FailureKind::Certificate,
                error::certificate(certificate, &name, presented.as_ref()),
            );
        }
        let what = match (error::not_tls(first), tls) {
            (Some(what), _) => what,
            (None, Some(error)) => {
                format!("the TLS handshake failed: {}", error::describe(error))
            }
            (None, None) if error.kind() == io::ErrorKind::UnexpectedEof => {
                "the upstream closed the connection in the TLS handshake; check that the URL names the port that speaks TLS, and whether the upstream requires a client certificate (sink.tls.client_cert_file)".to_owned()
            }
            (None, None) => format!("the connection broke in the TLS handshake: {error}"),
        };
        Failure::unavailable(FailureKind::Tls, what)
    }

    /// When our own certificate expires, as the time since 1970.
    pub fn client_certificate_expiry(&self) -> Option<Duration> {
        self.client_expiry
    }
}

/// When the upstream's own certificate expires, as the time since 1970.
pub fn certificate_expiry(session: &rustls::ClientConnection) -> Option<Duration> {
    expiry(session.peer_certificates()?.first()?)
}

/// When a certificate expires, as the time since 1970.
fn expiry(certificate: &CertificateDer<'_>) -> Option<Duration> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let not_after = certificate.tbs_certificate().validity().not_after;
    Some(not_after.to_unix_duration())
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

/// Why a client certificate and its key cannot be used together.
fn unfit(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            "is not the certificate of the key in sink.tls.client_key_file; write the pair that belongs together".to_owned()
        }
        error => format!(
            "cannot be used with sink.tls.client_key_file: {}",
            error::describe(error)
        ),
    }
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
