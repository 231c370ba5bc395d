//! What the clients of a listener speak.
//!
//! A listener's key in the configuration says it, and it holds for all that
//! arrives there: nothing is guessed. What each protocol's bytes mean is in the
//! module of its name; [`super::Decoder`] picks it.

/// What is spoken at a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Graphite's plain lines, `name value [timestamp]`.
    Lines,
    /// StatsD's samples, `name:value|type`.
    Statsd,
    /// Carbon's pickle protocol.
    Pickle,
}
