//! How the binary is started: its arguments, and an environment without
//! anything that the test did not put there.

use std::ffi::OsStr;
use std::io::{Seek, Write};
use std::process::{Command, Stdio};

use super::config::Config;
use super::daemon::Daemon;
use super::process::{Process, Stdout};
use super::sandbox::Sandbox;

/// What a developer's or a build machine's shell may hold and a test must not
/// depend on.
const FOREIGN: [&str; 19] = [
    "TEST_PANIC",
    "HOSTEDGRAPHITE_APIKEY",
    "CREDENTIALS_DIRECTORY",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "FDSTORE",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "JOURNAL_STREAM",
];

/// A command line in the making.
pub struct Launch {
    command: Command,
    stdout: Stdout,
    config: Option<Config>,
    sandbox: Option<Sandbox>,
}

/// What a command that ends by itself said.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// Both outputs.
    pub said: String,
    /// Standard output alone.
    pub printed: Vec<String>,
}

impl Launch {
    /// The binary alone.
    pub fn bare() -> Self {
        Self::from_command(Command::new(env!("CARGO_BIN_EXE_sidecarbon")))
    }

    /// The daemon with its configuration, which is written now.
    pub fn with(config: &Config) -> Self {
        Self::bare().config(config)
    }

    /// As [`Launch::with`], but the process may open only so many files.
    pub fn with_open_files(config: &Config, limit: u32) -> Self {
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(format!("ulimit -n {limit}; exec \"$0\" \"$@\""))
            .arg(env!("CARGO_BIN_EXE_sidecarbon"));
        Self::from_command(command).config(config)
    }

    /// As [`Launch::with`], run by another command, which becomes the daemon.
    pub fn by(prefix: &[String], config: &Config) -> Self {
        let (program, arguments) = prefix.split_first().expect("a command");
        let mut command = Command::new(program);
        command
            .args(arguments)
            .arg(env!("CARGO_BIN_EXE_sidecarbon"));
        Self::from_command(command).config(config)
    }

    fn from_command(mut command: Command) -> Self {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SIDECARBON_") {
                command.env_remove(name);
            }
        }
        for name in FOREIGN {
            command.env_remove(name);
        }
        command.stdin(Stdio::null());
        Self {
            command,
            stdout: Stdout::Read,
            config: None,
            sandbox: None,
        }
    }

    fn config(mut self, config: &Config) -> Self {
        config.write();
        self.config = Some(config.clone());
        self.arg("--config").arg(config.file())
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    pub fn args<const N: usize>(mut self, arguments: [&str; N]) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// What it reads on standard input.
    pub fn input(mut self, bytes: impl AsRef<[u8]>) -> Self {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(bytes.as_ref()).expect("room for the input");
        file.rewind().expect("a file");
        self.command.stdin(file);
        self
    }

    /// Standard output becomes a pipe that nobody reads.
    pub fn nobody_reads_stdout(mut self) -> Self {
        self.stdout = Stdout::Unread;
        self
    }

    /// The system refuses the process something.
    pub fn inside(mut self, sandbox: Sandbox) -> Self {
        self.sandbox = Some(sandbox);
        self
    }

    /// Starts the daemon and waits until it is ready.
    #[track_caller]
    pub fn start(mut self) -> Daemon {
        let mut spawn = || Process::spawn(&mut self.command, self.stdout);
        let process = match &self.sandbox {
            None => spawn(),
            Some(sandbox) => sandbox.run(spawn),
        };
        Daemon::ready(process, self.config)
    }

    /// Starts a command that goes on until it is dropped.
    pub fn go(mut self) -> Process {
        Process::spawn(&mut self.command, self.stdout)
    }

    /// Runs a command to its end.
    #[track_caller]
    pub fn run(self) -> Outcome {
        // Its files are there until the end.
        let _config = self.config.clone();
        let mut process = self.go();
        let code = process.wait().code();
        let printed = process.output.lines();
        let said = [printed.clone(), process.log.lines()].concat();
        Outcome {
            code,
            said: said.join("\n"),
            printed,
        }
    }
}
