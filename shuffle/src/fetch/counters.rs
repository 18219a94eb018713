//! What was fetched so far.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::pack::{Packing, PackingCounts};
use crate::transport::{Form, Received, Way};

/// What was fetched so far.
#[derive(Debug, Default)]
pub struct FetchCounters {
    local_bytes: AtomicU64,
    tcp_bytes: AtomicU64,
    shared_bytes: AtomicU64,
    passed_bytes: AtomicU64,
    copied_bytes: AtomicU64,
    rows: AtomicU64,
    frames: AtomicU64,
    retries: AtomicU64,
    over_links: PackingCounts,
    from_files: PackingCounts,
}

impl FetchCounters {
    /// Bytes of frames read from the own store.
    #[must_use]
    pub fn local_bytes(&self) -> u64 {
        self.local_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of frames that came from other executors, whichever way.
    #[must_use]
    pub fn remote_bytes(&self) -> u64 {
        self.tcp_bytes() + self.shared_bytes() + self.passed_bytes()
    }

    /// Those of them that came over TCP; their sender has copied them once, into its socket.
    #[must_use]
    pub fn tcp_bytes(&self) -> u64 {
        self.tcp_bytes.load(Ordering::Relaxed)
    }

    /// Those of them that were read where they lie, in another executor's memory.
    #[must_use]
    pub fn shared_bytes(&self) -> u64 {
        self.shared_bytes.load(Ordering::Relaxed)
    }

    /// Those of them that another process of this host passed through a socket.
    #[must_use]
    pub fn passed_bytes(&self) -> u64 {
        self.passed_bytes.load(Ordering::Relaxed)
    }

    /// Bytes copied here: out of sockets and out of files.
    #[must_use]
    pub fn copied_bytes(&self) -> u64 {
        self.copied_bytes.load(Ordering::Relaxed)
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

    /// Of the frames that came over TCP those that were packed.
    #[must_use]
    pub fn packed_over_tcp(&self) -> Packing {
        self.over_links.get()
    }

    /// Of the frames that were read from files here those that were packed.
    #[must_use]
    pub fn packed_in_files(&self) -> Packing {
        self.from_files.get()
    }

    /// Counts one frame.
    pub(super) fn count(&self, rows: usize, received: &Received) {
        let (bytes, copied) = (received.frame.len(), received.copied);
        if let Form::Unpacked { packed_bytes } = received.form {
            let packing = if received.way == Way::Tcp { &self.over_links } else { &self.from_files };
            packing.add(bytes as u64, packed_bytes);
        }
        let of_way = match received.way {
            Way::Own => &self.local_bytes,
            Way::Tcp => &self.tcp_bytes,
            Way::Shared => &self.shared_bytes,
            Way::Passed => &self.passed_bytes,
        };
        of_way.fetch_add(bytes as u64, Ordering::Relaxed);
        self.copied_bytes.fetch_add(copied as u64, Ordering::Relaxed);
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        self.frames.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }
}
