//! Locks; in this crate's own tests such as can be interrupted at every taking (`interleave`).

#[cfg(test)]
pub(crate) use firesteel_interleave::Mutex;
#[cfg(not(test))]
pub(crate) use parking_lot::Mutex;
