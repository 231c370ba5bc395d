//! Where lines go, and how.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::api_key::ApiKey;
use crate::config::source::Source;
use crate::config::values::{self, Proxy, SinkUrl, Uncertain, choice};

use super::Surroundings;
use super::key::{self, FoundKey};
use super::proxy;
use super::ranges::{duration_within, within};
use super::tls::{self, TlsSettings};

/// Where lines go, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkSettings {
    /// Transport, host, port, path.
    pub url: SinkUrl,
    /// The key that goes before each name.
    pub key: ApiKey,
    /// How the upstream proves who it is.
    pub tls: TlsSettings,
    /// For one address.
    pub connect_timeout: Duration,
    /// Without any progress.
    pub write_timeout: Duration,
    /// For a whole exchange over HTTP.
    pub request_timeout: Duration,
    /// Then a new connection is made.
    pub max_connection_age: Duration,
    /// Size to which datagrams are filled.
    pub datagram_bytes: usize,
    /// Through which a connection is made.
    pub proxy: Option<Proxy>,
    /// What becomes of lines whose HTTP answer was lost.
    pub uncertain: Uncertain,
    /// After a reset, lines that were first acknowledged so recently are sent
    /// again; zero is never.
    pub resend_tail: Duration,
    /// How fast the backlog may go after an outage.
    pub max_lines_per_second: Option<u32>,
    /// The file that the key was read from.
    pub key_file: Option<PathBuf>,
    /// Whether there should be a key that could not be had; only for commands
    /// that can do without.
    pub key_is_missing: bool,
    /// Whether lines leave without a key because somebody asked for that:
    /// `sink.api_key = ""`.
    pub is_bare: bool,
}

const UNCERTAIN: &[(&str, Uncertain)] = &[("resend", Uncertain::Resend), ("drop", Uncertain::Drop)];

/// What the source says of the sink.
pub fn find(
    source: &mut Source,
    around: &Surroundings,
    warnings: &mut Vec<String>,
    notes: &mut Vec<String>,
) -> SinkSettings {
    let url = source
        .text("sink.url", SinkUrl::parse)
        .unwrap_or(SinkUrl::Stdout);
    let FoundKey {
        key,
        file: key_file,
        is_missing: key_is_missing,
        note,
    } = key::find(source, &url, around, warnings);
    notes.extend(note);
    if let SinkUrl::Http { secure: false, .. } = url
        && !key.is_empty()
    {
        warnings.push(
            "sink.url is http://, so the key travels in clear; write https:// where you can".into(),
        );
    }
    let second = Duration::from_secs(1);
    let day = Duration::from_secs(86_400);
    let tenth = Duration::from_millis(100);
    SinkSettings {
        tls: tls::find(source),
        connect_timeout: duration_within(source, "sink.connect_timeout", tenth, 300 * second),
        write_timeout: duration_within(source, "sink.write_timeout", second, 3600 * second),
        request_timeout: duration_within(source, "sink.request_timeout", tenth, 3600 * second),
        max_connection_age: duration_within(source, "sink.max_connection_age", second, 30 * day),
        datagram_bytes: source
            .number("sink.datagram_bytes", 128..8193)
            .unwrap_or(1400) as usize,
        proxy: proxy::find(source, &url, around),
        uncertain: source
            .text("sink.uncertain", choice(UNCERTAIN))
            .unwrap_or(Uncertain::Resend),
        resend_tail: resend_tail(source),
        max_lines_per_second: source.limit("sink.max_lines_per_second", 1..1_000_000_001),
        is_bare: key.is_empty() && !key_is_missing && source.is_set("sink.api_key"),
        url,
        key,
        key_file,
        key_is_missing,
    }
}

impl SinkSettings {
    /// Where lines go, to be shown: without the query, which may hold secrets.
    pub fn public_url(&self) -> String {
        let mut url = self.url.to_string().into_bytes();
        self.key.mask(&mut url);
        let url = String::from_utf8_lossy(&url);
        match url.split_once('?') {
            Some((path, _)) => format!("{path}?…"),
            None => url.into_owned(),
        }
    }
}

fn resend_tail(source: &mut Source) -> Duration {
    let minute = Duration::from_secs(60);
    let parse = |text: &str| match text {
        "" => Ok(Duration::ZERO),
        text => values::duration(text).and_then(|tail| within(tail, Duration::ZERO, minute, text)),
    };
    source.text("sink.resend_tail", parse).unwrap_or_default()
}
