//! What the kernel knows of a process, and which processor it may use.

use std::fs;
use std::io;
use std::process::{Child, Command};

use nix::time::ClockId;
use nix::unistd::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

/// Where load and upstream run, and where what is measured does.
const LOAD_CPU: usize = 0;
const RELAY_CPU: usize = 1;

/// A process of our own.
#[derive(Debug, Clone, Copy)]
pub struct Process {
    id: u32,
}

impl Process {
    pub fn of(child: &Child) -> Self {
        Self { id: child.id() }
    }

    pub fn id(self) -> u32 {
        self.id
    }

    /// Seconds of processor time, of all threads that it has or had.
    pub fn cpu(self) -> f64 {
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(self.id.cast_signed()));
        let time = clock.and_then(ClockId::now).expect("the clock of a child");
        time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9
    }

    /// Resident memory now, in MiB.
    pub fn resident(self) -> f64 {
        self.number("status", "VmRSS:") / 1024.0
    }

    /// The most that ever was, in MiB.
    pub fn peak(self) -> f64 {
        self.number("status", "VmHWM:") / 1024.0
    }

    /// How often its threads gave their processor away, or had it taken.
    pub fn switches(self) -> f64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.id)).expect("a child");
        let of_thread = |task: io::Result<fs::DirEntry>| {
            let status = format!("task/{}/status", task.ok()?.file_name().display());
            let voluntary = self.number(&status, "voluntary_ctxt_switches:");
            Some(voluntary + self.number(&status, "nonvoluntary_ctxt_switches:"))
        };
        tasks.filter_map(of_thread).sum()
    }

    /// A field of proc(5).
    fn number(self, file: &str, field: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/{file}", self.id));
        let status = status.expect("the status of a child");
        let value = status.lines().find_map(|line| line.strip_prefix(field));
        let number = value.and_then(|value| value.split_whitespace().next()?.parse().ok());
        number.expect("a number")
    }
}

/// Keeps this thread, and whoever it starts, to the processor of the load.
pub fn pin_load() {
    pin(LOAD_CPU);
}

/// Starts what is measured, on a processor of its own if that is asked for.
pub fn spawn(command: &mut Command, pinned: bool) -> Child {
    // A child has its parent's processors from its first instruction on, and
    // its threads have its own.
    if pinned {
        pin(RELAY_CPU);
    }
    let child = command.spawn().expect("a process");
    if pinned {
        pin(LOAD_CPU);
    }
    child
}

fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).expect("--pin needs two processors");
}
