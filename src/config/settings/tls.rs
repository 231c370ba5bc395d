//! How the upstream proves who it is, and we do to it.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::source::{Source, quoted};

use super::ranges::{duration_within, optional_text};

/// How the upstream proves who it is, and we do to it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TlsSettings {
    /// Authorities to trust in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// The name that the certificate must bear, where it is not the host's.
    pub server_name: Option<String>,
    /// Our own certificate and its key.
    pub client_identity: Option<(PathBuf, PathBuf)>,
    /// How long a TLS 1.3 server that asked for a certificate may take to accept it
    /// before a batch is sent.
    pub confirm_timeout: Duration,
}

impl TlsSettings {
    /// Whether they name files, which may be replaced at any time.
    pub fn reads_files(&self) -> bool {
        self.ca_file.is_some() || self.client_identity.is_some()
    }
}

/// What the source says of it; a certificate and its key belong together.
pub fn find(source: &mut Source) -> TlsSettings {
    let ca_file = optional_text(source, "sink.tls.ca_file").map(PathBuf::from);
    let server_name = optional_text(source, "sink.tls.server_name");
    if let Some(name) = &server_name
        && rustls::pki_types::ServerName::try_from(name.as_str()).is_err()
    {
        source.refuse(
            "sink.tls.server_name",
            format!(
                "{} is no host name; write the name in the upstream's certificate",
                quoted(name)
            ),
        );
    }
    let cert = optional_text(source, "sink.tls.client_cert_file").map(PathBuf::from);
    let key = optional_text(source, "sink.tls.client_key_file").map(PathBuf::from);
    let client_identity = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (Some(_), None) => {
            source.refuse(
                "sink.tls.client_cert_file",
                "needs its key; set sink.tls.client_key_file too",
            );
            None
        }
        (None, Some(_)) => {
            source.refuse(
                "sink.tls.client_key_file",
                "needs its certificate; set sink.tls.client_cert_file too",
            );
            None
        }
    };
    TlsSettings {
        ca_file,
        server_name,
        client_identity,
        confirm_timeout: duration_within(
            source,
            "sink.tls.confirm_timeout",
            Duration::ZERO,
            Duration::from_secs(60),
        ),
    }
}
