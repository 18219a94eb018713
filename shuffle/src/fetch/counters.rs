//! What was fetched so far.

use std::sync::atomic::{AtomicU64, Ordering};

/// What was fetched so far.
#[derive(Debug, Default)]
pub struct FetchCounters {
    local_bytes: AtomicU64,
    remote_bytes: AtomicU64,
    rows: AtomicU64,
    frames: AtomicU64,
    retries: AtomicU64,
}

impl FetchCounters {
    /// Bytes of frames read by pointer from the own store.
    #[must_use]
    pub fn local_bytes(&self) -> u64 {
        self.local_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of frames that came over the network.
    #[must_use]
    pub fn remote_bytes(&self) -> u64 {
        self.remote_bytes.load(Ordering::Relaxed)
    }

    /// Rows of all frames.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Frames.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    /// Times that a block was asked for again.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Counts one frame.
    pub(super) fn count(&self, rows: usize, bytes: usize, local: bool) {
        let side = if local { &self.local_bytes } else { &self.remote_bytes };
        side.fetch_add(bytes as u64, Ordering::Relaxed);
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        self.frames.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }
}
