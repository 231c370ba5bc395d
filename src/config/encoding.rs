//! The encoding of the file: TOML is UTF-8, editors of other days and systems write
//! others.

/// Why a file is not text in UTF-8, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub struct NotUtf8 {
    /// From 1.
    pub line: usize,
    /// In words, with the remedy. Holds nothing of the file, which may hold the key.
    pub message: String,
}

/// The file as text.
pub fn text(bytes: &[u8]) -> Result<&str, NotUtf8> {
    if let Some(name) = utf16(bytes) {
        return Err(NotUtf8 {
            line: 1,
            message: format!(
                "the file is in UTF-16, and TOML is UTF-8; save it as UTF-8, or run: iconv -f {name} -t UTF-8"
            ),
        });
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let line = memchr::memchr_iter(b'\n', &bytes[..at]).count() + 1;
        NotUtf8 {
            line,
            message: format!(
                "the byte 0x{:02X} is not UTF-8; save the file as UTF-8, or, if it is in Latin-1 (ISO 8859-1), run: iconv -f LATIN1 -t UTF-8",
                bytes[at]
            ),
        }
    })
}

/// By its byte order mark, or, without one, by the zero bytes of ASCII characters.
fn utf16(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        [first, 0, second, 0, ..] if *first > 0 && *second > 0 => Some("UTF-16LE"),
        [0, first, 0, second, ..] if *first > 0 && *second > 0 => Some("UTF-16BE"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_encodings_are_named_with_a_remedy() {
        let toml = "# Größe\n[sink]\nurl = \"stdout:\"\n";
        let little: Vec<u8> = toml.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = toml.encode_utf16().flat_map(u16::to_be_bytes).collect();
        for (bytes, name) in [
            ([&b"\xff\xfe"[..], &little].concat(), "-f UTF-16 "),
            ([&b"\xfe\xff"[..], &big].concat(), "-f UTF-16 "),
            (little, "-f UTF-16LE "),
            (big, "-f UTF-16BE "),
        ] {
            let error = text(&bytes).unwrap_err();
            assert!(error.line == 1 && error.message.contains(name), "{error:?}");
        }
        let latin1 = b"[sink]\n# Gr\xf6\xdfe\n";
        let error = text(latin1).unwrap_err();
        assert!(
            error.line == 2 && error.message.contains("0xF6"),
            "{error:?}"
        );
        assert!(error.message.contains("LATIN1"), "{error:?}");
        assert_eq!(text(toml.as_bytes()), Ok(toml));
        assert_eq!(text(b""), Ok(""));
    }
}
