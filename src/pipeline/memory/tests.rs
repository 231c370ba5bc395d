//! What is in the sum.

use std::path::Path;

use super::*;
use crate::config::{self, Environment};

fn memory(text: &str) -> Memory {
    let text = format!("[sink]\nurl = \"stdout:\"\n{text}");
    let settings = config::parse(Path::new("test.toml"), &text, &Environment::default());
    Memory::of(&settings.unwrap())
}

#[test]
fn each_listener_adds_its_part() {
    const MIB: usize = 1 << 20;
    let none = memory("[listen]\nudp = []\ntcp = []");
    let queue = memory("[listen]\nudp = []\ntcp = []\n[queue]\nbytes = \"65MiB\"");
    assert_eq!(queue.process() - none.process(), MIB);
    assert_eq!(none.kernel(), 0);
    let tcp = memory("[listen]\nudp = []\nmax_connections = 84");
    assert_eq!(tcp.process() - none.process(), 16 * MIB + 100 * TASK);
    assert!(tcp.kernel() >= 100 * (KERNEL_OBJECTS + 4096));
    let small = memory("[listen]\nudp = []\nmax_connections = 84\n[queue]\nbytes = \"8MiB\"");
    assert_eq!(tcp.process() - small.process(), (56 + 12) * MIB);
    let statsd = memory("[listen]\nudp = []\nmax_connections = 84\nstatsd = [\"localhost:1\"]");
    assert_eq!(statsd.process() - tcp.process(), 9 * MIB);
    let pickle = memory("[listen]\nudp = []\nmax_connections = 84\npickle = [\"localhost:1\"]");
    assert_eq!(pickle.process() - tcp.process(), 22 * MIB);
    let udp = memory("[listen]\ntcp = []");
    assert_eq!(udp.process(), none.process());
    assert!(udp.kernel() >= 2 * 4096);
    let threads = memory("[listen]\ntcp = []\nudp_threads = 3");
    assert_eq!(threads.process() - udp.process(), 4 * listen::BUFFERS_BYTES);
    assert_eq!(threads.kernel(), 3 * udp.kernel());
}

#[test]
fn the_sum_is_shown_with_its_parts() {
    let memory = memory("[listen]\nudp = []");
    let text = memory.render();
    let numbers: Vec<f64> = text
        .lines()
        .filter_map(|line| {
            line.strip_prefix('#')?
                .split_once(" MiB")?
                .0
                .trim()
                .parse()
                .ok()
        })
        .collect();
    let [parts @ .., sum] = &numbers[..] else {
        panic!("{text}");
    };
    // Each sum stands behind its parts, so that all is there twice.
    let parts: f64 = parts.iter().sum();
    assert!((parts - 2.0 * sum).abs() < 2.0, "{text}");
    for what in ["queue.bytes", "= process", "= kernel", "= sum"] {
        assert!(text.contains(what), "{text}");
    }
}
