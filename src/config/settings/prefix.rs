//! Prefixes of the metric names that the daemon makes.

use crate::config::setting::quoted;

/// Stands for the name of the host, so that many can share one file.
const HOST: &str = "{host}";

/// Reads nodes with dots between; none is a prefix, too. `example` is such as
/// one would write.
pub fn parse(text: &str, example: &str, host_name: Option<&str>) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
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
            "{} is not a metric path; write nodes of letters, digits, - and _ with dots between, such as {}, or \"\" for none",
            quoted(text),
            quoted(example)
        ));
    }
    Ok(prefix)
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
        let parse = |text| parse(text, "sidecarbon.{host}", Some("web-1.example.org"));
        assert_eq!(parse(""), Ok(String::new()));
        assert_eq!(parse("a.b_c-1"), Ok("a.b_c-1".into()));
        let named = Ok("relays.web-1_example_org".into());
        assert_eq!(parse("relays.{host}"), named);
        for bad in ["a b", ".a", "a.", "a..b", "a;b=c", "{name}", "ä"] {
            let error = parse(bad).unwrap_err();
            assert!(error.contains("sidecarbon.{host}"), "{bad}: {error}");
        }
    }
}
