//! Any text as a configuration: an answer, never a crash, and never the key.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sidecarbon::config::{Environment, parse};

const KEY: &str = "6f1c2a9e-0d4b-4c57-9a3e-5b8e7d2f1a60";

fuzz_target!(|text: &str| {
    let surroundings = Environment {
        platform_key: Some(KEY.to_owned().into()),
        ..Environment::default()
    };
    match parse("fuzz.toml".as_ref(), text, &surroundings) {
        Ok(settings) => {
            assert!(!settings.render().contains(KEY));
            assert!(!format!("{settings:?}").contains(KEY));
        }
        Err(error) => assert!(!error.to_string().contains(KEY)),
    }
});
