//! How a connection to the upstream is made: resolve, connect, tunnel, handshake, address
//! by address.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;
use tracing::warn;

use crate::config::{Endpoint, Proxy};
use crate::deadline::timeout;
use crate::format;
use crate::stats::{Counters, FailureKind, Throttle, Whose};

use super::addresses::Addresses;
use super::counted::Counted;
use super::failure::{Cause, Failure};
use super::proxy;
use super::resolve::Resolver;
use super::tcp::{self, Timeouts};
use super::tls::{self, Tls};
use super::wire::{Session, Wire};

/// An address that has not led to a connection in this time is not waited for alone: the
/// next one is tried beside it ("Happy Eyeballs", RFC 8305, section 5). More than a TCP and
/// a TLS handshake take over most ways.
const ATTEMPT_DELAY: Duration = Duration::from_secs(1);

/// A load balancer without servers accepts connections and closes them at once. Without TLS
/// nothing else tells, so where there are other addresses a new connection must have lived
/// this long.
const PLAIN_TRIAL: Duration = Duration::from_millis(100);

/// How often it is said which addresses fail while another one works.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Addresses that are named in a message; the others are counted.
const ADDRESSES_NAMED: usize = 4;

/// The way to one address of the upstream, or of the proxy before it.
#[derive(Debug)]
pub struct Route {
    upstream: Endpoint,
    proxy: Option<Proxy>,
    tls: Option<Tls>,
    timeouts: Timeouts,
}

/// Makes connections to one upstream.
#[derive(Debug)]
pub struct Connector {
    route: Arc<Route>,
    /// Of the upstream, or of the proxy where there is one.
    resolver: Resolver,
}

/// A new connection.
#[derive(Debug)]
pub struct Reached {
    /// What can be written to.
    pub wire: Wire,
    /// Where it leads.
    pub address: SocketAddr,
    /// The addresses that were tried in vain, and why.
    pub failed: Vec<(SocketAddr, Failure)>,
}

impl Route {
    /// The first step: a TCP connection.
    pub async fn reach(&self, address: SocketAddr) -> Result<TcpStream, Failure> {
        tcp::connect(address, self.timeouts).await
    }

    /// The second: through the proxy, if there is one.
    pub async fn tunnel(&self, stream: &mut TcpStream) -> Result<(), Failure> {
        match &self.proxy {
            None => Ok(()),
            Some(proxy) => {
                proxy::tunnel(stream, proxy, &self.upstream, self.timeouts.connect).await
            }
        }
    }

    /// The last: the handshake, if there is to be one, and the server's verdict on our
    /// certificate.
    pub async fn secure(&self, stream: TcpStream) -> Result<Wire, Failure> {
        let stream = Counted::new(stream);
        Ok(match &self.tls {
            None => Wire::Plain(stream),
            Some(tls) => {
                let (stream, is_confirmed) = tls.connect(stream).await?;
                let mut session = Session::new(stream, is_confirmed);
                session.confirm(tls.confirm_timeout()).await?;
                Wire::Tls(Box::new(session))
            }
        })
    }

    /// When our own certificate expires, as the time since 1970.
    pub fn client_certificate_expiry(&self) -> Option<Duration> {
        self.tls.as_ref().and_then(Tls::client_certificate_expiry)
    }

    /// The proxy, where there is one.
    pub fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }

    async fn connect(&self, address: SocketAddr, is_alone: bool) -> Result<Wire, Failure> {
        let mut stream = self.reach(address).await?;
        self.tunnel(&mut stream).await?;
        let mut wire = self.secure(stream).await?;
        if self.tls.is_none() && !is_alone {
            match timeout(PLAIN_TRIAL, wire.ended()).await {
                Ok(failure) => return Err(failure),
                Err(_) => return Ok(wire),
            }
        }
        Ok(wire)
    }
}

impl Connector {
    /// Connects to an endpoint, through a proxy and with TLS where asked to.
    pub fn new(
        upstream: Endpoint,
        tls: Option<Tls>,
        proxy: Option<Proxy>,
        timeouts: Timeouts,
    ) -> Self {
        let first_hop = proxy
            .as_ref()
            .map_or_else(|| upstream.clone(), |proxy| proxy.endpoint.clone());
        Self {
            resolver: Resolver::new(first_hop, timeouts.connect),
            route: Arc::new(Route {
                upstream,
                proxy,
                tls,
                timeouts,
            }),
        }
    }

    /// What is looked up: the upstream, or the proxy.
    pub fn first_hop(&self) -> &Endpoint {
        self.resolver.endpoint()
    }

    /// How an address is reached, step by step for those who want to watch.
    pub fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// When our own certificate expires, as the time since 1970.
    pub fn client_certificate_expiry(&self) -> Option<Duration> {
        self.route.client_certificate_expiry()
    }

    /// The addresses of the first hop.
    pub async fn resolve(&mut self) -> Result<Vec<SocketAddr>, Failure> {
        self.resolver.resolve().await
    }

    /// A connection to the first address that leads to one, handshake and all.
    pub async fn connect(&mut self, known: &mut Addresses) -> Result<Reached, Failure> {
        let resolved = self.resolve().await?;
        let addresses = known.order(resolved, Instant::now());
        let is_alone = addresses.len() == 1;
        let mut waiting = addresses.into_iter();
        let mut attempts = JoinSet::new();
        let mut running: Vec<(SocketAddr, Instant)> = Vec::new();
        let mut failed = Vec::new();
        loop {
            if let Some(address) = waiting.next() {
                let route = self.route.clone();
                running.push((address, Instant::now()));
                attempts.spawn(async move { (address, route.connect(address, is_alone).await) });
            }
            tokio::select! {
                ended = attempts.join_next() => match ended {
                    Some(Ok((address, Ok(wire)))) => {
                        running.retain(|(other, _)| *other != address);
                        for address in silent(&running, Instant::now()) {
                            known.failed(address, Instant::now());
                            failed.push((address, no_connection()));
                        }
                        return Ok(Reached { wire, address, failed });
                    }
                    Some(Ok((address, Err(failure)))) => {
                        running.retain(|(other, _)| *other != address);
                        known.failed(address, Instant::now());
                        failed.push((address, failure));
                    }
                    Some(Err(error)) => continue_panic(error),
                    None => return Err(summary(&failed)),
                },
                () = sleep(ATTEMPT_DELAY), if waiting.len() > 0 => {}
            }
        }
    }
}

/// The attempts that had their time when another one succeeded.
fn silent(
    running: &[(SocketAddr, Instant)],
    now: Instant,
) -> impl Iterator<Item = SocketAddr> + '_ {
    let had_time = move |(_, begun): &&(SocketAddr, Instant)| now >= *begun + ATTEMPT_DELAY;
    running.iter().filter(had_time).map(|(address, _)| *address)
}

fn no_connection() -> Failure {
    let what = format!("no connection within {}", format::duration(ATTEMPT_DELAY));
    Failure::unavailable(FailureKind::Timeout, what)
}

/// A panic in an attempt is a defect of the task that waits for it.
fn continue_panic(error: JoinError) {
    if let Ok(panic) = error.try_into_panic() {
        std::panic::resume_unwind(panic);
    }
}

/// What is wrong when no address can be used. It needs a person only if that is so for
/// every address.
fn summary(failed: &[(SocketAddr, Failure)]) -> Failure {
    let only_persons_help = failed
        .iter()
        .all(|(_, failure)| !matches!(failure, Failure::Unavailable(_)));
    let Some((_, first)) = failed.first() else {
        return Failure::unavailable(FailureKind::Dns, "the name has no address");
    };
    let cause = Cause::new(first.cause().kind, describe(failed));
    if only_persons_help {
        Failure::Misconfigured(cause)
    } else {
        Failure::Unavailable(cause)
    }
}

/// The addresses with their failures; those that failed alike together, and not all of many.
pub fn describe(failed: &[(SocketAddr, Failure)]) -> String {
    let mut reasons: Vec<(String, Vec<SocketAddr>)> = Vec::new();
    for (address, failure) in failed {
        let reason = failure.to_string();
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, addresses)) => addresses.push(*address),
            None => reasons.push((reason, vec![*address])),
        }
    }
    let mut left = ADDRESSES_NAMED;
    let mut text = Vec::new();
    for (reason, addresses) in &reasons {
        if left == 0 {
            break;
        }
        let named: Vec<String> = addresses
            .iter()
            .take(left)
            .map(ToString::to_string)
            .collect();
        left -= named.len();
        text.push(format!("{}: {reason}", named.join(", ")));
    }
    let named = ADDRESSES_NAMED - left;
    let mut text = text.join("; ");
    if failed.len() > named {
        text += &format!("; and {} more addresses", failed.len() - named);
    }
    text
}

/// Makes the connections of a sink, also while an older one is at work.
#[derive(Debug)]
pub struct Dialer {
    client_expiry: Option<Duration>,
    /// None while an attempt is made.
    idle: Option<Box<(Connector, Addresses)>>,
    attempt: JoinSet<Attempt>,
    /// Connections that broke while an attempt is made.
    broken: Vec<(SocketAddr, Instant)>,
    /// What was last said about addresses that failed, and how often it may be said.
    warned: String,
    warnings: Throttle,
    counters: Arc<Counters>,
}

type Attempt = (Box<(Connector, Addresses)>, Result<Reached, Failure>);

impl Dialer {
    /// Connects by this connector.
    pub fn new(connector: Connector, counters: Arc<Counters>) -> Self {
        Self {
            client_expiry: connector.client_certificate_expiry(),
            idle: Some(Box::new((connector, Addresses::default()))),
            attempt: JoinSet::new(),
            broken: Vec::new(),
            warned: String::new(),
            warnings: Throttle::new(WARNING_INTERVAL),
            counters,
        }
    }

    /// When our own certificate expires, as the time since 1970.
    pub fn client_certificate_expiry(&self) -> Option<Duration> {
        self.client_expiry
    }

    /// Waits for a connection. May be dropped: the attempt then goes on.
    pub async fn connect(&mut self) -> Result<Reached, Failure> {
        self.begin();
        let ended = self.attempt.join_next().await;
        self.end(ended).unwrap_or_else(|| {
            let what = "the attempt to connect was given up";
            Err(Failure::unavailable(FailureKind::Closed, what))
        })
    }

    /// Begins to connect, unless that is being done. [`Dialer::finished`] tells the outcome.
    pub fn begin(&mut self) {
        if let Some(mut idle) = self.idle.take() {
            self.attempt.spawn(async move {
                let (connector, addresses) = &mut *idle;
                let reached = connector.connect(addresses).await;
                (idle, reached)
            });
        }
    }

    /// Waits for the outcome of an attempt; for ever if there is none.
    pub async fn ended(&mut self) -> Result<Reached, Failure> {
        if self.attempt.is_empty() {
            std::future::pending::<()>().await;
        }
        self.connect().await
    }

    /// The outcome of an attempt that has ended.
    pub fn finished(&mut self) -> Option<Result<Reached, Failure>> {
        let ended = self.attempt.try_join_next();
        self.end(ended)
    }

    /// A connection to this address ended without an orderly close. Whether there is another
    /// one to go on with at once.
    pub fn broke(&mut self, address: SocketAddr) -> bool {
        let now = Instant::now();
        if let Some(idle) = &mut self.idle {
            idle.1.broke(address, now);
            idle.1.has_another()
        } else {
            self.broken.push((address, now));
            true
        }
    }

    /// The upstream has acknowledged lines.
    pub fn delivered(&mut self) {
        if let Some(idle) = &mut self.idle {
            idle.1.delivered();
        }
    }

    fn end(
        &mut self,
        ended: Option<Result<Attempt, JoinError>>,
    ) -> Option<Result<Reached, Failure>> {
        let (mut idle, reached) = match ended? {
            Ok(attempt) => attempt,
            Err(error) => {
                continue_panic(error);
                return None;
            }
        };
        for (address, at) in self.broken.drain(..) {
            idle.1.broke(address, at);
        }
        self.idle = Some(idle);
        if let Ok(reached) = &reached {
            self.counters.sink_connects.fetch_add(1, Relaxed);
            self.note(reached);
        }
        Some(reached)
    }

    /// Tells which address is in use, why others are not, and when the upstream's
    /// certificate expires.
    fn note(&mut self, reached: &Reached) {
        let session = reached.wire.session();
        let expiry = session.and_then(tls::certificate_expiry);
        self.counters.certificates.set(Whose::Upstream, expiry);
        let address = reached.address;
        let failed = describe(&reached.failed);
        if !failed.is_empty()
            && failed != self.warned
            && self.warnings.allow(Instant::now()).is_some()
        {
            warn!(%address, failed, "connected to one address of the upstream, others failed");
            self.warned.clone_from(&failed);
        }
        self.counters.upstream.connected(address, failed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_by_reason_and_not_all_of_many() {
        let address = |number| SocketAddr::from(([192, 0, 2, number], 2003));
        let refused = || Failure::unavailable(FailureKind::Connect, "refused");
        let silent = || Failure::unavailable(FailureKind::Tls, "silent");
        let failed = [
            (address(1), refused()),
            (address(2), silent()),
            (address(3), refused()),
        ];
        assert_eq!(
            summary(&failed).to_string(),
            "192.0.2.1:2003, 192.0.2.3:2003: refused; 192.0.2.2:2003: silent"
        );
        let many: Vec<_> = (1..=64)
            .map(|number| (address(number), refused()))
            .collect();
        assert_eq!(
            summary(&many).to_string(),
            "192.0.2.1:2003, 192.0.2.2:2003, 192.0.2.3:2003, 192.0.2.4:2003: refused; \
             and 60 more addresses"
        );
    }

    #[test]
    fn only_where_no_address_may_recover_by_itself_a_person_is_needed() {
        let address = SocketAddr::from(([192, 0, 2, 1], 2003));
        let wrong = Failure::misconfigured(FailureKind::Certificate, "untrusted");
        let down = Failure::unavailable(FailureKind::Connect, "refused");
        let both = [(address, wrong.clone()), (address, down)];
        assert!(matches!(summary(&both), Failure::Unavailable(_)));
        assert!(matches!(
            summary(&[(address, wrong)]),
            Failure::Misconfigured(_)
        ));
    }
}
