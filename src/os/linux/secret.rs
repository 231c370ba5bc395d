//! Pages that hold secrets.
#![allow(unsafe_code)]

use std::io;
use std::ptr::NonNull;
use std::slice;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap_anonymous, munmap};
use zeroize::Zeroize;

/// Bytes in pages of their own, which are neither swapped nor part of a core dump,
/// where the system permits. Zeroed when dropped.
#[derive(Debug)]
pub struct LockedBytes {
    first: NonNull<u8>,
    length: usize,
}

// SAFETY: it owns its mapping, as a `Vec` owns its memory.
unsafe impl Send for LockedBytes {}
// SAFETY: as above; shared, it is only read.
unsafe impl Sync for LockedBytes {}

impl LockedBytes {
    /// Zeroes, at least one.
    pub fn zeroed(length: usize) -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses an address that nothing else uses.
        let address =
            unsafe { mmap_anonymous(std::ptr::null_mut(), length, protection, MapFlags::PRIVATE)? };
        // SAFETY: the pages are ours, and neither call changes their contents. Without
        // them (RLIMIT_MEMLOCK), the bytes are as others are.
        unsafe {
            let _ = mlock(address, length);
            let _ = madvise(address, length, Advice::LinuxDontDump);
        }
        let first = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { first, length })
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the mapping has `length` initialised bytes and lives as long as `self`.
        unsafe { slice::from_raw_parts(self.first.as_ptr(), self.length) }
    }

    /// The bytes, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed alone.
        unsafe { slice::from_raw_parts_mut(self.first.as_ptr(), self.length) }
    }
}

impl Drop for LockedBytes {
    fn drop(&mut self) {
        self.as_mut_slice().zeroize();
        // SAFETY: the mapping is ours, and no reference into it outlives `self`. It also
        // ends the lock (munlock(2)).
        let _ = unsafe { munmap(self.first.as_ptr().cast(), self.length) };
    }
}
