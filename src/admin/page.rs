//! The page for people: one document, with nothing to load from anywhere else.
//!
//! Its style and its scripts are files beside it and become part of it here. The
//! browser is told their hashes, and runs and applies nothing that has another.

use std::sync::LazyLock;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::body::Bytes;
use hyper::header::HeaderValue;
use ring::digest::{SHA256, digest};

const DOCUMENT: &str = include_str!("page/page.html");

const STYLE: &str = include_str!("page/page.css");

/// In this order, as one module.
const SCRIPT: &str = concat!(
    include_str!("page/words.js"),
    include_str!("page/dom.js"),
    include_str!("page/plot.js"),
    include_str!("page/parts.js"),
    include_str!("page/page.js"),
);

/// The document and the policy that goes with it. Made for the first visitor:
/// most daemons never have one.
pub struct Page {
    /// The whole document.
    pub document: Bytes,
    /// Its Content-Security-Policy.
    pub policy: HeaderValue,
}

/// The page.
pub static PAGE: LazyLock<Page> = LazyLock::new(|| {
    let document = DOCUMENT
        .replacen("<style></style>", &format!("<style>{STYLE}</style>"), 1)
        .replacen(
            "<script type=\"module\"></script>",
            &format!("<script type=\"module\">{SCRIPT}</script>"),
            1,
        );
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(SCRIPT),
        hash(STYLE)
    );
    Page {
        document: document.into(),
        // Base64 and the words above are all that is in it.
        policy: HeaderValue::from_str(&policy)
            .unwrap_or(HeaderValue::from_static("default-src 'none'")),
    }
});

fn hash(text: &str) -> String {
    let digest = digest(&SHA256, text.as_bytes());
    format!("sha256-{}", BASE64_STANDARD.encode(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn style_and_script_are_in_the_document_and_nothing_is_loaded() {
        let document = std::str::from_utf8(&PAGE.document).unwrap();
        assert!(document.contains(STYLE) && document.contains(SCRIPT));
        assert_eq!(document.matches("<script").count(), 1);
        assert_eq!(document.matches("<style").count(), 1);
        for loads in ["src=", "url(", "@import"] {
            assert!(
                !DOCUMENT.contains(loads) && !STYLE.contains(loads),
                "{loads}"
            );
        }
        for inline in ["style=", "onclick=", "onload="] {
            assert!(!DOCUMENT.contains(inline), "{inline}");
        }
        let policy = PAGE.policy.to_str().unwrap();
        assert!(policy.contains("script-src 'sha256-") && !policy.contains("unsafe"));
    }
}
