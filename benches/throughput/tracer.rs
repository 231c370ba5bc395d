//! Counts a process's system calls with perf, which hardly slows it down; where
//! there is none, or it may not, with strace. Being stopped by strace makes each
//! call dear, so that more datagrams share one than otherwise.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;

use crate::bench::process::Process;

pub enum Tracer {
    Perf(Perf),
    Strace(Strace),
}

/// `perf stat`, told through pipes when to count.
pub struct Perf {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// `strace -c`.
pub struct Strace {
    child: Child,
    counts: NamedTempFile,
}

impl Tracer {
    /// Returns when it counts.
    pub fn attach(process: Process) -> Result<Self, String> {
        if let Some(perf) = Perf::attach(process) {
            return Ok(Self::Perf(perf));
        }
        Strace::attach(process).map(Self::Strace)
    }

    /// What its count is called.
    pub fn figure(&self) -> &'static str {
        match self {
            Self::Perf(_) => "calls a thousand datagrams, by perf",
            Self::Strace(_) => "calls a thousand datagrams, by strace",
        }
    }

    /// Ends it. How many calls there were.
    pub fn calls(self) -> Result<f64, String> {
        let (calls, words) = match self {
            Self::Perf(perf) => perf.calls(),
            Self::Strace(strace) => strace.calls(),
        };
        calls.ok_or_else(|| format!("nothing was counted: {words}"))
    }
}

impl Perf {
    fn attach(process: Process) -> Option<Self> {
        let mut child = Command::new("perf")
            .args(["stat", "-x", ",", "-e", "raw_syscalls:sys_enter"])
            .args(["--delay=-1", "--control", "fd:0,1"])
            .args(["-p", &process.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        let mut perf = Self {
            commands: child.stdin.take()?,
            answers: BufReader::new(child.stdout.take()?),
            child,
        };
        if perf.tell("enable").is_some() {
            return Some(perf);
        }
        perf.child.wait().expect("our own child");
        None
    }

    /// `None` where it has ended.
    fn tell(&mut self, command: &str) -> Option<()> {
        writeln!(self.commands, "{command}").ok()?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer).ok()?;
        answer.contains("ack").then_some(())
    }

    fn calls(mut self) -> (Option<f64>, String) {
        let counted = self.tell("disable");
        end(&mut self.child);
        let mut words = String::new();
        if let Some(mut said) = self.child.stderr.take() {
            said.read_to_string(&mut words).expect("text");
        }
        // The count is first in its line.
        let line = words.lines().find(|line| line.contains("raw_syscalls"));
        let calls = line.and_then(|line| line.split(',').next()?.parse().ok());
        (counted.and(calls), words)
    }
}

impl Strace {
    fn attach(process: Process) -> Result<Self, String> {
        let counts = NamedTempFile::new().expect("a temporary file");
        let child = Command::new("strace")
            .args(["-c", "-f", "-o"])
            .arg(counts.path())
            .args(["-p", &process.id().to_string()])
            .stderr(Stdio::piped())
            .spawn();
        let child = child.map_err(|error| format!("neither perf nor strace counts: {error}"));
        let mut child = child?;
        let mut words = BufReader::new(child.stderr.take().expect("its words")).lines();
        match words.next() {
            Some(Ok(line)) if line.contains("attached") => Ok(Self { child, counts }),
            other => Err(format!("strace cannot attach: {other:?}")),
        }
    }

    fn calls(mut self) -> (Option<f64>, String) {
        end(&mut self.child);
        let words = fs::read_to_string(self.counts.path()).expect("a file of ours");
        // Per cent, seconds, microseconds a call, calls, perhaps errors, "total".
        let total = words.lines().find(|line| line.ends_with("total"));
        let calls = total.and_then(|total| total.split_whitespace().nth(3)?.parse().ok());
        (calls, words)
    }
}

/// As a person would.
fn end(child: &mut Child) {
    kill_process(Pid::from_child(child), Signal::INT).expect("our own child");
    child.wait().expect("our own child");
}
