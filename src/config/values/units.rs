//! Sizes and durations, which always have a unit.

use std::time::Duration;

/// `64MiB`: a number with a unit.
pub fn bytes(text: &str) -> Result<usize, String> {
    const UNITS: [(&str, u64); 8] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("kB", 1000),
        ("KB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("B", 1),
    ];
    with_unit(text, &UNITS)
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(|| {
            format!(
                "\"{text}\" is not a size; write a number with KiB, MiB or GiB, such as \"64MiB\""
            )
        })
}

/// `250ms`: a number with a unit.
pub fn duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 5] = [
        ("ms", 1),
        ("s", 1000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
    ];
    with_unit(text, &UNITS)
        .map(Duration::from_millis)
        .ok_or_else(|| {
            format!(
                "\"{text}\" is not a duration; write a number with ms, s, m or h, such as \"30s\""
            )
        })
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit.trim())?.1;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// Sizes as `check` shows them.
pub fn show_bytes(bytes: usize) -> String {
    for (unit, factor) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= factor && bytes.is_multiple_of(factor) {
            return format!("{}{unit}", bytes / factor);
        }
    }
    format!("{bytes}B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_have_units() {
        assert_eq!(bytes("64MiB"), Ok(64 << 20));
        assert_eq!(bytes("1500 B"), Ok(1500));
        assert_eq!(bytes("2MB"), Ok(2_000_000));
        assert!(bytes("64").unwrap_err().contains("\"64MiB\""));
        assert!(bytes("99999999999GiB").is_err());
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        for bad in ["30", "", "s", "-1s", "1.5s", "5 weeks"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!(show_bytes(64 << 20), "64MiB");
        assert_eq!(show_bytes(1400), "1400B");
    }
}
