//! The certificate files that the settings name, to be noticed when they are
//! replaced.

use std::fs;
use std::path::Path;

use ring::digest::{Context, SHA256};

use crate::config::TlsSettings;

/// What the files held when they were last read. Two are equal if, and only
/// if, every file still holds the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

/// The files' present contents; nothing where the settings name no file.
///
/// Contents are compared, not times: a Kubernetes volume swaps a symbolic link,
/// and a time stamp does not change when a file is written twice in one tick.
pub fn fingerprint(settings: &TlsSettings) -> Option<Fingerprint> {
    if !settings.reads_files() {
        return None;
    }
    let mut context = Context::new(&SHA256);
    add(&mut context, settings.ca_file.as_deref());
    if let Some((certificate, key)) = &settings.client_identity {
        add(&mut context, Some(certificate));
        add(&mut context, Some(key));
    }
    let digest = context.finish();
    digest.as_ref().try_into().ok().map(Fingerprint)
}

/// A file that cannot be read differs from each that can, whatever it holds.
fn add(context: &mut Context, path: Option<&Path>) {
    match path.map(|path| fs::read(path).map(zeroize::Zeroizing::new)) {
        None => context.update(b"none"),
        Some(Err(_)) => context.update(b"unreadable"),
        Some(Ok(bytes)) => {
            context.update(b"file");
            context.update(&(bytes.len() as u64).to_be_bytes());
            context.update(&bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_counts_and_so_does_its_absence() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let settings = TlsSettings {
            ca_file: Some(path("ca")),
            client_identity: Some((path("cert"), path("key"))),
            ..TlsSettings::default()
        };
        assert_eq!(fingerprint(&TlsSettings::default()), None);
        let mut seen = vec![fingerprint(&settings)];
        for (name, text) in [
            ("ca", "one"),
            ("cert", "one"),
            ("key", "one"),
            ("key", "two"),
            ("cert", "two"),
            // The same bytes, in other files.
            ("ca", "oneone"),
            ("cert", ""),
        ] {
            fs::write(path(name), text).unwrap();
            let now = fingerprint(&settings);
            assert!(!seen.contains(&now), "{name} {text}");
            assert_eq!(now, fingerprint(&settings));
            seen.push(now);
        }
    }
}
