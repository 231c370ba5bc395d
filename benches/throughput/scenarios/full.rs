//! A queue that is full, of lines that hardly compress, behind an upstream that
//! is dead: what it costs to let the oldest go, and whether the account is right.

use std::time::Instant;

use crate::bench::lines::Names;
use crate::bench::load::stream;
use crate::bench::options::Options;
use crate::bench::relay::Kind;
use crate::bench::report::Figure;
use crate::bench::rig::{Plan, Rig};
use crate::bench::upstream::Manner;

const LINES: usize = 2_000_000;

const VARIABLES: [(&str, &str); 2] = [
    ("SIDECARBON_QUEUE_BYTES", "4MiB"),
    // Nothing of it can be delivered.
    ("SIDECARBON_SHUTDOWN_GRACE", "100ms"),
];

pub fn measure(kind: Kind, options: Options) -> Vec<Figure> {
    let plan = Plan {
        names: Names::Random,
        manner: Manner::Dead,
        variables: &VARIABLES,
        ..Plan::of(LINES)
    };
    let rig = Rig::start(&plan, kind, options);
    let process = rig.relay.process;
    let (cpu, begun) = (process.cpu(), Instant::now());
    let streams = stream::connect(rig.relay.tcp, 8);
    stream::flat_out(&streams, &rig.text, 0..LINES);
    stream::finish(streams);
    let seconds = begun.elapsed().as_secs_f64();
    rig.settle();
    let cpu = process.cpu() - cpu;
    let peak = process.peak();
    let ledger = rig.relay.finish();
    vec![
        Figure::of("lines/s taken", LINES as f64 / seconds, 0),
        Figure::of("CPU s a million lines", cpu / (LINES as f64 / 1e6), 3),
        Figure::of("peak resident MiB", peak, 1),
        Figure::count("dropped", ledger.of("dropped")),
        Figure::count("unexplained", ledger.unexplained(LINES)),
    ]
}
