//! Dependencies point one way: the arrows of docs/architecture.md, read off
//! the sources.

use std::fs;
use std::path::{Path, PathBuf};

/// Which rooms a room may know.
const ROOMS: &[(&str, &[&str])] = &[
    ("config", &["os", "format"]),
    ("stats", &[]),
    ("os", &[]),
    ("blocking", &[]),
    ("deadline", &[]),
    ("panics", &[]),
    ("runtime", &[]),
    (
        "pipeline",
        &[
            "blocking", "config", "deadline", "os", "panics", "runtime", "stats", "format",
        ],
    ),
    (
        "admin",
        &[
            "blocking", "config", "deadline", "os", "panics", "pipeline", "stats", "format",
        ],
    ),
    ("cli", &["commands", "config"]),
    ("exit", &[]),
    ("format", &[]),
    (
        "daemon",
        &[
            "admin", "blocking", "config", "deadline", "exit", "os", "panics", "pipeline",
            "runtime", "stats", "format",
        ],
    ),
    (
        "commands",
        &[
            "admin", "config", "deadline", "exit", "pipeline", "stats", "format",
        ],
    ),
];

/// Which stages a stage may know: the next one to hand lines to, and what they
/// are made of.
const STAGES: &[(&str, &[&str])] = &[
    ("line", &[]),
    ("batch", &["line"]),
    ("queue", &["batch"]),
    ("decode", &["batch", "line"]),
    ("statsd", &["batch", "line", "queue"]),
    ("listen", &["batch", "decode", "line", "queue", "statsd"]),
    ("sink", &["queue"]),
    ("relay", &["queue", "sink"]),
];

#[test]
fn rooms_know_only_the_rooms_below_them() {
    for (room, allowed) in ROOMS {
        for (file, known) in uses(&source().join(room), "crate::") {
            assert!(
                known == *room || allowed.contains(&known.as_str()),
                "{}: {room} must not know {known}",
                file.display()
            );
        }
    }
}

#[test]
fn stages_know_only_the_next_stage() {
    for (stage, allowed) in STAGES {
        let folder = source().join("pipeline").join(stage);
        let mut known_stages = uses(&folder, "crate::pipeline::");
        // In the stage's own file, `super` is the pipeline.
        let own = folder.with_extension("rs");
        let by_super = uses(&folder, "super::");
        known_stages.extend(by_super.into_iter().filter(|(file, _)| *file == own));
        for (file, known) in known_stages {
            assert!(
                known == *stage || allowed.contains(&known.as_str()),
                "{}: {stage} must not know {known}",
                file.display()
            );
        }
    }
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// What follows `prefix` in the files of a module, tests left out.
fn uses(module: &Path, prefix: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for file in files(module) {
        let text = fs::read_to_string(&file).expect("a source can be read");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (at, _) in code.match_indices(prefix) {
            let rest = &code[at + prefix.len()..];
            let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_');
            found.push((file.clone(), rest[..end.unwrap_or(rest.len())].to_owned()));
        }
    }
    assert!(
        !files(module).is_empty(),
        "{} has no sources",
        module.display()
    );
    found
}

/// `module.rs` and everything in `module/` that is not a test.
fn files(module: &Path) -> Vec<PathBuf> {
    let mut files = vec![module.with_extension("rs")];
    let mut folders = vec![module.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .file_name()
                .is_some_and(|name| name != "tests.rs" && name != "simulation.rs")
            {
                files.push(path);
            }
        }
    }
    files
}
