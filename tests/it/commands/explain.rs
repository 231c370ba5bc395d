//! `explain`: what it says is what the daemon does.

use crate::support::{Config, Daemon, KEY, Launch, Upstream, now};

/// The odd lines of real clients, each with a name of its own, and the reason
/// for which it is rejected.
const ODD: &[(&[u8], Option<&str>)] = &[
    (b"tabs\t1\t1700000000", None),
    (b"  blanks   1   1700000000  ", None),
    (b"crlf 1 1700000000\r", None),
    (b"", None),
    (b"no.time 1", None),
    (b"minus.one 1 -1", None),
    (b"n 1 N", None),
    (b"float.time 1 1700000000.9", None),
    (b"millis 1 1700000000000", Some("timestamp")),
    (b"small 1e-07 5", None),
    (b"plus +1 5", None),
    (b"point .5 5", None),
    (b"dot 1. 5", None),
    (b"underscore 1_000 5", Some("value")),
    (b"hex 0x10 5", Some("value")),
    (b"true True 5", Some("value")),
    (b"nan NaN 5", Some("not_finite")),
    (b"inf +Inf 5", Some("not_finite")),
    (b"zero 1 0", None),
    (b"before 1 -5", Some("timestamp")),
    (b"long.time 1 17000000000", Some("timestamp")),
    (b"exponent 1 1e9", None),
    (b"never 1 inf", Some("timestamp")),
    (b"overflow 1e400 5", Some("not_finite")),
    (b"odd/name 1 5", None),
    (b"four 1 5 6", Some("fields")),
    (b"one", Some("fields")),
    (b".dots..in.name. 1 5", None),
    (b"... 1 5", Some("name")),
    (b"latin\xe9 1 5", Some("encoding")),
    (b"bell\x07 1 5", Some("encoding")),
    (b"tags;a=b 1 5", None),
];

#[test]
fn each_odd_line_has_the_outcome_that_the_daemon_gives_it() {
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url()).set("listen.max_line_bytes", "64B");
    let daemon = Daemon::start(&config);
    let mut input = Vec::new();
    for (line, _) in ODD {
        input.extend_from_slice(line);
        input.push(b'\n');
    }
    let key = KEY.to_lowercase();
    input.extend_from_slice(format!("{key}.own.key 1 5\n").as_bytes());
    input.extend_from_slice(&[b'x'; 200]);
    input.extend_from_slice(b"\nlast.without.newline 1 5");

    daemon.tcp(&input);
    let outcome = Launch::with(&config).args(["explain"]).input(&input).run();
    assert_eq!(outcome.code, Some(1), "{}", outcome.said);

    let leaves: Vec<String> = outcome
        .printed
        .iter()
        .filter_map(|line| line.strip_prefix("<key>."))
        .map(|line| without_now(&format!("{KEY}.{line}")))
        .collect();
    let arrived = upstream.expect_lines(leaves.len());
    let arrived: Vec<String> = arrived.iter().map(|line| without_now(line)).collect();
    assert_eq!(leaves, arrived);

    let reasons = ODD.iter().filter_map(|(_, reason)| *reason);
    let expected: Vec<&str> = reasons.chain(["too_long"]).collect();
    let found: Vec<&str> = outcome
        .printed
        .iter()
        .filter_map(|line| line.split_once(" rejected, ")?.1.split(':').next())
        .collect();
    assert_eq!(found, expected, "{}", outcome.said);
    for reason in expected.iter().copied() {
        let sample = format!("sidecarbon_lines_rejected_total{{reason=\"{reason}\"}}");
        let of_this = expected.iter().filter(|other| **other == reason).count();
        assert_eq!(daemon.metric(&sample), of_this as u64, "{reason}");
    }
}

#[test]
fn a_rejected_line_is_shown_with_its_place_and_remedy() {
    let config = Config::to("tcp://carbon.example:2003");
    let outcome = Launch::with(&config)
        .args(["explain"])
        .input("good 1 5\nodd.one nan\n\n")
        .run();
    assert_eq!(outcome.code, Some(1));
    assert_eq!(
        outcome.printed,
        [
            "<key>.good 1 5",
            "line 2 rejected, not_finite: not a finite number; leave such points out",
            "    odd.one nan",
            "            ^",
        ]
    );
    let sum = "2 lines: 1 would leave, 1 rejected, 1 blank";
    assert!(outcome.said.contains(sum), "{}", outcome.said);
}

#[test]
fn lines_that_all_pass_are_printed_alone() {
    let config = Config::to("tcp://carbon.example:2003");
    let outcome = Launch::with(&config)
        .args(["explain"])
        .input("a 1 5\nb 2 5")
        .run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.said);
    assert_eq!(outcome.printed, ["<key>.a 1 5", "<key>.b 2 5"]);
}

#[test]
fn the_rules_are_those_of_the_configuration() {
    let config = Config::to("tcp://carbon.example:2003");
    for (rule, code, expected) in [
        (
            "any",
            0,
            "line 1 warning, name: Hosted Graphite does not document",
        ),
        ("sanitize", 0, "<key>.a_b 1 5"),
        (
            "strict",
            1,
            "line 1 rejected, name: character that the upstream refuses",
        ),
    ] {
        let config = config.clone().set("listen.names", rule);
        let outcome = Launch::with(&config)
            .args(["explain"])
            .input("a/b 1 5\n")
            .run();
        assert_eq!(outcome.code, Some(code), "{rule}: {}", outcome.said);
        assert!(outcome.said.contains(expected), "{rule}: {}", outcome.said);
    }
}

#[test]
fn other_protocols_are_named() {
    let config = Config::to("tcp://carbon.example:2003");
    for (input, name) in [
        (&b"\x00\x00\x01\x10\x80\x02]q\x01"[..], "pickle"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP"),
        (b"\x16\x03\x01\x02\x00", "TLS"),
    ] {
        let outcome = Launch::with(&config).args(["explain"]).input(input).run();
        assert_eq!(outcome.code, Some(1), "{}", outcome.said);
        let verdict = &outcome.printed[0];
        assert!(
            verdict.contains("rejected, protocol") && verdict.contains(name),
            "{verdict}"
        );
    }
}

#[test]
fn a_datagram_that_is_too_large_loses_its_cut_line_alone() {
    let config = Config::to("tcp://carbon.example:2003").set("listen.max_line_bytes", "64KiB");
    let mut input = b"whole 1 5\ncut ".to_vec();
    input.resize(70_000, b'1');
    let outcome = Launch::with(&config)
        .args(["explain", "--datagram"])
        .input(input)
        .run();
    assert_eq!(outcome.code, Some(1), "{}", outcome.said);
    assert_eq!(outcome.printed[0], "<key>.whole 1 5");
    assert!(
        outcome.printed[1].contains("rejected, truncated"),
        "{}",
        outcome.said
    );
}

#[test]
fn the_last_newline_begins_no_line() {
    for how in ["", "--datagram"] {
        let config = Config::to("tcp://carbon.example:2003");
        let launch = Launch::with(&config).args(["explain"]);
        let launch = match how {
            "" => launch,
            how => launch.args([how]),
        };
        let outcome = launch.input("a 1 5\nb 2 5\n").run();
        assert_eq!(outcome.printed, ["<key>.a 1 5", "<key>.b 2 5"]);
        assert!(
            outcome.said.ends_with("2 lines: 2 would leave, 0 rejected"),
            "{}",
            outcome.said
        );
    }
}

#[test]
fn a_user_who_may_not_read_the_key_is_helped_all_the_same() {
    let config = Config::to("tcp://carbon.example:2003");
    let nowhere = config.path("nowhere");
    let config = config.set("sink.api_key_file", &nowhere);
    let outcome = Launch::with(&config)
        .args(["explain"])
        .input(format!("{KEY}.a 1 5\nb 1 5\n"))
        .run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.said);
    assert!(
        outcome.said.contains("warning: the key cannot be read"),
        "{}",
        outcome.said
    );
    // What looks like a key is masked; the harness checks that, too.
    assert_eq!(outcome.printed, ["<key>.<key>.a 1 5", "<key>.b 1 5"]);
}

/// A time of receipt may differ by the second.
fn without_now(line: &str) -> String {
    match line.rsplit_once(' ') {
        Some((head, time)) if time.parse::<u64>().is_ok_and(|time| time + 3600 > now()) => {
            format!("{head} now")
        }
        _ => line.to_owned(),
    }
}
