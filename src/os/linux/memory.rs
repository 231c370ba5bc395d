//! The allocator of glibc.
#![allow(unsafe_code)]

use std::ffi::c_int;

/// `mallopt(M_MMAP_THRESHOLD)`, mallopt(3): allocations of this number of bytes are
/// mapped one by one. Setting it also ends its growth with each that is freed.
pub fn set_mmap_threshold(bytes: usize) {
    let Ok(bytes) = c_int::try_from(bytes) else {
        return;
    };
    // SAFETY: no memory is passed. Called before there is a second thread, as
    // the allocator's parameters are not guarded.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, bytes) };
}

/// `mallopt(M_ARENA_MAX)`, mallopt(3).
pub fn use_one_arena() {
    // SAFETY: as above.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}
