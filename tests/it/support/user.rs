//! Another user: without root's privileges, whose processes and threads can be limited.

use std::fs;
use std::os::unix::fs::chown;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Resource, getrlimit};

use super::config::Config;
use super::daemon::Daemon;
use super::process::Process;
use super::spaces::skipped;

/// Far from the users that systems have.
const FIRST: u32 = 3_000_000;

/// A user that nobody else is.
pub struct User {
    id: u32,
}

impl User {
    /// `None`, and a word about it, where this is not allowed.
    pub fn new() -> Option<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let made = MADE.fetch_add(1, Ordering::SeqCst);
        let user = Self {
            id: FIRST + std::process::id() * 100 + made,
        };
        let binary = env!("CARGO_BIN_EXE_sidecarbon");
        if user.runs(&["test", "-x", binary]) {
            return Some(user);
        }
        skipped("another user needs root, setpriv, and a binary that everybody may run");
        None
    }

    /// What a command is run by as this user.
    pub fn command(&self) -> Vec<String> {
        let id = self.id;
        let ids = [format!("--reuid={id}"), format!("--regid={id}")];
        let mut command = vec!["setpriv".to_owned()];
        command.extend(ids);
        command.extend(
            ["--clear-groups", "--bounding-set=-all", "--inh-caps=-all"].map(str::to_owned),
        );
        command
    }

    /// The same, with at most so many threads from the beginning.
    pub fn command_with_threads(&self, threads: u32) -> Vec<String> {
        let mut command = vec!["prlimit".to_owned(), format!("--nproc={threads}")];
        command.extend(self.command());
        command
    }

    /// Gives it what it has to read.
    #[track_caller]
    pub fn own(&self, config: &Config) {
        config.write();
        let directory = config.file();
        let directory = directory.parent().expect("a directory");
        for entry in fs::read_dir(directory).expect("a directory").flatten() {
            chown(entry.path(), Some(self.id), Some(self.id)).expect("root");
        }
        chown(directory, Some(self.id), Some(self.id)).expect("root");
    }

    /// Whether a command succeeds as this user.
    pub fn runs(&self, command: &[&str]) -> bool {
        let prefix = self.command();
        let prefix = prefix.iter().map(String::as_str);
        Process::succeeds(&prefix.chain(command.iter().copied()).collect::<Vec<_>>())
    }

    /// Whether a daemon of this user may have more threads, from now on.
    #[track_caller]
    pub fn may_start_threads(&self, daemon: &Daemon, may: bool) {
        let most = getrlimit(Resource::Nproc).maximum;
        let most = most.map_or_else(|| "unlimited".to_owned(), |most| most.to_string());
        let soft = if may { &most } else { "1" };
        let (process, limit) = (daemon.id().to_string(), format!("--nproc={soft}:"));
        assert!(self.runs(&["prlimit", "--pid", &process, &limit]));
    }
}
