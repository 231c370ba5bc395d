//! Values that can only be built valid. Each parser answers with what is wrong
//! and what to write instead.

mod addresses;
mod bounds;
mod endpoint;
mod percentile;
mod proxy;
mod sink_url;
mod units;

use serde_json::{Value as Json, json};
use toml::Value as Written;
use tracing::level_filters::LevelFilter;

pub use addresses::{ListenAddress, UnixAddress, is_reached_at};
pub use bounds::{Item, LimitOf, Linger, Number, Optional, Period, Size};
pub use endpoint::Endpoint;
pub use percentile::Percentile;
pub use proxy::{Proxy, is_exempt};
pub use sink_url::SinkUrl;
pub use units::show_bytes;

use super::api_key::ApiKey;
use super::setting::{Kind, Unreadable, quoted};
use bounds::text_of;

/// Declares a value that is one word of a few.
macro_rules! choices {
    ($($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $word:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$of])* $variant,)*
        }

        impl Kind for $name {
            type Value = Self;

            fn read(written: &Written) -> Result<Self, Unreadable> {
                match text_of(written)? {
                    $($word => Ok(Self::$variant),)*
                    text => {
                        let words = [$(concat!("\"", $word, "\"")),*].join(", ");
                        Err(format!("\"{}\" is not one of {words}", text.escape_debug()).into())
                    }
                }
            }

            fn schema() -> Json {
                json!({"enum": [$($word),*]})
            }
        }
    )*};
}

choices! {
    /// Which names pass: `listen.names`.
    NameRule {
        /// Whatever cannot break a line; the upstream decides.
        Any = "any",
        /// What the upstream does not document becomes `_`.
        Sanitize = "sanitize",
        /// What the upstream does not document is rejected.
        Strict = "strict",
    }

    /// What becomes of lines whose HTTP answer was lost: `sink.uncertain`.
    Uncertain {
        /// They are sent again, and may arrive twice.
        Resend = "resend",
        /// They are dropped, and may be lost.
        Drop = "drop",
    }

    /// What is logged: `log.level`.
    LogLevel {
        /// Lines were lost, or a person is needed.
        Error = "error",
        /// Unexpected, and nothing was lost.
        Warn = "warn",
        /// What an operator asked for.
        Info = "info",
        /// For developers.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }

    /// How logs look: `log.format`.
    LogFormat {
        /// Journald where standard error is the journal, else text.
        Auto = "auto",
        /// For people.
        Text = "text",
        /// One JSON object per line.
        Json = "json",
        /// With the priority prefix of sd-daemon(3), without time.
        Journald = "journald",
        /// For containers: to standard output, JSON where that is not a terminal.
        Container = "container",
    }
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

/// `sink.api_key`: the key itself.
pub enum InlineKey {}

impl Kind for InlineKey {
    type Value = ApiKey;

    fn read(written: &Written) -> Result<ApiKey, Unreadable> {
        match text_of(written)? {
            "" => Ok(ApiKey::none()),
            text => {
                ApiKey::parse(text).map_err(|error| format!("is not a valid key: {error}").into())
            }
        }
    }

    fn show(key: &ApiKey, _: &Written) -> String {
        quoted(if key.is_empty() { "" } else { "<key>" })
    }
}
