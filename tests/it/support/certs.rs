//! A private certificate authority.

use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;

/// The authority, and the files that a configuration names.
pub struct Certs {
    authority: Certificate,
    issuer: Issuer<'static, KeyPair>,
    directory: TempDir,
}

impl Certs {
    /// A new authority that nobody trusts yet.
    pub fn new() -> Self {
        Self::named("sidecarbon test authority")
    }

    /// Another one, that has nothing to do with the first.
    pub fn stranger() -> Self {
        Self::named("sidecarbon test stranger")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key pair");
        let authority = params.self_signed(&key).expect("a certificate");
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::write(directory.path().join("ca.pem"), authority.pem()).expect("ca.pem");
        Self {
            authority,
            issuer: Issuer::new(params, key),
            directory,
        }
    }

    /// What `sink.tls.ca_file` may name.
    pub fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// A client certificate and its key, as files.
    pub fn client_files(&self) -> (PathBuf, PathBuf) {
        self.write_client(self.issue(&["client.example"]))
    }

    /// The same for a certificate that expires in so many days.
    pub fn client_files_for_days(&self, days: u64) -> (PathBuf, PathBuf) {
        let issued = self.issue_with(&["client.example"], |params| expire_in(params, days));
        self.write_client(issued)
    }

    /// The same for one that is valid in these years.
    pub fn client_files_valid(&self, years: Range<i32>) -> (PathBuf, PathBuf) {
        let issued = self.issue_with(&["client.example"], |params| {
            params.not_before = rcgen::date_time_ymd(years.start, 1, 1);
            params.not_after = rcgen::date_time_ymd(years.end, 1, 1);
        });
        self.write_client(issued)
    }

    fn write_client(&self, (certificate, key): (Certificate, KeyPair)) -> (PathBuf, PathBuf) {
        let write = |name: &str, text: String| {
            let path = self.directory.path().join(name);
            fs::write(&path, text).expect("a file for the client certificate");
            path
        };
        (
            write("client.pem", certificate.pem()),
            write("client.key", key.serialize_pem()),
        )
    }

    /// A server that proves these names.
    pub fn server(&self, names: &[&str]) -> Arc<ServerConfig> {
        let builder = builder().with_no_client_auth();
        self.finish(builder, names)
    }

    /// A server for `localhost` whose certificate was good in these years.
    pub fn server_valid(&self, years: Range<i32>) -> Arc<ServerConfig> {
        let (certificate, key) = self.issue_with(&["localhost"], |params| {
            params.not_before = rcgen::date_time_ymd(years.start, 1, 1);
            params.not_after = rcgen::date_time_ymd(years.end, 1, 1);
        });
        with_certificate(builder().with_no_client_auth(), &certificate, &key)
    }

    /// A server for these names whose certificate expires in so many days.
    pub fn server_for_days(&self, names: &[&str], days: u64) -> Arc<ServerConfig> {
        let (certificate, key) = self.issue_with(names, |params| expire_in(params, days));
        with_certificate(builder().with_no_client_auth(), &certificate, &key)
    }

    /// A server for `localhost` whose certificate is an authority's, as
    /// `openssl req -x509` makes them.
    pub fn server_that_is_an_authority(&self) -> Arc<ServerConfig> {
        self.server_with(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))
    }

    /// A server for `localhost` whose certificate is for clients.
    pub fn server_for_clients_only(&self) -> Arc<ServerConfig> {
        self.server_with(|params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    }

    /// A server for `localhost` that sends its own certificate alone, though
    /// there is another one between it and the authority.
    pub fn server_below_an_intermediate() -> Arc<ServerConfig> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "sidecarbon test intermediate");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key pair");
        let issuer = Issuer::new(params, key);
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a valid name");
        let key = KeyPair::generate().expect("a key pair");
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        with_certificate(builder().with_no_client_auth(), &certificate, &key)
    }

    fn server_with(&self, change: impl FnOnce(&mut CertificateParams)) -> Arc<ServerConfig> {
        let (certificate, key) = self.issue_with(&["localhost"], change);
        with_certificate(builder().with_no_client_auth(), &certificate, &key)
    }

    /// A server for `localhost` that wants a client certificate of ours.
    pub fn server_that_asks(&self) -> Arc<ServerConfig> {
        self.server_that_asks_by(rustls::DEFAULT_VERSIONS, 2)
    }

    /// The same with these protocol versions; in TLS 1.3 it sends so many
    /// session tickets.
    pub fn server_that_asks_by(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        tickets: usize,
    ) -> Arc<ServerConfig> {
        let mut roots = RootCertStore::empty();
        roots
            .add(self.authority.der().clone())
            .expect("our authority");
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .expect("a verifier");
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("protocol versions")
            .with_client_cert_verifier(verifier);
        let mut config = Arc::unwrap_or_clone(self.finish(builder, &["localhost"]));
        config.send_tls13_tickets = tickets;
        Arc::new(config)
    }

    fn finish(
        &self,
        builder: rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>,
        names: &[&str],
    ) -> Arc<ServerConfig> {
        let (certificate, key) = self.issue(names);
        with_certificate(builder, &certificate, &key)
    }

    fn issue(&self, names: &[&str]) -> (Certificate, KeyPair) {
        self.issue_with(names, |_| {})
    }

    fn issue_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> (Certificate, KeyPair) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("valid names");
        params
            .distinguished_name
            .push(DnType::CommonName, "sidecarbon test");
        change(&mut params);
        let key = KeyPair::generate().expect("a key pair");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate, key)
    }
}

fn expire_in(params: &mut CertificateParams, days: u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("a time after 1970");
    let day = Duration::from_secs(86_400);
    params.not_after =
        rcgen::date_time_ymd(1970, 1, 1) + now + day * u32::try_from(days).expect("a small number");
}

fn with_certificate(
    builder: rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>,
    certificate: &Certificate,
    key: &KeyPair,
) -> Arc<ServerConfig> {
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = builder
        .with_single_cert(vec![certificate.der().clone()], key.into())
        .expect("a certificate with its key");
    Arc::new(config)
}

fn builder() -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
    ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
