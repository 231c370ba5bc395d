//! Lines that pass: how fast, at what cost, and whether all of them arrive.

use std::time::Instant;

use crate::bench::arrivals::Tally;
use crate::bench::load::{datagrams, stream};
use crate::bench::options::Options;
use crate::bench::relay::Kind;
use crate::bench::report::Figure;
use crate::bench::rig::{Plan, Rig, WARM_UP, account};
use crate::bench::upstream::Transport;

/// Some 260 MB: half a second of a quick relay, and more than a queue holds.
const LINES: usize = 4_000_000;

/// How long datagrams come.
const SECONDS: u64 = 5;

/// Connections that send as fast as they are read.
pub fn stream(
    kind: Kind,
    options: Options,
    transport: Transport,
    connections: usize,
) -> Vec<Figure> {
    let plan = Plan {
        transport,
        ..Plan::of(LINES)
    };
    let rig = Rig::start(&plan, kind, options);
    rig.warm_up();
    let streams = stream::connect(rig.relay.tcp, connections);
    figures(rig, |rig| {
        stream::flat_out(&streams, &rig.text, WARM_UP..LINES);
    })
}

/// Datagrams at a steady rate.
pub fn datagrams(kind: Kind, options: Options, lines_each: usize, rate: u64) -> Vec<Figure> {
    let lines = WARM_UP + (rate * SECONDS) as usize * lines_each;
    let rig = Rig::start(&Plan::of(lines), kind, options);
    rig.warm_up();
    figures(rig, |rig| {
        datagrams::steady(rig.relay.udp, &rig.text, WARM_UP..lines, lines_each, rate);
    })
}

fn figures(rig: Rig, load: impl FnOnce(&Rig)) -> Vec<Figure> {
    let process = rig.relay.process;
    let (cpu, begun) = (process.cpu(), Instant::now());
    load(&rig);
    let tally = rig.wait();
    let cpu = process.cpu() - cpu;
    let arrived = passed(tally);
    let seconds = tally.last.duration_since(begun).as_secs_f64();
    let mut figures = vec![
        Figure::of("lines/s", arrived / seconds, 0),
        Figure::of("CPU s a million lines", cpu / (arrived / 1e6), 3),
        Figure::of("peak resident MiB", process.peak(), 1),
    ];
    figures.extend(account(rig.text.count(), tally));
    figures.push(Figure::count("dropped", rig.relay.finish().of("dropped")));
    figures
}

/// Lines that came after the first ones.
pub fn passed(tally: Tally) -> f64 {
    tally.arrived as f64 - WARM_UP as f64
}
