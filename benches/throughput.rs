//! The whole daemon between a load and an upstream of its own, over loopback,
//! and beside it the least that any relay must do: lines a second, processor
//! time, memory, delays, and whether each line came once and unharmed.
//!
//! `cargo bench --bench throughput`, or `… -- SCENARIO` for one; `-- --help`
//! lists them. docs/performance.md says what each one prints.
//!
//! Load, relay and upstream share the machine, and on loopback the kernel does
//! the receiver's work in the sender's time: compare with the floor of the same
//! run, not with figures of other machines.
#![allow(
    missing_docs,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic
)]

use std::process::ExitCode;

/// It reads proc(5), and sends and receives many datagrams at once.
#[cfg(target_os = "linux")]
#[path = "throughput/mod.rs"]
mod bench;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    bench::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("it measures on Linux alone");
    ExitCode::FAILURE
}
