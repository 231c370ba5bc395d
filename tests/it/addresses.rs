//! A reload moves listeners to other addresses of the same port, and back, while clients
//! send. A socket file that somebody removed comes back.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{
    Config, Daemon, KEY, Launch, Manager, Upstream, unix_datagram, unix_stream, wait_for,
    wait_until,
};

/// Each of the four forms follows each of the others once.
const FORMS: [&str; 13] = [
    "localhost",
    "127.0.0.1",
    "0.0.0.0",
    "[::]",
    "localhost",
    "0.0.0.0",
    "localhost",
    "[::]",
    "0.0.0.0",
    "127.0.0.1",
    "[::]",
    "127.0.0.1",
    "localhost",
];

/// The same for the forms that IPv6 clients reach.
const FORMS_OF_V6: [&str; 7] = [
    "[::1]",
    "[::]",
    "localhost",
    "[::1]",
    "localhost",
    "[::]",
    "[::1]",
];

#[test]
fn every_form_of_address_follows_every_other_under_load() {
    every_form(&FORMS, "127.0.0.1", 1);
}

#[test]
fn and_does_so_for_ipv6_clients() {
    every_form(&FORMS_OF_V6, "::1", 1);
}

#[test]
fn and_where_several_threads_receive() {
    every_form(&FORMS[..7], "127.0.0.1", 3);
}

fn every_form(forms: &[&str], clients_at: &str, threads: u32) {
    if UdpSocket::bind("[::1]:0").is_err() {
        // Said past the test runner, which keeps to itself what a test prints that passes.
        let _ = writeln!(io::stderr(), "skipped: this host has no IPv6");
        return;
    }
    let upstream = Upstream::tcp();
    let ports = [(); 5].map(|()| quiet_port());
    let at = |form: &str| {
        let [udp, tcp, statsd, pickle, admin] = ports.map(|port| format!("{form}:{port}"));
        Config::to(upstream.url())
            .set("listen.udp_threads", threads)
            .set("statsd.interval", "1h")
            .set("listen.udp", [udp])
            .set("listen.tcp", [tcp])
            .set("listen.statsd", [statsd])
            .set("listen.pickle", [pickle])
            .set("admin.listen", admin.as_str())
    };
    let config = at(forms[0]);
    let daemon = Daemon::start(&config);
    let load = Load::start(clients_at.parse().expect("an address"), ports);
    for form in &forms[1..] {
        let config = config.like(&at(form));
        let before = load.rounds();
        wait_for("the load", || load.rounds() > before);
        reload_anywhere(&daemon, &config, &load);
        wait_for("the load", || load.rounds() > before + 3);
    }
    let sent = load.stop();
    wait_for("every line to be counted", || {
        let (received, drops) = counted(clients_at, ports[4]);
        assert!(
            received <= sent.lines + sent.repeated,
            "{received} {sent:?}"
        );
        received + drops >= sent.lines
    });
    daemon.stop();
}

/// A port that is free at every address, and that the system gives to no client.
fn quiet_port() -> u16 {
    wait_until("a free port", || {
        let port = fastrand::u16(10_000..30_000);
        let everywhere: SocketAddr = (std::net::Ipv6Addr::UNSPECIFIED, port).into();
        let _udp = UdpSocket::bind(everywhere).ok()?;
        let _tcp = std::net::TcpListener::bind(everywhere).ok()?;
        Some(port)
    })
}

/// The admin endpoint may be where [`Daemon::metrics`] does not look.
fn reload_anywhere(daemon: &Daemon, config: &Config, load: &Load) {
    let refused = || {
        let lines = daemon.log.lines();
        let is_refusal = |line: &&String| line.contains("not reloaded");
        lines.iter().find(is_refusal).cloned()
    };
    let reloads = || {
        let lines = daemon.log.lines();
        lines
            .iter()
            .filter(|line| line.contains(" reloaded "))
            .count()
    };
    config.write();
    let before = reloads();
    daemon.signal(Signal::HUP);
    wait_for("the reload", || {
        assert_eq!(refused(), None);
        load.assert_going_on();
        reloads() > before
    });
}

fn counted(host: &str, port: u16) -> (u64, u64) {
    let page = get(host.parse().expect("an address"), port).expect("the admin endpoint answers");
    let sum = |name: &str| -> u64 {
        page.lines()
            .filter(|line| line.starts_with(name))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    };
    (
        sum("sidecarbon_lines_received_total{"),
        sum("sidecarbon_udp_kernel_drops_total{"),
    )
}

fn get(host: IpAddr, port: u16) -> io::Result<String> {
    let mut stream = TcpStream::connect((host, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200") {
        Ok(answer)
    } else {
        Err(io::Error::other(answer))
    }
}

/// Clients that send one line after the other, each in a connection or a datagram of its
/// own, and repeat what the daemon refused.
struct Load {
    stops: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    client: thread::JoinHandle<Sent>,
}

#[derive(Debug, Default)]
struct Sent {
    lines: u64,
    repeated: u64,
}

impl Load {
    fn start(host: IpAddr, [udp, tcp, statsd, pickle, admin]: [u16; 5]) -> Self {
        let stops = Arc::new(AtomicBool::new(false));
        let rounds = Arc::new(AtomicU64::new(0));
        let (is_over, counter) = (stops.clone(), rounds.clone());
        let client = thread::spawn(move || {
            let mut sent = Sent::default();
            let datagrams = UdpSocket::bind((host, 0)).expect("a client's socket");
            while !is_over.load(Relaxed) {
                let round = counter.fetch_add(1, Relaxed);
                for _ in 0..10 {
                    let line = format!("by.udp.{round} 1 5");
                    let result = datagrams.send_to(line.as_bytes(), (host, udp));
                    result.expect("a datagram");
                    let result = datagrams.send_to(b"by.statsd:1|c", (host, statsd));
                    result.expect("a datagram");
                    sent.lines += 2;
                }
                let line = format!("by.tcp.{round} 1 5\n");
                sent.over_tcp(SocketAddr::new(host, tcp), line.as_bytes());
                sent.over_tcp(SocketAddr::new(host, statsd), b"by.stream:1|c\n");
                let frame = b"\0\0\0\x1d(l(S'by.pickle'\n(I5\nS'1'\ntta.";
                sent.over_tcp(SocketAddr::new(host, pickle), frame);
                get(host, admin).expect("an answer of the admin endpoint");
            }
            sent
        });
        Self {
            stops,
            rounds,
            client,
        }
    }

    fn rounds(&self) -> u64 {
        self.assert_going_on();
        self.rounds.load(Relaxed)
    }

    fn assert_going_on(&self) {
        assert!(!self.client.is_finished(), "a client has failed");
    }

    fn stop(self) -> Sent {
        self.stops.store(true, Relaxed);
        self.client.join().expect("a client that goes on")
    }
}

impl Sent {
    fn over_tcp(&mut self, address: SocketAddr, bytes: &[u8]) {
        self.lines += 1;
        let send = || {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(bytes)?;
            stream.shutdown(std::net::Shutdown::Write)?;
            stream.read(&mut [0; 1])
        };
        wait_for("a listener", || {
            let is_sent = send().is_ok();
            self.repeated += u64::from(!is_sent);
            is_sent
        });
    }
}

#[test]
fn both_wildcards_of_a_port_serve_one_family_each() {
    if UdpSocket::bind("[::1]:0").is_err() {
        return;
    }
    let upstream = Upstream::tcp();
    let (udp, tcp) = (quiet_port(), quiet_port());
    let config = Config::to(upstream.url())
        .set("listen.udp", [format!("0.0.0.0:{udp}")])
        .set("listen.tcp", [format!("0.0.0.0:{tcp}")]);
    let daemon = Daemon::start(&config);
    let both = |port: u16| [format!("0.0.0.0:{port}"), format!("[::]:{port}")];
    let config = config
        .set("listen.udp", both(udp))
        .set("listen.tcp", both(tcp));
    let outcome = Launch::bare()
        .args(["check", "--config"])
        .arg({
            config.write();
            config.file()
        })
        .run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.said);
    daemon.reload(&config);
    let say = |daemon: &Daemon, when: &str| {
        for host in ["127.0.0.1", "::1"] {
            let host: IpAddr = host.parse().expect("an address");
            let family = if host.is_ipv4() { "v4" } else { "v6" };
            let client = UdpSocket::bind((host, 0)).expect("a client's socket");
            let line = format!("both.{when}.udp.{family} 1 5");
            client.send_to(line.as_bytes(), (host, udp)).expect("sent");
            upstream.expect(&format!("{KEY}.{line}"));
            let line = format!("both.{when}.tcp.{family} 1 5");
            let mut client = TcpStream::connect((host, tcp)).expect("a listener");
            writeln!(client, "{line}").expect("an open stream");
            upstream.expect(&format!("{KEY}.{line}"));
        }
        assert_eq!(daemon.get("/readyz"), 200);
    };
    say(&daemon, "reloaded");
    daemon.stop();
    say(&Daemon::start(&config), "started");
}

#[test]
fn a_socket_of_the_service_manager_stays_what_it_is() {
    let upstream = Upstream::tcp();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    let at = tcp.local_addr().expect("a bound socket");
    let manager = Manager::new().with_socket(tcp);
    let config = Config::to(upstream.url()).set("listen.tcp", [at.to_string()]);
    let daemon = manager.start(&config);
    let moved = config.clone();
    let moved = moved.set("listen.tcp", [format!("0.0.0.0:{}", at.port())]);
    moved.write();
    daemon.signal(Signal::HUP);
    daemon.log.find("the refusal", |line| {
        line.contains(" ERROR ") && line.contains("in use by the socket unit")
    });
    let mut client = TcpStream::connect(at).expect("a listener");
    client
        .write_all(b"still.line 1 5\n")
        .expect("an open stream");
    upstream.expect(&format!("{KEY}.still.line 1 5"));
    daemon.stop();
}

// Socket files

#[test]
fn socket_files_that_were_removed_are_missed_and_come_back() {
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url()).with_unix_listeners();
    let (stream, datagram) = (config.path("stream.sock"), config.path("datagram.sock"));
    let text = |path: &Path| path.display().to_string();
    let daemon = Daemon::start(&config);
    let port = daemon.address("admin").port();
    let health = || {
        // The same file, but for a port that can be asked at.
        let asks = config.path("asks.toml");
        let admin = format!("[admin]\nlisten = 'localhost:{port}'\n[sink]\nurl = 'stdout:'\n");
        fs::write(&asks, admin).expect("a file");
        Launch::bare().args(["health", "--config"]).arg(&asks).run()
    };
    for (round, gone) in [vec![&stream], vec![&datagram], vec![&stream, &datagram]]
        .into_iter()
        .enumerate()
    {
        assert_eq!(daemon.get("/readyz"), 200);
        assert_eq!(health().code, Some(0));
        for path in &gone {
            fs::remove_file(path).expect("a socket file");
        }
        let answer = daemon.try_get("/readyz").expect("an answer");
        assert_eq!(answer.word(1), "503");
        let outcome = health();
        assert_eq!(outcome.code, Some(1), "{}", outcome.said);
        for path in &gone {
            assert!(answer.text().contains(&text(path)), "{}", answer.text());
            assert!(outcome.said.contains(&text(path)), "{}", outcome.said);
        }
        // Whether lines move is another question.
        assert_eq!(daemon.get("/healthz"), 200);
        daemon.reload(&config);
        let line = format!("again.{round}.stream 1 5");
        writeln!(unix_stream(&text(&stream)), "{line}").expect("an open stream");
        upstream.expect(&format!("{KEY}.{line}"));
        let line = format!("again.{round}.datagram 1 5");
        unix_datagram(&text(&datagram), &line);
        upstream.expect(&format!("{KEY}.{line}"));
    }
    assert_eq!(daemon.get("/readyz"), 200);
    daemon.stop();
    assert!(!stream.exists() && !datagram.exists());
}

#[test]
fn a_socket_file_that_somebody_replaced_is_missed_too_and_not_removed() {
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url()).with_unix_listeners();
    let path = config.path("stream.sock");
    let daemon = Daemon::start(&config);
    fs::remove_file(&path).expect("a socket file");
    fs::write(&path, "something else").expect("a file");
    assert_eq!(daemon.get("/readyz"), 503);
    daemon.signal(Signal::HUP);
    daemon.log.find("the refusal", |line| {
        line.contains(" ERROR ") && line.contains("a file of another kind")
    });
    daemon.tcp("still.line 1 5\n");
    upstream.expect(&format!("{KEY}.still.line 1 5"));
    daemon.stop();
    assert_eq!(fs::read_to_string(&path).expect("a file"), "something else");
}

/// Whoever may write to the directory could swap the socket for a link in the moment
/// after it was bound; here it is there before.
#[test]
fn no_permissions_are_changed_through_a_symbolic_link() {
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url());
    let (link, file) = (config.path("link.sock"), config.path("private"));
    fs::write(&file, "").expect("a file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("its permissions");
    symlink(&file, &link).expect("a link");
    let config = config.set("listen.unix_stream", [link.to_str().expect("UTF-8")]);
    let outcome = Launch::with(&config).run();
    assert_eq!(outcome.code, Some(71), "{}", outcome.said);
    let mode = fs::metadata(&file).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
