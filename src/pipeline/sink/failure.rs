//! Why lines did not go out, as what is to be done about it.
//!
//! Status codes, errnos and TLS alerts are translated where they are
//! understood; the relay matches on this type and reads nothing else.

use std::fmt;

use crate::stats::FailureKind;

/// What became of an attempt that did not deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It may work later: keep the lines and back off.
    Unavailable(Cause),
    /// The upstream refuses this batch as it is.
    Refused(Cause),
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
}

impl Failure {
    /// A failure that may pass by itself.
    pub fn unavailable(kind: FailureKind, message: impl fmt::Display) -> Self {
        Self::Unavailable(Cause {
            kind,
            message: message.to_string(),
        })
    }

    /// A failure that needs a person.
    pub fn misconfigured(kind: FailureKind, message: impl fmt::Display) -> Self {
        Self::Misconfigured(Cause {
            kind,
            message: message.to_string(),
        })
    }

    /// What went wrong.
    pub fn cause(&self) -> &Cause {
        match self {
            Self::Unavailable(cause)
            | Self::Refused(cause)
            | Self::Unauthorized(cause)
            | Self::Misconfigured(cause) => cause,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause().message)
    }
}
