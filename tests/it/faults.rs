//! The fault matrix: what the upstream and the network can do wrong, one row a
//! test. Each counts the lines that the upstream has, and only then reads what
//! the daemon says of itself (`support/books.rs`): a line that is lost or there
//! twice must be one that the daemon has counted as such.

mod breaks;
mod client_certificates;
mod cuts;
mod handshakes;
mod http_answers;
mod http_bytes;
mod http_doubt;
mod http_echoes;
mod http_heads;
mod http_signals;
mod links;
mod names;
mod networks;
mod sandboxes;
mod signals;
mod stalls;
mod suspensions;

use crate::support::{Config, Site};

/// As tests want it: little is waited for.
fn config(url: impl AsRef<str>) -> Config {
    Config::to(url)
        .set("batch.linger", "5ms")
        .set("retry.max", "60ms")
        .set("sink.request_timeout", "300ms")
}

/// The same for an upstream that may speak TLS.
fn config_for(site: &Site) -> Config {
    let config = config(site.url());
    match site.ca_file() {
        Some(file) => config.set("sink.tls.ca_file", &file),
        None => config,
    }
}
