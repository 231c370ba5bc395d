//! Pickles as Python and its imitators write them, and what comes of them.

use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;
use crate::config::{ApiKey, NameRule};
use crate::pipeline::batch::Batch;

const KEY: &str = "6f1c2a9e-0d4b-4c57-9a3e-5b8e7d2f1a60";

fn rules() -> Rules {
    Rules {
        names: NameRule::Any,
        max_line_bytes: 100,
        key: ApiKey::parse(KEY).unwrap().into(),
    }
}

/// What a stream leaves behind: its lines, its rejections, and whether it was
/// broken off.
fn outcome(reads: &[&[u8]]) -> (String, Vec<(RejectReason, u64)>, bool) {
    let mut batch = Batch::default();
    batch.reset(UNIX_EPOCH + Duration::from_secs(1_700_000_099));
    let mut pickles = Pickles::default();
    let broke_off = reads
        .iter()
        .any(|read| pickles.feed(read, &rules(), &mut batch).is_break());
    if !broke_off {
        pickles.finish(&rules(), &mut batch);
    }
    let stored = String::from_utf8(batch.bytes().to_vec()).unwrap();
    (stored, batch.rejected().collect(), broke_off)
}

fn framed(pickle: &[u8]) -> Vec<u8> {
    let length = u32::try_from(pickle.len()).unwrap();
    [&length.to_be_bytes(), pickle].concat()
}

/// What comes of one pickle, with another one behind it.
fn unpickled(pickle: &[u8]) -> (String, Vec<(RejectReason, u64)>) {
    let stream = [framed(pickle), framed(NEIGHBOUR)].concat();
    let (stored, rejected, broke_off) = outcome(&[&stream]);
    let stored = stored.strip_suffix("neighbour 1 5\n");
    let stored = stored.unwrap_or_else(|| panic!("the neighbour came to harm: {stored:?}"));
    assert!(!broke_off);
    (stored.to_owned(), rejected)
}

const NEIGHBOUR: &[u8] = b"(l(S'neighbour'\n(I5\nI1\ntta.";

/// `pickle.dumps([("a.b", (1700000000, 1.5)), ("a.é", (1700000001.0, -3)),
/// ("a.text", ("1700000002", "2.25"))], protocol)`, of CPython 3.11.
const POINTS: [&[u8]; 6] = [
    b"(lp0\n(Va.b\np1\n(I1700000000\nF1.5\ntp2\ntp3\na(Va.\xe9\np4\n(F1700000001.0\nI-3\ntp5\ntp6\na(Va.text\np7\n(V1700000002\np8\nV2.25\np9\ntp10\ntp11\na.",
    b"]q\x00((X\x03\x00\x00\x00a.bq\x01(J\x00\xf1SeG?\xf8\x00\x00\x00\x00\x00\x00tq\x02tq\x03(X\x04\x00\x00\x00a.\xc3\xa9q\x04(GA\xd9T\xfc@@\x00\x00J\xfd\xff\xff\xfftq\x05tq\x06(X\x06\x00\x00\x00a.textq\x07(X\n\x00\x00\x001700000002q\x08X\x04\x00\x00\x002.25q\ttq\ntq\x0be.",
    b"\x80\x02]q\x00(X\x03\x00\x00\x00a.bq\x01J\x00\xf1SeG?\xf8\x00\x00\x00\x00\x00\x00\x86q\x02\x86q\x03X\x04\x00\x00\x00a.\xc3\xa9q\x04GA\xd9T\xfc@@\x00\x00J\xfd\xff\xff\xff\x86q\x05\x86q\x06X\x06\x00\x00\x00a.textq\x07X\n\x00\x00\x001700000002q\x08X\x04\x00\x00\x002.25q\t\x86q\n\x86q\x0be.",
    b"\x80\x03]q\x00(X\x03\x00\x00\x00a.bq\x01J\x00\xf1SeG?\xf8\x00\x00\x00\x00\x00\x00\x86q\x02\x86q\x03X\x04\x00\x00\x00a.\xc3\xa9q\x04GA\xd9T\xfc@@\x00\x00J\xfd\xff\xff\xff\x86q\x05\x86q\x06X\x06\x00\x00\x00a.textq\x07X\n\x00\x00\x001700000002q\x08X\x04\x00\x00\x002.25q\t\x86q\n\x86q\x0be.",
    b"\x80\x04\x95W\x00\x00\x00\x00\x00\x00\x00]\x94(\x8c\x03a.b\x94J\x00\xf1SeG?\xf8\x00\x00\x00\x00\x00\x00\x86\x94\x86\x94\x8c\x04a.\xc3\xa9\x94GA\xd9T\xfc@@\x00\x00J\xfd\xff\xff\xff\x86\x94\x86\x94\x8c\x06a.text\x94\x8c\n1700000002\x94\x8c\x042.25\x94\x86\x94\x86\x94e.",
    b"\x80\x05\x95W\x00\x00\x00\x00\x00\x00\x00]\x94(\x8c\x03a.b\x94J\x00\xf1SeG?\xf8\x00\x00\x00\x00\x00\x00\x86\x94\x86\x94\x8c\x04a.\xc3\xa9\x94GA\xd9T\xfc@@\x00\x00J\xfd\xff\xff\xff\x86\x94\x86\x94\x8c\x06a.text\x94\x8c\n1700000002\x94\x8c\x042.25\x94\x86\x94\x86\x94e.",
];

#[test]
fn points_of_every_protocol() {
    for (protocol, pickle) in POINTS.into_iter().enumerate() {
        let (stored, rejected) = unpickled(pickle);
        let expected = "a.b 1.5 1700000000\na.é -3 1700000001\na.text 2.25 1700000002\n";
        assert_eq!(stored, expected, "protocol {protocol}");
        assert_eq!(rejected, []);
    }
}

#[test]
fn what_other_clients_write() {
    for (pickle, expected) in [
        // Dropwizard's and node statsd's reporters, which write by hand.
        (
            &b"(l(S'a.count'\n(L1700000000L\nS'12'\ntta(S'a.mean'\n(L1700000000L\nS'0.50'\ntta."[..],
            "a.count 12 1700000000\na.mean 0.50 1700000000\n",
        ),
        // Python 2: str in protocol 0, in protocol 2, and unicode.
        (
            b"(lp0\n(S'a.b'\np1\n(I1700000000\nF1.5\ntp2\ntp3\na.",
            "a.b 1.5 1700000000\n",
        ),
        (
            b"\x80\x02]q\x00U\x03a.bq\x01J\x00\xf1SeU\x031.5q\x02\x86q\x03\x86q\x04a.",
            "a.b 1.5 1700000000\n",
        ),
        (b"(l(V\\u00e9\n(I5\nI1\ntta.", "é 1 5\n"),
        // A tuple of tuples, protocols 0 and 4; 2**200, and -1 as the time.
        (
            b"((Va.b\np0\n(I-1\nL1606938044258990275541962092341162602522202993782792835301376L\ntp1\ntp2\ntp3\n.",
            "a.b 1606938044258990275541962092341162602522202993782792835301376 1700000099\n",
        ),
        (
            b"\x80\x04\x95\x18\x00\x00\x00\x00\x00\x00\x00\x8c\x03a.b\x94J\xff\xff\xff\xff\x8a\x06\x00\x00\x00\x00\x00\x01\x86\x94\x86\x94\x85\x94.",
            "a.b 1099511627776 1700000099\n",
        ),
        // Lists in place of tuples.
        (b"](](U\x03a.b](K\x05K\x01eee.", "a.b 1 5\n"),
        // Bytes, and what follows the end.
        (b"\x80\x03](C\x03a.bK\x05C\x011\x86\x86e.\n", "a.b 1 5\n"),
        // No points are no points.
        (b"(lp0\n.", ""),
        (b"\x80\x05]\x94.", ""),
        (b").", ""),
    ] {
        let (stored, rejected) = unpickled(pickle);
        assert_eq!((stored.as_str(), rejected), (expected, vec![]));
    }
}

/// The same name twice, the same `(timestamp, value)` twice, a list in place of
/// a tuple, and neighbours of which nothing comes.
#[test]
fn points_share_their_parts() {
    for pickle in [
        &b"(lp0\n(Vsame.name\np1\n(I1700000000\nL1099511627776L\ntp2\ntp3\na(g1\ng2\ntp4\na(lp5\ng1\na(lp6\nI5\naI01\naaaVx\np7\na(g1\n(I5\nNtp8\ntp9\na(g1\n(I5\nFnan\ntp10\ntp11\na."[..],
        b"\x80\x02]q\x00(X\t\x00\x00\x00same.nameq\x01J\x00\xf1Se\x8a\x06\x00\x00\x00\x00\x00\x01\x86q\x02\x86q\x03h\x01h\x02\x86q\x04]q\x05(h\x01]q\x06(K\x05\x88eeX\x01\x00\x00\x00xq\x07h\x01K\x05N\x86q\x08\x86q\th\x01K\x05G\x7f\xf8\x00\x00\x00\x00\x00\x00\x86q\n\x86q\x0be.",
        b"\x80\x04\x95S\x00\x00\x00\x00\x00\x00\x00]\x94(\x8c\tsame.name\x94J\x00\xf1Se\x8a\x06\x00\x00\x00\x00\x00\x01\x86\x94\x86\x94h\x01h\x02\x86\x94]\x94(h\x01]\x94(K\x05\x88ee\x8c\x01x\x94h\x01K\x05N\x86\x94\x86\x94h\x01K\x05G\x7f\xf8\x00\x00\x00\x00\x00\x00\x86\x94\x86\x94e.",
    ] {
        let (stored, rejected) = unpickled(pickle);
        assert_eq!(stored, "same.name 1099511627776 1700000000\n".repeat(2));
        assert_eq!(
            rejected,
            [
                (RejectReason::Value, 2),
                (RejectReason::NotFinite, 1),
                (RejectReason::Fields, 1),
            ]
        );
    }
}

/// One point of three fields, each written as an instruction, between two good
/// ones.
fn between_good_ones(name: &[u8], timestamp: &[u8], value: &[u8]) -> Vec<u8> {
    let good = &b"U\x04goodK\x05K\x01\x86\x86"[..];
    [
        &b"]("[..],
        good,
        name,
        timestamp,
        value,
        b"\x86\x86",
        good,
        b"e.",
    ]
    .concat()
}

#[test]
fn a_point_is_rejected_by_itself() {
    use RejectReason::{Encoding, Name, NotFinite, Timestamp, TooLong, Value};
    let (name, time, one) = (&b"U\x01a"[..], &b"K\x05"[..], &b"K\x01"[..]);
    let long = [b"T\x00\x02\x00\x00".as_slice(), &[b'x'; 512]].concat();
    for (name, time, value, reason) in [
        // What would be another field, or another line.
        (&b"U\x07a b 1 5"[..], time, one, Name),
        (b"U\x03a\tb", time, one, Name),
        (b"U\x08a 1 5\nb.", time, one, Name),
        (b"U\x03a\nb", time, one, Encoding),
        (b"U\x02\ra", time, one, Encoding),
        (b"U\x02a\r", time, one, Encoding),
        (b"U\x02a\0", time, one, Encoding),
        (b"S'a\\nb'\n", time, one, Encoding),
        (b"Va\\u000ab\n", time, one, Encoding),
        (b"X\x03\0\0\0a\xc2\x85", time, one, Encoding),
        (b"X\x03\0\0\0a\xc2\xa0", time, one, Name),
        (b"U\x02a\xff", time, one, Encoding),
        (b"V\\ud83d\n", time, one, Encoding),
        (name, time, b"U\x031 2", Value),
        (name, time, b"U\x031\n2", Value),
        (name, b"U\x035 6", one, Timestamp),
        (name, b"U\x0b5\nb.c 1 500", one, Timestamp),
        // What is no name, no number, no time.
        (b"U\x00", time, one, Name),
        (b"U\x02..", time, one, Name),
        (b"N", time, one, Name),
        (b"]", time, one, Name),
        (name, time, b"N", Value),
        (name, time, b"\x88", Value),
        (name, time, b"I01\n", Value),
        (name, time, b")", Value),
        (name, time, b"U\x00", Value),
        (name, time, b"U\x02  ", Value),
        (name, time, b"U\x051_000", Value),
        (name, time, b"U\x03nan", NotFinite),
        (name, time, b"Finf\n", NotFinite),
        (name, time, b"G\x7f\xf0\0\0\0\0\0\0", NotFinite),
        (name, b"N", one, Timestamp),
        (name, b"\x89", one, Timestamp),
        (name, b"G\x7f\xf8\0\0\0\0\0\0", one, Timestamp),
        (name, b"J\xfe\xff\xff\xff", one, Timestamp),
        (name, b"L1700000000123L\n", one, Timestamp),
        // What is too long, wherever.
        (&long, time, one, TooLong),
        (name, time, &long, TooLong),
        (name, &long, one, TooLong),
        (name, time, b"K\x01\x85", Value),
        (name, b"K\x05\x85", one, Timestamp),
    ] {
        let pickle = between_good_ones(name, time, value);
        let shown = pickle.escape_ascii();
        let (stored, rejected) = unpickled(&pickle);
        assert_eq!(stored, "good 1 5\ngood 1 5\n", "{shown}");
        assert_eq!(rejected, [(reason, 1)], "{shown}");
    }
}

#[test]
fn what_is_no_point_has_its_account() {
    for odd in [
        &b"K\x01"[..],
        b"N",
        b")",
        b"]",
        b"U\x01a\x85",
        b"U\x01aK\x05K\x01\x87",
        b"U\x01aK\x05\x86",
        b"U\x01aK\x05\x85\x86",
        b"U\x01aK\x05K\x01K\x01\x87\x86",
        b"U\x01a(K\x05K\x01K\x01K\x01t\x86",
    ] {
        let pickle = [b"](", odd, b"U\x04goodK\x05K\x01\x86\x86e."].concat();
        let (stored, rejected) = unpickled(&pickle);
        assert_eq!(stored, "good 1 5\n", "{}", pickle.escape_ascii());
        assert_eq!(rejected, [(RejectReason::Fields, 1)]);
    }
}

#[test]
fn numbers_may_be_written_as_text() {
    let pickle = between_good_ones(b"U\x01a", b"U\x06 17.9\n", b"U\x06 -1e-7");
    let (stored, rejected) = unpickled(&pickle);
    assert_eq!(stored, "good 1 5\na -1e-7 17\ngood 1 5\n");
    assert_eq!(rejected, []);
    // -1 in any spelling is now.
    for now in [
        &b"J\xff\xff\xff\xff"[..],
        b"G\xbf\xf0\0\0\0\0\0\0",
        b"U\x02-1",
    ] {
        let (stored, _) = unpickled(&between_good_ones(b"U\x01a", now, b"K\x01"));
        assert!(stored.contains("a 1 1700000099\n"), "{stored}");
    }
}

#[test]
fn a_frame_that_is_no_pickle_of_points_is_one_rejection() {
    for pickle in [
        &b""[..],
        b".",
        b"]",
        b"garbage",
        b"\x80\x06].",
        b"K\x01.",
        b"U\x03a.b.",
        b"N.",
        // Cut, and longer inside than outside.
        &POINTS[2][..POINTS[2].len() - 1],
        &POINTS[4][..60],
        b"](X\xff\xff\xff\xffa.b",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff.",
        // Out of the stack's reach, or the memo's.
        b"0.",
        b"1.",
        b"2.",
        b"a.",
        b"e.",
        b"t.",
        b"\x86.",
        b"](\x85.",
        b"](a.",
        b"K\x01K\x02a.",
        b"](2.",
        b"h\x00.",
        b"q\x00].",
        b"gx\n.",
        b"S'a.b\n.",
        b"Sa\n.",
        // Code: os.system, by protocols 0, 2 and 4, and other ways to call.
        b"(lp0\n(Va\np1\n(I1\ncposix\nsystem\np2\ntp3\ntp4\na.",
        b"\x80\x02]q\x00X\x01\x00\x00\x00aq\x01K\x01cposix\nsystem\nq\x02\x86q\x03\x86q\x04a.",
        b"\x80\x04\x95!\x00\x00\x00\x00\x00\x00\x00]\x94\x8c\x01a\x94K\x01\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x86\x94\x86\x94a.",
        b"(S'id'\niposix\nsystem\n.",
        b"]P1\na.",
        b"]]R.",
        // A dictionary.
        b"\x80\x02]q\x00}q\x01X\x01\x00\x00\x00aq\x02K\x01sa.",
    ] {
        let (stored, rejected) = unpickled(pickle);
        let shown = pickle.escape_ascii();
        assert_eq!(
            (stored.as_str(), rejected),
            ("", vec![(RejectReason::Protocol, 1)]),
            "{shown}"
        );
    }
}

#[test]
fn code_is_named_as_such() {
    for pickle in [&b"cposix\nsystem\n."[..], b"]]R.", b"\x82\x01."] {
        assert_eq!(machine::run(pickle).unwrap_err(), Unreadable::Code);
    }
}

/// A list that holds itself, one nested a hundred thousand times, and the
/// instructions that no pickler writes and every machine knows.
#[test]
fn odd_programs_do_no_harm() {
    let deep = [&b"]".repeat(100_000)[..], &b"a".repeat(99_999), b"."].concat();
    for (pickle, points) in [
        (&b"]q\x00h\x00a."[..], 1),
        (b"]2a.", 1),
        (&deep, 1),
        (b"](K\x01K\x021.", 0),
        (b"]K\x010.", 0),
        (b"](0.", 0),
        (b"]Na2a.", 2),
    ] {
        let unpickled = machine::run(pickle);
        let found = unpickled.map(|unpickled| unpickled.parts().map_or(0, Iterator::count));
        assert_eq!(
            found,
            Ok(points),
            "{}",
            pickle[..20.min(pickle.len())].escape_ascii()
        );
    }
}

#[test]
fn a_frame_cannot_grow_out_of_all_proportion() {
    // Marks, values, sequences: a million of each.
    for byte in [b'(', b'N', b']', b')'] {
        let pickle = [byte].repeat(frames::MAX_FRAME);
        assert_eq!(machine::run(&pickle).unwrap_err(), Unreadable::TooMuch);
    }
    // As much in the memo, in turn and out of it.
    for start in [&b"N"[..], b"Nq\x00r\xff\xff\xff\xff"] {
        let mut pickle = start.to_vec();
        pickle.resize(frames::MAX_FRAME, b'\x94');
        assert_eq!(machine::run(&pickle).unwrap_err(), Unreadable::TooMuch);
        let mut pickle = [start, &b"\x94".repeat(200_000)].concat();
        pickle.push(b'.');
        assert!(machine::run(&pickle).is_ok());
    }

    // One point, a hundred thousand times; one long text, as often.
    let mut rules = rules();
    rules.max_line_bytes = 64 << 10;
    let text = vec![b'x'; 60_000];
    for (opcode, end) in [
        (&b"T\x60\xea\0\0"[..], &b""[..]),
        (b"S'", b"'\n"),
        (b"V", b"\n"),
    ] {
        let point = [b"](", opcode, &text, end, b"K\x05K\x01\x86\x86q\x00"].concat();
        let pickle = [&point[..], &b"h\x00".repeat(100_000), b"e."].concat();
        let mut batch = Batch::default();
        batch.reset(UNIX_EPOCH);
        let fed = Pickles::default().feed(&framed(&pickle), &rules, &mut batch);
        assert!(fed.is_continue());
        assert!(batch.bytes().len() < 17 << 20, "{}", batch.bytes().len());
        let rejected: u64 = batch.rejected().map(|(_, lines)| lines).sum();
        assert_eq!(batch.lines() + rejected, 100_001);
        assert!(batch.lines() > 100);
    }
}

/// Points may share a number. One of more than 128 bits is more than any metric has.
#[test]
fn a_long_number_is_written_up_to_128_bits() {
    const POINTS: u64 = 100_000;
    for (bytes, lines) in [(1, POINTS), (16, POINTS), (17, 0), (128, 0)] {
        let shared = [
            &b"U\x01aq\x000\x8a"[..],
            &[bytes],
            &vec![1; bytes.into()],
            b"q\x010",
        ];
        let points = b"h\x00K\x05h\x01\x86\x86".repeat(100_000);
        let pickle = [&shared.concat(), &b"]("[..], &points, b"e."].concat();
        let mut batch = Batch::default();
        batch.reset(UNIX_EPOCH);
        let fed = Pickles::default().feed(&framed(&pickle), &rules(), &mut batch);
        assert!(fed.is_continue());
        assert_eq!(batch.lines(), lines, "{bytes}");
        let rejected: Vec<_> = batch.rejected().collect();
        let expected = (RejectReason::NotFinite, POINTS - lines);
        assert_eq!(rejected, [expected][usize::from(lines == POINTS)..]);
    }
}

/// `pickle.Pickler` goes on counting when nobody tells it to forget.
#[test]
fn a_pickler_may_number_from_anywhere() {
    for start in [0, 1, 300, 524_287, 10_000_000, u32::MAX - 3] {
        let put = |number: u32| [&b"r"[..], &(start + number).to_le_bytes()].concat();
        let get = [&b"j"[..], &(start + 1).to_le_bytes()].concat();
        let point = |name: &[u8]| [name, b"K\x05K\x01\x86", &put(2), b"\x86", &put(3)].concat();
        let pickle = [
            &b"\x80\x02]"[..],
            &put(0),
            b"(",
            &point(&[&b"U\x03a.b"[..], &put(1)].concat()),
            &point(&get),
            b"e.",
        ];
        let (stored, rejected) = unpickled(&pickle.concat());
        assert_eq!(stored, "a.b 1 5\na.b 1 5\n", "{start}");
        assert_eq!(rejected, []);
    }
    // One that leaves numbers out, and one that counts what is remembered.
    for pickle in [
        &b"]q\x05(U\x03a.bq\x09K\x05K\x01\x86\x86r\xff\xff\xff\xffh\x09K\x05K\x01\x86\x86j\xff\xff\xff\xff1h\x050]2(U\x03a.bq\x02K\x05K\x01\x86q\x09\x86h\x02h\x09\x86e."[..],
        b"](U\x03a.bq\x07\x94K\x05K\x01\x86\x94\x86h\x01h\x02\x86e.",
    ] {
        let (stored, rejected) = unpickled(pickle);
        assert_eq!(stored, "a.b 1 5\na.b 1 5\n");
        assert_eq!(rejected, []);
    }
}

#[test]
fn our_own_key_is_taken_off() {
    for pickle in [
        format!("(l(S'{KEY}.a.b'\n(I5\nI1\ntta.").into_bytes(),
        [
            &b"](\x8c\x28"[..],
            KEY.as_bytes(),
            b".a.bK\x05K\x01\x86\x86e.",
        ]
        .concat(),
    ] {
        assert_eq!(unpickled(&pickle), ("a.b 1 5\n".to_owned(), vec![]));
    }
    let mut batch = Batch::default();
    batch.reset(UNIX_EPOCH);
    let stream = framed(format!("(l(S'{KEY}.a b'\n(I5\nI1\nttaR.").as_bytes());
    let fed = Pickles::default().feed(&stream, &rules(), &mut batch);
    assert!(fed.is_continue());
    let shown = format!("{:?}", batch.samples()) + &batch.samples()[0].excerpt();
    assert!(!shown.contains(KEY) && shown.contains("<key>"), "{shown}");
}

#[test]
fn another_protocol_is_one_rejection() {
    for (reads, hint) in [
        (&[&b"a.b 1 5\n"[..]][..], LINES),
        (&[b"a", b".b 1 5\n"], LINES),
        (&[b"GET 1 5\n"], LINES),
        (&[b"\n"], LINES),
        (&[b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"], HTTP),
        (&[b"PO", b"ST /x HTTP/1.", b"1\r\n"], HTTP),
        (&[b"\x16\x03\x01\x00\x05hello"], TLS),
        (&[b"\x16", b"\x03"], TLS),
        (&[b"\x80\x02]q\x00."], NO_FRAME),
    ] {
        let mut batch = Batch::default();
        batch.reset(UNIX_EPOCH);
        let mut pickles = Pickles::default();
        let broke_off = reads
            .iter()
            .any(|read| pickles.feed(read, &rules(), &mut batch).is_break());
        assert!(broke_off && batch.lines() == 0);
        let rejected: Vec<_> = batch.rejected().collect();
        assert_eq!(rejected, [(RejectReason::Protocol, 1)]);
        assert_eq!(batch.samples()[0].reject.hint, hint);
    }
    // Too little to tell, and then the end.
    for cut in [&b"GE"[..], b"\x16"] {
        let (stored, rejected, _) = outcome(&[cut]);
        assert_eq!(
            (stored.as_str(), rejected),
            ("", vec![(RejectReason::Protocol, 1)])
        );
    }
    // In the midst of frames: what comes before has arrived.
    let stream = [framed(NEIGHBOUR), b"a.b 1 5\n".to_vec()].concat();
    let (stored, rejected, broke_off) = outcome(&[&stream]);
    assert_eq!((stored.as_str(), broke_off), ("neighbour 1 5\n", true));
    assert_eq!(rejected, [(RejectReason::Protocol, 1)]);
}

#[test]
fn a_frame_that_the_end_cuts_is_truncated() {
    let stream = [framed(NEIGHBOUR), framed(POINTS[2])].concat();
    for cut in framed(NEIGHBOUR).len() + 1..stream.len() {
        let (stored, rejected, _) = outcome(&[&stream[..cut]]);
        assert_eq!(stored, "neighbour 1 5\n");
        assert_eq!(rejected, [(RejectReason::Truncated, 1)]);
    }
    assert_eq!(outcome(&[&framed(NEIGHBOUR)]).1, []);
}

#[test]
fn a_frame_that_is_too_large_is_skipped() {
    let mut stream = (2_u32 << 20).to_be_bytes().to_vec();
    stream.resize(4 + (2 << 20), b'.');
    stream.extend(framed(NEIGHBOUR));
    let reads: Vec<&[u8]> = stream.chunks(100_000).collect();
    let (stored, rejected, broke_off) = outcome(&reads);
    assert_eq!((stored.as_str(), broke_off), ("neighbour 1 5\n", false));
    assert_eq!(rejected, [(RejectReason::TooLong, 1)]);
    // What the end cuts of it was counted before.
    assert_eq!(outcome(&reads[..3]).1, [(RejectReason::TooLong, 1)]);
}

/// Instructions as they come, more or less in order.
fn program() -> impl Strategy<Value = Vec<u8>> {
    let instruction = prop_oneof![
        8 => proptest::sample::select(vec![
            &b"("[..], b"]", b")", b"t", b"l", b"a", b"e", b"0", b"1", b"2", b"N", b"\x85",
            b"\x86", b"\x87", b"\x94", b"q\x01", b"h\x00", b"h\x01", b"p1\n", b"g1\n", b"K\x05",
            b"M\x05\x01", b"J\x00\xf1Se", b"I5\n", b"L5L\n", b"F1.5\n", b"G?\xf8\0\0\0\0\0\0",
            b"U\x03a.b", b"U\x03a b", b"S'a.b'\n", b"Va.b\n", b"\x8a\x01\x05", b"\x80\x02",
            b"U\x03a.bK\x05K\x01\x86\x86", b"(S'a'\n(I5\nI1\ntt",
        ])
        .prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(instruction, 0..24)
        .prop_map(|program| [&b"]("[..], &program.concat(), b"e."].concat())
}

proptest! {
    /// Whatever the pickle, whole clean lines come of it, and each point is in
    /// one account; and how reads cut it does not matter.
    #[test]
    fn any_program_in_any_cutting(
        programs in proptest::collection::vec(program(), 1..4),
        cuts in proptest::collection::vec(0..400_usize, 0..12),
        garbage in proptest::collection::vec(any::<u8>(), 0..5),
    ) {
        let mut bytes: Vec<u8> = programs.iter().flat_map(|program| framed(program)).collect();
        bytes.extend(garbage);
        let whole = outcome(&[&bytes]);
        for line in whole.0.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            prop_assert!(fields.len() == 3 && fields.iter().all(|field| !field.is_empty()), "{line:?}");
            prop_assert!(!line.contains(char::is_control));
        }
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let reads: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
        prop_assert_eq!(outcome(&reads), whole);
    }

    /// A frame is points, each in one account, or one rejection.
    #[test]
    fn every_point_is_in_one_account(program in program()) {
        let mut batch = Batch::default();
        batch.reset(UNIX_EPOCH);
        let fed = Pickles::default().feed(&framed(&program), &rules(), &mut batch);
        prop_assert!(fed.is_continue());
        let points = machine::run(&program).ok().and_then(|unpickled| Some(unpickled.parts()?.count() as u64));
        let rejected: u64 = batch.rejected().map(|(_, lines)| lines).sum();
        prop_assert_eq!(batch.lines() + rejected, points.unwrap_or(1));
    }

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        outcome(&[&framed(&bytes), &bytes]);
    }
}
