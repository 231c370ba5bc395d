//! Percentiles of a timer's values.

use super::bounds::Item;

/// A percentile of a timer's values.
#[derive(Debug, Clone, PartialEq)]
pub struct Percentile {
    /// Of all, from 0 to 1.
    pub fraction: f64,
    /// As it stands in a metric's name: `99_9`.
    pub label: String,
}

impl Percentile {
    /// Reads a number over 0 and at most 100.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_plain = |c: char| c.is_ascii_digit() || c == '.';
        let number = text.parse::<f64>().ok();
        let number = number.filter(|number| *number > 0.0 && *number <= 100.0);
        let Some(number) = number.filter(|_| text.chars().all(is_plain)) else {
            return Err(format!(
                "\"{}\" is not a percentile; write a number over 0 and at most 100, such as 99.9",
                text.escape_debug()
            ));
        };
        Ok(Self {
            fraction: number / 100.0,
            // However it was written: 90.0 is 90.
            label: number.to_string().replace('.', "_"),
        })
    }
}

impl Item for Percentile {
    const LIST: (&'static str, &'static str) = ("a list of numbers", "[90]");
    const ARE_NUMBERS: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_numbers_up_to_a_hundred() {
        for (text, label) in [
            ("90", "90"),
            ("99.90", "99_9"),
            ("100", "100"),
            (".5", "0_5"),
        ] {
            let percentile = Percentile::parse(text).unwrap();
            assert_eq!(percentile.label, label);
            assert!((percentile.fraction * 100.0 - text.parse::<f64>().unwrap()).abs() < 1e-9);
        }
        for bad in ["0", "-90", "100.1", "p90", "", "1e1", "nan", "+5"] {
            let error = Percentile::parse(bad).unwrap_err();
            assert!(error.contains("such as 99.9"), "{bad}: {error}");
        }
    }
}
