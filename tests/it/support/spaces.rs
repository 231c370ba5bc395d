//! Name spaces of the kernel: a network that can be taken away, a host file of
//! the test's own. They need root, and a test says when it has to do without.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A network of one link to us, on which the daemon and the upstream meet, and
/// a second one by which the test talks to the daemon.
pub struct Network {
    name: String,
    /// Between 0 and 255, so that tests have different addresses.
    number: u8,
}

impl Network {
    /// `None`, and a word about it, where this is not allowed.
    pub fn new() -> Option<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let made = MADE.fetch_add(1, Ordering::SeqCst);
        let process = std::process::id();
        let network = Self {
            name: format!("sct{}n{made}", process % 100_000),
            number: u8::try_from((process + made) % 250).unwrap_or(0),
        };
        if !ip(&format!("netns add {}", network.name)) {
            skipped("a network name space needs root and ip");
            return None;
        }
        for (link, third) in [("u", 0), ("c", 1)] {
            let (ours, theirs) = network.link(link);
            let address = format!("10.{}.{third}", network.number);
            let name = &network.name;
            let made = ip(&format!(
                "link add {ours} type veth peer name {theirs} netns {name}"
            )) && ip(&format!("addr add {address}.1/24 dev {ours}"))
                && ip(&format!("link set {ours} up"))
                && ip(&format!("-n {name} addr add {address}.2/24 dev {theirs}"))
                && ip(&format!("-n {name} link set {theirs} up"));
            if !made {
                skipped("a pair of network links cannot be made here");
                return None;
            }
        }
        Some(network)
    }

    /// Our end of the link to the upstream.
    pub fn upstream(&self) -> String {
        format!("10.{}.0.1", self.number)
    }

    /// The daemon's end of the link to the test.
    pub fn daemon(&self) -> String {
        format!("10.{}.1.2", self.number)
    }

    /// What a command is run by in there.
    pub fn command(&self) -> Vec<String> {
        ["ip", "netns", "exec", &self.name]
            .map(str::to_owned)
            .to_vec()
    }

    /// Runs a command in there, and answers with what it prints.
    #[track_caller]
    pub fn run(&self, command: &[&str]) -> String {
        let mut arguments = self.command();
        arguments.extend(command.iter().map(|word| (*word).to_owned()));
        let output = Command::new(&arguments[0]).args(&arguments[1..]).output();
        let output = output.expect("a command");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The link to the upstream passes nothing, or works again.
    #[track_caller]
    pub fn pass(&self, packets: bool) {
        let state = if packets { "up" } else { "down" };
        let (ours, _) = self.link("u");
        assert!(ip(&format!("link set {ours} {state}")));
    }

    fn link(&self, kind: &str) -> (String, String) {
        let name = self.name.trim_start_matches("sct");
        (format!("s{name}{kind}"), format!("d{name}{kind}"))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Its links go with it.
        ip(&format!("netns del {}", self.name));
    }
}

/// What a command is run by to have this file for `/etc/hosts`; `None`, and a
/// word about it, where this is not allowed.
pub fn with_hosts(hosts: &Path) -> Option<Vec<String>> {
    let hosts = hosts.to_str().expect("a path in UTF-8");
    let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    let prefix = ["unshare", "--mount", "sh", "-c", script, hosts];
    let works = Command::new(prefix[0])
        .args(&prefix[1..])
        .arg("true")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !works {
        skipped("a host file of one's own needs root and unshare");
        return None;
    }
    Some(prefix.map(str::to_owned).to_vec())
}

/// Said past the test runner, which keeps to itself what a test prints that
/// passes.
pub fn skipped(why: &str) {
    // Nobody may be listening.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

fn ip(arguments: &str) -> bool {
    Command::new("ip")
        .args(arguments.split(' '))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
