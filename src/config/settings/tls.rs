//! How the upstream proves who it is, and we do to it.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::file::Tls;
use crate::config::setting::{Setting, quoted};

use super::Report;

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

/// The TLS settings of the file; a certificate and its key belong together.
pub fn resolve(file: &Tls, report: &mut Report) -> TlsSettings {
    let text =
        |setting: &Setting<String>| Some(setting.to_string()).filter(|text| !text.is_empty());
    let path = |setting| text(setting).map(PathBuf::from);
    let server_name = text(&file.server_name);
    if let Some(name) = &server_name
        && rustls::pki_types::ServerName::try_from(name.as_str()).is_err()
    {
        report.problem(file.server_name.refuse(format!(
            "{} is not a host name; write the name in the upstream's certificate",
            quoted(name)
        )));
    }
    let (cert, key) = (path(&file.client_cert_file), path(&file.client_key_file));
    if cert.is_some() && key.is_none() {
        let message = "needs its key; set sink.tls.client_key_file too";
        report.problem(file.client_cert_file.refuse(message));
    }
    if key.is_some() && cert.is_none() {
        let message = "needs its certificate; set sink.tls.client_cert_file too";
        report.problem(file.client_key_file.refuse(message));
    }
    TlsSettings {
        ca_file: path(&file.ca_file),
        server_name,
        client_identity: cert.zip(key),
        confirm_timeout: *file.confirm_timeout,
    }
}
