//! One test point, delivered as the daemon would: through a queue and a sink of
//! its own.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::config::{Settings, SinkUrl};
use crate::deadline::timeout;
use crate::format::duration;
use crate::pipeline::batch::Batch;
use crate::pipeline::queue::{Limits, Queue};
use crate::pipeline::sink::{Deliver, Failure, Sink};
use crate::stats::{Counters, FailureKind, ListenerId};

use super::report::{Report, Stop};

/// Always the same name: names are billed.
const POINT: &[u8] = b"sidecarbon.probe 1";

/// Writes the point and waits for what this transport has of an acknowledgement.
pub async fn send(report: &mut Report, settings: &Settings) -> Result<(), Stop> {
    const STEP: &str = "send";
    let shown = String::from_utf8_lossy(POINT);
    let counters = Arc::new(Counters::default());
    let sink = Sink::new(&settings.sink, counters).map_err(|error| {
        let problem = settings.problem_with(error.key, &error.message);
        report.misconfigured(STEP, &problem.to_string())
    })?;
    report.waits(STEP, &format!("delivering {shown}"));
    let delivered = deliver(sink, settings).await;
    let time = delivered.map_err(|failure| report.failed(STEP, &failure))?;
    let meaning = match settings.sink.url {
        SinkUrl::Http { .. } => "the upstream has accepted it",
        SinkUrl::Udp(_) => "sent; UDP has no acknowledgement",
        _ => "the upstream's kernel has acknowledged it",
    };
    report.good(STEP, &format!("{shown}, in {}: {meaning}", duration(time)));
    Ok(())
}

/// How long it took. The orderly close to the upstream, which may be slow to answer it, is
/// no part of that.
async fn deliver(mut sink: Sink, settings: &Settings) -> Result<Duration, Failure> {
    let began = Instant::now();
    let queue = Queue::new(Limits {
        block_bytes: settings.batch_bytes,
        queue_bytes: settings.queue_bytes,
        linger: Duration::ZERO,
        gather: Duration::ZERO,
        max_lines_per_second: None,
    });
    let mut batch = Batch::default();
    batch.reset(SystemTime::now());
    batch.add(POINT, &settings.listen.rules(&settings.sink.key));
    queue.push(ListenerId(0), &batch);
    queue.close();

    sink.connect().await?;
    if let Some(lease) = queue.lease() {
        sink.deliver(lease).await?;
    }
    while queue.delivered() == 0 {
        if queue.snapshot().ledger.dropped_total() > 0 {
            return Err(Failure::misconfigured(
                FailureKind::Status,
                "the upstream refuses the point",
            ));
        }
        let patience = settings.sink.write_timeout;
        timeout(patience, sink.poll_acks())
            .await
            .unwrap_or_else(|_| {
                let message = format!("no acknowledgement within {patience:?}");
                Err(Failure::unavailable(FailureKind::Timeout, message))
            })?;
    }
    let took = began.elapsed();
    sink.close().await;
    Ok(took)
}
