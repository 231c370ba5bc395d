//! What clients write: node StatsD's, DogStatsD's and Telegraf's forms.

use proptest::prelude::*;

use super::*;
use crate::config::{ApiKey, NameRule};

fn rules() -> Rules {
    Rules {
        names: NameRule::Any,
        max_line_bytes: 256,
        key: ApiKey::none().into(),
    }
}

/// Name, tags, and what becomes of each value.
type Read<'a> = (&'a [u8], &'a [u8], Vec<Result<Sample<'a>, RejectReason>>);

fn samples(line: &[u8]) -> Result<Option<Read<'_>>, RejectReason> {
    let written = read(line, &rules()).map_err(|reject| {
        assert!(reject.at <= line.len(), "{}", line.escape_ascii());
        reject.reason
    })?;
    Ok(written.map(|written| {
        let mut samples = Vec::new();
        written.each(|sample| {
            samples.push(sample.map_err(|reject| {
                assert!(reject.at <= line.len(), "{}", line.escape_ascii());
                reject.reason
            }));
        });
        (written.name, written.tags, samples)
    }))
}

#[track_caller]
fn measures<'a>(line: &'a str, expected: &[Measure<'a>]) -> Read<'a> {
    let read = samples(line.as_bytes()).unwrap().unwrap();
    let plain = |measure: &Measure<'a>| {
        Ok(Sample {
            measure: *measure,
            second: None,
            values: 1,
        })
    };
    let expected: Vec<_> = expected.iter().map(plain).collect();
    assert_eq!(read.2, expected, "{line}");
    read
}

#[test]
fn one_value_of_each_type() {
    use Measure::{Change, Count, Level, Member, Time};
    for (line, expected) in [
        ("a:1|c", Count(1.0)),
        ("a:-2.5|c", Count(-2.5)),
        ("a:+1|c", Count(1.0)),
        ("a:1|c|@0.1", Count(10.0)),
        ("a:1|c|@1", Count(1.0)),
        ("a:3|g", Level(3.0)),
        ("a:3|g|@0.1", Level(3.0)),
        ("a:+3|g", Change(3.0)),
        ("a:-3|g", Change(-3.0)),
        ("a:320|ms", Time(320.0, 1.0)),
        ("a:320|ms|@0.25", Time(320.0, 4.0)),
        ("a:1e3|h", Time(1000.0, 1.0)),
        ("a:.5|d", Time(0.5, 1.0)),
        ("a:user 7|s", Member(b"user 7")),
        ("a:b:c|s", Member(b"b:c")),
        ("a:-1|s|@0.1", Member(b"-1")),
        (" a :1|c \r", Count(1.0)),
        ("a:1|c\0", Count(1.0)),
        ("\0a:1|c\r\0\0", Count(1.0)),
        ("\u{feff}a:1|c", Count(1.0)),
    ] {
        let (name, tags, _) = measures(line, &[expected]);
        assert_eq!((name, tags), (&b"a"[..], &b""[..]), "{line}");
    }
}

#[test]
fn values_may_share_a_type_or_have_their_own() {
    use Measure::{Change, Count, Level, Member, Time};
    measures("a:1:2|ms", &[Time(1.0, 1.0), Time(2.0, 1.0)]);
    measures("a:1|c:200|ms", &[Count(1.0), Time(200.0, 1.0)]);
    measures("a:0|g:-5|g", &[Level(0.0), Change(-5.0)]);
    measures("a:1|c|@0.5:2|c:3|c", &[Count(2.0), Count(2.0), Count(3.0)]);
    measures("a:x|s:1|c", &[Member(b"x"), Count(1.0)]);
    let both = [Time(1.0, 2.0), Time(2.0, 2.0), Count(3.0)];
    measures("a:1:2|h|@0.5:3|c", &both);
}

#[test]
fn tags_and_what_is_of_no_use_here() {
    let count = [Measure::Count(10.0)];
    for line in [
        "a:1|c|@0.1|#dc:fra,url:http://x",
        "a:1|c|#dc:fra,url:http://x|@0.1",
        "a:1|c|@0.1|#dc:fra,url:http://x|c:ci-abc:7|e:it-false,cn-x|card:low",
        "a:1|c|c:|@0.1|#dc:fra,url:http://x|new:part",
    ] {
        let (_, tags, _) = measures(line, &count);
        assert_eq!(tags, b"dc:fra,url:http://x", "{line}");
    }
    let (_, tags, _) = measures("a:1|c|@0.1|#", &count);
    assert_eq!(tags, b"");
    // The tags are those of all values.
    let two = [Measure::Count(1.0), Measure::Time(2.0, 1.0)];
    assert_eq!(measures("a:1|c:2|ms|#x", &two).1, b"x");
}

#[test]
fn a_time_of_its_own_is_for_counters_and_gauges() {
    let read = |line: &'static str| samples(line.as_bytes()).unwrap().unwrap().2;
    let of = |values| {
        move |measure, second| {
            vec![Ok(Sample {
                measure,
                second,
                values,
            })]
        }
    };
    let at = of(1);
    assert_eq!(
        read("a:1|c|@0.5|T1700000000"),
        at(Measure::Count(2.0), Some(1_700_000_000))
    );
    assert_eq!(
        read("a:5|g|#x|T1700000000"),
        at(Measure::Level(5.0), Some(1_700_000_000))
    );
    assert_eq!(read("a:5|g|T-1"), at(Measure::Level(5.0), None));
    // One point a second: Graphite would keep the last of several.
    assert_eq!(
        read("a:1:2:4|c|@0.5|T1700000000"),
        of(3)(Measure::Count(14.0), Some(1_700_000_000))
    );
    assert_eq!(
        read("a:1:2:4|g|T1700000000"),
        of(3)(Measure::Level(4.0), Some(1_700_000_000))
    );
    assert_eq!(
        read("a:1:x:4|c|T1700000000"),
        [
            vec![Err(RejectReason::Value)],
            of(2)(Measure::Count(5.0), Some(1_700_000_000))
        ]
        .concat()
    );
    assert_eq!(
        read("a:1e308:1e308|c|T1700000000"),
        of(2)(Measure::Count(f64::MAX), Some(1_700_000_000))
    );
    let alone = Ok(Sample {
        measure: Measure::Count(1.0),
        second: None,
        values: 1,
    });
    let refused = Err(RejectReason::Timestamp);
    assert_eq!(read("a:1|c|T1700000000:1|c"), [refused, alone]);
    assert_eq!(read("a:1|c:1|c|T1700000000"), [alone, refused]);
    for line in [
        "a:1|ms|T1700000000",
        "a:1|s|T1700000000",
        "a:+1|g|T1700000000",
        "a:1|c|T1700000000123",
        "a:1|c|Tsoon",
        "a:1|c|T",
    ] {
        assert_eq!(read(line), [Err(RejectReason::Timestamp)], "{line}");
    }
}

#[test]
fn what_is_rejected_says_why() {
    use RejectReason::{Encoding, Fields, NotFinite, Protocol, TooLong, Value};
    let long = format!("{}:1|c", "a".repeat(256));
    for (line, reason) in [
        (&b"a"[..], Fields),
        (b"a 1 1700000000", Fields),
        (b"a|#x:1|c", Fields),
        (b"|c:1|c", Fields),
        (b"_e{5,4}:title|text", Protocol),
        (b"_sc|name|0", Protocol),
        (b"a\xff:1|c", Encoding),
        (b"a\0:1|c", Encoding),
        (long.as_bytes(), TooLong),
    ] {
        assert_eq!(samples(line).err(), Some(reason), "{}", line.escape_ascii());
    }
    for (line, reasons) in [
        ("a:", &[Fields][..]),
        ("a:1", &[Fields]),
        ("a:1|", &[Fields]),
        ("a:1|x", &[Fields]),
        ("a:1|C", &[Fields]),
        ("a:1:2|x", &[Fields, Fields]),
        ("a:1|c|0.1", &[Fields]),
        ("a:1|c|", &[Fields]),
        ("a:1|c|X:1", &[Fields]),
        ("a:|c", &[Value]),
        ("a:x|ms", &[Value]),
        ("a:0x10|g", &[Value]),
        ("a:|s", &[Value]),
        ("a:1|c|@", &[Value]),
        ("a:1|c|@0", &[Value]),
        ("a:1|c|@-1", &[Value]),
        ("a:1|c|@1.5", &[Value]),
        ("a:1|c|@nan", &[Value]),
        ("a:1|c|@1e-320", &[Value]),
        ("a:nan|g", &[NotFinite]),
        ("a:1e400|c", &[NotFinite]),
        ("a:1e308|c|@0.01", &[NotFinite]),
        ("a:inf:-Inf|ms", &[NotFinite, NotFinite]),
    ] {
        let read = samples(line.as_bytes()).unwrap().unwrap().2;
        let rejected: Vec<_> = read.into_iter().filter_map(Result::err).collect();
        assert_eq!(rejected, reasons, "{line}");
    }
    // The good ones among them pass.
    let read = samples(b"a:1:x:3|ms:4|c").unwrap().unwrap().2;
    let passed: Vec<bool> = read.iter().map(Result::is_ok).collect();
    assert_eq!(passed, [true, false, true, true]);
    assert_eq!(samples(b" \t\r"), Ok(None));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(
        bytes in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..80),
            "[a:|@#T,;1.+-]{0,40}(c|g|ms|s|)[a:|@#T,;1.c]{0,20}".prop_map(String::into_bytes),
        ]
    ) {
        // Each value is counted, and no line is without any.
        if let Ok(Some((_, _, samples))) = samples(&bytes) {
            prop_assert!(!samples.is_empty());
        }
    }
}
