//! The daemon's own numbers as Graphite lines: whether, under which name.

use std::time::Duration;

use crate::config::source::{Source, quoted};

use super::duration_within;

/// Stands for the name of the host, so that many can share one file.
const HOST: &str = "{host}";

/// How the daemon reports on itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelfMetrics {
    /// What its names begin with.
    pub prefix: String,
    /// The time between two reports.
    pub interval: Duration,
}

/// What the source says of it; off without a prefix.
pub fn find(source: &mut Source, host_name: Option<&str>) -> Option<SelfMetrics> {
    let prefix = source.text("self_metrics.prefix", |text| parse(text, host_name));
    let second = Duration::from_secs(1);
    let interval = duration_within(source, "self_metrics.interval", second, 3600 * second);
    let prefix = prefix.flatten()?;
    Some(SelfMetrics { prefix, interval })
}

fn parse(text: &str, host_name: Option<&str>) -> Result<Option<String>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let mut prefix = text.to_owned();
    if text.contains(HOST) {
        let Some(name) = host_name else {
            return Err(format!(
                "{} needs the name of this host, which has none; write a name instead of {HOST}",
                quoted(text)
            ));
        };
        prefix = prefix.replace(HOST, &node(name));
    }
    let is_node = |node: &str| {
        !node.is_empty()
            && node
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
    };
    if !prefix.split('.').all(is_node) {
        return Err(format!(
            "{} is no metric path; write nodes of letters, digits, - and _ with dots between, such as \"sidecarbon.{HOST}\", or \"\" for none",
            quoted(text)
        ));
    }
    Ok(Some(prefix))
}

/// A host's name as one node of a path.
fn node(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
    name.chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_paths_that_may_name_the_host() {
        let parse = |text| parse(text, Some("web-1.example.org"));
        assert_eq!(parse(""), Ok(None));
        assert_eq!(parse("a.b_c-1"), Ok(Some("a.b_c-1".into())));
        let named = Ok(Some("relays.web-1_example_org".into()));
        assert_eq!(parse("relays.{host}"), named);
        for bad in ["a b", ".a", "a.", "a..b", "a;b=c", "{name}", "ä"] {
            let error = parse(bad).unwrap_err();
            assert!(error.contains("sidecarbon.{host}"), "{bad}: {error}");
        }
    }
}
