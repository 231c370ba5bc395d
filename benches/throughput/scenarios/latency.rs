//! From just before a client's write to just after the upstream's read, at a
//! moderate rate and in small writes; and what that rate costs.

use std::time::Duration;

use crate::bench::load::stream;
use crate::bench::options::Options;
use crate::bench::relay::Kind;
use crate::bench::report::Figure;
use crate::bench::rig::{Plan, Rig, WARM_UP, account};

/// Ten in each millisecond.
pub const LINES_A_SECOND: u64 = 10_000;

const SECONDS: u64 = 10;

pub fn measure(kind: Kind, options: Options) -> Vec<Figure> {
    let lines = WARM_UP + (LINES_A_SECOND * SECONDS) as usize;
    let rig = Rig::with_delays(&Plan::of(lines), kind, options);
    rig.warm_up();
    let streams = stream::connect(rig.relay.tcp, 1);
    let cpu = rig.relay.process.cpu();
    stream::steady(
        &streams[0],
        &rig.text,
        WARM_UP..lines,
        LINES_A_SECOND,
        |numbers| rig.arrivals.writing(numbers),
    );
    let tally = rig.wait();
    let cpu = rig.relay.process.cpu() - cpu;
    let delays = rig.arrivals.delays();
    let at = |part: f64| {
        let last = delays.len().saturating_sub(1);
        let delay = delays.get((last as f64 * part) as usize);
        delay.copied().unwrap_or(Duration::ZERO).as_secs_f64() * 1e3
    };
    let passed = super::flow::passed(tally);
    let mut figures = vec![
        Figure::of("p50 ms", at(0.5), 3),
        Figure::of("p99 ms", at(0.99), 3),
        Figure::of("max ms", at(1.0), 3),
        Figure::of("CPU s a million lines", cpu / (passed / 1e6), 3),
    ];
    figures.extend(account(lines, tally));
    figures
}
