//! An upstream that reads a tenth of what comes, until the queue is full and
//! longer: memory stays within the bound.

use crate::bench::lines::Names;
use crate::bench::load::stream;
use crate::bench::options::Options;
use crate::bench::relay::Kind;
use crate::bench::report::Figure;
use crate::bench::rig::{Plan, Rig, WARM_UP};
use crate::bench::upstream::Manner;

const LINES_A_SECOND: u64 = 200_000;
const READ_A_SECOND: u64 = 20_000;
const SECONDS: u64 = 20;

/// `queue.bytes` as it is by default.
const QUEUE_MIB: f64 = 64.0;

/// What sockets, buffers and compression may take beside it.
const BESIDE_MIB: f64 = 16.0;

/// The upstream will not read in time what waits.
const VARIABLES: [(&str, &str); 1] = [("SIDECARBON_SHUTDOWN_GRACE", "100ms")];

pub fn measure(kind: Kind, options: Options) -> Vec<Figure> {
    let lines = WARM_UP + (LINES_A_SECOND * SECONDS) as usize;
    let plan = Plan {
        names: Names::Random,
        manner: Manner::Slow(READ_A_SECOND),
        variables: &VARIABLES,
        ..Plan::of(lines)
    };
    let rig = Rig::start(&plan, kind, options);
    let process = rig.relay.process;
    let before = process.resident();
    rig.warm_up();
    let streams = stream::connect(rig.relay.tcp, 1);
    stream::steady(
        &streams[0],
        &rig.text,
        WARM_UP..lines,
        LINES_A_SECOND,
        |_| {},
    );
    stream::finish(streams);
    let grown = process.peak() - before;
    let tally = rig.arrivals.tally();
    let ledger = rig.relay.finish();
    vec![
        Figure::of("grown by MiB", grown, 1),
        Figure::of("bound MiB", QUEUE_MIB + BESIDE_MIB, 1),
        Figure::count("arrived meanwhile", tally.arrived),
        Figure::count("dropped", ledger.of("dropped")),
        Figure::count("twice", tally.twice),
        Figure::count("corrupt", tally.corrupt),
        Figure::count("unexplained", ledger.unexplained(lines)),
    ]
}
