//! Where the key comes from: the first of its places that has one.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::config::api_key::{ApiKey, BadKey, KeyFileError};
use crate::config::file::Sink;
use crate::config::problem::{Origin, Problem};
use crate::config::setting::{Setting, quoted};

use super::{Environment, Report};

/// A key, and the file that it stands in.
pub struct FoundKey {
    /// The key, or the absence of one.
    pub key: ApiKey,
    /// Where it was read, if in a file.
    pub file: Option<PathBuf>,
    /// Whether there should be one that could not be had.
    pub is_missing: bool,
}

/// The key, from the first of its places that has one.
pub fn find(sink: &mut Sink, around: &Environment, report: &mut Report) -> FoundKey {
    let file = Some(sink.api_key_file.as_str()).filter(|path| !path.is_empty());
    let file = file.map(PathBuf::from);
    let file_origin = sink.api_key_file.origin().clone();
    let inline_origin = sink.api_key.origin().clone();
    let credential = around
        .credentials_directory
        .as_ref()
        .map(|directory| Path::new(directory).join("api-key"))
        .filter(|path| path.exists());

    let named_outside = matches!(file_origin, Origin::Flag(_) | Origin::Environment(_));
    if let (Some(path), true) = (&file, named_outside) {
        return key_file(path, &sink.api_key_file, around, report);
    }
    if let Some(path) = credential {
        let origin = Origin::Environment("CREDENTIALS_DIRECTORY".into());
        let shown = quoted(&path.display().to_string());
        sink.api_key_file.show(shown, origin);
        return key_file(&path, &sink.api_key_file, around, report);
    }
    if let Some(path) = &file {
        return key_file(path, &sink.api_key_file, around, report);
    }
    let in_environment = matches!(inline_origin, Origin::Environment(_));
    if let (false, Some(text)) = (in_environment, &around.platform_key) {
        let origin = Origin::Environment("HOSTEDGRAPHITE_APIKEY".into());
        match ApiKey::parse(text) {
            Ok(key) => {
                sink.api_key.show(quoted("<key>"), origin);
                return accepted(key, None, report);
            }
            Err(BadKey::Empty) => {}
            Err(error) => report.problem(Problem::at(origin.to_string(), error)),
        }
    }
    let key = sink.api_key.clone();
    if sink.api_key.is_set() && !in_environment && !key.is_empty() {
        report.warn(format!(
            "{inline_origin}: sink.api_key holds the key itself; a key file (sink.api_key_file) keeps it out of backups and reviews"
        ));
    }
    if !sink.api_key.is_set() && sink.url.wants_key() {
        let message = "write the key into a file and name it in sink.api_key_file (or SIDECARBON_API_KEY_FILE, or --api-key-file), \
             or set SIDECARBON_API_KEY; sink.api_key = \"\" (SIDECARBON_API_KEY='\"\"') sends without a key";
        return missing(Problem::at("no API key".into(), message), around, report);
    }
    if !sink.url.wants_key() && !key.is_empty() && !sink.url.is_set() {
        report.warn("a key is set but no sink.url, so lines are only printed; write sink.url = \"tls://carbon.hostedgraphite.com:20030\"");
    }
    accepted(key, None, report)
}

fn key_file(
    path: &Path,
    setting: &Setting<String>,
    around: &Environment,
    report: &mut Report,
) -> FoundKey {
    match ApiKey::read(path) {
        Ok(file) => {
            let shown = path.display();
            if file.world_readable && is_secret_mount(path) {
                report.note(format!(
                    "{shown}: every user of this container can read the key, as is usual for mounted secrets"
                ));
            } else if file.world_readable {
                report.warn(format!(
                    "{shown}: every user of this host can read the key; chmod 0640 it"
                ));
            }
            if let Some(writers) = file.other_writers {
                report.warn(format!(
                    "{shown}: {writers} can replace the key; chmod 0640 it"
                ));
            }
            accepted(file.key, Some(path), report)
        }
        Err(error) => {
            // A value without a slash may be the key itself, by mistake.
            let shown = path.display().to_string();
            let is_forbidden = matches!(
                &error,
                KeyFileError::Io(error) if error.kind() == ErrorKind::PermissionDenied
            );
            let is_path = shown.contains('/');
            let shown = if is_path {
                quoted(&shown) + " "
            } else {
                String::new()
            };
            let remedy = if is_forbidden {
                "let the user that runs sidecarbon read it: chown root:sidecarbon, chmod 0640"
            } else if is_path {
                "write the API key into that file, on one line"
            } else {
                "write the path of a file that holds the API key, such as \"./api-key\", not the key itself"
            };
            let problem = setting.refuse(format!("{shown}{error}; {remedy}"));
            let found = missing(problem, around, report);
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
fn missing(problem: Problem, around: &Environment, report: &mut Report) -> FoundKey {
    if around.key_is_optional {
        report.warn(problem.to_string());
    } else {
        report.problem(problem);
    }
    FoundKey {
        key: ApiKey::none(),
        file: None,
        is_missing: true,
    }
}

fn accepted(key: ApiKey, file: Option<&Path>, report: &mut Report) -> FoundKey {
    if !key.is_empty() && !key.is_uuid_shaped() {
        report.warn("the API key does not look like one of Hosted Graphite (8-4-4-4-12 hexadecimal digits); is it the right one?");
    }
    FoundKey {
        key,
        file: file.map(Path::to_owned),
        is_missing: false,
    }
}
