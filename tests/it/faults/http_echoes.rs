//! Servers that send the key back, in the forms in which servers do: no log and no
//! page shows it.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::config;
use crate::support::{Books, Daemon, KEY, Reply, Scripted, numbered, payload, wait_for};

/// The key in disguise, as part of an answer.
fn forms() -> Vec<Vec<u8>> {
    let every = |form: fn(u8) -> String| KEY.bytes().flat_map(move |byte| form(byte).into_bytes());
    let basic = STANDARD.encode(format!("{KEY}:"));
    vec![
        KEY.into(),
        KEY.to_uppercase().into(),
        every(|byte| format!("%{byte:02x}")).collect(),
        every(|byte| format!("%{byte:02X}")).collect(),
        every(|byte| format!("%25{byte:02X}")).collect(),
        KEY.replace('-', "%2d").into(),
        basic.clone().into(),
        basic.replace('=', "%3D").into(),
        STANDARD.encode(format!("user:{KEY}")).into(),
    ]
}

/// Forms that only a body can have.
fn forms_of_bodies() -> Vec<Vec<u8>> {
    vec![
        KEY.bytes().flat_map(|byte| [byte, 0]).collect(),
        KEY.bytes().flat_map(|byte| [0, byte]).collect(),
        KEY.bytes().flat_map(|byte| [byte, b'\r', b'\n']).collect(),
        KEY.bytes()
            .flat_map(|byte| format!("\\u{byte:04x}").into_bytes())
            .collect(),
    ]
}

/// The text without what is between the characters of a key, decoded.
fn bare(text: &str) -> String {
    let mut text = text.to_lowercase();
    for byte in 0..=127_u8 {
        let plain = char::from(byte).to_ascii_lowercase().to_string();
        let hex = format!("{byte:02x}");
        for encoded in [
            format!("%25{hex}"),
            format!("%{hex}"),
            format!("\\u00{hex}"),
        ] {
            text = text.replace(&encoded, &plain);
        }
    }
    text.replace("\\0", "")
        .replace("\\r", "")
        .replace("\\n", "")
        .replace(['\\', '\0'], "")
}

#[track_caller]
fn assert_without_key(shown: &str) {
    let key = KEY.to_lowercase();
    assert!(!bare(shown).contains(&key), "{shown}");
    // What base64 makes of most of it, at each alignment.
    for before in ["", "u", "us", "user:"] {
        let encoded = STANDARD.encode(format!("{before}{KEY}"));
        assert!(!shown.contains(&encoded[8..24]), "{shown}");
    }
}

#[test]
fn a_redirect_does_not_show_the_key() {
    let locations: Vec<Vec<u8>> = forms()
        .iter()
        .flat_map(|form| {
            let around = [
                ("http://", ":@other.example/"),
                ("http://user:", "@other.example/"),
                ("http://other.example?key=", ""),
                ("http://other.example#", ""),
                ("http://", ".other.example/"),
                ("//", "@other.example/"),
                ("?key=", ""),
                ("", "/there"),
            ];
            around.map(|(before, behind)| [before.as_bytes(), form, behind.as_bytes()].concat())
        })
        .collect();
    shows_no_key(locations, |location| {
        let mut answer = b"HTTP/1.1 308 Moved\r\nContent-Length: 0\r\nLocation: ".to_vec();
        answer.extend_from_slice(location);
        answer.extend_from_slice(b"\r\n\r\n");
        Reply::bytes(answer)
    });
}

#[test]
fn a_body_does_not_show_the_key() {
    let bodies = [forms(), forms_of_bodies()].concat();
    shows_no_key(bodies, |body| {
        let mut answer =
            format!("HTTP/1.1 404 No\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        answer.extend_from_slice(body);
        Reply::bytes(answer)
    });
}

/// Gives each answer, and looks at what is shown after it.
fn shows_no_key(echoes: Vec<Vec<u8>>, reply: impl Fn(&[u8]) -> Reply + Send + Sync + 'static) {
    let echoes = Arc::new(echoes);
    let upstream = Scripted::start({
        let echoes = Arc::clone(&echoes);
        move |asked| match echoes.get(asked.number) {
            Some(echo) => reply(echo),
            None => Reply::take(),
        }
    });
    let daemon = Daemon::start(&config(upstream.url()));
    let sent = numbered("echo", 10);
    daemon.tcp(payload(&sent));
    for number in 1..=echoes.len() {
        wait_for("another answer", || upstream.answered().len() >= number);
        for page in ["/api/status", "/metrics"] {
            assert_without_key(&daemon.try_get(page).expect("an answer").text());
        }
    }
    wait_for("the last line", || daemon.waiting() == 0);
    // At DEBUG, each failure is logged.
    let log = daemon.log.lines();
    assert!(
        log.iter().filter(|line| line.contains("<key>")).count() > 3,
        "{log:?}"
    );
    for line in &log {
        assert_without_key(line);
    }
    Books::close(daemon, upstream, &sent).assert_exact();
}
