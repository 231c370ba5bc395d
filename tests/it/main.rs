//! The built daemon, over real sockets.
//!
//! Each test starts upstream doubles and the daemon on ports that the kernel
//! chooses, sends what applications send, and waits for a fact: a line arrived,
//! a counter moved, the log said something. No test waits for time to pass.

// Helpers too may fail where they stand, as tests do.
#![allow(clippy::expect_used, clippy::panic)]

mod support;

mod addresses;
mod admin;
mod backlog;
mod certificates;
mod cli;
mod commands;
mod crashes;
mod environment;
mod faults;
mod flow;
mod hostile;
mod layers;
mod lines;
mod masks;
mod memory;
mod outage;
mod own_listeners;
mod page;
mod pickle;
mod reload;
mod rotation;
mod secrets;
mod self_metrics;
mod shutdown;
mod statsd;
mod systemd;
mod threads;
mod tls;
mod visitors;
