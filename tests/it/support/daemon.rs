//! The running daemon.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::client::{say_and_hang_up, udp_to};
use super::config::Config;
use super::http::Message;
use super::inbox::Inbox;
use super::launch::Launch;
use super::ledger::Ledger;
use super::metrics::Metrics;
use super::process::Process;
use super::wait::{DEADLINE, wait_for, wait_until};

/// A daemon that listens. Dropping it kills it.
pub struct Daemon {
    process: Process,
    config: Option<Config>,
    /// Its standard output: what the `stdout:` sink prints.
    pub output: Arc<Inbox>,
    /// Its standard error.
    pub log: Arc<Inbox>,
}

/// How the daemon ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// The account in its log, if it came to that.
    pub ledger: Option<Ledger>,
    /// From the wait's beginning to the end.
    pub took: Duration,
}

impl Daemon {
    /// Starts the daemon and waits until it is ready.
    #[track_caller]
    pub fn start(config: &Config) -> Self {
        Launch::with(config).start()
    }

    /// Waits until a started process says that it is ready.
    #[track_caller]
    pub fn ready(mut process: Process, config: Option<Config>) -> Self {
        wait_for("the daemon to start", || {
            let ended = process.ended();
            assert!(ended.is_none(), "the daemon ended at once: {ended:?}");
            process
                .log
                .lines()
                .iter()
                .any(|line| message(line) == "started")
        });
        Self {
            config,
            output: Arc::clone(&process.output),
            log: Arc::clone(&process.log),
            process,
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    // Where it listens

    /// The addresses that it has bound for a kind of listener, as logged.
    pub fn addresses(&self, kind: &str) -> Vec<String> {
        self.log
            .lines()
            .iter()
            .filter(|line| message(line) == "listening")
            .filter(|line| field(line, "listener").split(':').next() == Some(kind))
            .map(|line| field(line, "address").to_owned())
            .collect()
    }

    /// The IPv4 address that it bound last for a kind of listener.
    #[track_caller]
    pub fn address(&self, kind: &str) -> SocketAddr {
        self.socket_addresses(kind)
            .into_iter()
            .rfind(SocketAddr::is_ipv4)
            .unwrap_or_else(|| panic!("no {kind} listener"))
    }

    /// All the IP addresses of a kind of listener.
    #[track_caller]
    pub fn socket_addresses(&self, kind: &str) -> Vec<SocketAddr> {
        let parse = |address: &String| address.parse().unwrap_or_else(|_| panic!("{address}"));
        self.addresses(kind).iter().map(parse).collect()
    }

    // Its clients

    /// Sends one datagram.
    #[track_caller]
    pub fn udp(&self, bytes: impl AsRef<[u8]>) {
        udp_to(self.address("udp"), bytes);
    }

    /// Sends bytes over a TCP connection of their own, and waits until the
    /// daemon has read them to the end.
    #[track_caller]
    pub fn tcp(&self, bytes: impl AsRef<[u8]>) {
        say_and_hang_up(self.connect(), bytes);
    }

    /// Opens a TCP connection.
    #[track_caller]
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address("tcp")).expect("a TCP listener");
        stream.set_nodelay(true).expect("an open socket");
        stream
    }

    // What it says of itself

    /// Asks the admin listener; `None` when nobody answers there.
    pub fn try_get(&self, path: &str) -> Option<Message> {
        self.ask(&format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        ))
        .ok()
        .flatten()
    }

    /// The status code of a page.
    #[track_caller]
    pub fn get(&self, path: &str) -> u16 {
        let answer = self
            .try_get(path)
            .unwrap_or_else(|| panic!("no answer to {path}"));
        answer
            .word(1)
            .parse()
            .unwrap_or_else(|_| panic!("{}", answer.start))
    }

    /// Sends a whole request to the admin listener.
    pub fn ask(&self, request: &str) -> io::Result<Option<Message>> {
        let mut stream = TcpStream::connect(self.address("admin"))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.write_all(request.as_bytes())?;
        Message::read(&mut io::BufReader::new(stream))
    }

    /// `/api/status`.
    #[track_caller]
    pub fn status(&self) -> serde_json::Value {
        let page = self.try_get("/api/status").expect("an answer");
        serde_json::from_slice(&page.body).expect("JSON")
    }

    /// All metrics.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        let asked =
            self.ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = match asked {
            Ok(Some(answer)) => answer,
            none => panic!("/metrics: {none:?}; the process: {}", self.process.state()),
        };
        assert_eq!(answer.word(1), "200", "{}", answer.start);
        Metrics::parse(&answer.text())
    }

    /// The same; `None` when nobody answers any more.
    pub fn try_metrics(&self) -> Option<Metrics> {
        let answer = self.try_get("/metrics")?;
        Some(Metrics::parse(&answer.text()))
    }

    /// One metric, with its labels as they are printed.
    #[track_caller]
    pub fn metric(&self, sample: &str) -> u64 {
        let metrics = self.metrics();
        metrics.get(sample).unwrap_or_else(|| panic!("no {sample}"))
    }

    /// A metric, summed over its labels.
    #[track_caller]
    pub fn total(&self, name: &str) -> u64 {
        self.metrics()
            .sum(name)
            .unwrap_or_else(|| panic!("no {name}"))
    }

    /// Lines received so far, by all listeners.
    #[track_caller]
    pub fn received(&self) -> u64 {
        self.total("sidecarbon_lines_received_total")
    }

    /// Lines delivered so far.
    #[track_caller]
    pub fn delivered(&self) -> u64 {
        self.metric("sidecarbon_lines_delivered_total")
    }

    /// Lines that are neither delivered nor given up.
    #[track_caller]
    pub fn waiting(&self) -> u64 {
        self.ledger().left()
    }

    /// The account as of now, whose sum must be right.
    #[track_caller]
    pub fn ledger(&self) -> Ledger {
        Ledger::of(&self.metrics())
    }

    /// Open connections of clients.
    #[track_caller]
    pub fn connections(&self) -> u64 {
        self.of_clients("sidecarbon_connections")
    }

    /// Connections of clients that the daemon has closed.
    #[track_caller]
    pub fn connections_closed(&self) -> u64 {
        self.of_clients("sidecarbon_connections_closed_total")
    }

    #[track_caller]
    fn of_clients(&self, name: &str) -> u64 {
        let sum = self
            .metrics()
            .sum_where(name, |labels| !labels.contains("admin"));
        sum.unwrap_or_else(|| panic!("no {name}"))
    }

    /// Waits until it has received so many lines.
    #[track_caller]
    pub fn wait_received(&self, lines: usize) {
        wait_count("lines received", lines, || self.received());
    }

    /// Waits until it has delivered so many lines.
    #[track_caller]
    pub fn wait_delivered(&self, lines: usize) {
        wait_count("lines delivered", lines, || self.delivered());
    }

    // Its life

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// What the system says of its process.
    pub fn process_state(&self) -> String {
        self.process.state()
    }

    /// Writes another configuration into the daemon's file and has it read.
    /// Returns when it is in force.
    #[track_caller]
    pub fn reload(&self, config: &Config) {
        config.write();
        let count = || {
            let lines = self.log.lines();
            lines
                .iter()
                .filter(|line| message(line) == "reloaded")
                .count()
        };
        let before = count();
        self.signal(Signal::HUP);
        wait_for("the reload", || count() > before);
    }

    /// The configuration that it was started with.
    #[track_caller]
    pub fn config(&self) -> &Config {
        self.config
            .as_ref()
            .expect("a daemon with a configuration file")
    }

    /// Asks it to drain and stop. It must do so with exit code 0 and a ledger.
    #[track_caller]
    pub fn stop(self) -> Ledger {
        self.signal(Signal::TERM);
        let ended = self.wait_end();
        assert_eq!(ended.code, Some(0), "exit code");
        ended.ledger.expect("a ledger line before exit")
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait_end(mut self) -> Ended {
        let started = Instant::now();
        let code = self.process.wait().code();
        Ended {
            code,
            took: started.elapsed(),
            ledger: Ledger::in_log(&self.log.lines()),
        }
    }
}

#[track_caller]
fn wait_count(what: &str, wanted: usize, mut count: impl FnMut() -> u64) {
    let wanted = wanted as u64;
    let counted = wait_until(&format!("{wanted} {what}"), || {
        let counted = count();
        (counted >= wanted).then_some(counted)
    });
    assert_eq!(counted, wanted, "{what}");
}

/// The message of a log line: `2026-11-22T19:00:00.000000Z  INFO listening …`,
/// or the same as JSON.
fn message(line: &str) -> &str {
    json_field(line, "message")
        .unwrap_or_else(|| line.split_whitespace().nth(2).unwrap_or_default())
}

/// A field of a log line.
fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let text_field = || {
        let mut words = line.split_whitespace();
        words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    };
    json_field(line, name)
        .or_else(text_field)
        .unwrap_or_else(|| panic!("no {name}= in {line}"))
        .trim_matches('"')
}

/// None of the texts that are looked for needs escaping.
fn json_field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.starts_with('{').then_some(())?;
    let (_, value) = line.split_once(&format!("\"{name}\":\""))?;
    value.split('"').next()
}
