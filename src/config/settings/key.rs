//! Where the key comes from: the first of its places that has one.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::config::api_key::{ApiKey, BadKey, KeyFileError};
use crate::config::source::{Origin, Source, quoted};
use crate::config::values::SinkUrl;

use super::Surroundings;
use super::ranges::optional_text;

/// A key, and the file that it stands in.
pub struct FoundKey {
    /// The key, or the absence of one.
    pub key: ApiKey,
    /// Where it was read, if in a file.
    pub file: Option<PathBuf>,
    /// Whether there should be one that could not be had.
    pub is_missing: bool,
    /// What is worth a word about the file, and as it should be.
    pub note: Option<String>,
}

/// The key, from the first of its places that has one.
pub fn find(
    source: &mut Source,
    url: &SinkUrl,
    around: &Surroundings,
    warnings: &mut Vec<String>,
) -> FoundKey {
    let file_origin = source.origin("sink.api_key_file");
    let inline_origin = source.origin("sink.api_key");
    let file = optional_text(source, "sink.api_key_file").map(PathBuf::from);
    let inline = source.secret("sink.api_key", |text| match text {
        "" => Ok(ApiKey::none()),
        text => ApiKey::parse(text),
    });
    let inline_is_set = inline_origin != Origin::Default;
    let credential = around
        .credentials_directory
        .as_ref()
        .map(|directory| Path::new(directory).join("api-key"))
        .filter(|path| path.exists());

    let named_outside = matches!(file_origin, Origin::Flag(_) | Origin::Environment(_));
    if let (Some(path), true) = (&file, named_outside) {
        return key_file(source, path, &file_origin, around, warnings);
    }
    if let Some(path) = credential {
        let origin = Origin::Environment("CREDENTIALS_DIRECTORY".into());
        let shown = quoted(&path.display().to_string());
        source.show("sink.api_key_file", shown, origin.clone());
        return key_file(source, &path, &origin, around, warnings);
    }
    if let Some(path) = &file {
        return key_file(source, path, &file_origin, around, warnings);
    }
    let in_environment = matches!(inline_origin, Origin::Environment(_));
    if let (false, Some(text)) = (in_environment, &around.platform_key) {
        match ApiKey::parse(text) {
            Ok(key) => {
                let origin = Origin::Environment("HOSTEDGRAPHITE_APIKEY".into());
                source.show("sink.api_key", quoted("<key>"), origin);
                return accepted(key, None, warnings);
            }
            Err(BadKey::Empty) => {}
            Err(error) => source.problem("HOSTEDGRAPHITE_APIKEY".into(), error.to_string()),
        }
    }
    let key = inline.unwrap_or_else(ApiKey::none);
    if inline_is_set && !in_environment && !key.is_empty() {
        warnings.push(format!(
            "{inline_origin}: sink.api_key holds the key itself; a key file (sink.api_key_file) keeps it out of backups and reviews"
        ));
    }
    if !inline_is_set && url.wants_key() {
        let message = "write the key into a file and name it in sink.api_key_file (or SIDECARBON_API_KEY_FILE, or --api-key-file), \
             or set SIDECARBON_API_KEY; sink.api_key = \"\" (SIDECARBON_API_KEY='\"\"') sends without a key";
        return missing(source, "no API key".into(), message, around, warnings);
    }
    if !url.wants_key() && !key.is_empty() && !source.is_set("sink.url") {
        warnings.push("a key is set but no sink.url, so lines are only printed; write sink.url = \"tls://carbon.hostedgraphite.com:20030\"".into());
    }
    accepted(key, None, warnings)
}

fn key_file(
    source: &mut Source,
    path: &Path,
    origin: &Origin,
    around: &Surroundings,
    warnings: &mut Vec<String>,
) -> FoundKey {
    match ApiKey::read(path) {
        Ok(file) => {
            let shown = path.display();
            let mut note = None;
            if file.world_readable && is_secret_mount(path) {
                note = Some(format!(
                    "{shown}: every user of this container can read the key, as is usual for mounted secrets"
                ));
            } else if file.world_readable {
                warnings.push(format!(
                    "{shown}: every user of this host can read the key; chmod 0640 it"
                ));
            }
            if let Some(writers) = file.other_writers {
                warnings.push(format!(
                    "{shown}: {writers} can replace the key; chmod 0640 it"
                ));
            }
            FoundKey {
                note,
                ..accepted(file.key, Some(path), warnings)
            }
        }
        Err(error) => {
            // A value without a slash may be the key itself, by mistake.
            let shown = path.display().to_string();
            let is_forbidden = matches!(
                &error,
                KeyFileError::Io(error) if error.kind() == ErrorKind::PermissionDenied
            );
            let message = if is_forbidden {
                let shown = if shown.contains('/') {
                    quoted(&shown) + " "
                } else {
                    String::new()
                };
                format!(
                    "sink.api_key_file {shown}{error}; let the user that runs sidecarbon read it: chown root:sidecarbon, chmod 0640"
                )
            } else if shown.contains('/') {
                format!(
                    "sink.api_key_file \"{shown}\" {error}; write the API key into that file, on one line"
                )
            } else {
                format!(
                    "sink.api_key_file {error}; write the path of a file that holds the API key, such as \"./api-key\", not the key itself"
                )
            };
            let found = missing(source, origin.to_string(), &message, around, warnings);
            FoundKey {
                file: Some(path.to_owned()),
                ..found
            }
        }
    }
}

/// Whether the file is one that Docker, Compose or Kubernetes mounts as a secret:
/// into a container, where the mode says who else in it may read, and there is
/// nobody else. Docker and Compose have one directory for them; Kubernetes has
/// a link `..data` beside each, which it swaps.
fn is_secret_mount(path: &Path) -> bool {
    let is_dockers = ["/run/secrets", "/var/run/secrets"]
        .iter()
        .any(|directory| path.starts_with(directory));
    is_dockers || path.with_file_name("..data").is_symlink()
}

/// A key that should be there and is not: a problem, but for commands that can
/// do without.
fn missing(
    source: &mut Source,
    place: String,
    message: &str,
    around: &Surroundings,
    warnings: &mut Vec<String>,
) -> FoundKey {
    if around.key_is_optional {
        warnings.push(format!("{place}: {message}"));
    } else {
        source.problem(place, message);
    }
    FoundKey {
        key: ApiKey::none(),
        file: None,
        is_missing: true,
        note: None,
    }
}

fn accepted(key: ApiKey, file: Option<&Path>, warnings: &mut Vec<String>) -> FoundKey {
    if !key.is_empty() && !key.is_uuid_shaped() {
        warnings.push("the API key does not look like one of Hosted Graphite (8-4-4-4-12 hexadecimal digits); is it the right one?".into());
    }
    FoundKey {
        key,
        file: file.map(Path::to_owned),
        is_missing: false,
        note: None,
    }
}
