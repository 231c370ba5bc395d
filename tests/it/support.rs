//! What the tests are written with: the daemon, its clients and its upstreams.

mod books;
mod certs;
mod client;
mod config;
mod daemon;
mod http;
mod inbox;
mod launch;
mod ledger;
mod load;
mod manager;
mod metrics;
mod numbered;
mod proc;
mod process;
mod read;
mod sandbox;
mod spaces;
mod switch;
mod upstream;
mod user;
mod wait;

pub use books::{Books, Witness};
pub use certs::Certs;
pub use client::{
    closes_silently, is_silent, reset, say_and_hang_up, udp_to, unix_datagram, unix_stream,
};
pub use config::Config;
pub use daemon::Daemon;
pub use http::Message;
pub use inbox::Inbox;
pub use launch::{Launch, Outcome};
pub use ledger::Ledger;
pub use load::Load;
pub use manager::Manager;
pub use metrics::{Metrics, assert_rejected};
pub use numbered::{assert_same_lines, keyed, numbered, payload, unlike};
pub use proc::{Memory, raise_open_files};
pub use process::Process;
pub use read::read_some;
pub use sandbox::Sandbox;
pub use spaces::{Network, skipped, with_hosts};
pub use switch::Switch;
pub use upstream::{
    Asked, Cutter, Fault, Faulty, HttpUpstream, Link, PATH, Port, Proxy, Reply, Scripted, Site,
    UdpPort, UdpUpstream, Upstream, cut_off,
};
pub use user::User;
pub use wait::{now, wait_for, wait_until};

/// The key of the tests. Upper and lower case, so that folding shows.
pub const KEY: &str = "6f1C2a9E-0d4B-4c57-9A3e-5b8E7d2F1a60";

/// The key after a change.
pub const NEW_KEY: &str = "6f1C2a9E-0d4B-4c57-9A3e-5b8E7d2F1a61";

/// What all keys of the tests begin with: no output of any process may hold it.
pub const KEY_STEM: &str = "6f1C2a9E-0d4B-4c57-9A3e-5b8E7d2F1a6";
