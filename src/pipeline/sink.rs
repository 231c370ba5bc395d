//! Lines out: one way to the upstream, chosen by `sink.url`.
//!
//! In: a [`Lease`]. Out: its lines settled, or a [`Failure`] that says what is
//! to be done; what was not settled is back in the queue by then. The shape of
//! each transport is in `sink/{stream,udp,http,stdout}`, how connections come
//! about in `sink/{connect,addresses,resolve,tcp,proxy,tls}`.

mod addresses;
mod bisect;
mod connect;
mod counted;
pub mod encode;
mod failure;
mod http;
mod own;
mod proxy;
mod resolve;
mod stdout;
mod stream;
mod tcp;
mod tls;
mod udp;
mod window;
mod wire;

#[cfg(test)]
mod simulation;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Endpoint, KeyCheck, SinkSettings, SinkUrl, TlsSettings};
use crate::stats::Counters;

use super::queue::Lease;
use encode::Encoder;
use http::{HttpSink, Manner};
use resolve::Resolver;
use stdout::StdoutSink;
use stream::StreamSink;
use tcp::Timeouts;
use tls::Tls;
use udp::UdpSink;

pub use addresses::Addresses;
pub use connect::{Connector, Route};
pub use failure::{Cause, Failure};
pub use http::{Answer, Question, Reply, Target};
pub use own::assume_listeners;
pub use tls::{Fingerprint, TlsError, fingerprint};
pub use udp::reach as reach_by_datagrams;
pub use wire::Wire;

/// How long a connection that closes in order may take to end.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

/// A connection that cannot be renewed goes on, and is renewed later.
const RENEWAL_PAUSE: Duration = Duration::from_secs(10);

/// What the relay needs of a sink. Its tests script one; the daemon has
/// [`Sink`].
pub trait Deliver: Send {
    /// Makes sure that lines can be handed over, as far as can be known. Asked
    /// before a lease is taken, so that no line is in flight while there is
    /// nowhere to go.
    fn connect(&mut self) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Hands the lines over and settles those that have arrived. May be
    /// dropped at any time; the lines not settled are then back in the queue.
    fn deliver(&mut self, lease: Lease) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Whether more lines may be handed over before older ones have arrived. By default
    /// a delivery ends when its lines are settled.
    fn has_room(&self) -> bool {
        true
    }

    /// Watches what was handed over, and an idle connection. May be dropped at
    /// any time.
    fn poll_acks(&mut self) -> impl Future<Output = Result<SinkEvent, Failure>> + Send {
        std::future::pending()
    }

    /// Closes the connection in order, so that nothing that was handed over is destroyed.
    fn close(self) -> impl Future<Output = ()> + Send
    where
        Self: Sized,
    {
        async {}
    }

    /// When the client certificate expires, as the time since 1970.
    fn client_certificate_expiry(&self) -> Option<Duration> {
        None
    }
}

/// What came of watching a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkEvent {
    /// Lines have arrived and are settled.
    Acknowledged,
    /// An idle connection has ended, with nothing lost.
    Ended,
}

/// Declares the sinks, one row each.
macro_rules! sinks {
    ($($(#[$doc:meta])* $name:ident($sink:ty),)*) => {
        /// One way to the upstream.
        #[derive(Debug)]
        pub enum Sink {
            $($(#[$doc])* $name(Box<$sink>),)*
        }

        impl Deliver for Sink {
            async fn connect(&mut self) -> Result<(), Failure> {
                match self { $(Self::$name(sink) => sink.connect().await,)* }
            }

            async fn deliver(&mut self, lease: Lease) -> Result<(), Failure> {
                match self { $(Self::$name(sink) => sink.deliver(lease).await,)* }
            }

            fn has_room(&self) -> bool {
                match self { $(Self::$name(sink) => sink.has_room(),)* }
            }

            async fn poll_acks(&mut self) -> Result<SinkEvent, Failure> {
                match self { $(Self::$name(sink) => sink.poll_acks().await,)* }
            }

            async fn close(self) {
                match self { $(Self::$name(sink) => sink.close().await,)* }
            }

            fn client_certificate_expiry(&self) -> Option<Duration> {
                match self { $(Self::$name(sink) => sink.client_certificate_expiry(),)* }
            }
        }
    };
}

sinks! {
    /// TCP or TLS.
    Stream(StreamSink),
    /// UDP datagrams.
    Udp(UdpSink),
    /// HTTP or HTTPS.
    Http(HttpSink),
    /// Standard output.
    Stdout(StdoutSink),
}

impl Sink {
    /// The sink that the settings describe. Reads the files that they name and
    /// connects nowhere.
    pub fn new(settings: &SinkSettings, counters: Arc<Counters>) -> Result<Self, TlsError> {
        let timeouts = timeouts(settings);
        let max_age = settings.max_connection_age;
        Ok(match &settings.url {
            SinkUrl::Tls(endpoint) | SinkUrl::Tcp(endpoint) => {
                let sink = StreamSink::new(
                    connector(settings, endpoint)?,
                    Encoder::new(&settings.key),
                    settings.url.is_secure(),
                    timeouts.write,
                    max_age,
                    settings.resend_tail,
                    counters,
                );
                Self::Stream(Box::new(sink))
            }
            SinkUrl::Udp(endpoint) => Self::Udp(Box::new(UdpSink::new(
                Resolver::new(endpoint.clone(), timeouts.connect),
                Encoder::new(&settings.key),
                settings.datagram_bytes,
                max_age,
                counters,
            ))),
            SinkUrl::Http {
                secure,
                endpoint,
                path,
            } => {
                let connector = connector(settings, endpoint)?;
                let target = Target::new(*secure, endpoint, path, &settings.key);
                let manner = Manner {
                    timeout: settings.request_timeout,
                    max_age,
                    uncertain: settings.uncertain,
                };
                let sink = HttpSink::new(connector, target, manner, counters);
                Self::Http(Box::new(sink))
            }
            SinkUrl::Stdout => Self::Stdout(Box::new(StdoutSink::new(settings.is_bare))),
        })
    }
}

/// How connections to the sink's endpoint are made, step by step for those who
/// want to watch.
pub fn connector(settings: &SinkSettings, endpoint: &Endpoint) -> Result<Connector, TlsError> {
    let is_http = matches!(settings.url, SinkUrl::Http { .. });
    let is_secure = settings.url.is_secure();
    let tls = is_secure.then(|| Tls::new(&settings.tls, endpoint, is_http));
    Ok(Connector::new(
        endpoint.clone(),
        tls.transpose()?,
        settings.proxy.clone(),
        timeouts(settings),
    ))
}

/// How connections are made to where the key is checked: with the sink's
/// patience and authorities, but not under its names.
pub fn key_check_connector(
    settings: &SinkSettings,
    check: &KeyCheck,
) -> Result<Connector, TlsError> {
    let trust = TlsSettings {
        ca_file: settings.tls.ca_file.clone(),
        ..TlsSettings::default()
    };
    let tls = check
        .secure
        .then(|| Tls::new(&trust, &check.endpoint, true));
    Ok(Connector::new(
        check.endpoint.clone(),
        tls.transpose()?,
        check.proxy.clone(),
        timeouts(settings),
    ))
}

fn timeouts(settings: &SinkSettings) -> Timeouts {
    Timeouts {
        connect: settings.connect_timeout,
        write: settings.write_timeout,
    }
}

/// The age at which a connection is renewed: a tenth more or less, so that a
/// fleet that started together does not reconnect together.
fn jittered_age(age: Duration) -> Duration {
    age.mul_f64(0.9 + 0.2 * fastrand::f64())
}
