//! Socket options that answer with a structure.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `getsockopt(2)` into a buffer. Answers with how many bytes of it the kernel
/// filled; structures only ever grow at their end.
pub fn get(
    socket: BorrowedFd<'_>,
    level: c_int,
    option: c_int,
    answer: &mut [u8],
) -> io::Result<usize> {
    let mut length = libc::socklen_t::try_from(answer.len()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the length of the borrow; the kernel
    // writes at most `length` bytes to `answer`, which has this number of, and then how
    // many it wrote to `length`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            answer.as_mut_ptr().cast::<c_void>(),
            &raw mut length,
        )
    };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    usize::try_from(length).map_err(io::Error::other)
}

/// A number of four bytes within an answer, if the answer reaches so far.
pub fn number_at(answer: &[u8], filled: usize, offset: usize) -> Option<u32> {
    let bytes = answer[..filled.min(answer.len())].get(offset..offset + size_of::<u32>())?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}
