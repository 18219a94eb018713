//! How fast this machine is: its disks, its memory, and the network to another host. What `firesteel probe` shows.
//!
//! ```text
//!   disk:   a scratch file, by the engine that executors use        memory: threads on one node, memory on one node
//!   net:    serve (one measurement at a time) <── TCP ──> measure
//! ```
//!
//! It tells what was measured and judges nothing: which host is the odd one shows beside the others. Every measurement has a bound in
//! time and in bytes, and leaves nothing behind.

pub mod disk;
mod error;
mod latency;
pub mod memory;
pub mod net;

pub use error::MeasureError;
pub use latency::Latency;

use std::time::Duration;

/// How far a measurement has come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// What is being measured.
    pub step: &'static str,
    /// How much of that is done, from 0 to 1.
    pub done: f64,
}

/// Told now and then how far a measurement has come.
pub type Watcher<'a> = &'a (dyn Fn(Progress) + Sync);

/// Bytes in a second; none in no time.
fn per_second(bytes: u64, took: Duration) -> f64 {
    if took.is_zero() { 0.0 } else { bytes as f64 / took.as_secs_f64() }
}

/// Bytes that no link and no disk makes smaller by packing them, the same each time.
fn incompressible(bytes: &mut [u8]) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for word in bytes.chunks_mut(size_of::<u64>()) {
        // xorshift64: https://www.jstatsoft.org/article/view/v008i14
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
    }
}
