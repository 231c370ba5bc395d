//! What an answer of the upstream means for the lines.

use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use hyper::header::HeaderMap;
use hyper::header::{LOCATION, RETRY_AFTER};

use crate::config::ApiKey;
use crate::stats::FailureKind;

use super::super::failure::{Cause, Failure};

/// How much of the server's words is logged.
const WORDS_LOGGED: usize = 200;

/// No server's wish is obeyed for longer.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The upstream has the lines.
    Accepted,
    /// It refuses these lines, and says why; fewer of them may pass.
    Refused(String),
    /// It refuses this number of bytes at once.
    TooLarge(String),
    /// It takes nothing now.
    Failed(Failure),
}

/// What answers is no HTTP/1 server.
pub fn unreadable() -> Failure {
    Failure::misconfigured(
        FailureKind::Status,
        "the upstream does not speak HTTP/1.1 on this port; check scheme, host and port in sink.url",
    )
}

/// Reads an answer: its status, its headers and what could be had of its body.
pub fn read(status: StatusCode, headers: &HeaderMap, body: &[u8], key: &ApiKey) -> Answer {
    let said = quote(body, key);
    let unavailable = |kind: FailureKind, what: &str| {
        let mut cause = Cause::new(kind, format!("{what} ({status}{said})"));
        cause.retry_after = retry_after(headers, SystemTime::now());
        Answer::Failed(Failure::Unavailable(cause))
    };
    let misconfigured =
        |what: String| Answer::Failed(Failure::misconfigured(FailureKind::Status, what));
    match status {
        status if status.is_success() => Answer::Accepted,
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
            Answer::Refused(format!("{status}{said}"))
        }
        StatusCode::PAYLOAD_TOO_LARGE => Answer::TooLarge(format!("{status}{said}")),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Answer::Failed(Failure::Unauthorized(Cause::new(
                FailureKind::Unauthorized,
                format!(
                    "the upstream rejects the API key ({status}{said}); correct the key file, or the configuration and reload"
                ),
            )))
        }
        StatusCode::TOO_MANY_REQUESTS => {
            unavailable(FailureKind::Throttled, "the upstream asks for less")
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => {
            unavailable(FailureKind::Status, "the upstream asks to wait")
        }
        status if status.is_redirection() => {
            let to = headers.get(LOCATION).map_or_else(String::new, |location| {
                format!(" to {}", target_of(location.as_bytes(), key))
            });
            misconfigured(format!(
                "the upstream redirects{to} ({status}); the key is not sent there, write the right sink.url"
            ))
        }
        status if status.is_client_error() => misconfigured(format!(
            "the upstream does not take lines here ({status}{said}); check the path in sink.url"
        )),
        _ => unavailable(FailureKind::Status, "the upstream has a fault"),
    }
}

/// `Retry-After` in seconds or as a date (RFC 9110, 10.2.3). Nonsense is none.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let wait = if is_number {
        // Too many digits are a long time, too.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        httpdate::parse_http_date(text)
            .ok()?
            .duration_since(now)
            .ok()?
    };
    Some(wait.min(LONGEST_WAIT))
}

/// Scheme, host and port of a redirect's target. User, path and query may hold
/// anything, our key for example.
fn target_of(location: &[u8], key: &ApiKey) -> String {
    let find = |bytes: &[u8], any_of: &[u8]| bytes.iter().position(|byte| any_of.contains(byte));
    let scheme = match find(location, b":/?#\\") {
        Some(end) if location[end..].starts_with(b"://") => end + 1,
        _ => 0,
    };
    let (scheme, rest) = location.split_at(scheme);
    let Some(rest) = rest.strip_prefix(b"//") else {
        return "another path".to_owned();
    };
    // Browsers take a backslash for a slash.
    let authority = &rest[..find(rest, b"/?#\\").unwrap_or(rest.len())];
    let host = memchr::memrchr(b'@', authority).map_or(authority, |at| &authority[at + 1..]);
    shown(&[scheme, b"//", host].concat(), key)
}

/// Words of the server for the log.
fn quote(words: &[u8], key: &ApiKey) -> String {
    let words = shown(words, key);
    if words.is_empty() {
        words
    } else {
        format!(": {words}")
    }
}

/// Text of the server as it may be shown: without the key, short, escaped.
fn shown(text: &[u8], key: &ApiKey) -> String {
    let mut text = text.to_vec();
    key.mask(&mut text);
    let text = String::from_utf8_lossy(&text);
    let text = text.trim().escape_debug();
    text.take(WORDS_LOGGED).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_with(status: u16, header: Option<(&'static str, &str)>, body: &str) -> Answer {
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = header {
            headers.insert(name, value.parse().unwrap());
        }
        let key = ApiKey::parse("sesame").unwrap();
        read(
            StatusCode::from_u16(status).unwrap(),
            &headers,
            body.as_bytes(),
            &key,
        )
    }

    #[test]
    fn each_status_has_its_meaning() {
        for (statuses, meaning) in [
            (&[200, 202, 204][..], "accepted"),
            (&[400, 422], "refused"),
            (&[413], "too large"),
            (&[401, 403], "unauthorized"),
            (
                &[301, 302, 307, 308, 404, 405, 410, 415, 451],
                "misconfigured",
            ),
            (&[408, 425, 429, 500, 502, 503, 504, 599], "unavailable"),
        ] {
            for status in statuses {
                let found = match read_with(*status, None, "") {
                    Answer::Accepted => "accepted",
                    Answer::Refused(_) => "refused",
                    Answer::TooLarge(_) => "too large",
                    Answer::Failed(Failure::Unauthorized(_)) => "unauthorized",
                    Answer::Failed(Failure::Misconfigured(_)) => "misconfigured",
                    Answer::Failed(Failure::Unavailable(_)) => "unavailable",
                };
                assert_eq!(found, meaning, "{status}");
            }
        }
    }

    #[test]
    fn the_upstreams_wish_to_wait() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (text, seconds) in [
            ("7", Some(7)),
            ("0", Some(0)),
            ("99999999999999999999999", Some(300)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sun, 06 Nov 1994 08:49:27 GMT", None),
            ("-5", None),
            ("soon", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            let wait = retry_after(&headers, now).map(|wait| wait.as_secs());
            assert_eq!(wait, seconds, "{text}");
        }
    }

    #[test]
    fn words_are_escaped_and_hold_no_key() {
        let Answer::Refused(words) = read_with(400, None, "no\u{1b}[31m SESAME.x\nbad") else {
            panic!("is refused");
        };
        assert_eq!(words, "400 Bad Request: no\\u{1b}[31m <key>.x\\nbad");
    }

    #[test]
    fn a_redirect_names_the_host_alone() {
        let long = format!("https://{}/", "x".repeat(9000));
        let cut = format!("https://{}", "x".repeat(WORDS_LOGGED - 8));
        for (location, shown) in [
            ("https://evil.example/x?token=1", "https://evil.example"),
            ("http://sesame:@other.example/", "http://other.example"),
            ("http://a:b@c@other.example:81#x", "http://other.example:81"),
            ("https://other.example?key=sesame", "https://other.example"),
            ("https://other.example#sesame", "https://other.example"),
            ("https://other.example\\@sesame", "https://other.example"),
            (
                "https://SESAME.other.example/",
                "https://<key>.other.example",
            ),
            ("https://%73esam%65.example/", "https://<key>.example"),
            ("//user@other.example/x", "//other.example"),
            ("/sesame?key=sesame", "another path"),
            ("?key=sesame", "another path"),
            ("sesame/x", "another path"),
            ("mailto:sesame@other.example", "another path"),
            ("sesame://x/y", "<key>://x"),
            ("", "another path"),
            ("https://", "https://"),
            (&long, &cut),
        ] {
            let Answer::Failed(failure) = read_with(302, Some(("location", location)), "") else {
                panic!("is a failure");
            };
            let message = failure.to_string();
            let expected = format!("redirects to {shown} (302");
            assert!(message.contains(&expected), "{location}: {message}");
        }
    }
}
