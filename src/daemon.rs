//! How the process lives: start, signals, reload, drain, exit.

mod expiry;
mod logging;
mod reload;
mod self_metrics;
mod signals;
mod suppressed_logs;
mod systemd;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::select;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::time::sleep_until;
use tracing::field::debug;
use tracing::{error, info, warn};

use crate::admin::{Admin, StartError, Watched};
use crate::blocking::NO_THREAD_REMEDY;
use crate::config::{Overrides, Settings, SinkUrl};
use crate::deadline::Deadline;
use crate::exit::Exit;
use crate::panics;
use crate::pipeline::listen::Stop;
use crate::pipeline::memory::Memory;
use crate::pipeline::queue::Queue;
use crate::pipeline::relay::RelayEvent;
use crate::pipeline::sink::{Fingerprint, fingerprint};
use crate::pipeline::{Pipeline, SetupError};
use crate::runtime;
use crate::stats::Counters;
use logging::Logging;
use reload::Reloader;
use self_metrics::Reporter;
use signals::Signal;
use systemd::{Manager, Store};

/// An upstream that has been down for this long is not just between two connections.
/// Queued lines are then handed over instead of being drained.
const DOWN_FOR: Duration = Duration::from_secs(1);

/// Runs the daemon until it is told to stop.
pub fn run(settings: Settings, overrides: &Overrides) -> Exit {
    // Before anything is opened here.
    let (manager, sockets) = Manager::find();
    let prints_lines = settings.sink.url == SinkUrl::Stdout;
    let logging = logging::start(settings.log_level, settings.log_format, prints_lines);
    let logging = match logging {
        Ok(logging) => logging,
        Err(error) => {
            error!(%error, remedy = NO_THREAD_REMEDY, "cannot start the thread that writes the log");
            return Exit::Defect;
        }
    };
    panics::watch();
    // One thread moves the lines: handing them between threads would cost more
    // than all the work on them.
    let runtime = match runtime::of_one_thread() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "cannot start");
            return Exit::Defect;
        }
    };
    runtime.block_on(live(settings, overrides, &logging, manager, sockets))
}

async fn live(
    settings: Settings,
    overrides: &Overrides,
    logging: &Logging,
    mut manager: Manager,
    sockets: Vec<OwnedFd>,
) -> Exit {
    let memory = Memory::of(&settings).warning();
    for warning in settings.warnings.iter().chain(&memory) {
        warn!("{warning}");
    }
    for note in &settings.notes {
        info!("{note}");
    }
    let mut signals = match signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            error!(%error, remedy = NO_THREAD_REMEDY, "cannot listen for signals");
            return Exit::Defect;
        }
    };
    let counters = Arc::new(Counters::default());
    // Taken first: a file that is replaced meanwhile is noticed the next time.
    let certificates = fingerprint(&settings.sink.tls);
    let sockets = Manager::sockets(sockets);
    let (events, relay_events) = mpsc::unbounded_channel();
    let mut pipeline = match Pipeline::start(&settings, &counters, sockets, events) {
        Ok(pipeline) => pipeline,
        Err(error) => return refuse_to_start(&error, &settings),
    };
    let watched = Watched::new(
        pipeline.queue().clone(),
        counters.clone(),
        logging.dropped(),
    );
    watched.set_settings(&settings);
    let admin = Admin::start(settings.admin_listen.as_ref(), watched.clone());
    let mut admin = match admin {
        Ok(admin) => admin,
        Err(error @ StartError::Thread(_)) => {
            error!(%error, "cannot serve metrics");
            return Exit::Defect;
        }
        Err(error) if !settings.admin_is_asked_for => {
            warn!(%error, "no metrics are served; set admin.listen to another address, or to \"\"");
            Admin::off(watched)
        }
        Err(error) => {
            error!(%error, "cannot serve metrics; set admin.listen to another address, or to \"\"");
            return Exit::Bind;
        }
    };
    let mut daemon = Running {
        manager: &mut manager,
        pipeline: &mut pipeline,
        admin: &mut admin,
        counters: &counters,
        logging,
        certificates,
        relay_events,
    };
    // After a panic, here or in any other task or thread, the queue is still handed over
    // and the ledger printed.
    let ran = panics::guard(daemon.run(overrides, settings, &mut signals)).await;
    let mut defect = ran.unwrap_or_else(panics::first);
    // What was being sent is back in the queue before the account is read.
    if panics::guard(pipeline.abandon()).await.is_none() {
        defect = panics::first();
    }
    defect = defect.or_else(panics::first);
    let keep = manager.keep_queue(pipeline.queue(), &counters, defect.is_some());
    let kept = panics::guard(keep).await.flatten();
    write_ledger(
        pipeline.queue(),
        &counters,
        kept.unwrap_or(0),
        manager.store(),
    );
    Manager::ended(pipeline.queue());
    match defect {
        Some(defect) => {
            error!(%defect, "this is a defect of sidecarbon; the process ends");
            Exit::Defect
        }
        None => Exit::Done,
    }
}

/// A daemon whose listeners are bound.
struct Running<'a> {
    manager: &'a mut Manager,
    pipeline: &'a mut Pipeline,
    admin: &'a mut Admin,
    counters: &'a Arc<Counters>,
    logging: &'a Logging,
    /// What the certificate files held when they were read.
    certificates: Option<Fingerprint>,
    relay_events: UnboundedReceiver<RelayEvent>,
}

impl Running<'_> {
    /// Runs until it is told to stop, and drains. Answers with a defect that ended it.
    async fn run(
        &mut self,
        overrides: &Overrides,
        settings: Settings,
        signals: &mut UnboundedReceiver<Signal>,
    ) -> Option<String> {
        let Self {
            manager,
            pipeline,
            admin,
            counters,
            logging,
            certificates,
            relay_events,
        } = self;
        // Nothing can fail any more, and no listener has had a turn yet.
        manager.restore_queue(pipeline.queue(), counters);
        manager.ready(pipeline.queue(), counters);
        info!(
            listens = listens_on(counters),
            sink = settings.sink.public_url(),
            version = env!("CARGO_PKG_VERSION"),
            "started"
        );

        tokio::spawn(expiry::warn_before((*counters).clone()));
        tokio::spawn(suppressed_logs::report(
            pipeline.queue().clone(),
            (*counters).clone(),
        ));
        let mut reporter =
            Reporter::new(settings.self_metrics.as_ref(), pipeline.queue(), counters);
        let mut reloader = Reloader::new(
            overrides.clone(),
            settings,
            certificates.take(),
            (*counters).clone(),
        );
        let defect = loop {
            select! {
                signal = signals.recv() => match signal {
                    Some(Signal::Reload) => {
                        panics::inject("main");
                        manager.reloading();
                        reloader.begin();
                    }
                    Some(Signal::Stop) => break None,
                    None => break Some("the thread that receives signals ended".to_owned()),
                },
                Some(event) = relay_events.recv() => match event {
                    RelayEvent::KeyRefused => reloader.begin_with_refused_key(),
                    RelayEvent::KeyAged => reloader.begin_with_aged_key(),
                },
                reread = reloader.read_again() => {
                    reloader.finish(reread, pipeline, admin, logging);
                    reporter.follow(reloader.settings().self_metrics.as_ref(), pipeline.queue(), counters);
                    if !reloader.is_reading() {
                        manager.reloaded();
                    }
                }
                () = reporter.due() => reporter.report(pipeline.queue(), counters),
                defect = panics::noticed() => break Some(defect),
                defect = pipeline.failed() => break Some(defect),
                defect = admin.failed() => break Some(defect),
            }
        };
        admin.watched().drain_begins();
        if defect.is_some() {
            return defect;
        }
        select! {
            defect = stop(pipeline, &reloader, manager, counters, signals) => defect,
            defect = panics::noticed() => Some(defect),
        }
    }
}

/// Where lines come from, as configured.
fn listens_on(counters: &Counters) -> String {
    let listeners = counters.listeners();
    let labels: Vec<&str> = listeners.iter().map(|known| known.label.as_str()).collect();
    labels.join(" ")
}

/// Waits for the last words of the clients and drains, unless a second signal
/// says not to. Answers with a defect that showed meanwhile.
async fn stop(
    pipeline: &mut Pipeline,
    reloader: &Reloader,
    manager: &Manager,
    counters: &Counters,
    signals: &mut UnboundedReceiver<Signal>,
) -> Option<String> {
    let grace = reloader.settings().shutdown_grace;
    let quiet = reloader.settings().shutdown_quiet;
    let waits_for_quiet = (!quiet.is_zero()).then(|| debug(quiet));
    info!(?grace, quiet = waits_for_quiet, "stopping");
    manager.stopping(grace);
    let wind_down = async {
        let mut deadline = Deadline::after(grace);
        let quiet = pipeline.await_quiet(quiet, grace);
        if let Some(defect) = deadline.count(quiet).await {
            return Some(defect);
        }
        let keeps = manager.store() == Store::Offered;
        let stop = if keeps || !counters.upstream.state().is_down() {
            Stop::DrainSockets
        } else {
            Stop::LeaveUnread
        };
        let of_no_use = async {
            if !keeps {
                std::future::pending::<()>().await;
            }
            is_down(counters).await;
        };
        pipeline.drain(deadline.left(), stop, of_no_use).await
    };
    select! {
        defect = wind_down => defect,
        () = signals::second_stop(signals) => {
            warn!("stopped at once");
            None
        }
    }
}

/// Waits until the upstream has been down for a while.
async fn is_down(counters: &Counters) {
    let mut status = counters.upstream.subscribe();
    loop {
        let since = status.borrow_and_update().down_since;
        let has_lasted = async {
            match since {
                Some(since) => sleep_until((since + DOWN_FOR).into()).await,
                None => std::future::pending().await,
            }
        };
        select! {
            () = has_lasted => return,
            // The sender lives as long as the counters.
            _ = status.changed() => {}
        }
    }
}

fn refuse_to_start(error: &SetupError, settings: &Settings) -> Exit {
    error!("{}", error.describe(settings));
    match error {
        SetupError::Tls(_) => Exit::Configuration,
        SetupError::Bind(_) => Exit::Bind,
        SetupError::Thread(_) => Exit::Defect,
    }
}

/// The account of all lines, and what is in doubt about them: the last thing
/// that is logged. So many of those that wait are kept by the service manager.
fn write_ledger(queue: &Queue, counters: &Counters, kept: u64, store: Store) {
    let ledger = queue.snapshot().ledger;
    let left = (ledger.queued() + ledger.in_flight()).saturating_sub(kept);
    if left > 0 {
        error!(
            lines = left,
            "shutdown.grace is over; the lines not delivered are lost"
        );
    }
    match store {
        Store::Offered if kept > 0 => {
            info!(
                lines = kept,
                "the service manager keeps the waiting lines for a restart; a stop forgets them"
            );
        }
        _ if kept > 0 => {
            warn!(
                lines = kept,
                "the waiting lines were handed to the service manager, which may not keep them; set FileDescriptorStoreMax=2"
            );
        }
        _ => {}
    }
    if ledger.imbalance() != 0 {
        error!(lines = %ledger.imbalance(), "the ledger does not balance; this is a defect of sidecarbon");
    }
    info!(
        received = ledger.received_total(),
        generated = ledger.generated(),
        rejected = ledger.rejected_total(),
        filtered = ledger.filtered(),
        aggregated = ledger.aggregated(),
        delivered = ledger.delivered(),
        dropped = ledger.dropped_total(),
        queued = ledger.queued(),
        in_flight = ledger.in_flight(),
        resent = ledger.resent(),
        at_risk = counters.lines_at_risk.load(Relaxed),
        uncertain = counters.lines_uncertain.load(Relaxed),
        "ledger"
    );
}
