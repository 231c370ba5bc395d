//! One answer of `/metrics`.

use std::collections::{BTreeMap, BTreeSet};

use super::daemon::Daemon;

/// The samples, by name and labels as printed.
#[derive(Debug, Clone)]
pub struct Metrics {
    samples: BTreeMap<String, f64>,
    types: BTreeSet<String>,
}

impl Metrics {
    /// Reads Prometheus text; anything that is none fails the test.
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        let mut samples = BTreeMap::new();
        let mut types = BTreeSet::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(comment) = line.strip_prefix("# TYPE ") {
                types.extend(comment.split(' ').next().map(str::to_owned));
            } else if !line.starts_with('#') {
                let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
                let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
                let double = samples.insert(name.to_owned(), value);
                assert_eq!(double, None, "{name} is there twice");
            }
        }
        Self { samples, types }
    }

    /// A sample, with its labels as they are printed.
    pub fn get(&self, sample: &str) -> Option<u64> {
        let value = *self.samples.get(sample)?;
        assert!(value >= 0.0 && value.fract() == 0.0, "{sample} is {value}");
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Some(value as u64)
    }

    /// A sample that may be no whole number.
    #[track_caller]
    pub fn value(&self, sample: &str) -> f64 {
        let value = self.samples.get(sample);
        *value.unwrap_or_else(|| panic!("{sample} is missing"))
    }

    /// The sum over all labels of a name; `None` when there is no sample.
    pub fn sum(&self, name: &str) -> Option<u64> {
        self.sum_where(name, |_| true)
    }

    /// As [`Metrics::sum`], over the samples whose labels are accepted.
    pub fn sum_where(&self, name: &str, labels: impl Fn(&str) -> bool) -> Option<u64> {
        let mut values = self
            .names()
            .filter(|sample| family(sample) == name && labels(&sample[name.len()..]))
            .filter_map(|sample| self.get(sample))
            .peekable();
        values.peek()?;
        Some(values.sum())
    }

    /// Every sample, with its labels as they are printed.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.samples.keys().map(String::as_str)
    }

    /// The names that were introduced with their type.
    pub fn families(&self) -> &BTreeSet<String> {
        &self.types
    }

    /// Whether the name was introduced with its type.
    pub fn has_type(&self, name: &str) -> bool {
        self.types.contains(name)
    }

    /// How many lines were rejected for each reason.
    pub fn rejected(&self) -> BTreeMap<String, u64> {
        self.by_label("sidecarbon_lines_rejected_total")
    }

    fn by_label(&self, name: &str) -> BTreeMap<String, u64> {
        self.names()
            .filter(|sample| family(sample) == name)
            .map(|sample| {
                let label = sample.split('"').nth(1).unwrap_or_default();
                (label.to_owned(), self.get(sample).unwrap_or_default())
            })
            .collect()
    }
}

/// The name before the labels.
pub fn family(sample: &str) -> &str {
    sample.split('{').next().unwrap_or(sample)
}

/// The rejections of a daemon's whole life, by their reasons.
#[track_caller]
pub fn assert_rejected<const N: usize>(daemon: &Daemon, expected: [(&str, u64); N]) {
    let rejected = daemon.metrics().rejected();
    let rejected: Vec<(&str, u64)> = rejected
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(reason, count)| (reason.as_str(), *count))
        .collect();
    assert_eq!(rejected, expected);
}
