//! The key: its form, and whether anybody knows it.

use std::time::Instant;

use crate::config::{Settings, SinkUrl};
use crate::format::duration;
use crate::pipeline::sink::{Addresses, Question, Target, key_check_connector};

use super::report::{Report, Stop};
use super::usable;

/// Whether it looks like one; the rest of its form is the configuration's.
pub fn form(report: &mut Report, settings: &Settings) {
    const STEP: &str = "key";
    let sink = &settings.sink;
    let place = sink.key_file.as_ref().map_or_else(
        || "from the configuration or the environment".to_owned(),
        |file| format!("from {}", file.display()),
    );
    if sink.key.is_empty() {
        report.good(STEP, "no key: names are sent unchanged");
    } else if sink.key.is_uuid_shaped() {
        report.good(
            STEP,
            &format!("{place}, in the form of Hosted Graphite's keys"),
        );
    } else {
        report.odd(
            STEP,
            &format!("{place}, not in the form of Hosted Graphite's keys"),
        );
    }
}

/// Asks over HTTP where the configuration says whom.
pub async fn check(report: &mut Report, settings: &Settings) -> Result<(), Stop> {
    const STEP: &str = "check";
    let sink = &settings.sink;
    let is_mute = !matches!(sink.url, SinkUrl::Http { .. });
    if sink.key.is_empty() {
        return Ok(());
    }
    let Some(check) = &settings.key_check else {
        if is_mute {
            report.odd(
                STEP,
                "not checked: over this transport the upstream never confirms a key, and with a wrong one the points just do not appear; \
                 to check it over HTTPS set probe.key_check_url, for Hosted Graphite \
                 \"https://api.hostedgraphite.com/api/v1/metric/search?pattern=x\"",
            );
        }
        return Ok(());
    };
    let host = &check.endpoint.host;
    report.waits(STEP, &format!("asking {host} whether it knows the key"));
    let mut connector = usable(report, settings, key_check_connector(sink, check))?;
    let target = Target::new(check.secure, &check.endpoint, &check.path, &sink.key);
    let began = Instant::now();
    let reply = match connector.connect(&mut Addresses::default()).await {
        Ok(reached) => {
            target
                .ask(reached.wire, Question::KnowsKey, sink.request_timeout)
                .await
        }
        Err(failure) => Err(failure),
    };
    let time = duration(began.elapsed());
    match reply {
        Ok(reply) if reply.status.is_success() => {
            report.good(STEP, &format!("{host} knows it ({} in {time})", reply.status));
            Ok(())
        }
        Ok(reply) if matches!(reply.status.as_u16(), 401 | 403) => Err(report.failed_for(
            STEP,
            &format!("{host} does not know it ({})", reply.status),
            "compare it with the one on your account page: over this transport the points would vanish in silence",
        )),
        Ok(reply) => {
            let status = reply.status;
            report.odd(STEP, &format!("not checked: {host} answers {status}; check probe.key_check_url"));
            Ok(())
        }
        Err(failure) => {
            // That says nothing about the way of the lines.
            let why = format!("not checked: {host} cannot be asked: {failure}");
            report.odd(STEP, &format!("{why}; check probe.key_check_url"));
            Ok(())
        }
    }
}
