//! sidecarbon: a Graphite endpoint on localhost that never gets in the way of
//! applications and never loses a line in silence.
//!
//! Three rooms. [`config`] is what the user asked for, [`pipeline`] is how a
//! line travels, [`daemon`] is how the process lives. Beside them, [`stats`]
//! is what happened, in numbers, [`admin`] shows it, [`cli`] is the command
//! line, [`commands`] are the commands beside the daemon, [`exit`] is how the
//! process ends, [`runtime`] is when its threads rest, [`deadline`] is
//! how long something may take, [`blocking`] is work on
//! other threads, [`panics`] is how panics are noticed, [`os`] is what only some
//! systems offer, and [`format`](mod@format) is text for people.
//!
//! Dependencies point one way:
//!
//! ```text
//! main → cli, daemon, commands → pipeline, admin → config, stats
//! ```
//!
//! To know the program, read [`pipeline`] and its modules in the order in
//! which they are listed there: it is the order in which a line travels.

// What is printed is masked and escaped first: `commands::complain`, `Screen::print`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod admin;
pub mod blocking;
pub mod cli;
pub mod commands;
pub mod config;
pub mod daemon;
pub mod deadline;
pub mod exit;
pub mod format;
pub mod os;
pub mod panics;
pub mod pipeline;
pub mod runtime;
pub mod stats;
