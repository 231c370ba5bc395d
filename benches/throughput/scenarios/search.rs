//! The highest rate of datagrams with at most a thousandth lost, by doubling and
//! bisection.

use std::time::Duration;

use crate::bench::load::datagrams;
use crate::bench::options::Options;
use crate::bench::relay::Kind;
use crate::bench::report::Figure;
use crate::bench::rig::{Plan, Rig, WARM_UP};

use super::Outcome;
use super::flow::passed;

/// Where the search begins.
const FIRST: u64 = 50_000;

/// How often the interval between too little and too much is halved.
const HALVINGS: u32 = 5;

/// How much may be lost.
const TOLERABLE: f64 = 0.001;

/// How long each rate is tried, and the most lines in it: they are made before.
const SECONDS: u64 = 1;
const MOST_LINES: usize = 4_000_000;

/// So long nothing comes when all that was not lost has come.
const PATIENCE: Duration = Duration::from_millis(500);

/// What one rate brought.
#[derive(Clone, Copy)]
struct Trial {
    /// Datagrams a second that were really sent.
    rate: f64,
    /// The part of the lines that did not arrive.
    lost: f64,
    cpu_a_million: f64,
    /// Whether the load could not send as fast as it should.
    is_load_limited: bool,
    harmed: [u64; 2],
}

pub fn measure(kind: Kind, options: Options, lines_each: usize) -> Outcome {
    let attempt = |rate| attempt(kind, options, lines_each, rate);
    let mut best = None;
    let mut rate = FIRST;
    let mut too_much = loop {
        let trial = attempt(rate);
        if trial.lost > TOLERABLE {
            break trial.rate as u64;
        }
        best = Some(trial);
        if trial.is_load_limited {
            return Ok(figures(&trial, lines_each));
        }
        rate *= 2;
    };
    for _ in 0..HALVINGS {
        let good = best.map_or(0, |trial: Trial| trial.rate as u64);
        let trial = attempt(good.midpoint(too_much).max(1));
        if trial.lost > TOLERABLE {
            too_much = trial.rate as u64;
        } else {
            best = Some(trial);
        }
    }
    let best = best.ok_or_else(|| format!("too much was lost even at {too_much} datagrams/s"));
    best.map(|trial| figures(&trial, lines_each))
}

fn attempt(kind: Kind, options: Options, lines_each: usize, rate: u64) -> Trial {
    let lines = ((rate * SECONDS) as usize * lines_each).min(MOST_LINES);
    let rig = Rig::start(&Plan::of(WARM_UP + lines), kind, options);
    rig.warm_up();
    let process = rig.relay.process;
    let cpu = process.cpu();
    let range = WARM_UP..WARM_UP + lines;
    let sent = datagrams::steady(rig.relay.udp, &rig.text, range, lines_each, rate);
    let tally = rig.arrivals.wait_for(rig.text.count() as u64, PATIENCE);
    Trial {
        rate: sent,
        lost: 1.0 - passed(tally) / lines as f64,
        cpu_a_million: (process.cpu() - cpu) / (passed(tally) / 1e6),
        is_load_limited: sent < 0.9 * rate as f64,
        harmed: [tally.twice, tally.corrupt],
    }
}

fn figures(trial: &Trial, lines_each: usize) -> Vec<Figure> {
    let [twice, corrupt] = trial.harmed;
    vec![
        Figure::of("datagrams/s", trial.rate, 0),
        Figure::of("lines/s", trial.rate * lines_each as f64, 0),
        Figure::of("CPU s a million lines", trial.cpu_a_million, 3),
        Figure::of("lost, %", trial.lost * 100.0, 3),
        Figure::count("twice", twice),
        Figure::count("corrupt", corrupt),
        Figure::count("the load's limit", u64::from(trial.is_load_limited)),
    ]
}
