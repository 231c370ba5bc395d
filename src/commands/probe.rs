//! `sidecarbon probe`: the way to the upstream, one step after the other, each
//! with its verdict and, where it fails, the remedy.
//!
//! The steps are those of the sink's own connector, taken one by one; the test
//! point goes through a queue and a sink like any other line.

mod certificate;
mod key;
mod point;
mod report;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::config::{self, Overrides, Settings, SinkUrl};
use crate::deadline::timeout;
use crate::exit::Exit;
use crate::pipeline::sink::{
    Answer, Connector, Failure, Question, Route, Target, TlsError, Wire, assume_listeners,
    connector, reach_by_datagrams,
};
use crate::stats::FailureKind;

use super::{Invocation, Run, block_on, complain};
use crate::format::{count, duration};
use report::{Report, Stop};

/// A load balancer without servers closes a connection within a round trip. Where a request
/// follows, its answer tells; lines have none.
const CLOSES_WITHIN: Duration = Duration::from_millis(300);

/// Test the way to the upstream, step by step
///
/// Configuration, key, name look-up, TCP, TLS and, where the transport has
/// one, the answer. Where it has none, the key is checked over HTTPS if
/// probe.key_check_url is set. Needs no running daemon, and writes nothing
/// without --send.
///
/// Exits with 0, with 69 when the upstream cannot be used, and with 78 when
/// the configuration cannot.
#[derive(Debug, Args)]
pub struct Probe {
    /// Write one test point, sidecarbon.probe, as the daemon would
    #[arg(long)]
    send: bool,
}

impl Run for Probe {
    fn run(self, invocation: &Invocation) -> Exit {
        probe(&invocation.overrides, self.send)
    }
}

/// Takes all the steps that the configuration has.
fn probe(overrides: &Overrides, send: bool) -> Exit {
    let mut report = Report::new();
    let walked = block_on(async {
        let settings = configuration(&mut report, overrides)?;
        walk(&mut report, &settings, send).await
    });
    match walked {
        Ok(outcome) => report.end(outcome),
        Err(error) => {
            complain(format_args!("cannot start: {error}"));
            Exit::Defect
        }
    }
}

fn configuration(report: &mut Report, overrides: &Overrides) -> Result<Settings, Stop> {
    const STEP: &str = "config";
    let settings = match config::load(overrides) {
        Ok(settings) => settings,
        Err(error) => return Err(report.misconfigured(STEP, &error.to_string())),
    };
    let file = overrides.file();
    let file = file.map_or_else(|| "no file".to_owned(), |file| file.display().to_string());
    report.good(
        STEP,
        &format!("{file}; lines go to {}", settings.sink.public_url()),
    );
    for warning in &settings.warnings {
        report.odd("", warning);
    }
    Ok(settings)
}

async fn walk(report: &mut Report, settings: &Settings, send: bool) -> Result<(), Stop> {
    let _listeners = assume_listeners(settings);
    key::form(report, settings);
    match &settings.sink.url {
        SinkUrl::Stdout => {
            report.odd(
                "upstream",
                "none: lines are printed; set sink.url, such as \"tls://carbon.hostedgraphite.com:20030\"",
            );
            return Ok(());
        }
        SinkUrl::Udp(endpoint) => {
            let mut connector = usable(report, settings, connector(&settings.sink, endpoint))?;
            for address in look_up(report, &mut connector).await? {
                let reached = reach_by_datagrams(address).await;
                reached.map_err(|failure| report.failed("udp", &failure))?;
            }
            report.odd(
                "udp",
                "UDP has no acknowledgement: whether the upstream receives datagrams cannot be tested",
            );
        }
        SinkUrl::Tls(endpoint) | SinkUrl::Tcp(endpoint) => {
            let connector = usable(report, settings, connector(&settings.sink, endpoint))?;
            way(report, connector, true).await?;
        }
        SinkUrl::Http {
            secure,
            endpoint,
            path,
        } => {
            let connector = usable(report, settings, connector(&settings.sink, endpoint))?;
            let wire = way(report, connector, false).await?;
            let target = Target::new(*secure, endpoint, path, &settings.sink.key);
            answer(report, &target, wire, settings.sink.request_timeout).await?;
        }
    }
    key::check(report, settings).await?;
    if send {
        point::send(report, settings).await?;
    }
    Ok(())
}

fn usable(
    report: &mut Report,
    settings: &Settings,
    connector: Result<Connector, TlsError>,
) -> Result<Connector, Stop> {
    connector.map_err(|error| {
        let problem = settings.problem_with(error.key, &error.message);
        report.misconfigured("tls", &problem.to_string())
    })
}

/// From a name to a connection that lines could be written to. As for the daemon, one
/// address that works is enough.
async fn way(report: &mut Report, mut connector: Connector, is_mute: bool) -> Result<Wire, Stop> {
    let addresses = look_up(report, &mut connector).await?;
    let route = connector.route();
    let streams = connect(report, route, &addresses).await?;
    let mut failed = Vec::new();
    for (address, stream) in streams {
        match enter(report, route, stream, is_mute).await {
            Ok(wire) => {
                for (_, address, failure) in failed {
                    report.odd("", &format!("but not by {address}: {failure}"));
                }
                return Ok(wire);
            }
            Err((step, failure)) => failed.push((step, address, failure)),
        }
    }
    let last = failed.pop();
    for (step, address, failure) in failed {
        report.odd(step, &format!("{address}: {failure}"));
    }
    let (step, _, failure) = last.unwrap_or_else(|| {
        let address = SocketAddr::from(([0, 0, 0, 0], 0));
        let failure = Failure::unavailable(FailureKind::Connect, "no address was reached");
        ("tcp", address, failure)
    });
    Err(report.failed(step, &failure))
}

/// Through the proxy and the handshake. Answers with the step that failed.
async fn enter(
    report: &mut Report,
    route: &Route,
    mut stream: TcpStream,
    is_mute: bool,
) -> Result<Wire, (&'static str, Failure)> {
    if let Some(proxy) = route.proxy() {
        report.waits("proxy", &format!("asking {proxy} for a tunnel"));
        let tunnel = route.tunnel(&mut stream).await;
        tunnel.map_err(|failure| ("proxy", failure))?;
        report.good("proxy", &format!("a tunnel through {proxy}"));
    }
    let secured = secure(report, route, stream, is_mute).await;
    secured.map_err(|failure| ("tls", failure))
}

async fn look_up(report: &mut Report, connector: &mut Connector) -> Result<Vec<SocketAddr>, Stop> {
    const STEP: &str = "dns";
    let endpoint = connector.first_hop().clone();
    let host = &endpoint.host;
    let whose = connector.route().proxy().map_or("", |_| "the proxy ");
    report.waits(STEP, &format!("looking up {whose}{host}"));
    let began = Instant::now();
    let addresses = connector.resolve().await;
    let time = duration(began.elapsed());
    let addresses = addresses.map_err(|failure| report.failed(STEP, &failure))?;
    if endpoint.address().is_some() {
        report.good(
            STEP,
            &format!("{whose}{host} is an address, nothing to look up"),
        );
        return Ok(addresses);
    }
    let number = count(addresses.len() as u64, "address", "addresses");
    let list: Vec<String> = addresses
        .iter()
        .map(|address| address.ip().to_string())
        .collect();
    report.good(
        STEP,
        &format!(
            "{whose}{host} has {number}, found in {time}: {}",
            list.join(", ")
        ),
    );
    Ok(addresses)
}

/// Tries every address, as the daemon would come to them one day. Answers with those that
/// were reached, one at least.
async fn connect(
    report: &mut Report,
    route: &Arc<Route>,
    addresses: &[SocketAddr],
) -> Result<Vec<(SocketAddr, TcpStream)>, Stop> {
    const STEP: &str = "tcp";
    let number = count(addresses.len() as u64, "address", "addresses");
    report.waits(STEP, &format!("connecting to {number}"));
    let mut attempts = JoinSet::new();
    for (place, address) in addresses.iter().copied().enumerate() {
        let route = route.clone();
        attempts.spawn(async move {
            let began = Instant::now();
            let outcome = route.reach(address).await;
            (place, address, outcome, began.elapsed())
        });
    }
    let mut outcomes = attempts.join_all().await;
    outcomes.sort_by_key(|(place, ..)| *place);

    let mut reached = Vec::new();
    let mut times = Vec::new();
    let mut failures = Vec::new();
    for (_, address, outcome, time) in outcomes {
        match outcome {
            Ok(stream) => {
                times.push(format!("{address} in {}", duration(time)));
                reached.push((address, stream));
            }
            Err(failure) => failures.push(format!("{address}: {failure}")),
        }
    }
    if reached.is_empty() {
        let failure = Failure::unavailable(FailureKind::Connect, failures.join(", "));
        return Err(report.failed(STEP, &failure));
    }
    report.good(STEP, &format!("connected to {}", times.join(", ")));
    for failure in failures {
        report.odd("", &format!("but not to {failure}"));
    }
    Ok(reached)
}

async fn secure(
    report: &mut Report,
    route: &Route,
    stream: TcpStream,
    is_mute: bool,
) -> Result<Wire, Failure> {
    const STEP: &str = "tls";
    report.waits(STEP, "shaking hands");
    let began = Instant::now();
    let mut wire = route.secure(stream).await?;
    let time = duration(began.elapsed());
    if is_mute {
        report.waits(STEP, "waiting whether the upstream closes the connection");
        if let Ok(failure) = timeout(CLOSES_WITHIN, wire.ended()).await {
            return Err(failure);
        }
    }
    let Some(session) = wire.session() else {
        report.odd(STEP, "none: lines and key travel in clear");
        return Ok(wire);
    };
    let version = session.protocol_version().map_or("", certificate::version);
    let suite = session
        .negotiated_cipher_suite()
        .map_or_else(String::new, |suite| format!("{:?}", suite.suite()));
    report.good(STEP, &format!("{version}, {suite}, in {time}"));
    let chain = session.peer_certificates().unwrap_or_default();
    for fact in certificate::facts(chain, SystemTime::now()) {
        report.fact(&fact);
    }
    if let Some(expiry) = route.client_certificate_expiry() {
        report.fact(&certificate::of_client(expiry, SystemTime::now()));
    }
    Ok(wire)
}

/// What an upstream with a voice says to a request without lines.
async fn answer(
    report: &mut Report,
    target: &Target,
    wire: Wire,
    patience: Duration,
) -> Result<(), Stop> {
    const STEP: &str = "http";
    report.waits(STEP, "posting a request without lines");
    let began = Instant::now();
    let reply = target.ask(wire, Question::TakesLines, patience).await;
    let time = duration(began.elapsed());
    let reply = reply.map_err(|failure| report.failed(STEP, &failure))?;
    match reply.answer {
        Answer::Accepted => {
            report.good(
                STEP,
                &format!("{} in {time}: key and path are right", reply.status),
            );
        }
        // There were no lines, so that may be why.
        Answer::Refused(words) | Answer::TooLarge(words) => report.good(
            STEP,
            &format!("{words} in {time}: it accepts key and path, and asks for lines"),
        ),
        Answer::Failed(failure) => return Err(report.failed(STEP, &failure)),
    }
    Ok(())
}
