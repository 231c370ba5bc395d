//! Doubles of the upstream: each records what it receives.

mod acceptor;
mod cut;
mod cutter;
mod faulty;
mod http;
mod link;
mod port;
mod proxy;
mod scripted;
mod site;
mod stream;
mod udp;

pub use cut::cut_off;
pub use cutter::Cutter;
pub use faulty::{Fault, Faulty};
pub use http::HttpUpstream;
pub use link::Link;
pub use port::{Port, UdpPort};
pub use proxy::Proxy;
pub use scripted::{Asked, Reply, Scripted};
pub use site::{PATH, Site};
pub use stream::Upstream;
pub use udp::UdpUpstream;
