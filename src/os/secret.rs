//! Memory for secrets.

use std::fmt;
use std::ops::Deref;

use zeroize::Zeroizing;

#[cfg(target_os = "linux")]
use super::linux::secret::LockedBytes;

/// Bytes that are zeroed when dropped and, where the system permits, neither swapped
/// nor part of a core dump.
pub struct Secret(Memory);

enum Memory {
    #[cfg(target_os = "linux")]
    Locked(LockedBytes),
    Heap(Zeroizing<Vec<u8>>),
}

impl Secret {
    /// The pieces, one after the other.
    pub fn of(pieces: &[&[u8]]) -> Self {
        #[cfg(target_os = "linux")]
        if let Ok(mut locked) = LockedBytes::zeroed(pieces.iter().map(|piece| piece.len()).sum()) {
            let mut rest = locked.as_mut_slice();
            for piece in pieces {
                let (place, after) = rest.split_at_mut(piece.len());
                place.copy_from_slice(piece);
                rest = after;
            }
            return Self(Memory::Locked(locked));
        }
        // Of its final size at once, so that growing leaves no copy.
        Self(Memory::Heap(Zeroizing::new(pieces.concat())))
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            #[cfg(target_os = "linux")]
            Memory::Locked(locked) => locked.as_slice(),
            Memory::Heap(bytes) => bytes,
        }
    }
}

impl Default for Secret {
    fn default() -> Self {
        Self(Memory::Heap(Zeroizing::default()))
    }
}

impl Deref for Secret {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_what_was_put_in() {
        let secret = Secret::of(&[b"key", b"."]);
        assert_eq!(&*secret, b"key.");
        assert_eq!(secret, Secret::of(&[b"key."]));
        assert_eq!(Secret::of(&[]), Secret::default());
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }

    /// smaps (proc(5)): `lo` is locked, `dd` is not dumped.
    #[cfg(target_os = "linux")]
    #[test]
    fn its_page_is_locked_and_not_dumped() {
        let secret = Secret::of(&[b"key"]);
        let start = format!("{:x}-", secret.as_slice().as_ptr() as usize);
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let own = maps.lines().skip_while(|line| !line.starts_with(&start));
        let mut flags = own.filter_map(|line| line.strip_prefix("VmFlags:"));
        let flags: Vec<&str> = flags.next().unwrap().split_whitespace().collect();
        assert!(flags.contains(&"lo") && flags.contains(&"dd"), "{flags:?}");
    }
}
