//! Remembers what a certificate chain looked like that was not accepted, so
//! that the error can say what is missing. rustls passes no chain on.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use x509_cert::Certificate;
use x509_cert::der::Decode;

/// An issuer's name can be as long as the certificate.
const ISSUER_SHOWN: usize = 200;

/// What the upstream has presented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    /// Whether it sent no certificate but its own.
    pub is_alone: bool,
    /// Whether it is signed by itself.
    pub is_self_signed: bool,
    /// Who has signed the last certificate of the chain.
    pub issuer: String,
}

/// Verifies as [`WebPkiServerVerifier`] does: every answer is that one's.
#[derive(Debug)]
pub struct Verifier {
    verifier: Arc<WebPkiServerVerifier>,
    refused: Mutex<Option<Presented>>,
}

impl Verifier {
    /// Answers as `verifier` does.
    pub fn new(verifier: Arc<WebPkiServerVerifier>) -> Self {
        Self {
            verifier,
            refused: Mutex::default(),
        }
    }

    /// The last chain that was not accepted.
    pub fn refused(&self) -> Option<Presented> {
        let refused = self.refused.lock();
        refused.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.verifier.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        if verified.is_err() {
            let refused = presented(end_entity, intermediates);
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
        }
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

fn presented(leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Option<Presented> {
    let decoded = Certificate::from_der(leaf).ok()?;
    let leaf = decoded.tbs_certificate();
    let last = others
        .last()
        .and_then(|last| Certificate::from_der(last).ok());
    let issuer = last
        .as_ref()
        .map_or(leaf.issuer(), |last| last.tbs_certificate().issuer());
    let issuer = issuer.to_string();
    Some(Presented {
        is_alone: others.is_empty(),
        is_self_signed: leaf.issuer() == leaf.subject(),
        issuer: issuer.chars().take(ISSUER_SHOWN).collect(),
    })
}
