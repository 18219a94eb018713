//! How many connections and calls this process's servers take and refuse.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counted over all servers of the process.
pub static TRAFFIC: Traffic = Traffic::new();

/// Counts of connections and calls.
#[derive(Debug)]
pub struct Traffic {
    /// Connections that are open.
    pub open: AtomicU64,
    /// Refused: there were as many as there may be.
    pub full: AtomicU64,
    /// Refused: as many as may had not said yet who they are.
    pub greeting: AtomicU64,
    /// Refused: the handshake of TLS failed or took too long.
    pub handshake: AtomicU64,
    /// Calls that were refused because of their caller's role.
    pub role: AtomicU64,
}

impl Traffic {
    const fn new() -> Self {
        Self {
            open: AtomicU64::new(0),
            full: AtomicU64::new(0),
            greeting: AtomicU64::new(0),
            handshake: AtomicU64::new(0),
            role: AtomicU64::new(0),
        }
    }

    /// Connections that were refused, by a word for the reason.
    #[must_use]
    pub fn refused(&self) -> [(&'static str, &AtomicU64); 3] {
        [("full", &self.full), ("greeting", &self.greeting), ("handshake", &self.handshake)]
    }
}

/// Counts one more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A connection that counts as open until this is dropped.
#[derive(Debug)]
pub(super) struct Counted(());

impl Counted {
    pub fn new() -> Self {
        count(&TRAFFIC.open);
        Self(())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        TRAFFIC.open.fetch_sub(1, Ordering::Relaxed);
    }
}
