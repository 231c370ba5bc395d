//! What is measured, as a process: the daemon, or the floor beside it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal, kill_process};

use crate::bench::KEY;
use crate::bench::ledger::Ledger;
use crate::bench::process::{self, Process};
use crate::bench::upstream::{Transport, Upstream};

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Floor,
    Daemon,
}

/// What it is told.
pub struct Setting<'a> {
    pub kind: Kind,
    /// Where the TCP listener is to be; port 0 is any.
    pub tcp: SocketAddr,
    /// Of the daemon: configuration by its names in the environment.
    pub variables: &'a [(&'a str, &'a str)],
    pub pinned: bool,
}

/// Its process, which ends with the owner.
pub struct Running(pub Child);

pub struct Relay {
    kind: Kind,
    running: Running,
    pub process: Process,
    pub tcp: SocketAddr,
    pub udp: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
    reading: Option<JoinHandle<()>>,
}

impl Relay {
    /// Starts it, and returns when it listens.
    pub fn start(setting: &Setting, upstream: &Upstream) -> Self {
        let mut running = spawn(setting, upstream);
        let child = &mut running.0;
        let mut lines = BufReader::new(child.stderr.take().expect("its log")).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (mut tcp, mut udp) = (None, None);
        while tcp.is_none() || udp.is_none() {
            let Some(Ok(line)) = lines.next() else {
                panic!("it did not start: {:#?}", log.lock());
            };
            let address = line.rsplit_once("address=");
            let address = address.and_then(|(_, address)| address.parse().ok());
            if line.contains("listener=tcp") {
                tcp = address;
            } else if line.contains("listener=udp") {
                udp = address;
            }
            keep(&log, line);
        }
        Self {
            kind: setting.kind,
            process: Process::of(&running.0),
            running,
            tcp: tcp.expect("it was said"),
            udp: udp.expect("it was said"),
            reading: Some(read_on(lines, &log)),
            log,
        }
    }

    /// Ends it, and answers with what it says of its lines at last.
    pub fn finish(mut self) -> Ledger {
        let child = &mut self.running.0;
        kill_process(Pid::from_child(child), Signal::TERM).expect("our own child");
        child.wait().expect("our own child");
        if let Some(reading) = self.reading.take() {
            reading.join().expect("its log ends with it");
        }
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        match (self.kind, Ledger::in_log(&log)) {
            (_, Some(ledger)) => ledger,
            (Kind::Floor, None) => Ledger::default(),
            (Kind::Daemon, None) => panic!("no ledger: {log:#?}"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts it, and returns at once. Its log is in a pipe.
pub fn spawn(setting: &Setting, upstream: &Upstream) -> Running {
    let mut command = match setting.kind {
        Kind::Floor => floor(setting, upstream),
        Kind::Daemon => daemon(setting, upstream),
    };
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    Running(process::spawn(&mut command, setting.pinned))
}

/// This program again.
fn floor(setting: &Setting, upstream: &Upstream) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command
        .arg("floor")
        .args(["--tcp", &setting.tcp.to_string()])
        .args(["--upstream", &upstream.address().to_string()]);
    command
}

fn daemon(setting: &Setting, upstream: &Upstream) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidecarbon"));
    command
        .args(["--sink", &upstream.url()])
        .args(["--tcp", &setting.tcp.to_string()])
        .args(["--udp", "127.0.0.1:0"])
        .env("SIDECARBON_ADMIN_LISTEN", "127.0.0.1:0")
        .env("SIDECARBON_API_KEY", KEY)
        .env("SIDECARBON_LOG_FORMAT", "text")
        .envs(setting.variables.iter().copied());
    if upstream.transport() == Transport::Tls {
        command.env("SIDECARBON_SINK_TLS_CA_FILE", upstream.ca_file());
    }
    command
}

fn read_on(
    lines: std::io::Lines<BufReader<ChildStderr>>,
    log: &Arc<Mutex<Vec<String>>>,
) -> JoinHandle<()> {
    let log = log.clone();
    thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            keep(&log, line);
        }
    })
}

fn keep(log: &Mutex<Vec<String>>, line: String) {
    log.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(line);
}
