//! The memory of requests' bodies, used again: fresh memory for each would cost
//! more than filling it.

use std::sync::{Arc, Mutex, PoisonError};

use hyper::body::Bytes;

/// Keeps the memory of the last body.
#[derive(Default, Clone)]
pub struct Bodies {
    spare: Arc<Mutex<Vec<u8>>>,
}

/// A body, whose memory goes back when nobody needs it any more.
struct Body {
    bytes: Vec<u8>,
    home: Bodies,
}

impl Bodies {
    /// A body with these lines, one part after the other.
    pub fn holding<'a>(&self, parts: impl Iterator<Item = &'a [u8]>) -> Bytes {
        let mut bytes = std::mem::take(&mut *self.lock());
        bytes.clear();
        parts.for_each(|lines| bytes.extend_from_slice(lines));
        let home = self.clone();
        Bytes::from_owner(Body { bytes, home })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        *self.home.lock() = std::mem::take(&mut self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_filled_where_the_one_before_was() {
        let bodies = Bodies::default();
        let holding = |parts: &[&'static [u8]]| bodies.holding(parts.iter().copied());
        let first = holding(&[b"a.b 1 1\n"]);
        let memory = first.as_ptr();
        assert_eq!(&first[..], b"a.b 1 1\n");
        // While it is in use, another one is.
        let second = holding(&[b"c 2 2\n"]);
        assert_ne!(second.as_ptr(), memory);
        assert_eq!(
            (&first[..], &second[..]),
            (&b"a.b 1 1\n"[..], &b"c 2 2\n"[..])
        );
        drop(second);
        drop(first);
        let third = holding(&[b"d 3 3\n", b"e 4 4\n"]);
        let expected = &b"d 3 3\ne 4 4\n"[..];
        assert_eq!((third.as_ptr(), &third[..]), (memory, expected));
    }
}
