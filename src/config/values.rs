//! Values that can only be built valid. Each parser answers with what is wrong
//! and what to write instead.

mod addresses;
mod endpoint;
mod percentile;
mod proxy;
mod sink_url;
mod units;

pub use addresses::{ListenAddress, UnixAddress, is_reached_at};
pub use endpoint::Endpoint;
pub use percentile::Percentile;
pub use proxy::{Proxy, is_exempt};
pub use sink_url::SinkUrl;
pub use units::{bytes, duration, show_bytes};

/// Which names pass: `listen.names`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameRule {
    /// Whatever cannot break a line; the upstream decides.
    Any,
    /// What the upstream does not document becomes `_`.
    Sanitize,
    /// What the upstream does not document is rejected.
    Strict,
}

/// What becomes of lines whose HTTP answer was lost: `sink.uncertain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uncertain {
    /// They are sent again, and may arrive twice.
    Resend,
    /// They are given up, and may be lost.
    Drop,
}

/// How logs look: `log.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Journald where standard error is the journal, else text.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
    /// With the priority prefix of sd-daemon(3), without time.
    Journald,
    /// As containers do it: to standard output, JSON where that is no terminal.
    Container,
}

/// One word out of a few.
pub fn choice<T: Copy>(
    choices: &'static [(&'static str, T)],
) -> impl Fn(&str) -> Result<T, String> {
    move |text| {
        choices
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, value)| *value)
            .ok_or_else(|| {
                let words: Vec<String> = choices
                    .iter()
                    .map(|(word, _)| format!("\"{word}\""))
                    .collect();
                format!(
                    "\"{}\" is not one of {}",
                    text.escape_debug(),
                    words.join(", ")
                )
            })
    }
}
