//! Links that are slow. A request takes as much as the link allows within its
//! time, or it would never be done and be begun again for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::config;
use crate::support::{
    Asked, Books, Config, Daemon, Link, Reply, Scripted, numbered, payload, wait_for,
};

/// Two seconds of a slow link, twice what a request has.
const LINES: usize = 9_000;

/// Much more than passes within the time of a request.
const LARGE: usize = 200 << 10;

fn config_over(link: &Link, batch: &str) -> Config {
    config(format!("http://{}/api/v1/sink", link.address()))
        .set("sink.request_timeout", "1s")
        .set("batch.bytes", batch)
}

#[test]
fn a_link_too_slow_for_a_batch() {
    // A batch is never done in time, and a quarter of one is.
    let upstream = Scripted::start(|_| Reply::take());
    let link = Link::carrying(100 << 10, upstream.site().port().address());
    let config = config_over(&link, "256KiB").set("sink.request_timeout", "500ms");
    arrives_over(upstream, &config);
}

#[test]
fn a_slow_link() {
    let upstream = Scripted::start(|_| Reply::take());
    let link = Link::to(upstream.site().port().address());
    link.becomes_slow();
    arrives_over(upstream, &config_over(&link, "16KiB"));
}

fn arrives_over(upstream: Scripted, config: &Config) {
    let daemon = Daemon::start(config);
    let sent = numbered("slow.link", LINES);
    daemon.tcp(payload(&sent));
    let books = Books::close(daemon, upstream, &sent);
    assert_eq!((books.lost, books.said.dropped), (0, 0), "{books:?}");
}

#[test]
fn a_link_that_becomes_slow() {
    let largest = Arc::new(AtomicUsize::new(0));
    let upstream = Scripted::start({
        let largest = Arc::clone(&largest);
        move |asked: &Asked| {
            largest.fetch_max(asked.bytes, Ordering::SeqCst);
            Reply::take()
        }
    });
    let link = Link::to(upstream.site().port().address());
    let daemon = Daemon::start(&config_over(&link, "16KiB"));
    let mut sent = Vec::new();
    wait_for("a large request", || {
        let lines = numbered(&format!("fast.{}", sent.len()), 2 * LINES);
        daemon.tcp(payload(&lines));
        sent.extend(lines);
        daemon.wait_delivered(sent.len());
        largest.load(Ordering::SeqCst) > LARGE
    });
    link.becomes_slow();
    let lines = numbered("slow", LINES);
    daemon.tcp(payload(&lines));
    sent.extend(lines);
    let books = Books::close(daemon, upstream, &sent);
    assert_eq!((books.lost, books.said.dropped), (0, 0), "{books:?}");
}
