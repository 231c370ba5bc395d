//! System calls a thousand datagrams.

use crate::bench::load::datagrams;
use crate::bench::options::Options;
use crate::bench::relay::Kind;
use crate::bench::report::Figure;
use crate::bench::rig::{Plan, Rig, WARM_UP, account};
use crate::bench::tracer::Tracer;

use super::Outcome;

const SECONDS: u64 = 3;

pub fn measure(kind: Kind, options: Options, lines_each: usize, rate: u64) -> Outcome {
    let datagrams = (rate * SECONDS) as usize;
    let lines = WARM_UP + datagrams * lines_each;
    let rig = Rig::start(&Plan::of(lines), kind, options);
    rig.warm_up();
    let tracer = Tracer::attach(rig.relay.process)?;
    datagrams::steady(rig.relay.udp, &rig.text, WARM_UP..lines, lines_each, rate);
    let tally = rig.wait();
    let name = tracer.figure();
    let calls = tracer.calls()? / (datagrams as f64 / 1e3);
    let mut figures = vec![Figure::of(name, calls, 1)];
    figures.extend(account(lines, tally));
    Ok(figures)
}
