//! Descriptors that a service manager has passed to this process
//! (sd_listen_fds(3)).
#![allow(unsafe_code)]

use std::env;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The first after standard input, output and error.
const FIRST: RawFd = 3;

/// Far more than anybody passes.
const MOST: usize = 1024;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes them, each with its name. Only the first call gets any; call it before
/// the process opens descriptors of its own.
pub fn take() -> Vec<(String, OwnedFd)> {
    let number = |name| env::var(name).ok()?.parse::<usize>().ok();
    let is_for_us = number("LISTEN_PID") == usize::try_from(std::process::id()).ok();
    if !is_for_us || TAKEN.swap(true, Relaxed) {
        return Vec::new();
    }
    let count = number("LISTEN_FDS").unwrap_or(0).min(MOST);
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names = names.split(':').map(str::to_owned);
    (FIRST..)
        .take(count)
        .zip(names.chain(std::iter::repeat_with(String::new)))
        .filter(|(descriptor, _)| {
            // SAFETY: no memory is passed. It fails where nothing is open, and keeps
            // the descriptor from processes that we might start.
            unsafe { libc::fcntl(*descriptor, libc::F_SETFD, libc::FD_CLOEXEC) != -1 }
        })
        // SAFETY: it is open, and whoever set LISTEN_PID to our id has passed it to
        // us to own. It is given out only once.
        .map(|(descriptor, name)| (name, unsafe { OwnedFd::from_raw_fd(descriptor) }))
        .collect()
}
