//! What packages are made with.

use std::fs;

use crate::support::{Config, Launch};

#[test]
fn completions_name_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let outcome = Launch::bare().args(["completions", shell]).run();
        assert_eq!(outcome.code, Some(0), "{shell}: {}", outcome.said);
        for command in ["explain", "send", "status", "health", "probe"] {
            assert!(outcome.said.contains(command), "{shell} lacks {command}");
        }
    }
    let outcome = Launch::bare().args(["completions", "dish"]).run();
    assert_eq!(outcome.code, Some(64), "{}", outcome.said);
}

#[test]
fn manual_pages_are_printed_or_written() {
    let outcome = Launch::bare().args(["man"]).run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.said);
    for title in [".TH sidecarbon 1", ".TH sidecarbon\\-probe 1"] {
        let found = outcome.said.contains(title) || outcome.said.contains(&title.replace('\\', ""));
        assert!(found, "no {title}");
    }

    let directory = Config::to("stdout:").path("man");
    let outcome = Launch::bare()
        .args(["man", "--directory"])
        .arg(&directory)
        .run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.said);
    for page in [
        "sidecarbon.1",
        "sidecarbon-explain.1",
        "sidecarbon-status.1",
    ] {
        let text = fs::read_to_string(directory.join(page)).expect("a page");
        assert!(text.contains(".SH SYNOPSIS"), "{page}: {text}");
    }
}
