//! Kills, core dumps, and processes whose parent has ended.

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use crate::support::{
    Config, KEY, Launch, Manager, Port, Process, User, numbered, payload, skipped, wait_for,
};

const LINES: usize = 20_000;

fn says_killed(line: &str) -> bool {
    line.contains("the former process was killed")
}

#[test]
fn the_next_start_reports_what_a_kill_has_lost() {
    let port = Port::reserve();
    let config = Config::to(port.url()).set("shutdown.grace", "5m");
    let manager = Manager::with_store();
    let daemon = manager.start(&config);
    manager.wait_account();
    daemon.tcp(payload(&numbered("killed", LINES)));
    daemon.wait_received(LINES);
    daemon.signal(Signal::KILL);
    daemon.wait_end();

    let daemon = manager.start(&config);
    let said = daemon.log.find("the loss", says_killed);
    assert!(said.contains(" ERROR "), "{said}");
    assert!(said.contains(&format!("queued={LINES} ")), "{said}");
    // Those of this process are kept, and the next start has no loss to report.
    daemon.tcp(payload(&numbered("kept", 10)));
    daemon.wait_received(10);
    daemon.stop();
    manager.wait_kept(1);
    let daemon = manager.start(&config);
    daemon
        .log
        .find("the adoption", |line| line.contains("queued again"));
    assert!(!daemon.log.lines().iter().any(|line| says_killed(line)));
    assert_eq!(daemon.waiting(), 10);
    // What was taken over counts as well.
    daemon.signal(Signal::KILL);
    daemon.wait_end();
    let daemon = manager.start(&config);
    let said = daemon.log.find("the loss", says_killed);
    assert!(said.contains("queued=10 "), "{said}");
}

/// The queue needs the room in it.
#[test]
fn a_store_for_one_descriptor_holds_no_account() {
    let port = Port::reserve();
    let config = Config::to(port.url()).set("shutdown.grace", "5m");
    let manager = Manager::new().env("FDSTORE", "1");
    let daemon = manager.start(&config);
    daemon.udp("one.line 1 1700000000");
    daemon.wait_received(1);
    daemon.stop();
    manager.wait_kept(1);
    manager.told.look("no account", |told| {
        (!told.iter().any(|told| told.contains("account"))).then_some(())
    });
}

#[test]
fn the_same_user_reads_neither_environment_nor_memory() {
    let Some(user) = User::new() else { return };
    let port = Port::reserve();
    let config = Config::to(port.url()).unset("sink.api_key_file");
    user.own(&config);
    let daemon = Launch::by(&user.command(), &config)
        .env("SIDECARBON_API_KEY", KEY)
        .start();
    for file in ["environ", "maps", "mem", "fd"] {
        let path = format!("/proc/{}/{file}", daemon.id());
        assert!(Path::new(&path).exists());
        assert!(!user.runs(&["ls", &format!("{path}/")]), "{path}");
        assert!(!user.runs(&["head", "-c1", &path]), "{path}");
    }
    daemon.stop();
}

#[test]
fn there_is_no_core_dump() {
    let port = Port::reserve();
    let config = Config::to(port.url());
    let limits = ["sh", "-c", "ulimit -c unlimited; exec \"$0\" \"$@\""].map(str::to_owned);
    let mut process = Launch::by(&limits, &config).go();
    wait_for("the start", || {
        process
            .log
            .lines()
            .iter()
            .any(|line| line.contains(" started "))
    });
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.id()));
    let limits = limits.expect("the limits of a child");
    let core = limits.lines().find(|line| line.starts_with("Max core"));
    let core: Vec<&str> = core.expect("a limit").split_whitespace().collect();
    assert_eq!(core[4], "0", "{core:?}");
    process.signal(Signal::ABORT);
    let ended = process.wait();
    assert!(!std::os::unix::process::ExitStatusExt::core_dumped(&ended));
}

/// As process 1 of a PID name space, it is the parent of those that have lost theirs.
#[test]
fn as_process_1_it_reaps_orphans() {
    let port = Port::reserve();
    let config = Config::to(port.url());
    let prefix = ["unshare", "--pid", "--fork", "--kill-child"].map(str::to_owned);
    if !Process::succeeds(&["unshare", "--pid", "--fork", "true"]) {
        skipped("a PID name space needs root and unshare");
        return;
    }
    let process = Launch::by(&prefix, &config).go();
    wait_for("the start", || {
        process
            .log
            .lines()
            .iter()
            .any(|line| line.contains(" started "))
    });
    let first = children(process.id());
    let first = first.split_whitespace().next().expect("a child");
    // The shell in between ends before its child does.
    let mark = config.path("orphan-has-run");
    let orphan = format!("(sh -c 'sleep 0.05; : > {}' &) &", mark.display());
    for _ in 0..20 {
        let inside = ["nsenter", "--target", first, "--pid", "sh", "-c", &orphan];
        assert!(Process::succeeds(&inside));
    }
    wait_for("an orphan", || mark.exists());
    let first = first.parse().expect("a process id");
    wait_for("all orphans to be reaped", || children(first).is_empty());
}

fn children(process: u32) -> String {
    let path = format!("/proc/{process}/task/{process}/children");
    fs::read_to_string(path).expect("a kernel that lists children")
}
