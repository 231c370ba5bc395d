//! What happened, in numbers: the [`Ledger`] that accounts for every line, and
//! the [`Counters`] for everything that is not a line (connections, attempts).
//!
//! Nothing here knows of the pipeline; every stage reports here, `/metrics`
//! and the last log line read it.

pub mod bound;
mod certificates;
mod counters;
mod delay;
mod labels;
mod ledger;
mod rejected;
mod throttle;
mod upstream;

pub use certificates::{Certificates, EXPIRES_SOON, Whose};
pub use counters::{AckMode, CloseReason, Counters, FailureKind, ListenerCounters};
pub use delay::Delays;
pub use ledger::{DropReason, Ledger, ListenerId, ListenerKind, RejectReason};
pub use rejected::{RejectedLine, RejectedLines};
pub use throttle::{LOG_INTERVAL, Throttle};
pub use upstream::{LastError, Upstream, UpstreamState, UpstreamStatus};
