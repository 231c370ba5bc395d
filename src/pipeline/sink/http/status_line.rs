//! What the upstream has said of a request so far: the status line, whatever the
//! header fields behind it are like.
//!
//! An answer that the HTTP library cannot read would otherwise be no answer, and
//! its lines would be sent again and again. The status says all that lines need.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use hyper::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The status is in the first bytes of a line; the reason behind it may be long.
const LINE_BYTES: usize = 64;

/// How each answer begins. HTTP/1.0 and HTTP/1.1 are one language (RFC 9112, 2.3).
const PROTOCOL: &[u8] = b"HTTP/1.";

/// What has come in answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParsedStatus {
    /// Nothing yet, or not enough to tell.
    Nothing,
    /// A status line and its newline.
    Status {
        /// The final status: not that of an interim answer.
        code: StatusCode,
        /// Whether the last byte so far ends a line.
        ends_in_newline: bool,
    },
    /// Something that is no HTTP/1.
    Unreadable,
}

/// Reads the beginning of an answer.
#[derive(Debug, Default)]
pub struct StatusLine {
    line: Vec<u8>,
    /// Within the fields of an interim answer (RFC 9110, 15.2).
    is_interim: bool,
    code: Option<StatusCode>,
    is_unreadable: bool,
    last: u8,
}

impl StatusLine {
    fn feed(&mut self, bytes: &[u8]) {
        self.last = bytes.last().copied().unwrap_or(self.last);
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.code.is_some() || self.is_unreadable {
                return;
            }
            let room = LINE_BYTES - self.line.len();
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                self.end_line();
                self.line.clear();
            } else if !self.is_interim {
                let beginning = self.line.trim_ascii_start();
                let length = beginning.len().min(PROTOCOL.len());
                self.is_unreadable = beginning[..length] != PROTOCOL[..length];
            }
        }
    }

    fn end_line(&mut self) {
        let line = self.line.trim_ascii();
        match (self.is_interim, line.is_empty()) {
            (_, true) => self.is_interim = false,
            (true, false) => {}
            (false, false) => match status(line) {
                Some(code)
                    if code.is_informational() && code != StatusCode::SWITCHING_PROTOCOLS =>
                {
                    self.is_interim = true;
                }
                Some(code) => self.code = Some(code),
                None => self.is_unreadable = true,
            },
        }
    }

    fn said(&self) -> ParsedStatus {
        match self.code {
            Some(code) => ParsedStatus::Status {
                code,
                ends_in_newline: self.last == b'\n',
            },
            None if self.is_unreadable => ParsedStatus::Unreadable,
            None => ParsedStatus::Nothing,
        }
    }
}

/// The status of `HTTP/1.1 202 Accepted`.
fn status(line: &[u8]) -> Option<StatusCode> {
    let (minor, rest) = line.strip_prefix(PROTOCOL)?.split_first()?;
    let code = rest.trim_ascii_start();
    let is_whole = code.get(3).is_none_or(u8::is_ascii_whitespace);
    if !minor.is_ascii_digit() || code.len() == rest.len() || !is_whole {
        return None;
    }
    StatusCode::from_bytes(code.get(..3)?).ok()
}

/// Tells what the upstream has said on a connection.
#[derive(Debug, Clone, Default)]
pub struct Listener(Arc<Mutex<StatusLine>>);

impl Listener {
    /// What has come in answer to the last request.
    pub fn said(&self) -> ParsedStatus {
        self.lock().said()
    }

    /// Another request begins.
    pub fn begin(&self) {
        *self.lock() = StatusLine::default();
    }

    fn lock(&self) -> MutexGuard<'_, StatusLine> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection whose answers are listened to.
#[derive(Debug)]
pub struct Overheard<S> {
    stream: S,
    listener: Listener,
}

impl<S> Overheard<S> {
    /// The connection, and who can tell.
    pub fn new(stream: S) -> (Self, Listener) {
        let listener = Listener::default();
        let overheard = Self {
            stream,
            listener: listener.clone(),
        };
        (overheard, listener)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Overheard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let fresh = &buffer.filled()[before..];
        if !fresh.is_empty() {
            self.listener.lock().feed(fresh);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Overheard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(parts: &[&[u8]]) -> ParsedStatus {
        let mut line = StatusLine::default();
        for part in parts {
            line.feed(part);
        }
        line.said()
    }

    fn status(code: u16, ends_in_newline: bool) -> ParsedStatus {
        ParsedStatus::Status {
            code: StatusCode::from_u16(code).unwrap(),
            ends_in_newline,
        }
    }

    #[test]
    fn a_status_line_is_told_from_other_things() {
        let long = [b"HTTP/1.1 202 ".to_vec(), vec![b'x'; 9000]].concat();
        let long_line = [&long[..], b"\r\n"].concat();
        for (bytes, expected) in [
            (&b""[..], ParsedStatus::Nothing),
            (b"\r\n\r\n", ParsedStatus::Nothing),
            (b"HT", ParsedStatus::Nothing),
            (b"HTTP/1.1 202 Acc", ParsedStatus::Nothing),
            (&long, ParsedStatus::Nothing),
            (&long_line, status(202, true)),
            (b"HTTP/1.1 202\r\n", status(202, true)),
            (b"HTTP/1.0  202 OK\n", status(202, true)),
            (b"\r\nHTTP/1.1 202 \xff\x00\r\nX-[", status(202, false)),
            (
                b"HTTP/1.1 503 B\r\nHTTP/1.1 202 A\r\n\r\n",
                status(503, true),
            ),
            (b"HTTP/1.1 101 S\r\n\r\n", status(101, true)),
            (
                b"HTTP/1.1 103 E\r\nHTTP/1.1: 202\r\n",
                ParsedStatus::Nothing,
            ),
            (
                b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\nA: b\r\n\r\nHTTP/1.1 204 N\r\n",
                status(204, true),
            ),
            (b"HTTP/1.1 100 C\n\n220 mail\n", ParsedStatus::Unreadable),
            (b"HTTP/1.1 2222 OK\r\n", ParsedStatus::Unreadable),
            (b"HTTP/1.1 20 OK\r\n", ParsedStatus::Unreadable),
            (b"HTTP/1.1\r\n", ParsedStatus::Unreadable),
            (b"HTTP/1.1202 OK\r\n", ParsedStatus::Unreadable),
            (b"HTTP/2", ParsedStatus::Unreadable),
            (b"SSH-2.0-x", ParsedStatus::Unreadable),
            (b"\x15\x03\x03\x00\x02\x02\x46", ParsedStatus::Unreadable),
            (b"\x00", ParsedStatus::Unreadable),
        ] {
            assert_eq!(said(&[bytes]), expected, "{:?}", bytes.escape_ascii());
            let bytewise: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(said(&bytewise), expected, "{:?}", bytes.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_bytes_come(
            bytes in prop::collection::vec(prop::sample::select(&b"HTP/1. 20\r\n:x\xff"[..]), 0..80),
            cut in 0..80_usize,
        ) {
            let (head, tail) = bytes.split_at(cut.min(bytes.len()));
            prop_assert_eq!(said(&[head, tail]), said(&[&bytes]));
        }
    }
}
