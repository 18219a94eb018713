//! The frames in shared memory that the client of a connection looks at.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::Instant;

use crate::format::Frame;
use crate::wire::WireError;

/// Holds the frames, so that their memory is neither used again nor given back to the budget, until the client lets go.
#[derive(Debug)]
pub(super) struct Leases<'a> {
    next: u64,
    held: BTreeMap<u64, (Instant, Frame)>,
    /// As many as there may be.
    max: usize,
    /// Leases of all connections.
    count: &'a AtomicUsize,
}

impl<'a> Leases<'a> {
    pub fn new(count: &'a AtomicUsize, max: usize) -> Self {
        Self { next: 0, held: BTreeMap::new(), max, count }
    }

    /// Holds a frame until the lease of the number returned is given up; `None` when the client holds as many as it may.
    pub fn hold(&mut self, frame: Frame) -> Option<u64> {
        if self.held.len() >= self.max {
            return None;
        }
        let lease = self.next;
        self.next += 1;
        self.held.insert(lease, (Instant::now(), frame));
        self.count.fetch_add(1, Ordering::Relaxed);
        Some(lease)
    }

    /// Lets go of what the client lets go of.
    ///
    /// # Errors
    /// When it holds no such lease.
    pub fn give_up(&mut self, lease: u64) -> Result<(), WireError> {
        let given = self.held.remove(&lease);
        given.ok_or(WireError::Unknown { what: "the number of a lease", found: lease })?;
        self.count.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }

    /// Lets go of all: the client looks at nothing any more.
    pub fn give_up_all(&mut self) {
        let count = self.held.len();
        self.held.clear();
        self.count.fetch_sub(count, Ordering::Relaxed);
    }

    /// When the oldest one was given.
    pub fn oldest(&self) -> Option<Instant> {
        self.held.first_key_value().map(|(_, (since, _))| *since)
    }
}

impl Drop for Leases<'_> {
    /// The client went away without a word of what it still looks at: nothing may be written there any more.
    fn drop(&mut self) {
        for (_, frame) in self.held.values() {
            if let Some(home) = &frame.home {
                home.segment.taint();
            }
        }
        self.give_up_all();
    }
}
