//! Doubles of the upstream: each records what it receives.

mod acceptor;
mod http;
mod port;
mod proxy;
mod stream;
mod udp;

pub use http::HttpUpstream;
pub use port::{Port, UdpPort};
pub use proxy::Proxy;
pub use stream::Upstream;
pub use udp::UdpUpstream;
