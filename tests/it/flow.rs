//! Lines in by every listener, out by every sink.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use crate::support::{
    Certs, Config, Daemon, HttpUpstream, Inbox, KEY, Launch, Port, Proxy, UdpUpstream, Upstream,
    assert_same_lines, keyed, now, numbered, payload, say_and_hang_up, udp_to, unix_datagram,
    unix_stream, wait_for, wait_until,
};

#[test]
fn every_listener_reaches_a_tcp_upstream() {
    let upstream = Upstream::tcp();
    let daemon = Daemon::start(&Config::to(upstream.url()).with_unix_listeners());
    every_listener_reaches(&upstream, &daemon, &format!("{KEY}."));
}

#[test]
fn every_listener_reaches_a_tls_upstream() {
    let certs = Certs::new();
    let upstream = Upstream::tls(&certs);
    let config = Config::to(upstream.url()).set("sink.tls.ca_file", &certs.ca_file());
    let daemon = Daemon::start(&config.with_unix_listeners());
    every_listener_reaches(&upstream, &daemon, &format!("{KEY}."));
}

#[test]
fn every_listener_reaches_a_udp_upstream() {
    let upstream = UdpUpstream::start();
    let daemon = Daemon::start(&Config::to(upstream.url()).with_unix_listeners());
    every_listener_reaches(&upstream, &daemon, &format!("{KEY}."));
}

#[test]
fn every_listener_reaches_an_http_upstream() {
    let upstream = HttpUpstream::plain();
    let daemon = Daemon::start(&Config::to(upstream.url()).with_unix_listeners());
    every_listener_reaches(&upstream, &daemon, "");
}

#[test]
fn every_listener_reaches_an_https_upstream() {
    let certs = Certs::new();
    let upstream = HttpUpstream::tls(&certs);
    let config = Config::to(upstream.url()).set("sink.tls.ca_file", &certs.ca_file());
    let daemon = Daemon::start(&config.with_unix_listeners());
    every_listener_reaches(&upstream, &daemon, "");
}

#[test]
fn every_listener_reaches_standard_output() {
    let daemon = Daemon::start(&Config::to("stdout:").with_unix_listeners());
    every_listener_reaches(&daemon.output, &daemon, "<key>.");
}

/// Sends a line with a time and one without through each address of each
/// listener. The last line of a datagram has no newline.
fn every_listener_reaches(upstream: &Inbox, daemon: &Daemon, prefix: &str) {
    let mut sent = 0;
    let mut arrives = |way: &str, send: &dyn Fn(&[u8])| {
        let name = format!("flow.{}", way.replace(['[', ']', ':', '.', '/', '@'], "_"));
        let before = now();
        send(format!("{name}.told 1 1700000000\n{name}.stamped 2").as_bytes());
        upstream.expect(&format!("{prefix}{name}.told 1 1700000000"));
        let head = format!("{prefix}{name}.stamped 2 ");
        let stamped = upstream.find(&head, |line| line.starts_with(&head));
        let stamp: u64 = stamped[head.len()..].parse().expect("whole seconds");
        assert!(
            (before..=now()).contains(&stamp),
            "{stamped}, sent at {before}"
        );
        sent += 2;
    };
    let both_families = |addresses: &[SocketAddr]| {
        assert!(addresses.iter().any(SocketAddr::is_ipv4), "{addresses:?}");
        assert!(addresses.len() == 2 || !has_ipv6(), "{addresses:?}");
    };

    let addresses = daemon.socket_addresses("udp");
    both_families(&addresses);
    for address in addresses {
        arrives(&format!("udp.{address}"), &|bytes| {
            udp_to(address, bytes);
        });
    }
    let addresses = daemon.socket_addresses("tcp");
    both_families(&addresses);
    for address in addresses {
        arrives(&format!("tcp.{address}"), &|bytes| {
            let stream = std::net::TcpStream::connect(address).expect("a TCP listener");
            say_and_hang_up(stream, bytes);
        });
    }
    let addresses = daemon.addresses("unix_stream");
    assert_eq!(addresses.len(), 2, "a path and an abstract name");
    for address in addresses {
        arrives(&address, &|bytes| {
            say_and_hang_up(unix_stream(&address), bytes);
        });
    }
    let addresses = daemon.addresses("unix_datagram");
    assert_eq!(addresses.len(), 2, "a path and an abstract name");
    for address in addresses {
        arrives(&address, &|bytes| unix_datagram(&address, bytes));
    }

    daemon.wait_delivered(sent);
    assert_eq!(daemon.received(), sent as u64);
    assert_eq!(daemon.waiting(), 0);
}

fn has_ipv6() -> bool {
    std::net::UdpSocket::bind("[::1]:0").is_ok()
}

#[test]
fn a_burst_arrives_whole_and_in_order() {
    let upstream = Upstream::tcp();
    let daemon = Daemon::start(&Config::to(upstream.url()).with_unix_listeners());

    let over_tcp = numbered("burst.tcp", 1000);
    daemon.tcp(payload(&over_tcp));
    upstream.expect_lines(1000);

    // Several lines a datagram, so that all fit into the socket's buffer even
    // where the daemon gets no turn in between.
    let over_udp = numbered("burst.udp", 1000);
    for lines in over_udp.chunks(20) {
        daemon.udp(payload(lines));
    }
    upstream.expect_lines(2000);

    let over_stream = numbered("burst.unix_stream", 1000);
    let address = &daemon.addresses("unix_stream")[0];
    say_and_hang_up(unix_stream(address), payload(&over_stream));
    upstream.expect_lines(3000);

    let over_datagram = numbered("burst.unix_datagram", 1000);
    let address = &daemon.addresses("unix_datagram")[0];
    for line in &over_datagram {
        unix_datagram(address, line);
    }
    upstream.expect_lines(4000);

    let ledger = daemon.stop();
    assert_eq!((ledger.received, ledger.delivered), (4000, 4000));
    let sent = [over_tcp, over_udp, over_stream, over_datagram].concat();
    assert_same_lines(&upstream.finish(), &keyed(&sent));
}

#[test]
fn the_text_of_a_number_stays_as_it_was_written() {
    let upstream = Upstream::tcp();
    let daemon = Daemon::start(&Config::to(upstream.url()));
    for number in [
        "9007199254740993",
        "0.1000000000000000055511151231257827",
        "1e-07",
        "+1.50",
        "-0",
        "000012",
        "123456789012345678901234567890",
    ] {
        let line = format!("number.of_{} {number} 1700000000", number.len());
        daemon.tcp(format!("{line}\n"));
        upstream.expect(&format!("{KEY}.{line}"));
    }
}

#[test]
fn a_late_delivery_keeps_the_second_of_its_receipt() {
    let port = Port::reserve();
    let daemon = Daemon::start(&Config::to(port.url()));
    let before = now();
    daemon.tcp("late.line 1\n");
    daemon.wait_received(1);
    let after = now();

    wait_for("the clock to move on", || now() > after + 1);
    let upstream = Upstream::tcp_at(&port);
    let line = upstream.find("late.line", |line| line.contains("late.line 1 "));
    let stamp: u64 = line
        .rsplit(' ')
        .next()
        .unwrap_or_default()
        .parse()
        .expect("a time");
    assert!(
        (before..=after).contains(&stamp),
        "{line}, received at {before}"
    );
}

#[test]
fn datagrams_upstream_are_filled_with_whole_lines() {
    const LIMIT: usize = 512;
    let upstream = UdpUpstream::start();
    let config = Config::to(upstream.url()).set("sink.datagram_bytes", 512);
    let daemon = Daemon::start(&config);
    let sent = numbered("datagrams", 400);
    daemon.tcp(payload(&sent));
    upstream.expect_lines(400);
    daemon.stop();

    let datagrams = upstream.datagrams();
    assert_same_lines(&upstream.finish(), &keyed(&sent));
    // A cut line would have shown as two; what is left to see is the size.
    let largest = datagrams.iter().map(Vec::len).max();
    assert!(largest <= Some(LIMIT), "{largest:?} bytes in a datagram");
    let bytes: usize = datagrams.iter().map(Vec::len).sum();
    let fewest = bytes.div_ceil(LIMIT);
    assert!(
        datagrams.len() <= 2 * fewest,
        "{} datagrams, not {fewest}",
        datagrams.len()
    );
}

#[test]
fn http_requests_carry_many_bare_lines_over_few_connections() {
    let upstream = HttpUpstream::plain();
    let daemon = Daemon::start(&Config::to(upstream.url()));
    let sent = numbered("http", 5000);
    daemon.tcp(payload(&sent));
    assert_same_lines(&upstream.expect_lines(5000), &sent);

    let requests = upstream.requests();
    assert!(requests.len() <= 50, "{} requests", requests.len());
    assert_eq!(upstream.connections(), 1);
    for request in &requests {
        assert_eq!((request.method.as_str(), request.answered), ("POST", 202));
        assert_eq!(request.path, "/api/v1/sink");
        assert!(request.body.ends_with('\n'), "{:?}", request.body);
    }
    daemon.stop();
    assert_same_lines(&upstream.finish(), &sent);
}

#[test]
fn https_goes_through_the_configured_proxy() {
    let certs = Certs::new();
    let upstream = HttpUpstream::tls(&certs);
    let proxy = Proxy::start();
    let config = Config::to(upstream.url())
        .set("sink.tls.ca_file", &certs.ca_file())
        .set("sink.proxy", proxy.url().as_str());
    let daemon = Daemon::start(&config);
    daemon.udp("proxy.line 1 1700000000");
    upstream.expect("proxy.line 1 1700000000");
    let wanted = format!("CONNECT {} HTTP/1.1", upstream.authority());
    assert_eq!(proxy.asked(), [wanted]);
}

#[test]
fn lines_over_tls_go_through_a_proxy_that_answers_twice() {
    let certs = Certs::new();
    let upstream = Upstream::tls(&certs);
    // Interim answers are no refusal (RFC 9110, 15.2).
    let proxy =
        Proxy::saying("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\nA: b\r\n\r\n");
    let config = Config::to(upstream.url())
        .set("sink.tls.ca_file", &certs.ca_file())
        .set("sink.proxy", proxy.url().as_str());
    let daemon = Daemon::start(&config);
    daemon.udp("proxy.line 1 1700000000");
    upstream.expect(&format!("{KEY}.proxy.line 1 1700000000"));
    let wanted = upstream.url().replace("tls://", "CONNECT ") + " HTTP/1.1";
    assert_eq!(proxy.asked(), [wanted]);
}

#[test]
fn https_goes_through_the_proxy_of_the_environment_but_not_where_that_is_excluded() {
    let certs = Certs::new();
    let upstream = HttpUpstream::tls(&certs);
    let proxy = Proxy::start();
    let config = Config::to(upstream.url()).set("sink.tls.ca_file", &certs.ca_file());

    let daemon = Launch::with(&config)
        .env("HTTPS_PROXY", proxy.url())
        .start();
    daemon.udp("proxy.used 1 1700000000");
    upstream.expect("proxy.used 1 1700000000");
    assert_eq!(proxy.asked().len(), 1);
    daemon.stop();

    let daemon = Launch::with(&config).env("ALL_PROXY", proxy.url()).start();
    daemon.udp("proxy.all 1 1700000000");
    upstream.expect("proxy.all 1 1700000000");
    assert_eq!(proxy.asked().len(), 2);
    daemon.stop();

    let daemon = Launch::with(&config)
        .env("HTTPS_PROXY", proxy.url())
        .env("NO_PROXY", "\"example.com localhost\"")
        .start();
    daemon.udp("proxy.avoided 1 1700000000");
    upstream.expect("proxy.avoided 1 1700000000");
    assert_eq!(proxy.asked().len(), 2);
}

#[test]
fn an_upstream_without_a_key_gets_bare_names() {
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url())
        .unset("sink.api_key_file")
        .set("sink.api_key", "");
    let daemon = Daemon::start(&config);
    daemon.udp("keyless.line 1 1700000000");
    upstream.expect("keyless.line 1 1700000000");
}

#[test]
fn every_address_of_the_upstream_is_tried() {
    // On a machine where `localhost` is ::1 first, nobody listens there.
    let upstream = Upstream::tcp();
    let daemon = Daemon::start(&Config::to(upstream.url_as("tcp://localhost")));
    daemon.udp("addresses.line 1 1700000000");
    upstream.expect(&format!("{KEY}.addresses.line 1 1700000000"));
}

#[test]
fn an_old_connection_is_replaced_without_a_loss() {
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url()).set("sink.max_connection_age", "1s");
    let daemon = Daemon::start(&config);
    let mut sent = Vec::new();
    wait_for("a third connection", || {
        let line = format!("age.{:06} 1 1700000000", sent.len());
        daemon.tcp(format!("{line}\n"));
        sent.push(line);
        upstream.connections() >= 3
    });
    daemon.stop();
    // Each connection is read by itself, so they may overtake each other.
    let mut arrived = upstream.finish();
    arrived.sort();
    assert_same_lines(&arrived, &keyed(&sent));
}

/// As link-local addresses need it: `[fe80::1%eth0]:2003`. The loopback interface is on
/// every host, and takes its own address with a zone.
#[test]
fn addresses_may_have_a_zone() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        eprintln!("SKIPPED: this host has no IPv6");
        return;
    };
    listener.set_nonblocking(true).expect("a socket");
    let port = listener.local_addr().expect("a bound socket").port();
    for url in [
        format!("tcp://[::1%lo]:{port}"),
        format!("tcp://[::1%25lo]:{port}"),
        format!("http://[::1%25lo]:{port}/"),
    ] {
        let config = Config::to(&url)
            .set("listen.udp", ["[::1%lo]:0"])
            .set("listen.tcp", ["[::1%lo]:0"])
            .set("admin.listen", "[::1%lo]:0");
        let daemon = Daemon::start(&config);
        let [udp, tcp, admin] =
            ["udp", "tcp", "admin"].map(|kind| daemon.socket_addresses(kind)[0]);
        let client = UdpSocket::bind("[::1]:0").expect("a client's socket");
        client
            .send_to(b"zone.udp 1 1700000000", udp)
            .expect("a listener");
        let (mut upstream, _) = wait_until("the daemon", || listener.accept().ok());
        upstream.set_nonblocking(false).expect("a socket");
        upstream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .expect("a socket");
        let mut head = [0; 512];
        let length = upstream.read(&mut head).expect("a line");
        let head = String::from_utf8_lossy(&head[..length]);
        // RFC 6874: a zone means nothing to others.
        let host = head.lines().find(|line| line.starts_with("host:"));
        let expected = format!("host: [::1]:{port}");
        assert_eq!(host, url.starts_with("http").then_some(expected.as_str()));
        say_and_hang_up(
            TcpStream::connect(tcp).expect("a listener"),
            "zone.tcp 1 1700000000\n",
        );

        let admin = format!("[::1%lo]:{}", admin.port());
        let ask = |command: &str| {
            let outcome = Launch::with(&config)
                .env("SIDECARBON_ADMIN_LISTEN", &admin)
                .arg(command)
                .run();
            assert_eq!(outcome.code, Some(0), "{}", outcome.said);
            outcome.said
        };
        let status = ask("status");
        assert!(status.contains("[::1%lo]:"), "{status}");
        ask("health");
    }
    let config = Config::to("stdout:").set("listen.tcp", ["[fe80::1%missing0]:2003"]);
    let outcome = Launch::with(&config).run();
    assert_eq!(outcome.code, Some(71), "{}", outcome.said);
    assert!(
        outcome.said.contains("[fe80::1%missing0]:2003"),
        "{}",
        outcome.said
    );
}

/// With `api_key = ""` a line leaves as it is, printed or not.
#[test]
fn lines_that_leave_without_a_key_are_printed_without_one() {
    for (api_key, prefix) in [(Some(""), ""), (Some(KEY), "<key>."), (None, "<key>.")] {
        let mut config = Config::to("stdout:").unset("sink.api_key_file");
        if let Some(api_key) = api_key {
            config = config.set("sink.api_key", api_key);
        }
        let daemon = Daemon::start(&config);
        daemon.udp("printed.line 1 1700000000");
        daemon
            .output
            .expect(&format!("{prefix}printed.line 1 1700000000"));
        let outcome = Launch::with(&config)
            .arg("explain")
            .input("printed.line 1 1700000000\n")
            .run();
        assert_eq!(
            outcome.printed,
            [format!("{prefix}printed.line 1 1700000000")]
        );
    }
}
