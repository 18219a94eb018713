//! Locks and atomics; in this crate's own tests such as can be interrupted at every use (`interleave`).

#[cfg(test)]
pub(crate) use firesteel_interleave::{AtomicBool, Mutex};
#[cfg(not(test))]
pub(crate) use parking_lot::Mutex;
#[cfg(not(test))]
pub(crate) use std::sync::atomic::AtomicBool;
