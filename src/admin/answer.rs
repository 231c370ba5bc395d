//! What is answered to a request. It only reads, takes GET and HEAD, and gives
//! browsers no more than they need.

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;

use crate::config;
use crate::format::escape_json;

use super::host_check::{self, Exposure};
use super::page::PAGE;
use super::status::Status;
use super::view::{History, Rejected};
use super::{Shared, Watched, metrics};
use crate::stats::bound;

/// For everything but the page: whatever a browser makes of it, it loads and
/// runs nothing and shows in no frame.
const NOTHING: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

/// Answers a request.
pub async fn answer(
    request: &Request<Incoming>,
    reach: Exposure,
    watched: &Watched,
) -> Response<Full<Bytes>> {
    if let Err((status, why)) = host_check::check(request, reach) {
        return text(status, why);
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        let allowed = HeaderValue::from_static("GET, HEAD");
        refusal.headers_mut().insert(ALLOW, allowed);
        return refusal;
    }
    match request.uri().path() {
        "/metrics" => {
            let Shared {
                queue,
                counters,
                log_lines_dropped,
                ..
            } = &*watched.shared;
            let dropped = log_lines_dropped.dropped_lines() as u64;
            let page = metrics::render(&queue.snapshot(), counters, dropped);
            body(
                StatusCode::OK,
                "text/plain; version=0.0.4; charset=utf-8",
                page,
            )
        }
        "/api/status" => {
            let Shared {
                queue,
                counters,
                started,
                ..
            } = &*watched.shared;
            json(&Status::of(
                &queue.snapshot(),
                counters,
                started.elapsed(),
                watched.is_draining(),
            ))
        }
        "/" => page(),
        "/api/history" => {
            let history = History::from(watched.shared.queue.history());
            // Columns of hundreds of numbers.
            as_json(serde_json::to_vec(&history))
        }
        "/api/rejected" => {
            let latest = watched.shared.counters.rejected_lines.look();
            json(&latest.into_iter().map(Rejected::from).collect::<Vec<_>>())
        }
        "/api/settings" => json(&*watched.lock_settings()),
        "/healthz" if watched.is_responsive().await => text(StatusCode::OK, "ok\n"),
        "/healthz" => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "the pipeline does not move\n",
        ),
        // The upstream and the queue are no part of it: a pod must not leave
        // its service because its metrics cannot.
        "/readyz" if watched.is_draining() => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        "/readyz" => ready(),
        _ => text(
            StatusCode::NOT_FOUND,
            "not here; there are /, /metrics, /healthz, /readyz and /api/{status,history,rejected,settings}\n",
        ),
    }
}

/// Whether clients find every listener.
fn ready() -> Response<Full<Bytes>> {
    let missing = bound::unreachable();
    if missing.is_empty() {
        return text(StatusCode::OK, "ok\n");
    }
    let why = format!(
        "the socket file of {} is missing; a reload (SIGHUP) creates it again\n",
        missing.join(", ")
    );
    text(StatusCode::SERVICE_UNAVAILABLE, why)
}

fn page() -> Response<Full<Bytes>> {
    let mut response = body(
        StatusCode::OK,
        "text/html; charset=utf-8",
        PAGE.document.clone(),
    );
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, PAGE.policy.clone());
    response
}

/// For people as well, who look at it in a terminal.
fn json(content: &impl Serialize) -> Response<Full<Bytes>> {
    let text = serde_json::to_string_pretty(content);
    as_json(text.map(|text| escape_json(&config::mask_json(&text)).into_bytes()))
}

fn as_json(content: serde_json::Result<Vec<u8>>) -> Response<Full<Bytes>> {
    match content {
        Ok(content) => body(StatusCode::OK, "application/json", content),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn text(status: StatusCode, content: impl Into<Bytes>) -> Response<Full<Bytes>> {
    body(status, "text/plain; charset=utf-8", content)
}

fn body(
    status: StatusCode,
    content_type: &'static str,
    content: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(content.into()));
    *response.status_mut() = status;
    let fixed = HeaderValue::from_static;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, fixed(content_type));
    headers.insert(CACHE_CONTROL, fixed("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, fixed("nosniff"));
    headers.insert(REFERRER_POLICY, fixed("no-referrer"));
    headers.insert(CONTENT_SECURITY_POLICY, NOTHING);
    // No page of another origin has it, not even as a picture.
    let embedding = HeaderName::from_static("cross-origin-resource-policy");
    headers.insert(embedding, fixed("same-origin"));
    response
}
