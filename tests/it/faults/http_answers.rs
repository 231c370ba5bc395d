//! What a server says, in every status that means something of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use super::{config, config_for};
use crate::support::{
    Asked, Books, Config, Daemon, KEY, NEW_KEY, Reply, Scripted, Site, Switch, numbered, payload,
    wait_for,
};

/// Lines that wait until there is somebody to send them to, so that they come
/// in few requests.
fn waiting(site: &Site, name: &str, count: usize) -> (Daemon, Vec<String>) {
    let daemon = Daemon::start(&config_for(site));
    let sent = numbered(name, count);
    daemon.tcp(payload(&sent));
    daemon.wait_received(count);
    (daemon, sent)
}

/// What the log says at ERROR, once that is something: it comes beside the
/// attempt that it is about, not before it.
#[track_caller]
fn errors(daemon: &Daemon) -> Vec<String> {
    let is_error = |line: &str| line.contains(" ERROR ");
    daemon.log.find("an error", is_error);
    let mut lines = daemon.log.lines();
    lines.retain(|line| is_error(line));
    lines
}

// 400: the lines, or everything

#[test]
fn one_bad_line_among_a_thousand() {
    one_bad_line(&Site::http());
}

#[test]
fn one_bad_line_among_a_thousand_https() {
    one_bad_line(&Site::https());
}

fn one_bad_line(site: &Site) {
    let (daemon, sent) = waiting(site, "one", 1000);
    let bad = sent[617].clone();
    let upstream = Scripted::at(site, {
        let bad = bad.clone();
        move |asked| {
            if asked.lines.contains(&bad) {
                Reply::saying(400, "this value is beyond me")
            } else {
                Reply::take()
            }
        }
    });
    let said = daemon.log.find("the culprit's name", |line| {
        line.contains(" ERROR ") && line.contains("one.000617")
    });
    assert!(said.contains("this value is beyond me"), "{said}");
    wait_for("the last line", || daemon.waiting() == 0);
    assert_eq!(errors(&daemon).len(), 1);
    let requests = upstream.answered().len();
    assert!(requests <= a_culprit(1000) + batches(&sent), "{requests}");
    let arrived = upstream.lines();
    let books = Books::close(daemon, upstream, &sent);
    assert_eq!((books.lost, books.said.refused), (1, 1), "{books:?}");
    assert_eq!((books.twice, books.said.dropped), (0, 1), "{books:?}");
    assert!(!arrived.contains(&bad));
}

#[test]
fn five_bad_lines_among_ten_thousand() {
    const LINES: usize = 10_000;
    // Neighbours, the first, the last, and one in between.
    const BAD: [usize; 5] = [0, 4321, 4322, 7000, LINES - 1];
    let site = Site::http();
    let (daemon, sent) = waiting(&site, "five", LINES);
    let bad: Vec<String> = BAD.iter().map(|number| sent[*number].clone()).collect();
    let upstream = Scripted::at(&site, move |asked| {
        if asked.lines.iter().any(|line| bad.contains(line)) {
            Reply::status(400)
        } else {
            Reply::take()
        }
    });
    wait_for("the last line", || daemon.waiting() == 0);
    for number in BAD {
        let name = format!("five.{number:06}");
        daemon.log.find("a culprit's name", |line| {
            line.contains(" ERROR ") && line.contains(&name)
        });
    }
    assert_eq!(errors(&daemon).len(), BAD.len());
    let requests = upstream.answered().len();
    let most = BAD.len() * a_culprit(LINES) + batches(&sent);
    assert!(requests <= most, "{requests} requests, {most} allowed");
    let books = Books::close(daemon, upstream, &sent);
    assert_eq!((books.lost, books.said.refused), (5, 5), "{books:?}");
    assert_eq!((books.twice, books.said.dropped), (0, 5), "{books:?}");
}

#[test]
fn bad_lines_one_after_the_other() {
    let site = Site::http();
    let (daemon, sent) = waiting(&site, "bad", 200);
    // More of them than a search for one would bear in a row.
    let bad = 50..150;
    let upstream = Scripted::at(&site, {
        let bad = sent[bad.clone()].to_vec();
        move |asked| {
            if asked.lines.iter().any(|line| bad.contains(line)) {
                Reply::status(422)
            } else {
                Reply::take()
            }
        }
    });
    wait_for("the last line", || daemon.waiting() == 0);
    let books = Books::close(daemon, upstream, &sent);
    assert_eq!((books.lost, books.said.refused), (100, 100), "{books:?}");
    assert_eq!(books.twice, 0, "{books:?}");
}

fn refuses_bad_lines(asked: &Asked) -> Reply {
    if asked.lines.iter().any(|line| line.starts_with("bad.")) {
        Reply::status(400)
    } else {
        Reply::take()
    }
}

#[test]
fn a_bad_line_alone_waits_for_another() {
    let upstream = Scripted::start(refuses_bad_lines);
    let daemon = Daemon::start(&config(upstream.url()));
    let mut sent = numbered("bad", 1);
    daemon.tcp(payload(&sent));
    daemon.log.find("what is wrong", |line| {
        line.contains(" WARN ") && line.contains("refuses all lines that wait (400")
    });
    wait_for("another attempt", || upstream.count(400) >= 2);
    assert_eq!(daemon.ledger().dropped, 0);
    let good = numbered("good", 1);
    daemon.tcp(payload(&good));
    sent.extend(good);
    let books = Books::close(daemon, upstream, &sent);
    assert_eq!((books.lost, books.said.refused), (1, 1), "{books:?}");
}

/// As one client can bring them in a moment, while others go on.
#[test]
fn a_long_run_of_bad_lines_does_not_hold_the_others() {
    let upstream = Scripted::start(refuses_bad_lines);
    let daemon = Daemon::start(&config(upstream.url()));
    let mut sent = numbered("good.before", 10);
    daemon.tcp(payload(&sent));
    daemon.wait_delivered(10);
    let bad = numbered("bad", 1500);
    daemon.tcp(payload(&bad));
    sent.extend(bad);
    wait_for("all bad lines to go", || {
        let good = numbered(&format!("good.{}", sent.len()), 20);
        daemon.tcp(payload(&good));
        sent.extend(good);
        daemon.wait_received(sent.len());
        daemon.ledger().dropped == 1500
    });
    let books = Books::close(daemon, upstream, &sent);
    assert_eq!((books.lost, books.said.refused), (1500, 1500), "{books:?}");
    assert_eq!(books.twice, 0, "{books:?}");
}

/// The requests that one culprit may cost: 2·log2(lines) + 2.
fn a_culprit(lines: usize) -> usize {
    let lines = u32::try_from(lines).expect("not too many lines");
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let requests = (2.0 * f64::from(lines).log2() + 2.0) as usize;
    requests
}

/// The requests that lines cost without any trouble.
fn batches(lines: &[String]) -> usize {
    payload(lines).len().div_ceil(64 * 1024) + 2
}

#[test]
fn everything_is_refused_for_a_while() {
    let right = Switch::default();
    let site = Site::http();
    let (daemon, sent) = waiting(&site, "all", 1000);
    let upstream = Scripted::at(&site, {
        let right = right.clone();
        move |_: &Asked| {
            if right.is_on() {
                Reply::take()
            } else {
                Reply::saying(400, "no such account")
            }
        }
    });
    wait_for("several rounds", || upstream.count(400) >= 40);
    let ledger = daemon.ledger();
    assert_eq!((ledger.dropped, ledger.left()), (0, 1000), "{ledger:?}");
    let said = errors(&daemon);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("no such account"), "{said:?}");

    right.on();
    Books::close(daemon, upstream, &sent).assert_exact();
}

#[test]
fn everything_was_refused_until_this_moment() {
    // Right after one refusal, after two, and so on: a line that was refused
    // before the server was right is as good as any other.
    let left = Arc::new(AtomicUsize::new(0));
    let site = Site::http();
    let (daemon, mut sent) = waiting(&site, "moment", 1);
    let upstream = Scripted::at(&site, {
        let left = Arc::clone(&left);
        move |_: &Asked| {
            let refuse = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
            match refuse {
                Ok(_) => Reply::status(400),
                Err(_) => Reply::take(),
            }
        }
    });
    for refusals in 1..20 {
        wait_for("the last round", || daemon.waiting() == 0);
        left.store(refusals, Ordering::SeqCst);
        let lines = numbered(&format!("moment.{refusals}"), 40);
        daemon.tcp(payload(&lines));
        sent.extend(lines);
    }
    Books::close(daemon, upstream, &sent).assert_exact();
}

// 413: the size

#[test]
fn too_large_above_sixteen_kibibytes() {
    too_large(&Site::http());
}

#[test]
fn too_large_above_sixteen_kibibytes_https() {
    too_large(&Site::https());
}

fn too_large(site: &Site) {
    let (daemon, sent) = waiting(site, "large", 20_000);
    let upstream = Scripted::at(site, |asked| {
        if asked.bytes > 16 * 1024 {
            Reply::status(413)
        } else {
            Reply::take()
        }
    });
    wait_for("the last line", || daemon.waiting() == 0);
    // Once the size is known, it is kept to.
    let refused = upstream.count(413);
    assert!(refused <= 8, "{refused} requests were too large");
    let taken = upstream.count(202);
    let least = payload(&sent).len() / (16 * 1024);
    assert!(taken <= 4 * least, "{taken} requests, {least} would do");
    Books::close(daemon, upstream, &sent).assert_exact();
}

#[test]
fn a_single_line_that_is_too_large() {
    let long = format!("long.{} 1 1700000000", "x".repeat(2000));
    let site = Site::http();
    let (daemon, mut sent) = waiting(&site, "short", 100);
    daemon.tcp(format!("{long}\n"));
    let more = numbered("more", 100);
    daemon.tcp(payload(&more));
    sent.push(long.clone());
    sent.extend(more);
    let upstream = Scripted::at(&site, |asked| {
        if asked.bytes > 1024 {
            Reply::status(413)
        } else {
            Reply::take()
        }
    });
    wait_for("the last line", || daemon.waiting() == 0);
    assert!(!upstream.lines().contains(&long));
    let books = Books::close(daemon, upstream, &sent);
    assert_eq!((books.lost, books.twice), (1, 0), "{books:?}");
    assert_eq!((books.said.too_large, books.said.dropped), (1, 1));
}

// 401 and its like: a person, or a new key

#[test]
fn the_right_key_by_a_reload() {
    the_right_key(&Site::http(), 401, with_a_reload);
}

#[test]
fn the_right_key_by_a_reload_https() {
    the_right_key(&Site::https(), 401, with_a_reload);
}

#[test]
fn the_right_key_in_its_file_and_nobody_says_so() {
    the_right_key(&Site::http(), 401, in_its_file_alone);
}

#[test]
fn the_right_key_in_its_file_after_a_403() {
    the_right_key(&Site::http(), 403, in_its_file_alone);
}

fn with_a_reload(daemon: &Daemon, config: &Config) {
    config.write_key(NEW_KEY);
    daemon.reload(config);
}

fn in_its_file_alone(_: &Daemon, config: &Config) {
    config.write_key(NEW_KEY);
}

fn the_right_key(site: &Site, refusal: u16, put_right: impl FnOnce(&Daemon, &Config)) {
    let upstream = Scripted::at(site, move |asked| {
        if asked.has_key(NEW_KEY) {
            Reply::take()
        } else {
            assert!(asked.has_key(KEY), "another key");
            Reply::saying(refusal, "who are you?")
        }
    });
    let config = config_for(site);
    let daemon = Daemon::start(&config);
    let sent = numbered("key", 1000);
    daemon.tcp(payload(&sent));
    wait_for("some attempts", || upstream.count(refusal) >= 3);
    let ledger = daemon.ledger();
    assert_eq!((ledger.dropped, ledger.delivered), (0, 0), "{ledger:?}");
    let said = errors(&daemon);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("key"), "{said:?}");
    put_right(&daemon, &config);
    Books::close(daemon, upstream, &sent).assert_exact();
}

#[test]
fn forbidden() {
    held(403, "key");
}

#[test]
fn not_found() {
    held(404, "sink.url");
}

#[test]
fn method_not_allowed() {
    held(405, "sink.url");
}

#[test]
fn gone() {
    held(410, "sink.url");
}

#[test]
fn another_kind_of_content() {
    held(415, "sink.url");
}

/// Everything is held, one ERROR names what to do, and once the server is
/// right everything arrives.
fn held(status: u16, remedy: &str) {
    let right = Switch::default();
    let upstream = Scripted::start({
        let right = right.clone();
        move |_: &Asked| {
            if right.is_on() {
                Reply::take()
            } else {
                Reply::status(status)
            }
        }
    });
    // A busy machine must not make an answer late.
    let config = config(upstream.url()).set("sink.request_timeout", "10s");
    let daemon = Daemon::start(&config);
    let sent = numbered("held", 500);
    daemon.tcp(payload(&sent));
    wait_for("some attempts", || upstream.count(status) >= 4);
    let ledger = daemon.ledger();
    assert_eq!((ledger.dropped, ledger.delivered), (0, 0), "{ledger:?}");
    let said = errors(&daemon);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains(remedy), "no remedy in {said:?}");
    right.on();
    Books::close(daemon, upstream, &sent).assert_exact();
}

// 429, 5xx: later

#[test]
fn later_in_seconds() {
    let wait = Duration::from_secs(1);
    assert!(left_alone_for("Retry-After: 1".to_owned()) >= wait);
}

#[test]
fn later_as_a_date() {
    let until = SystemTime::now() + Duration::from_millis(1500);
    left_alone_for(format!("Retry-After: {}", http_date(until)));
    // To the second that the date could express.
    assert!(SystemTime::now() >= until - Duration::from_secs(1));
}

#[test]
fn later_as_nonsense() {
    assert!(left_alone_for("Retry-After: soon".to_owned()) < Duration::from_secs(5));
}

/// How long the server was left alone after it had asked to.
fn left_alone_for(field: String) -> Duration {
    let upstream = Scripted::start(move |asked| {
        if asked.number == 0 {
            Reply::with_field(429, &field)
        } else {
            Reply::take()
        }
    });
    let daemon = Daemon::start(&config(upstream.url()));
    let mut sent = numbered("later", 500);
    daemon.tcp(payload(&sent));
    wait_for("the wish", || upstream.count(429) == 1);
    // More lines are no reason to come earlier.
    let more = numbered("later.more", 500);
    daemon.tcp(payload(&more));
    sent.extend(more);
    wait_for("the next request", || upstream.answered().len() >= 2);
    let answered = upstream.answered();
    Books::close(daemon, upstream, &sent).assert_exact();
    let at = |number: usize| -> Instant { answered[number].at };
    at(1) - at(0)
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(time: SystemTime) -> String {
    let seconds = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("a clock after 1970")
        .as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // From days to a date: years begin in March, so that leap days come last.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = era * 400 + year_of_era + u64::from(month < 2);
    let name = |names: &str, number: u64| -> String {
        let number = usize::try_from(number).expect("a small number");
        names[3 * number..3 * number + 3].to_owned()
    };
    format!(
        "{}, {day:02} {} {year} {:02}:{:02}:{:02} GMT",
        name("ThuFriSatSunMonTueWed", days % 7),
        name("JanFebMarAprMayJunJulAugSepOctNovDec", month),
        second / 3600,
        second / 60 % 60,
        second % 60,
    )
}

#[test]
fn dates_are_written_as_the_standard_has_them() {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    assert_eq!(http_date(time), "Sun, 06 Nov 1994 08:49:37 GMT");
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_709_164_800);
    assert_eq!(http_date(time), "Thu, 29 Feb 2024 00:00:00 GMT");
}

#[test]
fn every_status_that_asks_to_come_again() {
    const TROUBLE: [u16; 9] = [500, 502, 503, 504, 408, 425, 429, 599, 503];
    trouble_at_first(&Site::http(), &TROUBLE);
}

#[test]
fn busy_five_times() {
    trouble_at_first(&Site::http(), &[503; 5]);
}

#[test]
fn busy_five_times_https() {
    trouble_at_first(&Site::https(), &[503; 5]);
}

/// The first requests get these answers. Nobody has stored anything, and that
/// is certain.
fn trouble_at_first(site: &Site, trouble: &'static [u16]) {
    let upstream = Scripted::at(site, |asked| match trouble.get(asked.number) {
        Some(status) => Reply::status(*status),
        None => Reply::take(),
    });
    let daemon = Daemon::start(&config_for(site));
    let sent = numbered("trouble", 1000);
    daemon.tcp(payload(&sent));
    let books = Books::close(daemon, upstream, &sent);
    books.assert_exact();
    assert_eq!(books.said.uncertain, 0, "{books:?}");
}

// 3xx: nowhere else

#[test]
fn a_redirect_is_not_followed() {
    for status in [301, 302, 307, 308] {
        let elsewhere = Scripted::start(|_| Reply::take());
        let right = Switch::default();
        let upstream = Scripted::start({
            let (right, location) = (right.clone(), format!("Location: {}", elsewhere.url()));
            move |_: &Asked| {
                if right.is_on() {
                    Reply::take()
                } else {
                    Reply::with_field(status, &location)
                }
            }
        });
        let daemon = Daemon::start(&config(upstream.url()));
        let sent = numbered("redirected", 100);
        daemon.tcp(payload(&sent));
        wait_for("some attempts", || upstream.count(status) >= 3);
        let said = errors(&daemon);
        assert_eq!(said.len(), 1, "{said:?}");
        let host = elsewhere.site().port().address().to_string();
        assert!(said[0].contains(&host), "{host} is not named in {said:?}");
        right.on();
        Books::close(daemon, upstream, &sent).assert_exact();
        assert_eq!(elsewhere.connections(), 0);
    }
}
