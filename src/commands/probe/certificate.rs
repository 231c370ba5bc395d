//! What a certificate chain says, for people.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::ProtocolVersion;
use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::format::count;
use crate::stats::EXPIRES_SOON;

const DAY: Duration = Duration::from_secs(86_400);

/// Names of a certificate that are shown; large hosts have hundreds.
const NAMES_SHOWN: usize = 5;

/// The protocol as people write it.
pub fn version(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_3 => "TLS 1.3",
        ProtocolVersion::TLSv1_2 => "TLS 1.2",
        _ => "TLS of another version",
    }
}

/// One line for the names, one for the chain, one for the time that is left.
pub fn facts(chain: &[CertificateDer<'_>], now: SystemTime) -> Vec<String> {
    let chain: Vec<Certificate> = chain
        .iter()
        .filter_map(|der| Certificate::from_der(der).ok())
        .collect();
    let Some(leaf) = chain.first() else {
        return vec!["the certificate cannot be read here, though it was accepted".to_owned()];
    };
    let mut path: Vec<String> = chain
        .iter()
        .map(|certificate| certificate.tbs_certificate().subject().to_string())
        .collect();
    let issuer = chain.last().map(|last| last.tbs_certificate().issuer());
    path.extend(issuer.map(ToString::to_string));
    path.dedup();
    vec![
        format!("certificate for {}", names(leaf)),
        format!("chain: {}", path.join(" ← ")),
        validity(&chain, now),
    ]
}

fn names(leaf: &Certificate) -> String {
    let alternatives = leaf.tbs_certificate().get_extension::<SubjectAltName>();
    let alternatives = alternatives.ok().flatten().map(|(_, names)| names.0);
    let mut names: Vec<String> = alternatives
        .into_iter()
        .flatten()
        .filter_map(|name| match name {
            GeneralName::DnsName(name) => Some(name.to_string()),
            GeneralName::IpAddress(bytes) => address(bytes.as_bytes()),
            _ => None,
        })
        .collect();
    let more = names.len().saturating_sub(NAMES_SHOWN);
    names.truncate(NAMES_SHOWN);
    let names = names.join(", ");
    match more {
        0 => names,
        more => format!("{names} and {more} more"),
    }
}

fn address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(std::net::IpAddr::from);
    let v6 = <[u8; 16]>::try_from(bytes).map(std::net::IpAddr::from);
    v4.or(v6).ok().map(|address| address.to_string())
}

/// Until the first certificate of the chain expires.
fn validity(chain: &[Certificate], now: SystemTime) -> String {
    let end = |certificate: &Certificate| {
        let validity = certificate.tbs_certificate().validity();
        validity.not_after.to_system_time()
    };
    let first = chain.iter().map(end).min().unwrap_or(now);
    valid_until(first, now)
}

/// Our own certificate, which expires at this time since 1970.
pub fn of_client(expiry: Duration, now: SystemTime) -> String {
    let expiry = UNIX_EPOCH.checked_add(expiry).unwrap_or(now);
    format!("our client certificate: {}", valid_until(expiry, now))
}

fn valid_until(expiry: SystemTime, now: SystemTime) -> String {
    let date = httpdate::fmt_http_date(expiry);
    let Ok(left) = expiry.duration_since(now) else {
        return format!("expired on {date}; renew it");
    };
    let days = left.as_secs() / DAY.as_secs();
    let is_soon = left.as_secs().cast_signed() < EXPIRES_SOON;
    let advice = if is_soon {
        "; make sure that it is renewed"
    } else {
        ""
    };
    format!("valid for {} ({date}){advice}", count(days, "day", "days"))
}
