//! How often anything wakes when there is nothing to be done, with a connection
//! to the upstream that has been used.

use std::thread;
use std::time::Duration;

use crate::bench::options::Options;
use crate::bench::relay::Kind;
use crate::bench::report::Figure;
use crate::bench::rig::{Plan, Rig, WARM_UP};

/// After the last line; what it gives rise to is over by then.
const REST: Duration = Duration::from_secs(2);

pub fn measure(kind: Kind, options: Options, seconds: u64) -> Vec<Figure> {
    let rig = Rig::start(&Plan::of(WARM_UP), kind, options);
    rig.warm_up();
    thread::sleep(REST);
    let process = rig.relay.process;
    let (switches, cpu) = (process.switches(), process.cpu());
    thread::sleep(Duration::from_secs(seconds));
    vec![
        Figure::of("context switches", process.switches() - switches, 0),
        Figure::of("CPU ms", (process.cpu() - cpu) * 1e3, 2),
        Figure::of("resident MiB", process.resident(), 1),
    ]
}
