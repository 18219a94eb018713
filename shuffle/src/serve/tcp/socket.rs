//! How much the kernel takes of what is sent, and how much of that it has not sent yet.
//!
//! Unsafe is needed for a socket option and a request that no crate in use knows.
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

/// `SIOCOUTQNSD` of Linux: bytes that were taken and not sent, those that wait to be acknowledged left out.
const NOT_SENT: libc::Ioctl = 0x894b;

/// Whether the kernel has sent all that it has taken; so it is when it cannot be asked, too.
pub(super) fn has_sent_all(socket: BorrowedFd<'_>) -> bool {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open as long as it is borrowed, and the kernel writes one number of this type during the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), NOT_SENT, &raw mut bytes) };
    done != 0 || bytes == 0
}
