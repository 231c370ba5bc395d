//! A tunnel through an HTTP proxy: `CONNECT` (RFC 9110, 9.3.6).

use std::io;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use crate::config::{Endpoint, Proxy};
use crate::deadline;
use crate::stats::FailureKind;

use super::failure::Failure;

/// Headers of an answer to CONNECT are short.
const MAX_ANSWER: usize = 8192;

/// Asks the proxy for a tunnel to the target.
pub async fn tunnel(
    stream: &mut TcpStream,
    proxy: &Proxy,
    target: &Endpoint,
    timeout: Duration,
) -> Result<(), Failure> {
    let request = request(proxy, target);
    let exchange = async {
        stream.write_all(request.as_bytes()).await?;
        read_answer(stream).await
    };
    let answer = match deadline::timeout(timeout, exchange).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(unavailable(proxy, &error.to_string())),
        Err(_) => return Err(unavailable(proxy, &format!("no answer within {timeout:?}"))),
    };
    match status(&answer) {
        Some(200..=299) => Ok(()),
        Some(407) => Err(Failure::misconfigured(
            FailureKind::Proxy,
            format!(
                "the proxy {} wants other credentials; write them into sink.proxy",
                proxy.endpoint
            ),
        )),
        Some(status) => Err(unavailable(proxy, &format!("it answered {status}"))),
        None => Err(unavailable(proxy, "it does not speak HTTP")),
    }
}

fn request(proxy: &Proxy, target: &Endpoint) -> Zeroizing<String> {
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if let Some(credentials) = &proxy.credentials {
        let encoded = Zeroizing::new(BASE64_STANDARD.encode(credentials.as_bytes()));
        request += &format!("Proxy-Authorization: Basic {}\r\n", *encoded);
    }
    request += "\r\n";
    Zeroizing::new(request)
}

/// Reads to the end of the headers. A refusal may have a body behind them; a
/// tunnel is silent before we speak. Interim answers may come first, such as
/// 100 (RFC 9110, 15.2).
async fn read_answer(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    let mut read = 0;
    loop {
        while let Some(end) = memchr::memmem::find(&answer, b"\r\n\r\n") {
            if !matches!(status(&answer), Some(100..=199)) {
                return Ok(answer);
            }
            answer.drain(..end + 4);
        }
        if read > MAX_ANSWER {
            return Err(io::Error::other("its answer has no end"));
        }
        match stream.read_buf(&mut answer).await? {
            0 => return Err(io::Error::other("it closed the connection")),
            bytes => read += bytes,
        }
    }
}

fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.strip_prefix(b"HTTP/1.")?;
    std::str::from_utf8(line.get(2..5)?).ok()?.parse().ok()
}

fn unavailable(proxy: &Proxy, what: &str) -> Failure {
    Failure::unavailable(
        FailureKind::Proxy,
        format!("no tunnel through the proxy {}: {what}", proxy.endpoint),
    )
}
