//! As much of HTTP/1.1 as takes lines: requests on a connection that is kept,
//! with bodies of a length said before, or in chunks.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::bench::KEY;
use crate::bench::arrivals::Arrivals;

/// What is kept of a connection, and the most that a body may be.
const READ_BYTES: usize = 256 << 10;
const MAX_BODY: usize = 64 << 20;

/// What of a request's head matters here.
#[derive(Default)]
struct Head {
    length: usize,
    is_chunked: bool,
    authorization: String,
}

/// Answers requests until the connection ends. Whoever has the key is told that
/// the lines were taken.
pub fn serve(stream: TcpStream, arrivals: &Arrivals) -> io::Result<()> {
    let expected = format!("Basic {}", BASE64_STANDARD.encode(format!("{KEY}:")));
    let mut stream = BufReader::with_capacity(READ_BYTES, stream);
    let mut body = Vec::new();
    while let Some(head) = read_head(&mut stream)? {
        read_body(&mut stream, &head, &mut body)?;
        let now = Instant::now();
        let status = if head.authorization == expected {
            arrivals.book_lines(&body, now);
            "202 Accepted"
        } else {
            "401 Unauthorized"
        };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        stream.get_mut().write_all(answer.as_bytes())?;
    }
    Ok(())
}

/// `None` where the connection ends in place of a request.
fn read_head(stream: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut head = Head::default();
    let mut line = read_line(stream)?;
    if line.is_empty() {
        return Ok(None);
    }
    loop {
        line = read_line(stream)?;
        let Some((name, value)) = line.split_once(':') else {
            return Ok(Some(head));
        };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => head.length = value.parse().map_err(io::Error::other)?,
            "transfer-encoding" => head.is_chunked = value.eq_ignore_ascii_case("chunked"),
            "authorization" => value.clone_into(&mut head.authorization),
            _ => {}
        }
    }
}

fn read_body(stream: &mut impl BufRead, head: &Head, body: &mut Vec<u8>) -> io::Result<()> {
    body.clear();
    if !head.is_chunked {
        return read_piece(stream, head.length, body);
    }
    loop {
        let line = read_line(stream)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
        read_piece(stream, size, body)?;
        // Behind each chunk there is a line's end; behind the last one trailers.
        while !read_line(stream)?.is_empty() {}
        if size == 0 {
            return Ok(());
        }
    }
}

fn read_piece(stream: &mut impl Read, size: usize, body: &mut Vec<u8>) -> io::Result<()> {
    let filled = body.len();
    if filled + size > MAX_BODY {
        return Err(io::Error::other("a body without measure"));
    }
    body.resize(filled + size, 0);
    stream.read_exact(&mut body[filled..])
}

/// A line without its end. Empty at the end of the connection, too.
fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    line.truncate(line.trim_end().len());
    Ok(line)
}
