//! The key file is replaced while the daemon runs, as Kubernetes does it: a
//! directory with the new one, and a link that is swapped.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::{Config, Daemon, HttpUpstream, KEY, Launch, NEW_KEY, Upstream, wait_for};

/// What is promised, where nobody says that the old key is no longer good.
const PROMISE: Duration = Duration::from_secs(60);

/// A secret volume: `api-key -> ..data/api-key`, `..data -> ..NUMBER`.
struct Volume(PathBuf);

impl Volume {
    fn in_directory_of(config: &Config) -> Self {
        let root = config.path("secret");
        fs::create_dir(&root).expect("a directory");
        let volume = Self(root);
        volume.put(KEY);
        symlink("..data/api-key", volume.file()).expect("a link");
        volume
    }

    fn file(&self) -> PathBuf {
        self.0.join("api-key")
    }

    /// Swaps the link, which is one step for whoever reads.
    fn put(&self, key: &str) {
        let version = fs::read_dir(&self.0).expect("the volume").count();
        let name = format!("..{version}");
        let directory = self.0.join(&name);
        fs::create_dir(&directory).expect("a directory");
        // As Kubernetes mounts it: readable for everybody, without a newline.
        write_public(&directory.join("api-key"), key);
        symlink(&name, self.0.join("..data_tmp")).expect("a link");
        fs::rename(self.0.join("..data_tmp"), self.0.join("..data")).expect("a swap");
    }

    /// The volume has no key any more.
    fn clear(&self) {
        fs::remove_file(self.0.join("..data/api-key")).expect("a file");
    }
}

fn write_public(path: &Path, text: &str) {
    fs::write(path, text).expect("a file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("an own file");
}

/// Sends a line at a time, each when the one before has been delivered, until
/// the fact holds. How many it were.
pub fn talk_until(daemon: &Daemon, what: &str, fact: impl Fn() -> bool) -> u64 {
    let started = Instant::now();
    wait_for("lines of before", || {
        daemon.delivered() == daemon.received()
    });
    let before = daemon.delivered();
    let mut said = 0;
    while !fact() {
        assert!(started.elapsed() < PROMISE, "waited in vain for {what}");
        daemon.udp(format!("talk.line {said} 1700000000"));
        said += 1;
        wait_for("a delivery", || daemon.delivered() == before + said);
    }
    said
}

/// How many lines of the log hold a text.
fn count(daemon: &Daemon, text: &str) -> usize {
    let lines = daemon.log.lines();
    lines.iter().filter(|line| line.contains(text)).count()
}

#[test]
fn a_swapped_key_is_used_though_nobody_refuses_the_old_one() {
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url());
    let volume = Volume::in_directory_of(&config);
    let daemon = Daemon::start(&config.clone().set("sink.api_key_file", &volume.file()));
    daemon.udp("swapped.before 1 1700000000");
    upstream.expect(&format!("{KEY}.swapped.before 1 1700000000"));

    volume.put(NEW_KEY);
    let is_new = |line: &String| line.starts_with(NEW_KEY);
    let said = talk_until(&daemon, "the new key", || {
        upstream.lines().iter().any(is_new)
    });
    // The log has a thread of its own.
    wait_for("the news", || count(&daemon, "the new key is used") > 0);
    assert_eq!(count(&daemon, "the new key is used"), 1);
    let ledger = daemon.stop();
    assert_eq!((ledger.delivered, ledger.left()), (said + 1, 0));
    let arrived = upstream.finish();
    assert_eq!(arrived.len() as u64, said + 1, "each line once");
    let turn = arrived.iter().position(is_new).expect("the new key");
    assert!(arrived[turn..].iter().all(is_new), "no way back");
}

#[test]
fn a_refused_key_is_replaced_at_once() {
    let upstream = HttpUpstream::plain();
    upstream.take_key(KEY);
    // So long that only the key's file can be what makes it go on.
    let config = Config::to(upstream.url())
        .set("retry.first", "5m")
        .set("retry.max", "5m");
    let volume = Volume::in_directory_of(&config);
    let daemon = Daemon::start(&config.clone().set("sink.api_key_file", &volume.file()));
    daemon.udp("refused.before 1 1700000000");
    upstream.expect("refused.before 1 1700000000");

    volume.put(NEW_KEY);
    upstream.take_key(NEW_KEY);
    daemon.udp("refused.after 1 1700000000");
    upstream.expect("refused.after 1 1700000000");
    let ledger = daemon.stop();
    assert_eq!((ledger.delivered, ledger.left()), (2, 0));
}

#[test]
fn a_key_file_that_is_gone_is_told_once_and_the_key_stays() {
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url());
    let volume = Volume::in_directory_of(&config);
    let daemon = Daemon::start(&config.clone().set("sink.api_key_file", &volume.file()));
    volume.clear();
    talk_until(&daemon, "a word about the file", || {
        count(&daemon, "the key file cannot be used") > 0
    });
    // Once, and nothing else has changed.
    daemon.udp("gone.after 1 1700000000");
    upstream.expect(&format!("{KEY}.gone.after 1 1700000000"));
    assert_eq!(count(&daemon, "the key file cannot be used"), 1);
    assert_eq!(daemon.metric("sidecarbon_reload_success"), 1);
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn a_mounted_secret_that_all_may_read_is_no_reason_to_warn() {
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url());
    let volume = Volume::in_directory_of(&config);
    let mounted = config.clone().set("sink.api_key_file", &volume.file());
    let daemon = Daemon::start(&mounted);
    let word = daemon.log.find("a word about the mode", |line| {
        line.contains("can read the key")
    });
    assert!(word.contains(" INFO "), "{word}");
    daemon.reload(&mounted);
    assert_eq!(count(&daemon, "can read the key"), 1);

    // The same mode on a file of this host is one.
    write_public(&config.key_file(), KEY);
    let daemon = Daemon::start(&config);
    let word = daemon.log.find("a word about the mode", |line| {
        line.contains("can read the key")
    });
    assert!(word.contains(" WARN "), "{word}");
}

#[test]
fn files_that_every_user_can_write_are_mentioned() {
    let config = Config::to("tcp://192.0.2.1:2003");
    config.write();
    let check = || {
        let launch = Launch::bare().args(["check", "--quiet", "--config"]);
        launch.arg(config.file()).run()
    };
    assert_eq!(check().said, "");
    for (file, warning) in [
        (
            config.key_file(),
            "every user of this host can replace the key",
        ),
        (config.file(), "every user of this host can change it"),
    ] {
        fs::set_permissions(&file, fs::Permissions::from_mode(0o622)).expect("an own file");
        let outcome = check();
        assert_eq!(outcome.code, Some(0), "{}", outcome.said);
        assert!(outcome.said.contains(warning), "{}", outcome.said);
        let place = file.display().to_string();
        assert!(outcome.said.contains(&place), "{}", outcome.said);
    }
}
