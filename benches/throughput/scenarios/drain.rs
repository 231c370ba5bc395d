//! A backlog behind a port that is dead, and how fast it leaves when it is not.

use crate::bench::load::stream;
use crate::bench::options::Options;
use crate::bench::relay::Kind;
use crate::bench::report::Figure;
use crate::bench::rig::{Plan, Rig, account};
use crate::bench::upstream::Manner;

pub const LINES: usize = 2_000_000;

/// The upstream is looked for often, so that the wait for it is no part of it.
const VARIABLES: [(&str, &str); 2] = [
    ("SIDECARBON_RETRY_FIRST", "100ms"),
    ("SIDECARBON_RETRY_MAX", "100ms"),
];

pub fn measure(kind: Kind, options: Options) -> Vec<Figure> {
    let plan = Plan {
        manner: Manner::Dead,
        variables: &VARIABLES,
        ..Plan::of(LINES)
    };
    let rig = Rig::start(&plan, kind, options);
    let process = rig.relay.process;
    let resident = process.resident();
    let streams = stream::connect(rig.relay.tcp, 8);
    stream::flat_out(&streams, &rig.text, 0..LINES);
    stream::finish(streams);
    // Compression has its own thread, and takes its time.
    rig.settle();
    let waiting = process.resident() - resident;

    let cpu = process.cpu();
    rig.upstream.open();
    let tally = rig.wait();
    let cpu = process.cpu() - cpu;
    let seconds = tally.last.duration_since(tally.first).as_secs_f64();
    let mut figures = vec![
        Figure::of("lines/s", tally.arrived as f64 / seconds, 0),
        Figure::of(
            "CPU s a million lines",
            cpu / (tally.arrived as f64 / 1e6),
            3,
        ),
        Figure::of("waiting MiB", waiting, 1),
        Figure::of("peak resident MiB", process.peak(), 1),
    ];
    figures.extend(account(LINES, tally));
    figures
}
