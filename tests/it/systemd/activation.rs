//! Sockets that the manager has bound.

use std::fs::File;
use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::Signal;

use crate::support::{Config, KEY, Manager, Memory, Port, Upstream};

#[test]
fn all_kinds_are_matched_by_address_and_the_others_named() {
    let upstream = Upstream::tcp();
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let pickle = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let pickle_at = address(&pickle.local_addr());
    let stranger = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let (udp_at, tcp_at) = (address(&udp.local_addr()), address(&tcp.local_addr()));
    let stranger_at = address(&stranger.local_addr());
    let config = Config::to(upstream.url());
    let (stream, datagram) = (config.path("given.sock"), config.path("datagrams.sock"));
    let text = |path: &std::path::PathBuf| path.display().to_string();
    let config = config
        .set("listen.udp", [&udp_at])
        .set("listen.tcp", [&tcp_at, "127.0.0.1:0"])
        .set("listen.pickle", [&pickle_at])
        .set("listen.unix_stream", [text(&stream)])
        .set("listen.unix_datagram", [text(&datagram)]);
    let manager = Manager::new()
        .with_socket(stranger)
        .with_socket(UnixDatagram::bind(&datagram).expect("a socket"))
        .with_socket(tcp)
        .with_socket(pickle)
        .with_socket(UnixListener::bind(&stream).expect("a socket"))
        .with_socket(udp);
    let daemon = manager.start(&config);
    let given = |kind: &str| {
        let lines = daemon.log.lines();
        let wanted = format!("listener={kind}:");
        let mut listening = lines.iter().filter(|line| line.contains(&wanted));
        listening.any(|line| line.contains("from=\"the service manager\""))
    };
    for kind in ["udp", "tcp", "pickle", "unix_stream", "unix_datagram"] {
        assert!(given(kind), "{kind}");
    }
    daemon.log.find("the one that is not wanted", |line| {
        line.contains(" WARN ") && line.contains(&format!("tcp:{stranger_at}"))
    });

    let client = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    client.send_to(b"by.udp 1 5", udp_at).expect("sent");
    write(
        TcpStream::connect(tcp_at).expect("a listener"),
        "by.tcp 1 5\n",
    );
    write(
        UnixStream::connect(&stream).expect("a listener"),
        "by.stream 1 5\n",
    );
    write(
        TcpStream::connect(pickle_at).expect("a listener"),
        "\0\0\0\x1d(l(S'by.pickle'\n(I5\nS'1'\ntta.",
    );
    let client = UnixDatagram::unbound().expect("a socket");
    client.send_to(b"by.datagram 1 5", &datagram).expect("sent");
    for kind in ["udp", "tcp", "pickle", "stream", "datagram"] {
        upstream.expect(&format!("{KEY}.by.{kind} 1 5"));
    }
    daemon.stop();
    // They are not ours to remove.
    assert!(stream.exists() && datagram.exists());
}

#[test]
fn a_socket_that_is_in_the_way_is_named() {
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let at = address(&tcp.local_addr());
    let (_, port) = at.rsplit_once(':').expect("a port");
    let config = Config::to("stdout:").set("listen.tcp", [format!("0.0.0.0:{port}")]);
    let outcome = Manager::new().with_socket(tcp).run(&config);
    assert_eq!(outcome.code, Some(71), "{}", outcome.said);
    let why = format!("in use by the socket unit, which has tcp:{at};");
    assert!(outcome.said.contains(&why), "{}", outcome.said);
}

#[test]
fn a_reload_may_let_a_socket_go_and_have_it_again() {
    let upstream = Upstream::tcp();
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let at = address(&tcp.local_addr());
    let manager = Manager::new().with_socket(tcp);
    let with = Config::to(upstream.url()).set("listen.tcp", [&at]);
    let without = with.clone().set("listen.tcp", ["127.0.0.1:0"]);
    let daemon = manager.start(&with);
    daemon.reload(&without);
    daemon.reload(&with);
    write(
        TcpStream::connect(at).expect("a listener"),
        "again.line 1 5\n",
    );
    upstream.expect(&format!("{KEY}.again.line 1 5"));
    daemon.stop();
}

/// Whoever may send could use up all that the daemon may open.
#[test]
fn descriptors_that_come_with_datagrams_do_not_stay() {
    const DATAGRAMS: usize = 5;
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url());
    let path = config.path("datagrams.sock");
    let config = config.set("listen.unix_datagram", [path.to_str().expect("UTF-8")]);
    let manager = Manager::new().with_socket(UnixDatagram::bind(&path).expect("a socket"));
    let daemon = manager.start(&config);
    let passed = config.path("passed");
    let file = File::create(&passed).expect("a file");
    let client = UnixDatagram::unbound().expect("a socket");
    client.connect(&path).expect("a listener");
    for number in 0..DATAGRAMS {
        let line = format!("with.descriptor.{number} 1 5");
        let descriptors = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        assert!(beside.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let bytes = [IoSlice::new(line.as_bytes())];
        sendmsg(&client, &bytes, &mut beside, SendFlags::empty()).expect("a datagram");
    }
    daemon.wait_received(DATAGRAMS);
    assert_eq!(Memory::of(daemon.id()).open(&passed), 0);
    daemon.stop();
}

#[test]
fn a_restart_loses_no_datagram_and_keeps_clients_waiting() {
    restart(true);
}

#[test]
fn nor_does_it_while_the_upstream_is_away() {
    restart(false);
}

fn restart(is_up: bool) {
    const RESTARTS: usize = 3;
    // A socket with the system's default buffer keeps some 250.
    const AT_ONCE: usize = 60;
    let port = Port::reserve();
    let upstream = is_up.then(|| Upstream::tcp_at(&port));
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let (udp_at, tcp_at) = (address(&udp.local_addr()), address(&tcp.local_addr()));
    let config = Config::to(port.url())
        .set("listen.udp", [&udp_at])
        .set("listen.tcp", [&tcp_at]);
    let manager = Manager::with_store().with_socket(udp).with_socket(tcp);
    let client = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let mut expected = Vec::new();
    let mut send = |when: &str, round: usize| {
        for number in 0..AT_ONCE {
            let line = format!("{when}.{round}.{number} 1 5");
            client.send_to(line.as_bytes(), &udp_at).expect("sent");
            expected.push(format!("{KEY}.{line}"));
        }
    };
    let mut daemon = manager.start(&config);
    for round in 0..RESTARTS {
        send("before", round);
        daemon.signal(Signal::TERM);
        send("while_it_stops", round);
        assert_eq!(daemon.wait_end().code, Some(0));
        send("meanwhile", round);
        // Nobody accepts, and nobody refuses.
        let mut patient = TcpStream::connect(&tcp_at).expect("a backlog");
        daemon = manager.start(&config);
        writeln!(patient, "patient.{round} 1 5").expect("an open connection");
    }
    expected.extend((0..RESTARTS).map(|round| format!("{KEY}.patient.{round} 1 5")));
    let upstream = upstream.unwrap_or_else(|| Upstream::tcp_at(&port));
    upstream.expect_all(expected.iter().map(String::as_str));
    let ledger = daemon.stop();
    assert_eq!((ledger.dropped, ledger.left()), (0, 0));
    let mut arrived = upstream.finish();
    arrived.sort();
    expected.sort();
    assert_eq!(arrived, expected);
}

fn address(address: &std::io::Result<std::net::SocketAddr>) -> String {
    address.as_ref().expect("a bound socket").to_string()
}

fn write(mut stream: impl Write, line: &str) {
    stream.write_all(line.as_bytes()).expect("an open stream");
}
