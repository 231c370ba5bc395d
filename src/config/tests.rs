use std::time::Duration;

use super::*;

const KEY: &str = "6f1c2a9e-0d4b-4c57-9a3e-5b8e7d2f1a60";

fn read_with(
    text: &str,
    environment: &[(&str, &str)],
    around: &Environment,
) -> Result<Settings, ConfigError> {
    let mut layers = Layers::default();
    layers.add_toml(Path::new("s.toml"), text);
    let pairs = environment
        .iter()
        .map(|(n, v)| ((*n).to_owned(), Some((*v).to_owned())));
    layers.add_environment(pairs);
    resolve(layers, around)
}

fn read(text: &str) -> Result<Settings, ConfigError> {
    parse(Path::new("s.toml"), text, &Environment::default())
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    let message = read(text).expect_err("should be refused").to_string();
    assert!(message.contains(expected), "{message}");
    assert!(!message.contains(KEY), "{message}");
}

#[test]
fn nothing_written_is_the_embedded_default() {
    let settings = read("").unwrap();
    assert_eq!(settings.sink.url, SinkUrl::Stdout);
    assert_eq!(settings.listen.udp[0].addresses.len(), 2);
    assert_eq!(settings.queue_bytes, 64 << 20);
    assert_eq!(settings.batch_bytes, 64 << 10);
    assert_eq!(settings.batch_linger, Duration::ZERO);
    assert!(settings.warnings.is_empty());
}

#[test]
fn problems_name_place_key_and_remedy() {
    refused(
        "[sink]\nurl = \"carbon.example.com\"",
        "s.toml:2: sink.url \"carbon.example.com\" has no scheme; write \"tls://carbon.example.com:20030\"",
    );
    refused(
        "[sink]\nulr = \"x\"",
        "s.toml:2: sink.ulr is not a known key; did you mean sink.url?",
    );
    refused(
        "[queue]\n\nbytes = 64",
        "s.toml:3: queue.bytes is a number; write a text in quotes, such as \"64MiB\"",
    );
    refused(
        "[listen]\ntcp = [\"127.0.0.1:1\", \"localhost:1\"]",
        "s.toml:2: listen.tcp names 127.0.0.1:1 in both",
    );
    refused(
        "[listen]\ntcp = \"0.0.0.0:1\"\npickle = [\"localhost:1\"]",
        "s.toml:3: listen.pickle \"localhost:1\" shares 127.0.0.1:1 with \"0.0.0.0:1\" of listen.tcp",
    );
    refused(
        "[listen]\ntcp = [\"[::]:1\"]\npickle = [\"127.0.0.1:1\"]",
        "listen.pickle \"127.0.0.1:1\" shares 127.0.0.1:1 with \"[::]:1\" of listen.tcp",
    );
    refused(
        "[listen]\ntcp = [\"localhost:1\"]\n[admin]\nlisten = \"0.0.0.0:1\"",
        "s.toml:4: admin.listen \"0.0.0.0:1\" shares 0.0.0.0:1 with \"localhost:1\" of listen.tcp",
    );
    refused(
        "[listen]\nunix_stream = [\"/s\"]\nunix_datagram = [\"/s\"]",
        "s.toml:3: listen.unix_datagram names /s and so does listen.unix_stream; keep one",
    );
    refused(
        "[listen]\nunix_stream = [\"@s\", \"@s\"]",
        "s.toml:2: listen.unix_stream names @s twice; keep one",
    );
    refused("[queue]\nbytes = \"64\"", "\"64MiB\"");
    refused("[queue]\nbytes = \"1KiB\"", "out of range");
    refused(
        "[listen]\nudp = \"example.com:1\"",
        "write \"localhost:2003\"",
    );
    refused(
        "[listen]\nnames = \"lax\"",
        "\"any\", \"sanitize\", \"strict\"",
    );
    refused("[listen]\nmax_connections = 0", "from 1 to 1000000");
    refused("[sink.tls]\nclient_cert_file = \"/x\"", "client_key_file");
    refused(
        "[batch]\nbytes = \"1MiB\"\n[queue]\nbytes = \"1MiB\"",
        "s.toml:2: batch.bytes",
    );
    refused(
        "[retry]\nfirst = \"1m\"",
        "retry.first is longer than retry.max",
    );
    refused("[sink]\nurl = \"tcp://h:1\"", "sink.api_key_file");
    refused(
        "[sink]\napi_key_file = \"/does/not/exist\"",
        "s.toml:2: sink.api_key_file \"/does/not/exist\" cannot be read",
    );
    refused("x", "s.toml:1:");
}

#[test]
fn all_problems_are_told_at_once() {
    let error = read("[sink]\nurl = \"x\"\nbad = 1\n[queue]\nbytes = \"y\"").unwrap_err();
    assert_eq!(error.0.len(), 3, "{error}");
}

#[test]
fn no_error_shows_the_key() {
    for text in [
        format!("[sink]\napi_key = \"{KEY}\" x"),
        format!("[sink]\napi_key = {KEY}"),
        format!("[sink]\napi_key = \"{KEY} two\""),
        format!("[sink]\napi_key = [\"{KEY}\"]"),
        format!("[sink]\napi_key = \"{KEY}\"\napi_key = \"{KEY}\""),
        format!("[sink]\nurl = \"tls://{KEY}@carbon.example.com:20030\""),
        format!("[sink]\nurl = \"https://example.com/\"\nproxy = \"ftp://u:{KEY}@p\""),
        format!("[sink]\napi_key = \"\"\"{KEY}"),
    ] {
        refused(&text, "s.toml:");
    }
}

#[test]
fn the_rendered_settings_can_be_read_again_but_for_the_key() {
    let text = format!("[sink]\nurl = \"tcp://h:1\"\napi_key = \"{KEY}\"");
    let rendered = read(&text).unwrap().render();
    assert!(!rendered.contains(KEY) && rendered.contains("api_key = \"<key>\"  # s.toml:3"));
    let again = read(&rendered).unwrap();
    assert_eq!(again.sink.url, SinkUrl::parse("tcp://h:1").unwrap());
    assert_eq!(again.listen, read(&text).unwrap().listen);
}

#[test]
fn the_environment_replaces_the_file() {
    let settings = read_with(
        "[sink]\nurl = \"tcp://h:1\"",
        &[
            ("SIDECARBON_SINK_URL", "udp://other:2"),
            ("SIDECARBON_API_KEY", KEY),
            ("SIDECARBON_LISTEN_UDP", "127.0.0.1:1, [::1]:1"),
            ("SIDECARBON_LISTEN_TCP", ""),
            ("SIDECARBON_LISTEN_MAX_CONNECTIONS", "7"),
            ("SIDECARBON_PORT_2003_TCP", "tcp://10.0.0.1:2003"),
        ],
        &Environment::default(),
    )
    .unwrap();
    assert_eq!(settings.sink.url.to_string(), "udp://other:2");
    assert_eq!(settings.listen.udp.len(), 2);
    assert!(settings.listen.tcp.is_empty());
    assert_eq!(settings.listen.max_connections, 7);
    let error = read_with("", &[("SIDECARBON_SINK_ULR", "x")], &Environment::default());
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("SIDECARBON_SINK_URL")
    );
}

#[test]
fn the_key_comes_from_the_first_place_that_has_one() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    file("api-key", "credential");
    let in_toml = file("toml", "from-file");
    let in_environment = file("env", "from-env-file");
    let toml = format!("[sink]\napi_key_file = \"{in_toml}\"\napi_key = \"inline\"");
    let credentials = Environment {
        credentials_directory: Some(directory.path().into()),
        ..Environment::default()
    };
    let platform = Environment {
        platform_key: Some("platform".to_owned().into()),
        ..Environment::default()
    };
    let none = Environment::default();
    let file_variable = [("SIDECARBON_API_KEY_FILE", in_environment.as_str())];
    let key_variable = [("SIDECARBON_API_KEY", "from-env")];
    let inline = "[sink]\napi_key = \"inline\"";
    for (toml, environment, around, expected) in [
        (
            toml.as_str(),
            &file_variable[..],
            &credentials,
            "from-env-file",
        ),
        (&toml, &key_variable[..], &credentials, "credential"),
        (&toml, &key_variable[..], &platform, "from-file"),
        (inline, &key_variable[..], &platform, "from-env"),
        (inline, &[], &platform, "platform"),
        (inline, &[], &none, "inline"),
    ] {
        let settings = read_with(toml, environment, around).unwrap();
        assert_eq!(settings.sink.key.expose(), expected.as_bytes());
    }
}

#[test]
fn the_drain_has_its_part_of_the_grace() {
    let text =
        |grace: &str, quiet: &str| format!("[shutdown]\ngrace = \"{grace}\"\nquiet = \"{quiet}\"");
    let settings = read(&text("8s", "2s")).unwrap();
    assert_eq!(settings.shutdown_quiet, Duration::from_secs(2));
    refused(
        &text("2s", "2s"),
        "s.toml:3: shutdown.quiet (2s) is no shorter",
    );
    assert!(read(&text("0s", "0s")).is_ok());
}

#[test]
fn a_small_queue_makes_small_blocks() {
    let settings = read("[queue]\nbytes = \"100KiB\"").unwrap();
    assert_eq!(settings.batch_bytes, 100 * 1024 / 8);
}

#[test]
fn what_is_legal_but_odd_is_warned_about() {
    for (text, expected) in [
        (
            "[listen]\nudp = [\"0.0.0.0:2003\"]",
            "can write into the account",
        ),
        ("[sink]\nurl = \"http://h/\"\napi_key = \"k\"", "in clear"),
        (
            "[sink]\nurl = \"tcp://h:1\"\napi_key = \"k\"",
            "does not look like",
        ),
        ("[admin]\nlisten = \"0.0.0.0:1\"", "can read the metrics"),
        (
            "[listen]\nstatsd = [\"0.0.0.0:1\"]",
            "can write into the account",
        ),
        ("[listen]\nudp = []\ntcp = []", "no listener"),
    ] {
        let warnings = read(text).unwrap().warnings;
        assert!(
            warnings.iter().any(|w| w.contains(expected)),
            "{text}: {warnings:?}"
        );
    }
}

#[test]
fn a_list_of_numbers_may_be_written_in_many_ways() {
    for (text, labels) in [
        ("[50, 99.9]", &["50", "99_9"][..]),
        ("[\"50\", \"99.9\"]", &["50", "99_9"]),
        ("\"50, 99.9\"", &["50", "99_9"]),
        ("75", &["75"]),
        ("7.5", &["7_5"]),
        ("[]", &[]),
    ] {
        let settings = read(&format!("[statsd]\npercentiles = {text}\n")).unwrap();
        let percentiles = settings.statsd.percentiles.iter();
        let read: Vec<&str> = percentiles.map(|known| known.label.as_str()).collect();
        assert_eq!(read, labels, "{text}");
    }
    for text in ["[true]", "true", "[50, \"x\"]", "[[50]]"] {
        let error = read(&format!("[statsd]\npercentiles = {text}\n")).unwrap_err();
        assert!(
            error.to_string().contains("statsd.percentiles"),
            "{text}: {error}"
        );
    }
    // Numbers are no addresses.
    let error = read("[listen]\nudp = [2003]\n").unwrap_err().to_string();
    assert!(
        error.contains("is a list of numbers; write a list of texts"),
        "{error}"
    );
}

/// The reference file is the manual: it names every key, and the defaults that
/// it shows are the defaults.
#[test]
fn the_reference_file_shows_every_key_with_its_default() {
    let reference = include_str!("../../config/sidecarbon.toml");
    let is_setting = |line: &str| {
        line.split_once(" = ")
            .is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
    };
    let written: String = reference
        .lines()
        .map(|line| {
            line.strip_prefix("# ")
                .filter(|line| is_setting(line))
                .unwrap_or(line)
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let around = Environment {
        key_is_optional: true,
        ..Environment::default()
    };
    let settings = parse(Path::new("sidecarbon.toml"), &written, &around);
    let settings = settings.unwrap_or_else(|error| panic!("{error}"));
    let is_unset = |known: &&Effective| known.origin == Origin::Default;
    let unset = settings.effective.iter().filter(is_unset);
    let unset: Vec<&str> = unset.map(|known| known.path).collect();
    assert!(unset.is_empty(), "not in the reference: {unset:?}");

    // What the schema and the page show is the default as well.
    let whole: Vec<&str> = KEYS.iter().map(|key| key.path).collect();
    let order: Vec<&str> = settings.effective.iter().map(|one| one.path).collect();
    assert_eq!(order, whole);

    let defaults = read("").unwrap();
    assert_eq!(settings.listen, defaults.listen);
    assert_eq!(settings.statsd, defaults.statsd);
    assert_eq!(settings.retry, defaults.retry);
    assert_eq!(settings.admin_listen, defaults.admin_listen);
    assert_eq!(settings.shutdown_grace, defaults.shutdown_grace);
    assert_eq!(
        (
            settings.batch_bytes,
            settings.batch_linger,
            settings.queue_bytes
        ),
        (
            defaults.batch_bytes,
            defaults.batch_linger,
            defaults.queue_bytes
        )
    );
    assert_eq!(
        (settings.log_level, settings.log_format),
        (defaults.log_level, defaults.log_format)
    );
    let (written, default) = (settings.sink, defaults.sink);
    assert_eq!(written.tls, default.tls);
    assert_eq!(
        (
            written.connect_timeout,
            written.write_timeout,
            written.request_timeout
        ),
        (
            default.connect_timeout,
            default.write_timeout,
            default.request_timeout
        )
    );
    assert_eq!(
        (written.uncertain, written.resend_tail),
        (default.uncertain, default.resend_tail)
    );
    assert_eq!(
        (
            written.max_connection_age,
            written.datagram_bytes,
            written.proxy
        ),
        (
            default.max_connection_age,
            default.datagram_bytes,
            default.proxy
        )
    );
}

#[test]
fn a_proxy_is_for_tls_and_http_and_the_environments_for_https() {
    let around = |proxy: &str, no_proxy: &str| Environment {
        https_proxy: Some(("ALL_PROXY", proxy.into())),
        no_proxy: Some(no_proxy.into()),
        ..Environment::default()
    };
    let proxy_of = |url: &str, more: &str, around: &Environment| {
        let text = format!("[sink]\nurl = \"{url}\"\napi_key = \"{KEY}\"\n{more}");
        let read = read_with(&text, &[], around).map_err(|error| error.to_string());
        read.map(|settings| settings.sink.proxy.map(|proxy| proxy.endpoint.to_string()))
    };
    let written = "proxy = \"http://written:1\"";
    let found = |host: &str| Ok(Some(host.to_owned()));
    let environment = around("http://found:2", "");
    for url in ["tls://h:1", "http://h/", "https://h/"] {
        assert_eq!(proxy_of(url, written, &environment), found("written:1"));
        assert_eq!(proxy_of(url, "proxy = \"\"", &environment), Ok(None));
    }
    assert_eq!(proxy_of("https://h/", "", &environment), found("found:2"));
    for url in ["tls://h:1", "http://h/", "tcp://h:1"] {
        assert_eq!(proxy_of(url, "", &environment), Ok(None), "{url}");
    }
    let error = proxy_of("tcp://h:1", written, &environment).unwrap_err();
    assert!(
        error.contains("is for tls://, https:// and http://"),
        "{error}"
    );

    let exempt = around("socks5://found:2", "h:443");
    assert_eq!(proxy_of("https://h/", "", &exempt), Ok(None));
    let error = proxy_of("https://h:444/", "", &exempt).unwrap_err();
    assert!(
        error.contains("ALL_PROXY") && error.contains("sink.proxy = \"\""),
        "{error}"
    );
}

#[test]
fn a_key_check_is_a_question_over_http() {
    const HG: &str = "https://api.hostedgraphite.com/api/v1/metric/search?pattern=x";
    let probe = |url: &str| format!("[probe]\nkey_check_url = \"{url}\"");
    assert_eq!(read("").unwrap().key_check, None);
    let proxied = Environment {
        https_proxy: Some(("HTTPS_PROXY", "http://proxy:3128".into())),
        ..Environment::default()
    };
    let settings = read_with(&probe(HG), &[], &proxied).unwrap();
    let check = settings.key_check.unwrap();
    assert!(check.secure && check.path == "/api/v1/metric/search?pattern=x");
    assert_eq!(check.endpoint.to_string(), "api.hostedgraphite.com:443");
    assert_eq!(check.proxy.unwrap().endpoint.to_string(), "proxy:3128");
    let settings = read(&probe("http://localhost:1/")).unwrap();
    assert!(settings.warnings[0].contains("in clear"), "{settings:?}");
    for (url, expected) in [
        ("tls://carbon.example.com:20030", HG),
        ("api.hostedgraphite.com", HG),
        ("https://key@example.com/", "sink.api_key_file"),
    ] {
        refused(&probe(url), "s.toml:2: probe.key_check_url");
        refused(&probe(url), expected);
    }
}

#[test]
fn who_can_do_without_the_key_is_warned() {
    let around = Environment {
        key_is_optional: true,
        ..Environment::default()
    };
    for text in [
        "[sink]\nurl = \"tcp://h:1\"",
        "[sink]\nurl = \"tcp://h:1\"\napi_key_file = \"/does/not/exist\"",
    ] {
        let settings = read_with(text, &[], &around).unwrap();
        assert!(settings.sink.key_is_missing && settings.sink.key.is_empty());
        assert!(
            settings.warnings[0].contains("api_key_file"),
            "{settings:?}"
        );
    }
    let settings = read_with("[sink]\napi_key = \"\"", &[], &around).unwrap();
    assert!(!settings.sink.key_is_missing);
}

#[test]
fn a_url_is_shown_without_secrets() {
    let shown = |url: &str| {
        let text = format!("[sink]\nurl = \"{url}\"\napi_key = \"{KEY}\"");
        read(&text).unwrap().sink.public_url()
    };
    assert_eq!(shown("tcp://h:1"), "tcp://h:1");
    assert_eq!(shown("https://h/a?token=b"), "https://h:443/a?…");
    assert_eq!(
        shown(&format!("https://h/{KEY}/a")),
        "https://h:443/<key>/a"
    );
}

#[test]
fn the_ipv6_wildcard_leaves_ipv4_to_an_address_beside_it() {
    let only_v6 = |tcp: &str| {
        let settings = read(&format!("[listen]\ntcp = [{tcp}]")).unwrap();
        let listeners = settings.listen.tcp.iter();
        listeners.map(|one| one.only_v6).collect::<Vec<_>>()
    };
    for (tcp, expected) in [
        ("'[::]:1'", vec![false]),
        ("'[::]:1', '0.0.0.0:1'", vec![true, false]),
        ("'127.0.0.1:1', '[::]:1'", vec![false, true]),
        ("'[::]:1', '0.0.0.0:2'", vec![false, false]),
        ("'[::1]:1', '0.0.0.0:1'", vec![false, false]),
    ] {
        assert_eq!(only_v6(tcp), expected, "{tcp}");
    }
    // Abstract names are one for each kind of socket.
    read("[listen]\nunix_stream = ['@s']\nunix_datagram = ['@s']").unwrap();
}

#[test]
fn the_schema_is_the_one_that_is_committed() {
    let committed = include_str!("../../config/sidecarbon.schema.json");
    assert!(
        committed == format!("{:#}\n", schema()),
        "run: cargo run -- schema > config/sidecarbon.schema.json"
    );
}

#[test]
fn the_reference_page_is_the_one_that_is_committed() {
    let committed = include_str!("../../docs/reference/configuration.md");
    assert!(
        committed == reference(),
        "run: cargo run -- schema --page > docs/reference/configuration.md"
    );
}

/// The schema accepts the reference file, and rejects what the daemon rejects by type.
#[test]
fn every_default_fits_its_schema() {
    for key in KEYS {
        let of = (key.schema)();
        let default = schema()["properties"].clone();
        let described = key.path.split('.').fold(default, |at, name| {
            let inner = at[name].clone();
            match &inner["properties"] {
                serde_json::Value::Null => inner,
                properties => properties.clone(),
            }
        });
        let default = &described["default"];
        let kind = match of["type"].as_str() {
            Some("array") => default.is_array(),
            Some("integer") => default.is_u64(),
            _ => default.is_string(),
        };
        assert!(kind, "{}: {default}", key.path);
        assert!(
            described["description"]
                .as_str()
                .is_some_and(|text| text.len() > 10)
        );
    }
}

#[test]
fn flags_do_not_hide_the_file() {
    let default = tempfile::NamedTempFile::new().unwrap();
    let default = default.path();
    let flags = Overrides {
        sink: Some("stdout:".to_owned()),
        api_key_file: Some("k".to_owned()),
        ..Overrides::default()
    };
    let named = Overrides {
        config: Some("named".into()),
        ..flags.clone()
    };
    let variable = || Some("variable".into());
    assert_eq!(flags.file_among(None, default), Some(default.to_owned()));
    assert_eq!(
        flags.file_among(Some("".into()), default),
        Some(default.to_owned())
    );
    assert_eq!(
        flags.file_among(variable(), default),
        variable().map(Into::into)
    );
    assert_eq!(named.file_among(variable(), default), Some("named".into()));
    assert_eq!(flags.file_among(None, Path::new("/does/not/exist")), None);
}
