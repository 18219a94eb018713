//! What packing brought, counted as it happens.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of frames that went a path packed. What went as it is does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Packing {
    /// Bytes of the frames.
    pub frame_bytes: u64,
    /// Bytes of them while they were packed, envelopes included.
    pub packed_bytes: u64,
}

/// The same, while it grows.
#[derive(Debug, Default)]
pub(crate) struct PackingCounts {
    frame_bytes: AtomicU64,
    packed_bytes: AtomicU64,
}

impl PackingCounts {
    pub fn add(&self, frame_bytes: u64, packed_bytes: u64) {
        self.frame_bytes.fetch_add(frame_bytes, Ordering::Relaxed);
        self.packed_bytes.fetch_add(packed_bytes, Ordering::Relaxed);
    }

    pub fn get(&self) -> Packing {
        Packing {
            frame_bytes: self.frame_bytes.load(Ordering::Relaxed),
            packed_bytes: self.packed_bytes.load(Ordering::Relaxed),
        }
    }
}
