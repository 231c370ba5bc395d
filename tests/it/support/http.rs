//! As much of HTTP/1.1 as the doubles and the scrapes need.

use std::io::{self, Read};

use super::read::read_some;

/// Far more than any head in these tests.
const MAX_HEAD: usize = 64 * 1024;

/// A request or an answer.
#[derive(Debug, Clone)]
pub struct Message {
    /// The first line.
    pub start: String,
    /// The header fields, names in lower case.
    pub fields: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Message {
    /// A header field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(field, _)| field == name)
            .map(|(_, value)| value.as_str())
    }

    /// A word of the first line.
    pub fn word(&self, number: usize) -> &str {
        self.start.split(' ').nth(number).unwrap_or_default()
    }

    /// Reads a head up to its blank line and nothing behind it: byte by byte,
    /// so that what follows stays in the stream.
    pub fn read_head(stream: &mut impl Read) -> io::Result<Option<Self>> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            if read_some(stream, &mut byte)? == 0 {
                if head.is_empty() {
                    return Ok(None);
                }
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            head.push(byte[0]);
            if head.len() > MAX_HEAD {
                return Err(io::Error::other("a head without an end"));
            }
        }
        let text = String::from_utf8_lossy(&head);
        let mut lines = text.trim_end().split("\r\n");
        Ok(Some(Self {
            start: lines.next().unwrap_or_default().to_owned(),
            fields: lines
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.trim().to_lowercase(), value.trim().to_owned()))
                .collect(),
            body: Vec::new(),
        }))
    }

    /// Reads a whole message; `None` is the end of the stream before it.
    pub fn read(stream: &mut impl Read) -> io::Result<Option<Self>> {
        let Some(mut message) = Self::read_head(stream)? else {
            return Ok(None);
        };
        match message.field("content-length") {
            Some(length) => {
                let length: usize = length.parse().map_err(io::Error::other)?;
                message.body = vec![0; length];
                stream.read_exact(&mut message.body)?;
            }
            None if message.start.starts_with("HTTP/") => {
                stream.read_to_end(&mut message.body)?;
            }
            None => {}
        }
        Ok(Some(message))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}
