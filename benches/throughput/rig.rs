//! A load's text, a relay and an upstream, put together.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::bench::KEY;
use crate::bench::arrivals::{Arrivals, Tally};
use crate::bench::lines::{Lines, Names, Text};
use crate::bench::load::stream;
use crate::bench::options::Options;
use crate::bench::relay::{Kind, Relay, Setting};
use crate::bench::report::Figure;
use crate::bench::upstream::{Manner, Transport, Upstream};

/// Lines that pass before anything is measured: connections exist then.
pub const WARM_UP: usize = 1000;

/// So long nothing comes when all has come, or will never.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a rig is to be.
#[derive(Clone, Copy)]
pub struct Plan<'a> {
    pub names: Names,
    pub lines: usize,
    pub transport: Transport,
    pub manner: Manner,
    pub variables: &'a [(&'a str, &'a str)],
}

/// The relay is first: it ends before its upstream does.
pub struct Rig {
    pub relay: Relay,
    pub upstream: Upstream,
    pub arrivals: Arc<Arrivals>,
    pub text: Text,
}

impl Plan<'_> {
    /// So many lines as of a fleet, to a quick upstream.
    pub fn of(lines: usize) -> Self {
        Self {
            names: Names::Series,
            lines,
            transport: Transport::Tcp,
            manner: Manner::Quick,
            variables: &[],
        }
    }

    /// The lines.
    pub fn text(&self) -> Text {
        Lines::new(self.names).text(self.lines)
    }

    /// The upstream that a kind of relay needs. The floor knows TCP alone, and
    /// puts the key before each line; over HTTP it is the user's name.
    pub fn upstream(&self, kind: Kind, measures_delays: bool) -> (Upstream, Arc<Arrivals>) {
        let transport = match kind {
            Kind::Floor => Transport::Tcp,
            Kind::Daemon => self.transport,
        };
        let prefix = match transport {
            Transport::Http => String::new(),
            Transport::Tcp | Transport::Tls => format!("{KEY}."),
        };
        let arrivals = Arrivals::of(Lines::new(self.names), self.lines, &prefix);
        let arrivals = Arc::new(if measures_delays {
            arrivals.with_delays()
        } else {
            arrivals
        });
        let upstream = Upstream::start(transport, self.manner, &arrivals);
        (upstream, arrivals)
    }
}

impl Rig {
    pub fn start(plan: &Plan, kind: Kind, options: Options) -> Self {
        Self::put_together(plan, kind, options, false)
    }

    /// One that measures delays, too.
    pub fn with_delays(plan: &Plan, kind: Kind, options: Options) -> Self {
        Self::put_together(plan, kind, options, true)
    }

    fn put_together(plan: &Plan, kind: Kind, options: Options, measures_delays: bool) -> Self {
        let (upstream, arrivals) = plan.upstream(kind, measures_delays);
        let setting = Setting {
            kind,
            tcp: SocketAddr::from(([127, 0, 0, 1], 0)),
            variables: plan.variables,
            pinned: options.pin,
        };
        Self {
            relay: Relay::start(&setting, &upstream),
            upstream,
            arrivals,
            text: plan.text(),
        }
    }

    /// Passes the first lines.
    pub fn warm_up(&self) {
        let streams = stream::connect(self.relay.tcp, 1);
        stream::flat_out(&streams, &self.text, 0..WARM_UP);
        self.arrivals.wait_for(WARM_UP as u64, PATIENCE);
    }

    /// Waits until all lines have come, or no more do.
    pub fn wait(&self) -> Tally {
        self.arrivals.wait_for(self.text.count() as u64, PATIENCE)
    }

    /// Waits until the relay has done what it has to do.
    pub fn settle(&self) {
        /// Looking for an upstream that is dead takes less in a moment.
        const QUIET: f64 = 0.01;
        const MOMENT: Duration = Duration::from_millis(300);
        let mut before = f64::MIN;
        while self.relay.process.cpu() > before + QUIET {
            before = self.relay.process.cpu();
            thread::sleep(MOMENT);
        }
    }
}

/// What became of the lines, when all should have come.
pub fn account(sent: usize, tally: Tally) -> [Figure; 3] {
    [
        Figure::count("lost", (sent as u64).saturating_sub(tally.arrived)),
        Figure::count("twice", tally.twice),
        Figure::count("corrupt", tally.corrupt),
    ]
}
