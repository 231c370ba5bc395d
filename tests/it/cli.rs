//! The command line, the exit codes, and what is said about a configuration.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use crate::support::{
    Config, Daemon, KEY, KEY_STEM, Launch, Outcome, Upstream, say_and_hang_up, unix_stream,
};

#[test]
fn bad_arguments_exit_with_64() {
    for arguments in [
        ["--nonsense", "x"],
        ["nonsense", "x"],
        ["check", "--nonsense"],
    ] {
        let outcome = Launch::bare().args(arguments).run();
        assert_eq!(outcome.code, Some(64), "{arguments:?}: {}", outcome.said);
        assert!(outcome.said.contains("nonsense"), "{}", outcome.said);
    }
}

#[test]
fn help_and_version_exit_with_0() {
    let outcome = Launch::bare().args(["--help"]).run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.said);
    for flag in [
        "--config",
        "--sink",
        "--api-key-file",
        "--udp",
        "--tcp",
        "check",
    ] {
        assert!(outcome.said.contains(flag), "no {flag} in {}", outcome.said);
    }
    let outcome = Launch::bare().args(["--version"]).run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.said);
    assert!(
        outcome.said.contains(env!("CARGO_PKG_VERSION")),
        "{}",
        outcome.said
    );
}

#[test]
fn a_port_in_use_exits_with_71_and_is_named() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = other.local_addr().expect("a bound socket").port();
    let address = format!("127.0.0.1:{port}");
    // One of the two addresses of `localhost` is not enough for clients.
    let listeners = [
        Config::to("stdout:").set("listen.tcp", [&address]),
        Config::to("stdout:").set("listen.tcp", [format!("localhost:{port}")]),
        Config::to("stdout:").set("admin.listen", address.as_str()),
    ];
    for config in listeners {
        let outcome = Launch::with(&config).run();
        assert_eq!(outcome.code, Some(71), "{config}: {}", outcome.said);
        assert!(outcome.said.contains(&address), "{}", outcome.said);
        assert!(
            outcome.said.to_lowercase().contains("in use"),
            "{}",
            outcome.said
        );
    }
}

#[test]
fn a_unix_socket_in_use_exits_with_71_and_a_stale_one_is_replaced() {
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url());
    let path = config.path("line.sock");
    let path_text = path.display().to_string();
    let config = config.set("listen.unix_stream", [&path_text]);

    let first = Daemon::start(&config);
    let outcome = Launch::with(&config).run();
    assert_eq!(outcome.code, Some(71), "{}", outcome.said);
    assert!(outcome.said.contains(&path_text), "{}", outcome.said);
    say_and_hang_up(unix_stream(&path_text), "live.socket 1 1700000000");
    upstream.expect(&format!("{KEY}.live.socket 1 1700000000"));

    // Killed, it leaves its socket behind.
    drop(first);
    assert!(path.exists());
    let _second = Daemon::start(&config);
    say_and_hang_up(unix_stream(&path_text), "stale.socket 1 1700000000");
    upstream.expect(&format!("{KEY}.stale.socket 1 1700000000"));
}

#[test]
fn a_file_that_is_no_socket_is_not_replaced() {
    let config = Config::to("stdout:");
    let path = config.path("precious");
    fs::write(&path, "data").expect("a file");
    let path_text = path.display().to_string();
    let outcome = Launch::with(&config.clone().set("listen.unix_datagram", [&path_text])).run();
    assert_eq!(outcome.code, Some(71), "{}", outcome.said);
    assert_eq!(fs::read(&path).expect("the file is still there"), b"data");
}

#[test]
fn a_configuration_that_is_not_there_exits_with_78() {
    let config = Config::to("stdout:");
    let path = config.path("nowhere.toml");
    for command in [&["--config"][..], &["check", "--config"]] {
        let mut launch = Launch::bare();
        for argument in command {
            launch = launch.arg(argument);
        }
        let outcome = launch.arg(&path).run();
        assert_eq!(outcome.code, Some(78), "{}", outcome.said);
        assert!(outcome.said.contains("nowhere.toml"), "{}", outcome.said);
    }
}

/// Each file under `configs/bad` begins with what must be said about it, and
/// perhaps with what must not.
#[test]
fn each_bad_configuration_gets_its_message() {
    let files = toml_files(&repository().join("tests/it/configs/bad"));
    assert!(files.len() > 20, "{files:?}");
    let mut wrong = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a configuration");
        let marked = |mark| text.lines().filter_map(move |line| line.strip_prefix(mark));
        assert!(marked("# expect: ").count() > 0, "{}", file.display());
        let outcome = check(&file);
        let said = &outcome.said;
        let missing = marked("# expect: ").filter(|fragment| !said.contains(fragment));
        let too_much = marked("# not: ").filter(|fragment| said.contains(fragment));
        wrong.extend(missing.map(|fragment| format!("{fragment:?} is not in: {said}")));
        wrong.extend(too_much.map(|fragment| format!("{fragment:?} is in: {said}")));
        assert_eq!(outcome.code, Some(78), "{}: {said}", file.display());
        // The daemon says the same, and does not start.
        let daemon = Launch::bare().arg("--config").arg(&file).run();
        assert_eq!(daemon.code, Some(78), "{}: {}", file.display(), daemon.said);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The files under `config/` are the manual.
/// Editors of other days and systems.
#[test]
fn a_file_in_another_encoding_is_refused_with_its_line_and_a_remedy() {
    let text = format!("# Für alle\n[sink]\nurl = \"stdout:\"\napi_key = \"{KEY}\" # Schlüssel\n");
    let latin1: Vec<u8> = text
        .chars()
        .map(|c| u8::try_from(c).expect("Latin-1"))
        .collect();
    let utf16 =
        |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("sidecarbon.toml");
    let is_second = latin1
        .iter()
        .position(|byte| *byte == b'\n')
        .expect("a line");
    for (bytes, line, remedy) in [
        (latin1.clone(), 1, "-f LATIN1 -t UTF-8"),
        (latin1[is_second..].to_vec(), 4, "-f LATIN1 -t UTF-8"),
        (utf16(&text), 1, "-f UTF-16LE -t UTF-8"),
        (utf16(&format!("\u{feff}{text}")), 1, "-f UTF-16 -t UTF-8"),
    ] {
        fs::write(&file, bytes).expect("a file");
        let outcome = check(&file);
        assert_eq!(outcome.code, Some(78), "{}", outcome.said);
        let place = format!("{}:{line}: ", file.display());
        assert!(outcome.said.starts_with(&place), "{}", outcome.said);
        assert!(outcome.said.contains(remedy), "{}", outcome.said);
    }
    // With a byte order mark, it is UTF-8 all the same.
    fs::write(&file, format!("\u{feff}{text}")).expect("a file");
    assert_eq!(check(&file).code, Some(0));
}

#[test]
fn each_file_of_the_manual_passes_check() {
    // Wins over the key file that the manual names, which is not on this machine.
    let config = Config::to("stdout:");
    let files = toml_files(&repository().join("config"));
    assert!(files.len() >= 2, "{files:?}");
    for file in files {
        let outcome = Launch::bare()
            .env("SIDECARBON_API_KEY_FILE", config.key_file())
            .args(["check", "--config"])
            .arg(&file)
            .run();
        assert_eq!(outcome.code, Some(0), "{file:?}: {}", outcome.said);
    }
}

#[test]
fn check_shows_the_settings_in_force() {
    let config = Config::to("tcp://carbon.example:2003").set("queue.bytes", "3MiB");
    config.write();
    let outcome = Launch::bare()
        .env("SIDECARBON_RETRY_MAX", "17s")
        .args(["check", "--config"])
        .arg(config.file())
        .run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.said);
    // From the file, from the environment, by default.
    for setting in ["tcp://carbon.example:2003", "3MiB", "17s", "4KiB"] {
        assert!(
            outcome.said.contains(setting),
            "no {setting} in {}",
            outcome.said
        );
    }
}

#[test]
fn a_quiet_check_says_what_is_wrong_and_nothing_else() {
    let config = Config::to("tcp://127.0.0.1:1");
    let check = || {
        config.write();
        Launch::bare()
            .args(["check", "--quiet", "--config"])
            .arg(config.file())
            .run()
    };
    let outcome = check();
    assert_eq!(outcome.code, Some(0), "{}", outcome.said);
    assert_eq!(outcome.printed, [""; 0]);
    fs::remove_file(config.key_file()).expect("a key file");
    let outcome = check();
    assert_eq!(outcome.code, Some(78), "{}", outcome.said);
    let hint = "write the API key into that file, on one line";
    assert!(outcome.said.contains(hint), "{}", outcome.said);
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let [by_file, by_environment, by_flag] = [Upstream::tcp(), Upstream::tcp(), Upstream::tcp()];
    let config = Config::to(by_file.url());

    let daemon = Launch::with(&config).start();
    daemon.udp("precedence.file 1 1700000000");
    by_file.expect(&format!("{KEY}.precedence.file 1 1700000000"));

    let with_environment =
        || Launch::with(&config).env("SIDECARBON_SINK_URL", by_environment.url());
    let daemon = with_environment().start();
    daemon.udp("precedence.environment 1 1700000000");
    by_environment.expect(&format!("{KEY}.precedence.environment 1 1700000000"));

    let daemon = with_environment().args(["--sink", by_flag.url()]).start();
    daemon.udp("precedence.flag 1 1700000000");
    by_flag.expect(&format!("{KEY}.precedence.flag 1 1700000000"));
}

#[test]
fn listeners_of_flags_replace_those_of_the_file() {
    let upstream = Upstream::tcp();
    let config = Config::to(upstream.url())
        .set("listen.tcp", [""; 0])
        .set("listen.udp", ["127.0.0.1:0", "localhost:0"]);
    let daemon = Launch::with(&config)
        .args(["--tcp", "127.0.0.1:0", "--tcp", "[::1]:0"])
        .args(["--udp", "127.0.0.1:0"])
        .start();
    assert_eq!(daemon.addresses("tcp").len(), 2);
    assert_eq!(daemon.addresses("udp").len(), 1);
}

#[test]
fn the_environment_alone_configures() {
    let upstream = Upstream::tcp();
    let daemon = Launch::bare()
        .env("SIDECARBON_SINK_URL", upstream.url())
        .env("SIDECARBON_API_KEY", KEY)
        .env("SIDECARBON_LISTEN_UDP", "127.0.0.1:0, localhost:0")
        .env("SIDECARBON_LISTEN_TCP", "127.0.0.1:0")
        .env("SIDECARBON_LISTEN_NAMES", "sanitize")
        .env("SIDECARBON_LISTEN_MAX_CONNECTIONS", "7")
        .env("SIDECARBON_QUEUE_BYTES", "2MiB")
        .env("SIDECARBON_ADMIN_LISTEN", "127.0.0.1:0")
        .start();
    assert!(daemon.addresses("udp").len() >= 2);
    daemon.tcp("environment/alone 1 1700000000\n");
    upstream.expect(&format!("{KEY}.environment_alone 1 1700000000"));
    assert_eq!(
        daemon.metric("sidecarbon_queue_limit_bytes"),
        2 * 1024 * 1024
    );
}

#[test]
fn a_bad_value_in_the_environment_is_named() {
    for (name, value) in [
        ("SIDECARBON_QUEUE_BYTES", "plenty"),
        ("SIDECARBON_SINK_URL", "carbon.example:2003"),
        ("SIDECARBON_RETRY_FIRST", "10"),
        ("SIDECARBON_LISTEN_UDP", "127.0.0.1:0,nonsense"),
        ("SIDECARBON_SINK_TLS_CA_FILE", "/nonexistent/ca.pem"),
    ] {
        let config = Config::to("tls://carbon.example:20030");
        config.write();
        let outcome = Launch::bare()
            .env(name, value)
            .args(["check", "--config"])
            .arg(config.file())
            .run();
        assert_eq!(outcome.code, Some(78), "{name}: {}", outcome.said);
        assert!(outcome.said.contains(name), "{name}: {}", outcome.said);
    }
}

#[test]
fn without_anything_it_prints_what_would_go_upstream() {
    // The embedded default, on other ports than its own.
    let daemon = Launch::bare()
        .env("SIDECARBON_LISTEN_UDP", "localhost:0")
        .env("SIDECARBON_LISTEN_TCP", "localhost:0")
        .env("SIDECARBON_ADMIN_LISTEN", "localhost:0")
        .start();
    daemon.tcp("foo 1.2\n");
    daemon
        .output
        .find("the line", |line| line.starts_with("<key>.foo 1.2 1"));
    daemon.udp("bar 3 1700000000");
    daemon.output.expect("<key>.bar 3 1700000000");
}

#[test]
fn the_key_comes_from_the_first_source_that_has_one() {
    let upstream = Upstream::tcp();
    let key = |number: usize| format!("{KEY_STEM}{number}");
    let config = Config::to(upstream.url());
    let file = |name: &str, number: usize| -> PathBuf {
        let path = config.path(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(&path, key(number)).expect("a key file");
        path
    };
    let by_flag = file("by-flag", 1);
    let by_environment = file("by-environment", 2);
    let credential = file("credentials/api-key", 3);
    let by_file = file("by-file", 4);
    let config = config
        .set("sink.api_key_file", &by_file)
        .set("sink.api_key", &*key(7));

    for first in 1..=7 {
        let config = match first {
            ..=4 => config.clone(),
            _ => config.clone().unset("sink.api_key_file"),
        };
        let mut launch = Launch::with(&config);
        if first <= 1 {
            launch = launch.arg("--api-key-file").arg(&by_flag);
        }
        if first <= 2 {
            launch = launch.env("SIDECARBON_API_KEY_FILE", &by_environment);
        }
        if first <= 3 {
            let directory = credential.parent().expect("a directory");
            launch = launch.env("CREDENTIALS_DIRECTORY", directory);
        }
        if first <= 5 {
            launch = launch.env("SIDECARBON_API_KEY", key(5));
        }
        if first <= 6 {
            launch = launch.env("HOSTEDGRAPHITE_APIKEY", key(6));
        }
        let daemon = launch.start();
        daemon.udp(format!("source.{first} 1 1700000000"));
        upstream.expect(&format!("{}.source.{first} 1 1700000000", key(first)));
    }
}

#[test]
fn a_variable_names_the_file_and_flags_do_not_hide_it() {
    let config = Config::to("tcp://127.0.0.1:1");
    config.write();
    let launch = || Launch::bare().env("SIDECARBON_CONFIG", config.file());
    let outcome = launch().args(["check", "--log-level", "debug"]).run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.said);
    for line in [
        "url = \"tcp://127.0.0.1:1\"",
        "level = \"debug\"  # --log-level",
    ] {
        assert!(outcome.said.contains(line), "{line}: {}", outcome.said);
    }
    let outcome = launch().args(["check", "--log-level", "loud"]).run();
    assert_eq!(outcome.code, Some(78), "{}", outcome.said);
    assert!(
        outcome
            .said
            .contains("--log-level: log.level \"loud\" is not one of"),
        "{}",
        outcome.said
    );
}

#[test]
fn check_can_do_without_the_key() {
    let config = Config::to("tcp://127.0.0.1:1").set("sink.api_key_file", "/does/not/exist");
    let outcome = Launch::with(&config).arg("check").run();
    assert_eq!(outcome.code, Some(78), "{}", outcome.said);
    let outcome = Launch::with(&config).args(["check", "--without-key"]).run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.said);
    assert!(outcome.said.contains("warning: "), "{}", outcome.said);
    let wrong = config.set("log.level", "loud");
    let outcome = Launch::with(&wrong).args(["check", "--without-key"]).run();
    assert_eq!(outcome.code, Some(78), "{}", outcome.said);
}

#[test]
fn the_schema_is_printed_as_committed() {
    let outcome = Launch::bare().arg("schema").run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.said);
    let committed = fs::read_to_string(repository().join("config/sidecarbon.schema.json"));
    let committed = committed.expect("a committed schema");
    let committed: Vec<&str> = committed.lines().collect();
    assert_eq!(outcome.printed, committed);
}

#[test]
fn problems_of_all_kinds_are_reported_together() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("s.toml");
    let text = "[sink]\nulr = \"tcp://h:1\"\napi_key_file = \"/does/not/exist\"\n\n[queue]\nsize = 1\nbytes = \"64 Mb\"\n";
    fs::write(&file, text).expect("a file");
    let outcome = check(&file);
    assert_eq!(outcome.code, Some(78), "{}", outcome.said);
    for (line, message) in [
        (2, "sink.ulr is not a known key; did you mean sink.url?"),
        (3, "sink.api_key_file \"/does/not/exist\" cannot be read"),
        (6, "queue.size is not a known key"),
        (
            7,
            "queue.bytes \"64 Mb\" is not a size; write a number with KiB",
        ),
    ] {
        let expected = format!("s.toml:{line}: {message}");
        assert!(
            outcome.said.contains(&expected),
            "{expected}: {}",
            outcome.said
        );
    }
}

fn check(file: &Path) -> Outcome {
    Launch::bare().args(["check", "--config"]).arg(file).run()
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files of a directory and of those in it.
fn toml_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory of configurations") {
        let path = entry.expect("a readable directory").path();
        if path.is_dir() {
            files.extend(toml_files(&path));
        } else if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            files.push(path);
        }
    }
    files.sort();
    files
}
