//! Dependencies point one way: the arrows of docs/architecture.md, read off the imports
//! in every source file, tests left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Which top-level modules a module may import.
const MODULES: &[(&str, &[&str])] = &[
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

/// Which stages a stage may import: the next one to hand lines to, and what they
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
fn modules_import_only_the_modules_below_them() {
    for (module, imports) in imports() {
        let layer = layer_of(&module);
        let Some((_, allowed)) = MODULES.iter().find(|(name, _)| *name == layer) else {
            assert!(matches!(layer, "lib" | "main"), "{module} has no row");
            continue;
        };
        for import in imports {
            let other = layer_of(&import);
            assert!(
                other == layer || allowed.contains(&other),
                "{module} must not import {import}"
            );
        }
    }
}

#[test]
fn stages_import_only_the_stages_after_them() {
    let stage_of = |module: &str| {
        let stage = module.strip_prefix("pipeline::")?.split("::").next()?;
        STAGES.iter().find(|(name, _)| *name == stage)
    };
    for (module, imports) in imports() {
        let Some((stage, allowed)) = stage_of(&module) else {
            continue;
        };
        for import in imports {
            let Some((other, _)) = stage_of(&import) else {
                continue;
            };
            assert!(
                other == stage || allowed.contains(other),
                "{module} must not import {import}"
            );
        }
    }
}

/// A module and its children are one unit; between others, imports go one way.
#[test]
fn no_imports_go_in_a_circle() {
    let is_family = |one: &str, other: &str| {
        let is_parent = |one: &str, other: &str| other.starts_with(&format!("{one}::"));
        is_parent(one, other) || is_parent(other, one)
    };
    let mut left = imports();
    for (module, imports) in &mut left {
        imports.retain(|import| !is_family(module, import));
    }
    // What imports nothing that is left is in no circle.
    loop {
        let done: Vec<String> = left
            .iter()
            .filter(|(_, imports)| !imports.iter().any(|import| left.contains_key(import)))
            .map(|(module, _)| module.clone())
            .collect();
        if done.is_empty() {
            break;
        }
        left.retain(|module, _| !done.contains(module));
    }
    assert!(left.is_empty(), "these import each other: {left:#?}");
}

#[test]
fn an_import_is_found_wherever_it_is() {
    let modules = ["a", "a::b", "c", "c::d"].map(str::to_owned);
    let modules: BTreeSet<String> = modules.into();
    for source in [
        "use crate::c::d::E;",
        "use crate::{x, c::{self, d::{E, F}}};",
        "fn f() {\n    crate::c::d::g();\n}",
        "#[cfg(test)]\nmod tests;\n\nuse super::super::c::d::E;",
        "#[cfg(test)]\nmod tests {\n    fn f() {}\n}\n\nfn g() { super::super::c::d::h() }",
    ] {
        let found = imports_in("a::b", source, &modules);
        assert!(found.contains("c::d"), "{source}: {found:?}");
    }
    let tests = "#[cfg(test)]\nmod tests {\n    use crate::c::d::E;\n}\n// crate::c::d\n";
    assert_eq!(imports_in("a::b", tests, &modules), BTreeSet::new());
}

fn layer_of(module: &str) -> &str {
    module.split("::").next().unwrap_or_default()
}

/// What each module of the crate imports.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let sources = sources();
    assert!(sources.len() > 100, "{} sources", sources.len());
    let modules: BTreeSet<String> = sources.keys().cloned().collect();
    let of = |(module, source): (&String, &String)| {
        (module.clone(), imports_in(module, source, &modules))
    };
    sources.iter().map(of).collect()
}

/// The modules that are named in a source, by `use` or in the code.
fn imports_in(module: &str, source: &str, modules: &BTreeSet<String>) -> BTreeSet<String> {
    let code = without_tests(source);
    let code: String = code
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .flat_map(|line| [line, "\n"])
        .collect();
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("use ") {
        let tree = code[at + 4..].split(';').next().unwrap_or_default();
        expand("", &tree.split_whitespace().collect::<String>(), &mut paths);
    }
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(root) {
            let is_path = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
            let rest = &code[at..];
            let end = rest.find(|c| !is_path(c)).unwrap_or(rest.len());
            paths.push(rest[..end].to_owned());
        }
    }
    let named = paths
        .iter()
        .filter_map(|path| resolve(module, path, modules));
    named.filter(|import| import != module).collect()
}

/// `a::{b, c::{d}}` as `a::b` and `a::c::d`.
fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let Some((before, rest)) = tree.split_once('{') else {
        return paths.push(format!("{prefix}{tree}"));
    };
    let prefix = format!("{prefix}{before}");
    let (mut depth, mut item) = (0, String::new());
    for c in rest.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => expand(&prefix, &std::mem::take(&mut item), paths),
            c => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                item.push(c);
            }
        }
    }
    expand(&prefix, &item, paths);
}

/// The longest part of a path that is a module of ours.
fn resolve(module: &str, path: &str, modules: &BTreeSet<String>) -> Option<String> {
    let mut at: Vec<&str> = module.split("::").collect();
    let mut parts = path.split("::").peekable();
    match parts.peek().copied()? {
        "crate" => at.clear(),
        "super" | "self" => {}
        child if modules.contains(&format!("{module}::{child}")) => {}
        _ => return None,
    }
    for part in parts {
        match part {
            "crate" | "self" => {}
            "super" => drop(at.pop()),
            part => at.push(part),
        }
    }
    while !at.is_empty() {
        let candidate = at.join("::");
        if modules.contains(&candidate) {
            return Some(candidate);
        }
        at.pop();
    }
    None
}

/// The source without the bodies of its test modules, wherever they are.
fn without_tests(source: &str) -> String {
    let mut code = String::new();
    let mut rest = source;
    while let Some((before, after)) = rest.split_once("#[cfg(test)]\nmod ") {
        code += before;
        let line_end = after.find('\n').unwrap_or(after.len());
        rest = if after[..line_end].ends_with('{') {
            after.split_once("\n}").map_or("", |(_, rest)| rest)
        } else {
            &after[line_end..]
        };
    }
    code + rest
}

/// All sources by their modules, but those that are tests as a whole.
fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path: PathBuf = entry.path();
            let name = path.file_name().unwrap_or_default();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs")
                && name != "tests.rs"
                && name != "simulation.rs"
            {
                let module = path.strip_prefix(&root).expect("below the root");
                let module = module.with_extension("").display().to_string();
                let source = fs::read_to_string(&path).expect("a source can be read");
                sources.insert(module.replace('/', "::"), source);
            }
        }
    }
    sources
}
