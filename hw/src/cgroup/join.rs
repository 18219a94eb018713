//! A process that is in its group before it runs a single instruction of its own program.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// What the kernel takes for "the process that writes".
const THIS_PROCESS: &[u8] = b"0";

/// Has the process that `command` starts write itself into the open file `procs` of a group. It does so between fork and exec, so
/// that what the program maps and touches is the group's from its first page on. The kernel asks who has opened the file, and not
/// who writes: the process may run as another user by then.
pub(super) fn on_start(command: &mut Command, procs: File) {
    let procs = OwnedFd::from(procs);
    let join = move || {
        // SAFETY: the descriptor is open as long as the closure lives, and the bytes are static. The call is one that may be made
        // between fork and exec.
        let written =
            unsafe { libc::write(procs.as_raw_fd(), THIS_PROCESS.as_ptr().cast(), THIS_PROCESS.len()) };
        if written < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: the closure makes one system call, and allocates nothing and takes no lock: an error is a number alone.
    unsafe { command.pre_exec(join) };
}
