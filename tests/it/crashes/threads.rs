//! The limit on processes and threads is used up.

use rustix::process::Signal;

use crate::support::{
    Config, Daemon, HttpUpstream, Launch, NEW_KEY, Port, Upstream, User, assert_same_lines, keyed,
    numbered, payload, wait_for,
};

const LINES: usize = 100_000;

/// Threads of a daemon with all that needs one: the main thread, log, signals,
/// compressor, admin endpoint, and three more for datagrams.
const THREADS: u32 = 8;

fn start(user: &User, config: &Config) -> Daemon {
    user.own(config);
    Launch::by(&user.command(), config).start()
}

/// Drains it, and finds every line there.
#[track_caller]
fn delivers_all(daemon: Daemon, upstream: Upstream, sent: &[String]) {
    daemon.wait_delivered(sent.len());
    assert_eq!(daemon.stop().delivered, sent.len() as u64);
    assert_same_lines(&upstream.finish(), &keyed(sent));
}

#[track_caller]
fn warnings(daemon: &Daemon, what: &str) -> usize {
    let lines = daemon.log.lines();
    lines
        .iter()
        .filter(|line| line.contains(" WARN ") && line.contains(what))
        .count()
}

#[test]
fn a_lookup_without_a_thread_is_tried_again() {
    let Some(user) = User::new() else { return };
    let port = Port::reserve();
    let url = port.url().replace("127.0.0.1", "localhost");
    let daemon = start(&user, &Config::to(url));
    user.may_start_threads(&daemon, false);
    let sent = numbered("lookup", LINES);
    daemon.tcp(payload(&sent));
    daemon.wait_received(LINES);
    wait_for("several failed lookups", || {
        daemon.metric("sidecarbon_sink_errors_total{kind=\"dns\"}") >= 5
    });
    assert_eq!(daemon.waiting(), LINES as u64);
    daemon.log.find("the remedy", |line| {
        line.contains("no thread is available") && line.contains("ulimit -u")
    });
    let upstream = Upstream::tcp_at(&port);
    user.may_start_threads(&daemon, true);
    delivers_all(daemon, upstream, &sent);
}

#[test]
fn a_reload_without_a_thread_follows_when_there_is_one() {
    let Some(user) = User::new() else { return };
    let port = Port::reserve();
    let config = Config::to(port.url());
    let daemon = start(&user, &config);
    let sent = numbered("reload", LINES);
    daemon.tcp(payload(&sent));
    daemon.wait_received(LINES);
    user.may_start_threads(&daemon, false);
    for _ in 0..3 {
        daemon.signal(Signal::HUP);
    }
    let what = "no thread is available";
    wait_for("a warning", || warnings(&daemon, what) > 0);
    // Later than a second attempt to have one.
    let attempts = daemon.metric("sidecarbon_sink_errors_total{kind=\"connect\"}");
    wait_for("some more attempts to connect", || {
        daemon.metric("sidecarbon_sink_errors_total{kind=\"connect\"}") >= attempts + 15
    });
    assert_eq!(warnings(&daemon, what), 1);
    assert_eq!(daemon.waiting(), LINES as u64);
    let upstream = Upstream::tcp_at(&port);
    user.may_start_threads(&daemon, true);
    daemon
        .log
        .find("the reload", |line| line.contains(" reloaded "));
    delivers_all(daemon, upstream, &sent);
}

#[test]
fn a_key_check_without_a_thread_follows_when_there_is_one() {
    let Some(user) = User::new() else { return };
    let upstream = HttpUpstream::plain();
    upstream.take_key(NEW_KEY);
    let config = Config::to(upstream.url());
    let daemon = start(&user, &config);
    user.may_start_threads(&daemon, false);
    daemon.udp("key.line 1 1700000000");
    wait_for("a warning", || {
        warnings(&daemon, "no thread is available") == 1
    });
    config.write_key(NEW_KEY);
    user.may_start_threads(&daemon, true);
    daemon.wait_delivered(1);
    daemon.stop();
}

#[test]
fn standard_output_without_a_thread_is_tried_again() {
    let Some(user) = User::new() else { return };
    let daemon = start(&user, &Config::to("stdout:"));
    user.may_start_threads(&daemon, false);
    daemon.udp("stdout.line 1 1700000000");
    wait_for("several failures", || {
        daemon.metric("sidecarbon_sink_errors_total{kind=\"io\"}") >= 3
    });
    user.may_start_threads(&daemon, true);
    daemon.output.expect("<key>.stdout.line 1 1700000000");
    daemon.wait_delivered(1);
    daemon.stop();
}

#[test]
fn an_admin_endpoint_without_a_thread_follows_when_there_is_one() {
    let Some(user) = User::new() else { return };
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url());
    let without = config.clone().set("admin.listen", "");
    let daemon = start(&user, &without);
    config.write();
    user.own(&config);
    user.may_start_threads(&daemon, false);
    daemon.signal(Signal::HUP);
    wait_for("a warning", || {
        warnings(&daemon, "no thread is available") == 1
    });
    user.may_start_threads(&daemon, true);
    daemon
        .log
        .find("the reload", |line| line.contains(" reloaded "));
    assert_eq!(daemon.get("/healthz"), 200);
    daemon.stop();
}

/// Too few threads for this daemon, however many: one error, and the exit code for it.
#[test]
fn a_start_without_a_thread_exits_with_70_and_one_error() {
    let Some(user) = User::new() else { return };
    let port = Port::reserve();
    let config = Config::to(port.url())
        .set("listen.udp", ["127.0.0.1:0"])
        .set("listen.udp_threads", 4);
    user.own(&config);
    for threads in 1..THREADS {
        let command = user.command_with_threads(threads);
        let outcome = Launch::by(&command, &config).run();
        assert_eq!(outcome.code, Some(70), "{threads}: {}", outcome.said);
        let errors = outcome.said.matches("ERROR").count();
        assert_eq!(errors, 1, "{threads}: {}", outcome.said);
        assert!(!outcome.said.contains("panicked"), "{}", outcome.said);
        assert!(outcome.said.contains("ulimit -u"), "{}", outcome.said);
    }
    let daemon = Launch::by(&user.command_with_threads(THREADS), &config).start();
    daemon.signal(Signal::KILL);
    daemon.wait_end();
}
