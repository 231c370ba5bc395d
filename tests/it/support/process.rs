//! A process of the built binary, with everything that it prints.

use std::io::Read;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal, kill_process};

use super::KEY_STEM;
use super::inbox::Inbox;
use super::read::read_some;
use super::wait::wait_until;

/// A running or ended process. Dropping it kills what still runs, and fails
/// the test when any output held a key.
pub struct Process {
    child: Child,
    status: Option<ExitStatus>,
    /// What it writes to standard error.
    pub log: Arc<Inbox>,
    /// What it writes to standard output.
    pub output: Arc<Inbox>,
    readers: Vec<JoinHandle<()>>,
    /// Standard output that nobody reads, kept open.
    _unread: Option<ChildStdout>,
}

/// What happens to standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdout {
    /// It is read at once.
    Read,
    /// It is a pipe that nobody reads.
    Unread,
}

impl Process {
    /// Starts the command.
    pub fn spawn(command: &mut Command, stdout: Stdout) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let log = Arc::new(Inbox::default());
        let output = Arc::new(Inbox::default());
        let mut unread = child.stdout.take();
        let mut readers = Vec::new();
        readers.extend(child.stderr.take().map(|pipe| collect(pipe, &log)));
        if stdout == Stdout::Read {
            readers.extend(unread.take().map(|pipe| collect(pipe, &output)));
        }
        Self {
            child,
            status: None,
            log,
            output,
            readers,
            _unread: unread,
        }
    }

    /// Whether another command succeeds.
    pub fn succeeds(command: &[&str]) -> bool {
        Command::new(command[0])
            .args(&command[1..])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to this process and no other: its id is not given away
    /// before the end was asked for.
    pub fn signal(&self, signal: Signal) {
        assert!(self.status.is_none(), "the process has ended");
        kill_process(Pid::from_child(&self.child), signal).expect("a signal to an own child");
    }

    /// What the system says of it, for those who look for a fault.
    pub fn state(&self) -> String {
        let path = format!("/proc/{}/status", self.id());
        let status = std::fs::read_to_string(path).unwrap_or_default();
        let state = status.lines().find(|line| line.starts_with("State:"));
        state.unwrap_or("gone").to_owned()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("an own child");
        }
        self.status
    }

    /// Waits for its end, and for the last of its output.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let status = wait_until("the end of the process", || self.ended());
        self.join_readers();
        status
    }

    fn join_readers(&mut self) {
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader of a pipe");
        }
    }

    fn print(&self) {
        const LINES: usize = 200;
        match self.status {
            Some(status) => eprintln!("-- {} had ended: {status}", self.id()),
            None => eprintln!("-- {} was running", self.id()),
        }
        for (name, inbox) in [("output", &self.output), ("log", &self.log)] {
            let lines = inbox.lines();
            eprintln!("-- {name} of {}, {} lines", self.id(), lines.len());
            for line in &lines[lines.len().saturating_sub(LINES)..] {
                eprintln!("{line}");
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            // It may end between the two; then there is nothing to kill.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if thread::panicking() {
            self.print();
            return;
        }
        self.join_readers();
        let secret = KEY_STEM.to_lowercase();
        for line in [self.log.lines(), self.output.lines()].concat() {
            if let Some(at) = line.to_lowercase().find(&secret) {
                panic!("a key was printed, after {:?}", line.get(..at));
            }
        }
    }
}

/// Reads a pipe to its end, so that it never blocks the process.
fn collect(mut pipe: impl Read + Send + 'static, inbox: &Arc<Inbox>) -> JoinHandle<()> {
    let inbox = Arc::clone(inbox);
    thread::spawn(move || {
        let mut stream = inbox.stream();
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = read_some(&mut pipe, &mut buffer) {
            stream.feed(&buffer[..read]);
        }
        stream.end_as_line();
    })
}
