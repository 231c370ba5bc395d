//! From the start of the process to the first line at the upstream, for a client
//! that tries to connect until it can.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::bench::options::Options;
use crate::bench::relay::{Kind, Setting, spawn};
use crate::bench::report::{Figure, median};
use crate::bench::rig::{Plan, account};

pub const TIMES: usize = 20;

/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_micros(100);

/// The line has been written; by now it would have come.
const PATIENCE: Duration = Duration::from_secs(5);

pub fn measure(kind: Kind, options: Options) -> Vec<Figure> {
    let plan = Plan::of(TIMES);
    let (upstream, arrivals) = plan.upstream(kind, false);
    let text = plan.text();
    let mut milliseconds = Vec::new();
    for number in 0..TIMES {
        let setting = Setting {
            kind,
            tcp: free_port(),
            variables: &[],
            pinned: options.pin,
        };
        let begun = Instant::now();
        let running = spawn(&setting, &upstream);
        let mut stream = connect(setting.tcp, begun);
        let line = text.lines(number..number + 1);
        stream.write_all(line).expect("it reads");
        let tally = arrivals.wait_for(number as u64 + 1, PATIENCE);
        milliseconds.push(tally.last.duration_since(begun).as_secs_f64() * 1e3);
        drop(running);
    }
    milliseconds.sort_by(f64::total_cmp);
    let worst = milliseconds.last().copied();
    let mut figures = vec![
        Figure::of(
            "ms to the first line",
            median(&milliseconds).unwrap_or(0.0),
            1,
        ),
        Figure::of("at most", worst.unwrap_or(0.0), 1),
    ];
    figures.extend(account(TIMES, arrivals.tally()));
    figures
}

/// One that nobody listens on. It was bound a moment ago, and the system hands
/// out others first.
fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("a port")
}

fn connect(address: SocketAddr, begun: Instant) -> TcpStream {
    loop {
        if let Ok(stream) = TcpStream::connect(address) {
            // On loopback a client can meet itself, on a port that it was given.
            if stream.local_addr().ok() != Some(address) {
                return stream;
            }
        }
        assert!(begun.elapsed() < PATIENCE, "it does not listen");
        thread::sleep(PAUSE);
    }
}
