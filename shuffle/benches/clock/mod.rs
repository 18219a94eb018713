//! Time that does not pass while others have the processor.
//!
//! Unsafe is needed for the system call, which no safe library of ours offers.
#![allow(unsafe_code)]

use std::hint::black_box;
use std::time::Duration;

use firesteel_micro::{Digest, Group};

/// Processor time of this process, of all its threads that there are and were, in user's and the kernel's code.
fn processor_time() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a value of that type, which outlives the call.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut now) };
    assert_eq!(failed, 0, "Linux has this clock");
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Measures work by its processor time.
pub fn measure<T>(
    group: &mut Group<'_>,
    name: &str,
    mut work: impl FnMut() -> T,
    digest: impl Fn(&T, &mut Digest),
) {
    let timed = |times| {
        let begun = processor_time();
        let mut last = work();
        for _ in 1..times {
            last = black_box(work());
        }
        (processor_time() - begun, last)
    };
    group.bench_timed(name, timed, digest);
}
