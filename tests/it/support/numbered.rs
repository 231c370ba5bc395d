//! Lines that can be told apart and have an order.

use super::KEY;

/// `NAME.000000 0 1700000000` and so on.
pub fn numbered(name: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("{name}.{number:06} {number} 1700000000"))
        .collect()
}

/// Such lines in order, with values that hardly become smaller.
pub fn unlike(name: &str, count: usize) -> Vec<String> {
    let mut random = fastrand::Rng::with_seed(4);
    (0..count)
        .map(|number| {
            format!(
                "{name}.{number:06} 0.{:018} 1700000000",
                random.u64(..1 << 59)
            )
        })
        .collect()
}

/// The bytes that a client writes for these lines.
pub fn payload(lines: &[String]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(lines.iter().map(|line| line.len() + 1).sum());
    for line in lines {
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
    }
    bytes
}

/// The lines as an upstream of line transports receives them.
pub fn keyed(lines: &[String]) -> Vec<String> {
    lines.iter().map(|line| format!("{KEY}.{line}")).collect()
}

/// The same lines in the same order. Shows the first difference and not
/// everything.
#[track_caller]
pub fn assert_same_lines(arrived: &[String], sent: &[String]) {
    for (number, (arrived, sent)) in arrived.iter().zip(sent).enumerate() {
        assert_eq!(arrived, sent, "line {number} differs");
    }
    assert_eq!(arrived.len(), sent.len(), "number of lines");
}
