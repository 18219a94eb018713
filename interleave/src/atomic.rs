//! Atomics as std has them, as far as they are used.

use std::sync::atomic::{self, Ordering};

/// A flag that others may come before at each use.
#[derive(Debug, Default)]
pub struct AtomicBool(atomic::AtomicBool);

impl AtomicBool {
    /// A flag.
    #[must_use]
    pub const fn new(value: bool) -> Self {
        Self(atomic::AtomicBool::new(value))
    }

    /// Its value.
    pub fn load(&self, order: Ordering) -> bool {
        super::switch();
        self.0.load(order)
    }

    /// Sets it.
    pub fn store(&self, value: bool, order: Ordering) {
        super::switch();
        self.0.store(value, order);
    }
}

/// A number that others may come before at each use.
#[derive(Debug, Default)]
pub struct AtomicU64(atomic::AtomicU64);

impl AtomicU64 {
    /// A number.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(atomic::AtomicU64::new(value))
    }

    /// Its value.
    pub fn load(&self, order: Ordering) -> u64 {
        super::switch();
        self.0.load(order)
    }

    /// Sets it.
    pub fn store(&self, value: u64, order: Ordering) {
        super::switch();
        self.0.store(value, order);
    }

    /// Adds to it; returns what it was.
    pub fn fetch_add(&self, more: u64, order: Ordering) -> u64 {
        super::switch();
        self.0.fetch_add(more, order)
    }

    /// Takes from it; returns what it was.
    pub fn fetch_sub(&self, less: u64, order: Ordering) -> u64 {
        super::switch();
        self.0.fetch_sub(less, order)
    }
}
