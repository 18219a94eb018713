//! What tests drive the system with: right answers to hold its answers against ([`oracle`]), clusters of real processes
//! ([`cluster`]), data ([`data`]) and sqllogictest files ([`slt`]).
//!
//! Development only: no product crate depends on this one.

pub mod cluster;
pub mod data;
pub mod oracle;
pub mod slt;
