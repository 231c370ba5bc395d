//! Warns of certificates that expire soon.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::select;
use tokio::time::sleep;
use tracing::warn;

use crate::stats::{Certificates, Counters, EXPIRES_SOON, Whose};

const DAY: Duration = Duration::from_secs(86_400);

/// Times of the wall clock can jump, and a host can be suspended: what is left
/// is looked at again this often.
const INTERVAL: Duration = Duration::from_secs(3600);

/// Warns once a day of each certificate that expires within two weeks.
pub async fn warn_before(counters: Arc<Counters>) {
    let mut warned = Warned::default();
    loop {
        for whose in Whose::ALL {
            if let Some(left) = warned.due(&counters.certificates, whose, Instant::now()) {
                say(whose, left);
            }
        }
        select! {
            () = counters.certificates.changed() => {}
            () = sleep(INTERVAL) => {}
        }
    }
}

fn say(whose: Whose, left: i64) {
    let days = left / DAY.as_secs().cast_signed();
    match whose {
        Whose::Upstream => warn!(
            days,
            "the upstream's certificate expires soon; whoever runs the upstream must renew it"
        ),
        Whose::Client if left < 0 => warn!(
            days,
            "our client certificate has expired; replace sink.tls.client_cert_file and sink.tls.client_key_file (no reload is needed)"
        ),
        Whose::Client => warn!(
            days,
            "our client certificate expires soon; replace sink.tls.client_cert_file and sink.tls.client_key_file (no reload is needed)"
        ),
    }
}

/// When each certificate was last warned about.
#[derive(Default)]
struct Warned([Option<Instant>; Whose::ALL.len()]);

impl Warned {
    /// The seconds that a certificate has left, if a warning is due now.
    fn due(&mut self, certificates: &Certificates, whose: Whose, now: Instant) -> Option<i64> {
        let left = certificates.seconds_left(whose, SystemTime::now())?;
        let last = &mut self.0[whose as usize];
        let is_due = left < EXPIRES_SOON
            && last.is_none_or(|last| now.saturating_duration_since(last) >= DAY);
        is_due.then(|| {
            *last = Some(now);
            left
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn a_warning_a_day_in_the_last_two_weeks() {
        let certificates = Certificates::default();
        let now = Instant::now();
        let mut warned = Warned::default();
        let mut due = |whose, at| warned.due(&certificates, whose, at).is_some();
        let in_days = |days: u32| {
            let today = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            certificates.set(Whose::Client, Some(today + days * DAY));
        };
        assert!(!due(Whose::Client, now));
        in_days(15);
        assert!(!due(Whose::Client, now));
        in_days(13);
        assert!(due(Whose::Client, now));
        assert!(!due(Whose::Client, now + DAY / 2));
        assert!(!due(Whose::Upstream, now));
        in_days(0);
        assert!(due(Whose::Client, now + DAY));
        in_days(90);
        assert!(!due(Whose::Client, now + 3 * DAY));
    }
}
