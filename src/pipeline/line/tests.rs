//! The rows of docs/reference/lines.md, and the clients of docs/facts.md.

use proptest::prelude::*;

use super::*;
use crate::config::ApiKey;

const RECEIPT: &[u8] = b"1700000042";
const KEY: &str = "6F1C2A9E-0d4b-4c57-9a3e-5b8e7d2f1a60";

fn rules(names: NameRule) -> Rules {
    Rules {
        names,
        max_line_bytes: 4096,
        key: ApiKey::parse(KEY).unwrap().into(),
    }
}

/// What would be stored, without the newline; blank for a blank line.
fn stored(raw: &[u8], rules: &Rules) -> Result<String, Reject> {
    let mut out = Vec::new();
    if let Some(line) = Line::parse(raw, rules)? {
        line.write(RECEIPT, &mut out);
        assert_eq!(out.pop(), Some(b'\n'));
    }
    Ok(String::from_utf8(out).expect("what is stored is UTF-8"))
}

#[track_caller]
fn accepts(raw: impl AsRef<[u8]>, expected: &str) {
    let raw = raw.as_ref();
    assert_eq!(
        stored(raw, &rules(NameRule::Any)).as_deref(),
        Ok(expected),
        "{}",
        raw.escape_ascii()
    );
}

#[track_caller]
fn rejects(raw: impl AsRef<[u8]>, reason: RejectReason, at: usize) {
    let raw = raw.as_ref();
    let reject = stored(raw, &rules(NameRule::Any)).expect_err("should be rejected");
    assert_eq!(
        (reject.reason, reject.at),
        (reason, at),
        "{}: {}",
        raw.escape_ascii(),
        reject.hint
    );
}

#[test]
fn plain_lines_are_stored_as_they_are() {
    accepts("a.b 1 1700000000", "a.b 1 1700000000");
    accepts("a 9007199254740993 0", "a 9007199254740993 0");
    accepts("a;b=c;d=e 1 5", "a;b=c;d=e 1 5");
    accepts("a{b=\"c\"} 1 5", "a{b=\"c\"} 1 5");
}

#[test]
fn white_space_is_squeezed() {
    accepts(" a\t1  5 ", "a 1 5");
    accepts("a 1 5\r", "a 1 5");
    accepts("\ra 1 5\r\r", "a 1 5");
    for blank in [
        "",
        " ",
        "\t \t",
        "\r",
        " \r",
        "\0",
        "\r\0",
        "\u{feff}",
        "\u{feff}\r\0",
    ] {
        accepts(blank, "");
    }
}

#[test]
fn nuls_and_byte_order_marks_around_a_line_are_not_part_of_it() {
    for line in [
        "a 1 5\0",
        "a 1 5\r\0",
        "a 1 5\0\0\0\0",
        "\0a 1 5",
        "\u{feff}a 1 5",
        "\u{feff}\u{feff} a 1 5\0",
        "\0\u{feff}a 1 5\r",
    ] {
        accepts(line, "a 1 5");
    }
    accepts("\0a 1\0", "a 1 1700000042");
    accepts("\u{feff}ü 1 5", "ü 1 5");
    rejects("\0a\0b 1 5", RejectReason::Encoding, 2);
    rejects("\u{feff}a 1\u{1}", RejectReason::Encoding, 6);
    rejects("\u{feff}a x 5", RejectReason::Value, 5);
    rejects(format!("\u{feff}{KEY}. 1 5"), RejectReason::Name, 3);
    assert_eq!(
        stored("\u{feff}a 1 5\0".as_bytes(), &rules(NameRule::Strict)),
        Ok("a 1 5".into())
    );
}

#[test]
fn a_missing_time_is_the_receipt() {
    for raw in ["a 1", "a 1 -1", "a 1 N", "a 1 -1.0"] {
        accepts(raw, "a 1 1700000042");
    }
}

#[test]
fn the_text_of_a_number_is_copied() {
    for value in [
        "1e-07",
        "+1",
        ".5",
        "1.",
        "100000000000000000000.000000",
        "-0",
    ] {
        accepts(format!("a {value} 5"), &format!("a {value} 5"));
    }
}

#[test]
fn times_are_cut_to_whole_seconds() {
    accepts("a 1 1795368347.8576224", "a 1 1795368347");
    accepts("a 1 1e9", "a 1 1000000000");
    accepts("a 1 0", "a 1 0");
}

#[test]
fn needless_dots_go() {
    accepts(".a..b. 1 5", "a.b 1 5");
    accepts("a.;b=c..d 1 5", "a;b=c..d 1 5");
    rejects(". 1 5", RejectReason::Name, 0);
    rejects(" ... 1 5", RejectReason::Name, 1);
    rejects(";a=b 1 5", RejectReason::Name, 0);
}

#[test]
fn our_own_key_goes_in_any_case() {
    for prefix in [
        KEY.to_owned(),
        KEY.to_lowercase(),
        format!(".{KEY}"),
        format!("{KEY}.{KEY}"),
    ] {
        accepts(format!("{prefix}.a.b 1 5"), "a.b 1 5");
        accepts(format!("{prefix}.a;t=v 1 5"), "a;t=v 1 5");
        rejects(format!("{prefix} 1 5"), RejectReason::Name, 0);
    }
    accepts(format!("{KEY}x.a 1 5"), &format!("{KEY}x.a 1 5"));
}

#[test]
fn each_rejection_has_its_reason_and_its_place() {
    use RejectReason::{Encoding, Fields, Name, NotFinite, Timestamp, TooLong, Value};
    rejects("a", Fields, 1);
    rejects("a 1 2 3", Fields, 6);
    rejects("a;b=c d 1 5", Fields, 10);
    rejects("a x 5", Value, 2);
    for value in ["1_000", "0x10", "True", "\u{663}", "1,5"] {
        rejects(format!("a {value} 5"), Value, 2);
    }
    for value in ["nan", "-NaN", "+Inf", "Infinity", "1e400"] {
        rejects(format!("a {value} 5"), NotFinite, 2);
    }
    for time in [
        "1700000000123",
        "-2",
        "12345678901",
        "inf",
        "nan",
        "1e400",
        "x",
    ] {
        rejects(format!("a 1 {time}"), Timestamp, 4);
    }
    rejects(b"a\xff 1 5", Encoding, 1);
    rejects(b"a\0b 1 5", Encoding, 1);
    rejects("a\rb 1 5", Encoding, 1);
    rejects("a\u{85}b 1 5", Encoding, 1);
    rejects("a\u{1b}[0m 1 5", Encoding, 1);
    rejects("\r a\u{7f} 1 5", Encoding, 3);
    rejects("a\u{2028}b 1 5", Name, 1);
    rejects("a\u{a0}b 1 5", Name, 1);
    rejects("x".repeat(4097), TooLong, 4096);
}

#[test]
fn names_follow_the_rule() {
    let odd = "süd/web:1(x).load;dc=é 1 5";
    assert_eq!(stored(odd.as_bytes(), &rules(NameRule::Any)).unwrap(), odd);
    assert_eq!(
        stored(odd.as_bytes(), &rules(NameRule::Sanitize)).unwrap(),
        "s_d_web_1_x_.load;dc=_ 1 5"
    );
    for (raw, at) in [
        ("süd 1 5", 1),
        (" a/b 1 5", 2),
        ("a;b 1 5", 2),
        ("a;b= 1 5", 2),
        ("a;b=c; 1 5", 5),
    ] {
        let reject = stored(raw.as_bytes(), &rules(NameRule::Strict)).unwrap_err();
        assert_eq!(
            (reject.reason, reject.at),
            (RejectReason::Name, at),
            "{raw}"
        );
    }
    let fine = "a-1.b_$%#*;c=d=e 1 5";
    assert_eq!(
        stored(fine.as_bytes(), &rules(NameRule::Strict)).unwrap(),
        fine
    );
}

fn any_rule() -> impl Strategy<Value = NameRule> {
    prop_oneof![
        Just(NameRule::Any),
        Just(NameRule::Sanitize),
        Just(NameRule::Strict)
    ]
}

proptest! {
    /// No byte of a stored line can begin another line, and reading it again
    /// gives it again.
    #[test]
    fn what_is_stored_is_one_stable_line(
        raw in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..80),
            "[ \t\r.;a-cü\u{85}\u{2028}]{0,12}[ \t][-+.0-9eEnaif]{1,8}[ \t][-+.0-9eN]{0,14}[ \r]{0,2}"
                .prop_map(String::into_bytes),
        ],
        names in any_rule(),
    ) {
        let rules = rules(names);
        if let Ok(line) = stored(&raw, &rules) && !line.is_empty() {
            prop_assert!(!line.contains(|c: char| c.is_control()));
            prop_assert_eq!(line.split(' ').count(), 3);
            let path = line.split([';', ' ']).next().unwrap_or_default();
            prop_assert!(!path.is_empty() && path.split('.').all(|node| !node.is_empty()));
            prop_assert_eq!(stored(line.as_bytes(), &rules).unwrap(), line);
        }
    }
}
