//! Other protocols that reach a line port by mistake.
//!
//! A pickle frame, an HTTP request or a TLS handshake is no line; reading it as
//! lines would bury one clear mistake under hundreds of rejections.

/// A protocol that is not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherProtocol {
    /// Carbon's pickle protocol.
    Pickle,
    /// An HTTP/1 request, or the preface of HTTP/2.
    Http,
    /// A TLS handshake.
    Tls,
}

/// What the first bytes of a stream or datagram say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// They could be lines.
    Lines,
    /// They are certainly something else.
    OtherProtocol(OtherProtocol),
    /// Too few to tell; no line is whole yet.
    Undecided,
}

impl OtherProtocol {
    /// What to tell the operator.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Pickle => {
                "a pickle frame on a line port; send pickles to an address of listen.pickle, by custom port 2004"
            }
            Self::Http => "an HTTP request on a line port; send plain lines here",
            Self::Tls => "a TLS handshake on a line port; send plain lines here",
        }
    }
}

/// Looks at the first bytes. The answer depends on the stream's bytes alone
/// and not on how reads cut them: it is [`Opening::Undecided`] until it is
/// final. `limit` is the length of the longest line.
pub fn opening(bytes: &[u8], limit: usize) -> Opening {
    match bytes {
        [] => Opening::Undecided,
        // Handshake record, version 3.x; neither can begin a line.
        [0x16, 0x03, ..] => Opening::OtherProtocol(OtherProtocol::Tls),
        [0x16] => Opening::Undecided,
        // Frames begin with a length below 16 MiB, then a protocol 2 header, or
        // a list or tuple in protocols 0 and 1.
        [0, _, _, _, first, second, ..] => match (first, second) {
            (0x80, 2..=5) | (b'(', b'l' | b'(') | (b']', b'q' | b'(') => {
                Opening::OtherProtocol(OtherProtocol::Pickle)
            }
            _ => Opening::Lines,
        },
        [0, ..] => Opening::Undecided,
        [b'A'..=b'Z', ..] => http(bytes, limit),
        _ => Opening::Lines,
    }
}

/// `GET /path HTTP/1.1`: recognised when its first line is whole.
fn http(bytes: &[u8], limit: usize) -> Opening {
    const METHODS: [&[u8]; 10] = [
        b"GET ",
        b"POST ",
        b"PUT ",
        b"HEAD ",
        b"DELETE ",
        b"OPTIONS ",
        b"PATCH ",
        b"CONNECT ",
        b"TRACE ",
        b"PRI ",
    ];
    let may_be = METHODS.iter().any(|method| {
        let seen = bytes.len().min(method.len());
        bytes[..seen] == method[..seen]
    });
    if !may_be {
        return Opening::Lines;
    }
    let line = match memchr::memchr(b'\n', bytes) {
        Some(newline) if newline <= limit => bytes[..newline].trim_ascii_end(),
        None if bytes.len() <= limit => return Opening::Undecided,
        _ => return Opening::Lines,
    };
    let version = line.len().checked_sub(b" HTTP/x.y".len());
    match version.map(|at| &line[at..]) {
        Some([b' ', b'H', b'T', b'T', b'P', b'/', _, b'.', _]) => {
            Opening::OtherProtocol(OtherProtocol::Http)
        }
        _ => Opening::Lines,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_protocols_by_their_first_bytes() {
        use OtherProtocol::{Http, Pickle, Tls};
        for (bytes, expected) in [
            (&b"\x16\x03\x01\x02\x00\x01"[..], Tls),
            (b"\x00\x00\x01\x10\x80\x02]q\x01", Pickle),
            (b"\x00\x00\x01\x10\x80\x05]", Pickle),
            (b"\x00\x00\x00\x40(lp0\n(S'a'", Pickle),
            (b"\x00\x00\x00\x40]q\x01", Pickle),
            (b"GET / HTTP/1.1\r\nHost: x\r\n", Http),
            (b"PRI * HTTP/2.0\r\n\r\nSM", Http),
        ] {
            assert_eq!(
                opening(bytes, 99),
                Opening::OtherProtocol(expected),
                "{}",
                bytes.escape_ascii()
            );
            for cut in 0..bytes.len() {
                let sooner = opening(&bytes[..cut], 99);
                assert!(
                    matches!(sooner, Opening::Undecided)
                        || sooner == Opening::OtherProtocol(expected),
                    "cut at {cut} says {sooner:?}"
                );
            }
        }
    }

    #[test]
    fn lines_are_lines() {
        for bytes in [
            &b"a.b 1 5\n"[..],
            b"GET 1 5\n",
            b"GETTER 1",
            b"POST.count 1 HTTP\n",
            b"\n",
            b"\x00garbage",
        ] {
            assert_eq!(
                opening(bytes, 99),
                Opening::Lines,
                "{}",
                bytes.escape_ascii()
            );
        }
    }
}
