//! Numbers in a memory file.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::fs::{SealFlags, fcntl_add_seals, fcntl_get_seals};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// `N` numbers at the beginning of a memory file. Changing one is a store to memory.
#[derive(Debug)]
pub struct SharedNumbers<const N: usize>(NonNull<AtomicU64>);

// SAFETY: it points to atomic numbers, which any thread may use, in a mapping that
// nobody else ends.
unsafe impl<const N: usize> Send for SharedNumbers<N> {}
// SAFETY: as above.
unsafe impl<const N: usize> Sync for SharedNumbers<N> {}

impl<const N: usize> SharedNumbers<N> {
    const BYTES: usize = N * size_of::<AtomicU64>();

    /// The numbers of a file. An empty one is made large enough; one that could be cut
    /// is refused.
    pub fn map(file: &File) -> io::Result<Self> {
        if file.metadata()?.len() == 0 {
            file.set_len(Self::BYTES as u64)?;
            let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
            fcntl_add_seals(file, seals)?;
        }
        let is_sealed = fcntl_get_seals(file)?.contains(SealFlags::SHRINK);
        if !is_sealed || file.metadata()?.len() < Self::BYTES as u64 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses an address that nothing else uses.
        let address = unsafe {
            mmap(
                std::ptr::null_mut(),
                Self::BYTES,
                protection,
                MapFlags::SHARED,
                file,
                0,
            )?
        };
        let first = NonNull::new(address.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self(first))
    }

    /// A number; 0 where there is none.
    pub fn get(&self, place: usize) -> u64 {
        self.at(place).map_or(0, |number| number.load(Relaxed))
    }

    /// Changes a number.
    pub fn set(&self, place: usize, number: u64) {
        if let Some(at) = self.at(place) {
            at.store(number, Relaxed);
        }
    }

    fn at(&self, place: usize) -> Option<&AtomicU64> {
        // SAFETY: the mapping begins at a page, has room for `N` numbers of any bits,
        // lives as long as `self`, and the file behind it cannot shrink.
        (place < N).then(|| unsafe { self.0.add(place).as_ref() })
    }
}

impl<const N: usize> Drop for SharedNumbers<N> {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference into it outlives `self`.
        let _ = unsafe { munmap(self.0.as_ptr().cast(), Self::BYTES) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_outlive_their_writer() {
        let file = crate::os::memory_file("numbers").unwrap();
        let numbers = SharedNumbers::<3>::map(&file).unwrap();
        numbers.set(2, 7);
        numbers.set(3, 8);
        drop(numbers);
        let numbers = SharedNumbers::<3>::map(&file).unwrap();
        assert_eq!([0, 1, 2, 3].map(|place| numbers.get(place)), [0, 0, 7, 0]);
        assert!(file.set_len(0).is_err(), "it can be cut");
    }

    #[test]
    fn a_file_that_could_be_cut_is_refused() {
        let file = crate::os::memory_file("numbers").unwrap();
        file.set_len(4096).unwrap();
        assert!(SharedNumbers::<3>::map(&file).is_err());
        let file = tempfile::tempfile().unwrap();
        assert!(SharedNumbers::<3>::map(&file).is_err());
    }
}
