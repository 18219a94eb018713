//! How much the kernel takes of what is sent.
//!
//! Unsafe is needed for a socket option that no crate in use knows.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Lets the kernel take no more than so many bytes that it has not sent yet. What it has taken goes before all that is
/// said later: without this, an answer waits behind megabytes of frames on a link that is slow.
pub(super) fn limit_unsent(socket: BorrowedFd<'_>, bytes: u32) -> io::Result<()> {
    let (value, size) = (std::ptr::from_ref(&bytes).cast(), size_of::<u32>() as libc::socklen_t);
    // SAFETY: the descriptor is open as long as it is borrowed, and the kernel reads `size` bytes from `value` during the call.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, value, size)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
