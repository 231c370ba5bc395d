//! A panic, injected into each task and thread: the queue is handed over, the ledger is
//! printed, the exit code is 70.

use std::fs;
use std::io::Write;
use std::net::{TcpStream, UdpSocket};

use rustix::process::Signal;

use crate::support::{
    Config, Daemon, Launch, Manager, Port, Upstream, assert_same_lines, keyed, numbered, payload,
};

const LINES: usize = 20_000;

/// Panics at a point as soon as something makes the daemon come there.
fn panics_at(point: &str, provoke: impl FnOnce(&Daemon, &Config)) {
    let port = Port::reserve();
    let url = port.url().replace("127.0.0.1", "localhost");
    let config = Config::to(url)
        .set("listen.udp", ["127.0.0.1:0"])
        .set("listen.statsd", ["127.0.0.1:0"]);
    let fault = config.path("fault");
    let manager = Manager::with_store().env("TEST_PANIC", format!("{point}:{}", fault.display()));
    let daemon = manager.start(&config);
    let sent = numbered("panics", LINES);
    daemon.tcp(payload(&sent));
    daemon.wait_received(LINES);
    fs::write(&fault, "").expect("a file");
    provoke(&daemon, &config);
    let log = daemon.log.clone();
    let ended = daemon.wait_end();
    assert_eq!(ended.code, Some(70), "{point}");
    let ledger = ended.ledger.unwrap_or_else(|| panic!("{point}: no ledger"));
    assert!(ledger.queued >= LINES as u64, "{point}: {ledger:?}");
    assert_eq!(ledger.in_flight, 0, "{point}: {ledger:?}");
    log.find("the panic and its place", |line| {
        line.contains(" ERROR ") && line.contains(&format!("injected into {point}"))
    });
    manager.wait_kept(1);

    fs::remove_file(&fault).expect("a file");
    let upstream = Upstream::tcp_at(&port);
    let daemon = manager.start(&config);
    daemon
        .log
        .find("the adoption", |line| line.contains("queued again"));
    let kept = usize::try_from(ledger.queued).expect("a number of lines");
    daemon.wait_delivered(kept);
    daemon.stop();
    let mut arrived = upstream.finish();
    arrived.retain(|line| line.contains(".panics."));
    assert_same_lines(&arrived, &keyed(&sent));
}

fn hang_up(daemon: &Daemon, _: &Config) {
    daemon.signal(Signal::HUP);
}

fn nothing(_: &Daemon, _: &Config) {}

#[test]
fn in_the_main_loop() {
    panics_at("main", hang_up);
}

#[test]
fn in_the_signal_thread() {
    panics_at("signals", hang_up);
}

#[test]
fn in_the_thread_that_reads_files() {
    panics_at("reload", hang_up);
}

#[test]
fn in_the_resolver() {
    panics_at("resolver", nothing);
}

#[test]
fn in_the_relay() {
    panics_at("relay", nothing);
}

#[test]
fn in_the_compressor() {
    panics_at("compress", |daemon, _| {
        // It is not waited for: the daemon may be gone before it is read.
        let mut client = daemon.connect();
        let more = payload(&numbered("more", 10 * LINES));
        let _ = client.write_all(&more);
    });
}

#[test]
fn in_the_flush_of_samples() {
    panics_at("flush", |daemon, _| {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let statsd = daemon.address("statsd");
        socket
            .send_to(b"a.counter:1|c", statsd)
            .expect("a datagram");
    });
}

#[test]
fn in_a_task_that_receives_datagrams() {
    panics_at("udp", |daemon, _| daemon.udp("datagram.line 1 1700000000"));
}

#[test]
fn in_a_thread_that_receives_datagrams() {
    panics_at("datagrams", |daemon, config| {
        config.clone().set("listen.udp_threads", 2).write();
        daemon.signal(Signal::HUP);
    });
}

#[test]
fn in_a_task_that_accepts_connections() {
    panics_at("accept", |daemon, _| drop(daemon.connect()));
}

#[test]
fn in_a_task_that_reads_a_connection() {
    panics_at("client", |daemon, _| {
        let _ = daemon.connect().write_all(b"client.line 1 1700000000\n");
    });
}

#[test]
fn in_the_admin_endpoint() {
    panics_at("admin", |daemon, _| {
        let _ = TcpStream::connect(daemon.address("admin"));
    });
}

#[test]
fn in_a_task_that_answers_a_request() {
    panics_at("visitor", |daemon, _| drop(daemon.try_get("/healthz")));
}

#[test]
fn in_the_liveness_task() {
    panics_at("liveness", |daemon, _| drop(daemon.try_get("/healthz")));
}

#[test]
fn in_the_watchdog() {
    panics_at("watchdog", nothing);
}

#[test]
fn in_the_task_that_reports_suppressed_logs() {
    panics_at("suppressed_logs", |daemon, _| {
        // Two reads: of one, a sample is logged.
        daemon.udp("bad\n");
        daemon.wait_received(LINES + 1);
        daemon.udp("bad\n");
    });
}

#[test]
fn in_the_thread_that_prints() {
    let config = Config::to("stdout:");
    let fault = config.path("fault");
    fs::write(&fault, "").expect("a file");
    let daemon = Launch::with(&config)
        .env("TEST_PANIC", format!("stdout:{}", fault.display()))
        .start();
    daemon.udp("print.line 1 1700000000");
    let ended = daemon.wait_end();
    assert_eq!(ended.code, Some(70));
    assert_eq!(ended.ledger.expect("a ledger").queued, 1);
}

/// The lines themselves may bring it about.
#[test]
fn lines_that_were_there_at_three_defects_in_a_row_are_dropped() {
    let port = Port::reserve();
    let config = Config::to(port.url());
    let fault = config.path("fault");
    let manager = Manager::with_store().env("TEST_PANIC", format!("relay:{}", fault.display()));
    let daemon = manager.start(&config);
    daemon.tcp(payload(&numbered("cause", LINES)));
    daemon.wait_received(LINES);
    fs::write(&fault, "").expect("a file");
    assert_eq!(daemon.wait_end().code, Some(70));
    for defects in 1..3 {
        manager.wait_kept(1);
        assert_eq!(
            manager.name_of_image(),
            format!("sidecarbon-queue-{defects}")
        );
        assert_eq!(manager.run(&config).code, Some(70));
    }
    assert_eq!(manager.name_of_image(), "sidecarbon-queue-3");
    fs::remove_file(&fault).expect("a file");
    let daemon = manager.start(&config);
    daemon.log.find("the loss", |line| {
        line.contains(" ERROR ") && line.contains(&format!("lost={LINES}"))
    });
    let corrupt = daemon.metric("sidecarbon_lines_dropped_total{reason=\"corrupt\"}");
    assert_eq!((corrupt, daemon.waiting()), (LINES as u64, 0));
    manager.wait_kept(0);
    daemon.stop();
}
