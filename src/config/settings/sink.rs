//! Where lines go, and how.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::api_key::ApiKey;
use crate::config::file::Sink;
use crate::config::values::{Proxy, SinkUrl, Uncertain};

use super::key::{self, FoundKey};
use super::proxy;
use super::tls::{self, TlsSettings};
use super::{Environment, Report};

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

/// The sink of the file.
pub fn resolve(file: &mut Sink, around: &Environment, report: &mut Report) -> SinkSettings {
    let FoundKey {
        key,
        file: key_file,
        is_missing: key_is_missing,
    } = key::find(file, around, report);
    if let SinkUrl::Http { secure: false, .. } = *file.url
        && !key.is_empty()
    {
        report
            .warn("sink.url is http://, so the key travels in clear; write https:// where you can");
    }
    SinkSettings {
        tls: tls::resolve(&file.tls, report),
        connect_timeout: *file.connect_timeout,
        write_timeout: *file.write_timeout,
        request_timeout: *file.request_timeout,
        max_connection_age: *file.max_connection_age,
        datagram_bytes: *file.datagram_bytes as usize,
        proxy: proxy::find(file, around, report),
        uncertain: *file.uncertain,
        resend_tail: file.resend_tail.unwrap_or_default(),
        max_lines_per_second: *file.max_lines_per_second,
        is_bare: key.is_empty() && !key_is_missing && file.api_key.is_set(),
        url: file.url.clone(),
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
