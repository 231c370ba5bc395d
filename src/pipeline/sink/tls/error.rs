//! What went wrong with TLS, in plain words and with a remedy.
//!
//! rustls shows most of its errors as Rust's `Debug` text, which names its own
//! types. Here each becomes a sentence that says whose fault it is.

use std::time::{Duration, UNIX_EPOCH};

use rustls::pki_types::UnixTime;
use rustls::{
    AlertDescription, CertificateError, Error, InconsistentKeys, InvalidMessage, PeerIncompatible,
};
use x509_cert::der::asn1::ObjectIdentifier;

use super::verifier::Presented;

/// Names of a certificate that are shown; large hosts have hundreds.
const NAMES_SHOWN: usize = 5;

/// The error of TLS that an error of input or output carries.
pub fn error_in<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e Error> {
    let error = error.downcast_ref::<std::io::Error>()?;
    error.get_ref()?.downcast_ref()
}

/// Any failure of TLS but that the certificate is not accepted. Works before
/// and after the handshake is done.
pub fn describe(error: &Error) -> String {
    match error {
        Error::AlertReceived(alert) => alert_received(*alert),
        Error::InvalidMessage(message) => invalid_message(message),
        Error::PeerIncompatible(why) => peer_incompatible(why),
        Error::PeerMisbehaved(why) => format!(
            "the upstream violates the TLS protocol ({}); its TLS software is at fault, or something on the way changes the data",
            words(why)
        ),
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            "the upstream sent a TLS message out of order; its TLS software is at fault".to_owned()
        }
        Error::InvalidCertificate(certificate) => {
            format!("its certificate is not accepted: {}", words(certificate))
        }
        Error::NoCertificatesPresented => {
            "the upstream presents no certificate; configure one there".to_owned()
        }
        Error::DecryptError => {
            "what the upstream sent cannot be decrypted; it sent something that is not TLS, or something on the way changes the data".to_owned()
        }
        Error::PeerSentOversizedRecord => {
            "the upstream sent a TLS record that is larger than the protocol allows".to_owned()
        }
        Error::NoApplicationProtocol => {
            "the upstream does not offer HTTP/1.1 over TLS (ALPN); enable it there".to_owned()
        }
        Error::FailedToGetCurrentTime => {
            "this host's clock cannot be read, so no certificate can be verified".to_owned()
        }
        Error::FailedToGetRandomBytes => "this host provides no random numbers".to_owned(),
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            "the certificate belongs to another key".to_owned()
        }
        Error::General(text) => text.clone(),
        other => words(other),
    }
}

/// Why the upstream's certificate is not accepted. `presented` is what it has
/// shown, where that is known.
pub fn certificate(error: &CertificateError, name: &str, presented: Option<&Presented>) -> String {
    const ISSUE: &str = "issue another one for the upstream";
    match error {
        CertificateError::Expired => {
            format!(
                "the upstream's certificate has expired, or this host's clock is wrong; {ISSUE}"
            )
        }
        CertificateError::ExpiredContext { time, not_after } => format!(
            "the upstream's certificate has expired on {}, or this host's clock ({}) is wrong; renew it there",
            date(*not_after),
            date(*time)
        ),
        CertificateError::NotValidYet => {
            "the upstream's certificate is not valid yet, or this host's clock is wrong".to_owned()
        }
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "the upstream's certificate is not valid yet, but from {} on, or this host's clock ({}) is wrong",
            date(*not_before),
            date(*time)
        ),
        CertificateError::NotValidForName => {
            format!(
                "the upstream's certificate is not for {name}; {}",
                other_name(None)
            )
        }
        CertificateError::NotValidForNameContext { presented, .. } => format!(
            "the upstream's certificate is not for {name}, but for {}; {}",
            names(presented),
            other_name(presented.first())
        ),
        CertificateError::UnknownIssuer => unknown_issuer(name, presented),
        CertificateError::BadSignature => format!(
            "the signature of the certificate of {name} is wrong: another authority of the same name has issued it, or it was changed, or a key of the chain is too small (RSA below 2048 bits); set sink.tls.ca_file to the authority that has issued it, or issue another one"
        ),
        CertificateError::BadEncoding => {
            format!("the upstream's certificate cannot be decoded; {ISSUE}")
        }
        CertificateError::Revoked => {
            format!("the upstream's certificate has been revoked; {ISSUE}")
        }
        CertificateError::UnhandledCriticalExtension => format!(
            "the upstream's certificate has a critical extension that is not supported; {ISSUE}, without it"
        ),
        CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id,
            ..
        } => format!(
            "a certificate of the upstream's chain is signed with {}, which is not accepted; {ISSUE}, signed with SHA-256 or better",
            algorithm(signature_algorithm_id)
        ),
        CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id,
            public_key_algorithm_id,
        } => format!(
            "a certificate of the upstream's chain is signed with {} by a key of another kind or size ({}), which is not accepted; {ISSUE}, with RSA of 2048 to 8192 bits, P-256, P-384 or Ed25519",
            algorithm(signature_algorithm_id),
            algorithm(public_key_algorithm_id)
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            format!(
                "the upstream's certificate is not for servers (its extended key usage has no serverAuth); {ISSUE}, with serverAuth"
            )
        }
        CertificateError::Other(other) => other
            .0
            .downcast_ref::<webpki::Error>()
            .and_then(|error| chain_problem(error))
            .map_or_else(
                || {
                    format!(
                        "the upstream's certificate is not accepted ({}); {ISSUE}",
                        words(&other.0)
                    )
                },
                str::to_owned,
            ),
        other => format!(
            "the upstream's certificate is not accepted ({}); {ISSUE}",
            words(other)
        ),
    }
}

/// The peer's first bytes, where they are no TLS record (RFC 8446, 5.1): one of
/// its types, then the version, 3.0 to 3.4.
pub fn not_tls(first: &[u8]) -> Option<String> {
    let is_record = match first {
        [] => true,
        [kind] => (20..=24).contains(kind),
        [kind, 3] => (20..=24).contains(kind),
        [kind, 3, minor, ..] => (20..=24).contains(kind) && *minor <= 4,
        _ => false,
    };
    (!is_record).then(|| {
        format!(
            "the peer does not speak TLS on this port (it sent \"{}\"); is it the plain port? Hosted Graphite has TLS on 20030",
            first.escape_ascii()
        )
    })
}

fn other_name(presented: Option<&String>) -> String {
    let example = presented.map_or_else(String::new, |name| format!(", such as {}", bare(name)));
    format!("correct sink.url, or set sink.tls.server_name to a name of the certificate{example}")
}

fn names(presented: &[String]) -> String {
    if presented.is_empty() {
        return "no host at all (it has no subject alternative name)".to_owned();
    }
    let more = presented.len().saturating_sub(NAMES_SHOWN);
    let shown: Vec<&str> = presented
        .iter()
        .take(NAMES_SHOWN)
        .map(|name| bare(name))
        .collect();
    let shown = shown.join(", ");
    match more {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// `DnsName("carbon.example")` without what is around the name.
fn bare(name: &str) -> &str {
    let inner = name
        .split_once('(')
        .map_or(name, |(_, rest)| rest.strip_suffix(')').unwrap_or(rest));
    inner.trim_matches('"')
}

fn unknown_issuer(name: &str, presented: Option<&Presented>) -> String {
    match presented {
        Some(Presented {
            is_self_signed: true,
            ..
        }) => format!(
            "the certificate of {name} is self-signed and not trusted here; to trust it, name a file that holds it in sink.tls.ca_file"
        ),
        Some(Presented {
            is_alone: true,
            issuer,
            ..
        }) => format!(
            "the certificate of {name} is signed by an authority that is not trusted here ({issuer}); for a private authority set sink.tls.ca_file. \
             For a public one: the upstream sends no intermediate certificate, which may be missing in its configuration"
        ),
        Some(Presented { issuer, .. }) => format!(
            "the certificate of {name} is signed by an authority that is not trusted here ({issuer}); for a private authority set sink.tls.ca_file"
        ),
        None => format!(
            "the certificate of {name} is signed by an authority that is not trusted here; for a private authority set sink.tls.ca_file"
        ),
    }
}

/// What rustls passes on from its verifier without a name of its own.
fn chain_problem(error: &webpki::Error) -> Option<&'static str> {
    Some(match error {
        webpki::Error::CaUsedAsEndEntity => {
            "the upstream presents the certificate of an authority as its own (basic constraints CA:TRUE, \"openssl req -x509\" makes such); \
             issue a server certificate with CA:FALSE, signed by that authority, and name the authority in sink.tls.ca_file"
        }
        webpki::Error::EndEntityUsedAsCa => {
            "the upstream's certificate is signed by a certificate that is not an authority's (basic constraints without CA:TRUE); \
             issue another one, signed by an authority"
        }
        webpki::Error::UnsupportedCertVersion => {
            "the upstream's certificate is of X.509 version 1 or 2, and only version 3 is accepted; \
             issue another one with a subject alternative name (\"openssl x509 -req\" needs -extfile or -copy_extensions copy)"
        }
        webpki::Error::NameConstraintViolation => {
            "the upstream's certificate has a name that its authority may not sign (name constraints); \
             issue it for another name, or by another authority"
        }
        webpki::Error::MalformedNameConstraint | webpki::Error::InvalidNetworkMaskConstraint => {
            "the name constraints of an authority in the upstream's chain are malformed; issue the authority's certificate anew"
        }
        webpki::Error::PathLenConstraintViolated => {
            "the upstream's chain has more intermediate authorities than one of them allows (path length); \
             issue the certificate by an authority nearer to the root"
        }
        webpki::Error::MaximumPathDepthExceeded => {
            "the upstream's chain has more intermediate certificates than are accepted (6); \
             send only those between the certificate and its root"
        }
        webpki::Error::MaximumPathBuildCallsExceeded
        | webpki::Error::MaximumSignatureChecksExceeded
        | webpki::Error::MaximumNameConstraintComparisonsExceeded => {
            "the upstream's chain takes too long to verify, such as with many authorities of the same name; \
             send only the certificates between the server's and its root, and only those authorities in sink.tls.ca_file that are needed"
        }
        webpki::Error::SignatureAlgorithmMismatch => {
            "the upstream's certificate names two different signature algorithms; issue another one"
        }
        webpki::Error::InvalidSerialNumber => {
            "the serial number of the upstream's certificate is negative, too long or malformed; issue another one"
        }
        webpki::Error::MalformedDnsIdentifier => {
            "a host name in the upstream's certificate is malformed; issue another one"
        }
        webpki::Error::MalformedExtensions
        | webpki::Error::ExtensionValueInvalid
        | webpki::Error::EmptyEkuExtension => {
            "an extension of the upstream's certificate is malformed; issue another one"
        }
        webpki::Error::UnsupportedCriticalExtension => {
            "the upstream's certificate has a critical extension that is not supported; issue another one, without it"
        }
        _ => return None,
    })
}

fn alert_received(alert: AlertDescription) -> String {
    const OURS: &str = "sink.tls.client_cert_file";
    match alert {
        AlertDescription::CertificateRequired | AlertDescription::NoCertificate => format!(
            "the upstream requires a client certificate; set {OURS} and sink.tls.client_key_file"
        ),
        AlertDescription::CertificateExpired => {
            format!("the upstream says that our client certificate has expired; renew {OURS}")
        }
        AlertDescription::CertificateRevoked => {
            format!("the upstream says that our client certificate has been revoked; renew {OURS}")
        }
        AlertDescription::UnknownCA => format!(
            "the upstream does not trust the authority of our client certificate; use one of its own authority in {OURS}"
        ),
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown => {
            format!(
                "the upstream does not accept our client certificate ({}), or requires one where none is set; check {OURS}",
                words(&alert)
            )
        }
        AlertDescription::AccessDenied => format!(
            "the upstream accepts our client certificate, but denies access; ask whoever runs it, or use another one in {OURS}"
        ),
        AlertDescription::DecryptError => format!(
            "the upstream cannot verify a signature of ours; check that {OURS} is the one that it knows"
        ),
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => format!(
            "the upstream refuses the handshake ({}): it requires a client certificate (set {OURS} and sink.tls.client_key_file), or supports neither TLS 1.3 nor TLS 1.2 with ECDHE and AES-GCM or ChaCha20",
            words(&alert)
        ),
        AlertDescription::ProtocolVersion => {
            "the upstream supports neither TLS 1.2 nor TLS 1.3; enable one of them there".to_owned()
        }
        AlertDescription::UnrecognisedName => {
            "the upstream does not know the host name that it is asked for; correct sink.url or sink.tls.server_name".to_owned()
        }
        AlertDescription::NoApplicationProtocol => {
            "the upstream does not offer HTTP/1.1 over TLS (ALPN); enable it there".to_owned()
        }
        AlertDescription::InternalError => {
            "the upstream reports an internal error of its TLS; its log says more".to_owned()
        }
        AlertDescription::UserCanceled | AlertDescription::CloseNotify => {
            "the upstream ended the connection".to_owned()
        }
        other => format!(
            "the upstream ended TLS with the alert \"{}\"; its log says more",
            words(&other)
        ),
    }
}

fn invalid_message(message: &InvalidMessage) -> String {
    match message {
        InvalidMessage::CertificatePayloadTooLarge => {
            "the upstream's certificate chain is larger than 64 KiB; it must send only its own certificate and the intermediate ones".to_owned()
        }
        InvalidMessage::HandshakePayloadTooLarge => {
            "the upstream sent a handshake message that is larger than 64 KiB, such as a long certificate chain; it must send only its own certificate and the intermediate ones".to_owned()
        }
        InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion => {
            "the upstream began with TLS and then sent something else; its TLS software is at fault, or something on the way changes the data".to_owned()
        }
        InvalidMessage::MessageTooLarge => {
            "the upstream sent a TLS record that is larger than the protocol allows, or something that is not TLS".to_owned()
        }
        other => format!(
            "the upstream sent a TLS message that cannot be decoded ({}); its TLS software is at fault, or something on the way changes the data",
            words(other)
        ),
    }
}

fn peer_incompatible(why: &PeerIncompatible) -> String {
    match why {
        PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => {
            "the upstream supports neither TLS 1.2 nor TLS 1.3; enable one of them there".to_owned()
        }
        other => format!(
            "the upstream's TLS does not fit ours ({}); it must support TLS 1.2 with ECDHE and AES-GCM or ChaCha20, or TLS 1.3",
            words(other)
        ),
    }
}

fn date(time: UnixTime) -> String {
    let time = Duration::from_secs(time.as_secs());
    // The formatter knows years up to 9999.
    match UNIX_EPOCH.checked_add(time) {
        Some(date) if time.as_secs() < 253_402_300_800 => httpdate::fmt_http_date(date),
        _ => format!("{} seconds after 1970", time.as_secs()),
    }
}

/// An algorithm as people call it, and its object identifier. `der` is an
/// AlgorithmIdentifier (RFC 5280, 4.1.1.2): the identifier, then parameters.
fn algorithm(der: &[u8]) -> String {
    let oid = match der {
        [6, length, rest @ ..] => rest
            .get(..usize::from(*length))
            .and_then(|bytes| ObjectIdentifier::from_bytes(bytes).ok()),
        _ => None,
    };
    let Some(oid) = oid.map(|oid| oid.to_string()) else {
        return "an unknown algorithm".to_owned();
    };
    let name = match oid.as_str() {
        "1.2.840.113549.1.1.2" | "1.2.840.113549.1.1.3" => "MD2 or MD4 with RSA",
        "1.2.840.113549.1.1.4" => "MD5 with RSA",
        "1.2.840.113549.1.1.5" | "1.3.14.3.2.29" => "SHA-1 with RSA",
        "1.2.840.10045.4.1" => "SHA-1 with ECDSA",
        "1.2.840.10040.4.3" => "SHA-1 with DSA",
        "1.2.840.10040.4.1" | "2.16.840.1.101.3.4.3.2" => "DSA",
        "1.2.840.113549.1.1.1" => "RSA",
        "1.2.840.113549.1.1.10" => "RSA-PSS",
        "1.2.840.113549.1.1.11" => "SHA-256 with RSA",
        "1.2.840.113549.1.1.12" => "SHA-384 with RSA",
        "1.2.840.113549.1.1.13" => "SHA-512 with RSA",
        "1.2.840.113549.1.1.14" => "SHA-224 with RSA",
        "1.2.840.10045.2.1" => "an elliptic curve",
        "1.2.840.10045.4.3.1" => "SHA-224 with ECDSA",
        "1.2.840.10045.4.3.2" => "SHA-256 with ECDSA",
        "1.2.840.10045.4.3.3" => "SHA-384 with ECDSA",
        "1.2.840.10045.4.3.4" => "SHA-512 with ECDSA",
        "1.3.101.112" => "Ed25519",
        "1.3.101.113" => "Ed448",
        _ => "an algorithm",
    };
    format!("{name} (OID {oid})")
}

/// `SelectedUnofferedCipherSuite` as "selected unoffered cipher suite": for
/// rarities that rustls names, and that a person can look up.
fn words(debug: &dyn std::fmt::Debug) -> String {
    let debug = format!("{debug:?}");
    let mut text = String::with_capacity(debug.len() + 8);
    let mut was_lower = false;
    for c in debug.chars() {
        if c.is_ascii_alphanumeric() {
            if c.is_ascii_uppercase() && was_lower {
                text.push(' ');
            }
            text.push(c.to_ascii_lowercase());
        } else if !text.ends_with(' ') {
            text.push(' ');
        }
        was_lower = c.is_ascii_lowercase() || c.is_ascii_digit();
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{ContentType, OtherError, PeerMisbehaved};

    use super::*;

    /// No name of a Rust type, no braces, no list of numbers.
    #[track_caller]
    fn is_plain(text: &str) {
        let has_camel = text
            .split(|c: char| !c.is_ascii_alphanumeric())
            .any(|word| {
                // Acronyms and names of products are none.
                let known = ["ChaCha20", "KiB", "serverAuth"];
                let turns = word
                    .as_bytes()
                    .windows(2)
                    .any(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase());
                turns && !known.contains(&word)
            });
        assert!(!has_camel, "{text}");
        assert!(!text.contains(['{', '[', '}', ']']), "{text}");
        assert!(!text.contains("does not speak TLS"), "{text}");
    }

    #[test]
    fn every_failure_is_told_in_plain_words() {
        let messages = [
            InvalidMessage::CertificatePayloadTooLarge,
            InvalidMessage::HandshakePayloadTooLarge,
            InvalidMessage::InvalidContentType,
            InvalidMessage::InvalidCcs,
            InvalidMessage::MissingData("ServerHello"),
            InvalidMessage::DuplicateExtension(16),
        ];
        for message in messages {
            is_plain(&describe(&Error::InvalidMessage(message)));
        }
        for error in [
            Error::PeerMisbehaved(PeerMisbehaved::SelectedUnofferedCipherSuite),
            Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon),
            Error::PeerIncompatible(PeerIncompatible::ServerRejectedEncryptedClientHello(None)),
            Error::InappropriateMessage {
                expect_types: vec![ContentType::Handshake],
                got_type: ContentType::ApplicationData,
            },
            Error::DecryptError,
            Error::PeerSentOversizedRecord,
            Error::NoCertificatesPresented,
            Error::HandshakeNotComplete,
            Error::UnsupportedNameType,
            Error::InvalidCertificate(CertificateError::UnknownIssuer),
        ] {
            is_plain(&describe(&error));
        }
        for number in 0..=u8::MAX {
            let alert = AlertDescription::from(number);
            is_plain(&describe(&Error::AlertReceived(alert)));
        }
    }

    #[test]
    fn every_problem_of_a_certificate_has_its_remedy() {
        let sha1 = vec![6, 9, 42, 134, 72, 134, 247, 13, 1, 1, 5, 5, 0];
        let other = |error: webpki::Error| CertificateError::Other(OtherError(Arc::new(error)));
        let presented = Presented {
            is_alone: true,
            is_self_signed: false,
            issuer: "CN=R3".to_owned(),
        };
        for (error, said) in [
            (CertificateError::UnknownIssuer, "sends no intermediate"),
            (CertificateError::BadSignature, "ca_file"),
            (CertificateError::BadEncoding, "issue another"),
            (CertificateError::Revoked, "revoked"),
            (CertificateError::InvalidPurpose, "serverAuth"),
            (CertificateError::NotValidForName, "server_name"),
            (
                CertificateError::NotValidForNameContext {
                    expected: "a.example".try_into().unwrap(),
                    presented: vec!["DnsName(\"b.example\")".to_owned()],
                },
                "but for b.example;",
            ),
            (
                CertificateError::ExpiredContext {
                    time: UnixTime::since_unix_epoch(Duration::from_secs(1_700_000_000)),
                    not_after: UnixTime::since_unix_epoch(Duration::from_secs(1_600_000_000)),
                },
                "expired on Sun, 13 Sep 2020",
            ),
            (
                CertificateError::UnsupportedSignatureAlgorithmContext {
                    signature_algorithm_id: sha1,
                    supported_algorithms: Vec::new(),
                },
                "SHA-1 with RSA (OID 1.2.840.113549.1.1.5)",
            ),
            (
                CertificateError::ApplicationVerificationFailure,
                "issue another",
            ),
            (other(webpki::Error::CaUsedAsEndEntity), "CA:FALSE"),
            (other(webpki::Error::UnsupportedCertVersion), "version 3"),
            (
                other(webpki::Error::NameConstraintViolation),
                "name constraints",
            ),
            (
                other(webpki::Error::PathLenConstraintViolated),
                "path length",
            ),
            (
                other(webpki::Error::MaximumPathDepthExceeded),
                "intermediate",
            ),
            (
                other(webpki::Error::MaximumSignatureChecksExceeded),
                "same name",
            ),
            (other(webpki::Error::CertDistrusted), "cert distrusted"),
        ] {
            let text = certificate(&error, "a.example", Some(&presented));
            is_plain(&text);
            assert!(text.contains(said), "no {said:?} in {text}");
        }
    }

    #[test]
    fn only_bytes_that_are_no_record_are_not_tls() {
        for first in [
            &b""[..],
            b"\x16",
            b"\x16\x03",
            b"\x15\x03\x01\x00\x02",
            b"\x16\x03\x03\xff\xff",
        ] {
            assert_eq!(not_tls(first), None, "{first:?}");
        }
        for first in [
            &b"HTTP/"[..],
            b"220 m",
            b"\x16\x02\x00\x00\x01",
            b"O",
            b"\x00",
        ] {
            assert!(not_tls(first).is_some(), "{first:?}");
        }
    }
}
