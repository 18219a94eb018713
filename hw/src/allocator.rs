//! The allocator of Firesteel's own processes.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_long};

// Links the library that has the function below.
use libmimalloc_sys as _;

/// `mi_option_purge_delay` of mimalloc's C interface: for how many milliseconds memory stays after it was freed.
const PURGE_DELAY: c_int = 15;
/// Longer than the gap between two queries of a batch, short enough for an idle process to become small again.
const FREED_MEMORY_KEPT_MS: c_long = 30_000;

unsafe extern "C" {
    fn mi_option_set_default(option: c_int, value: c_long);
    fn mi_collect(force: bool);
    #[cfg(test)]
    fn mi_option_get(option: c_int) -> c_long;
}

/// Lets mimalloc keep freed memory for half a minute before it goes back to the kernel.
///
/// Large joins and groupings free and take gigabytes a second. The kernel clears every page that it hands out again, which
/// was a third of the time of the largest. `MIMALLOC_PURGE_DELAY` in the environment has the last word. A process with
/// another allocator is not changed.
pub fn keep_freed_memory() {
    // SAFETY: plain numbers go in; the option is a number of the library's own table, and is read at each purge.
    unsafe { mi_option_set_default(PURGE_DELAY, FREED_MEMORY_KEPT_MS) };
}

/// Gives all memory that was freed back to the kernel at once, whichever thread freed it. Nothing is done for a process with
/// another allocator.
pub fn give_back_freed_memory() {
    // SAFETY: it takes no pointer, and may be called by any thread at any time.
    unsafe { mi_collect(true) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_is_the_one_that_is_set() {
        // SAFETY: as above.
        let delay = || unsafe { mi_option_get(PURGE_DELAY) };
        let before = delay();
        keep_freed_memory();
        let given = std::env::var("MIMALLOC_PURGE_DELAY").is_ok();
        assert_eq!(delay(), if given { before } else { FREED_MEMORY_KEPT_MS });
        assert!(given || before < FREED_MEMORY_KEPT_MS);
    }
}
