//! One question over HTTP, without a line, for `probe`.

use std::iter;
use std::time::Duration;

use http_body_util::{BodyExt, Collected, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_LENGTH, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};

use crate::deadline::timeout;
use crate::pipeline::sink::failure::Failure;
use crate::pipeline::sink::wire::Wire;
use crate::stats::FailureKind;

use super::answer::{self, Answer};
use super::connection::handshake;
use super::status_line::ParsedStatus;
use super::{MAX_BODY, Target, with_sources};

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Would lines be taken? A request without one is posted.
    TakesLines,
    /// Is the key known? Something is looked up.
    KnowsKey,
}

/// What was answered.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// What it would mean for lines.
    pub answer: Answer,
}

impl Target {
    /// Asks on a connection of its own.
    pub async fn ask(
        &self,
        wire: Wire,
        question: Question,
        patience: Duration,
    ) -> Result<Reply, Failure> {
        let request = match question {
            Question::KnowsKey => self.request(Method::GET, iter::empty())?,
            Question::TakesLines => {
                let mut request = self.request(Method::POST, iter::empty())?;
                // An empty body would go without one, which servers refuse.
                let nothing = HeaderValue::from_static("0");
                request.headers_mut().insert(CONTENT_LENGTH, nothing);
                request
            }
        };
        let broken = |error: hyper::Error| {
            let message = format!("no answer to the request: {}", with_sources(&error));
            Failure::unavailable(FailureKind::Closed, message)
        };
        let exchange = async {
            let (mut sender, connection, answers) = handshake(wire).await.map_err(broken)?;
            // Its errors reach the request.
            let driver = tokio::spawn(connection);
            let response = sender.send_request(request).await.map_err(broken);
            let reply = match response {
                Err(failure) => match answers.said() {
                    ParsedStatus::Status { code, .. } => Ok(Reply {
                        status: code,
                        answer: answer::read(code, &HeaderMap::new(), b"", &self.key),
                    }),
                    ParsedStatus::Unreadable => Err(answer::unreadable()),
                    ParsedStatus::Nothing => Err(failure),
                },
                Ok(response) => {
                    let (parts, body) = response.into_parts();
                    let body = Limited::new(body, MAX_BODY).collect().await;
                    // Too long or cut: the headers have said all the same.
                    let body = body.map_or_else(|_| Bytes::new(), Collected::to_bytes);
                    Ok(Reply {
                        status: parts.status,
                        answer: answer::read(parts.status, &parts.headers, &body, &self.key),
                    })
                }
            };
            driver.abort();
            reply
        };
        timeout(patience, exchange).await.unwrap_or_else(|_| {
            let message = format!("no answer within {patience:?}");
            Err(Failure::unavailable(FailureKind::Timeout, message))
        })
    }
}
