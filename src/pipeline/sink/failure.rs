//! Why lines did not go out, as what is to be done about it.
//!
//! Status codes, errnos and TLS alerts are translated where they are
//! understood; the relay matches on this type and reads nothing else.

use std::fmt;
use std::time::Duration;

use crate::stats::FailureKind;

/// What became of an attempt that did not deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It may work later: keep the lines and back off.
    Unavailable(Cause),
    /// The upstream refuses the key: keep everything until a person, or a new
    /// key, helps.
    Unauthorized(Cause),
    /// It will not work before somebody changes the configuration, here or
    /// there: keep everything.
    Misconfigured(Cause),
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// For the counters.
    pub kind: FailureKind,
    /// For people; holds no secret.
    pub message: String,
    /// How long the upstream asks to be left alone.
    pub retry_after: Option<Duration>,
    /// Whether the upstream has another address, to be tried at once.
    pub has_alternative: bool,
}

impl Cause {
    /// A cause without a wish of the upstream's.
    pub fn new(kind: FailureKind, message: impl fmt::Display) -> Self {
        Self {
            kind,
            message: message.to_string(),
            retry_after: None,
            has_alternative: false,
        }
    }
}

impl Failure {
    /// A failure that may pass by itself.
    pub fn unavailable(kind: FailureKind, message: impl fmt::Display) -> Self {
        Self::Unavailable(Cause::new(kind, message))
    }

    /// A failure that needs a person.
    pub fn misconfigured(kind: FailureKind, message: impl fmt::Display) -> Self {
        Self::Misconfigured(Cause::new(kind, message))
    }

    /// The same where another address can, or cannot, be tried at once.
    #[must_use]
    pub fn with_alternative(mut self, has_alternative: bool) -> Self {
        if let Self::Unavailable(cause) = &mut self {
            cause.has_alternative = has_alternative;
        }
        self
    }

    /// What went wrong.
    pub fn cause(&self) -> &Cause {
        match self {
            Self::Unavailable(cause) | Self::Unauthorized(cause) | Self::Misconfigured(cause) => {
                cause
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause().message)
    }
}
