//! Names to addresses, anew for every attempt.
//!
//! `getaddrinfo` can hang for half a minute and cannot be cancelled. It runs
//! on a thread of its own, one at a time, and nobody waits longer than the
//! deadline: a resolver that hangs holds up no line, no reload and no exit.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use crate::blocking::{self, Job, NO_THREAD_REMEDY};
use crate::config::Endpoint;
use crate::deadline;
use crate::panics;
use crate::stats::FailureKind;

use super::failure::Failure;

/// The upstream has about nine addresses (docs/facts.md); far more are a mistake.
const MAX_ADDRESSES: usize = 64;

/// Resolves one endpoint.
#[derive(Debug)]
pub struct Resolver {
    endpoint: Endpoint,
    timeout: Duration,
    /// A look-up that a former attempt did not wait for to the end.
    pending: Option<Job<io::Result<Vec<SocketAddr>>>>,
}

impl Resolver {
    /// A resolver that is waited for `timeout` an attempt.
    pub fn new(endpoint: Endpoint, timeout: Duration) -> Self {
        Self {
            endpoint,
            timeout,
            pending: None,
        }
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// All addresses, in the resolver's order of preference.
    pub async fn resolve(&mut self) -> Result<Vec<SocketAddr>, Failure> {
        if let Some(address) = self.endpoint.address() {
            return Ok(vec![address]);
        }
        let Endpoint { host, port } = self.endpoint.clone();
        let name = host.clone();
        let fail = |what: String| Err(Failure::unavailable(FailureKind::Dns, what));
        let look_up = match self.pending.take() {
            Some(pending) => pending,
            None => match blocking::start("resolver", move || look_up(&host, port)) {
                Ok(started) => started,
                Err(error) => {
                    return fail(format!(
                        "no thread is available to look up {name}: {error}; {NO_THREAD_REMEDY}"
                    ));
                }
            },
        };
        let look_up = self.pending.insert(look_up);
        let found = deadline::timeout(self.timeout, look_up).await;
        let Ok(found) = found else {
            let timeout = self.timeout;
            return fail(format!("no answer for the name {name} within {timeout:?}"));
        };
        self.pending = None;
        match found {
            Ok(addresses) if addresses.is_empty() => {
                fail(format!("the name {name} has no address"))
            }
            Ok(addresses) => Ok(addresses),
            Err(error) => fail(format!("cannot resolve {name}: {error}")),
        }
    }
}

fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    panics::inject("resolver");
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in (host, port).to_socket_addrs()? {
        if !addresses.contains(&address) && addresses.len() < MAX_ADDRESSES {
            addresses.push(address);
        }
    }
    Ok(addresses)
}
