//! Numbers in an image: eight bytes each, the lowest first.

const NUMBER: usize = size_of::<u64>();

/// Appends a number.
pub fn put(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

/// Appends a text and its length.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    put(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// What is left to be read.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next number.
    pub fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk::<NUMBER>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*number))
    }

    /// The next number, as a length in memory.
    pub fn length(&mut self) -> Option<usize> {
        self.number()?.try_into().ok()
    }

    /// So many numbers.
    pub fn numbers(&mut self) -> Option<Vec<u64>> {
        let count = self.length()?;
        let (numbers, rest) = self.0.split_at_checked(count.checked_mul(NUMBER)?)?;
        self.0 = rest;
        let (numbers, _) = numbers.as_chunks::<NUMBER>();
        Some(numbers.iter().copied().map(u64::from_le_bytes).collect())
    }

    /// The next text.
    pub fn text(&mut self) -> Option<&'a str> {
        let length = self.length()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }
}
