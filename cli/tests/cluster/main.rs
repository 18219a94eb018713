//! The whole system: local mode and clusters of real processes, over real data, against right answers.
//!
//! One test binary, because linking it takes long.

#![allow(clippy::unwrap_used)]

mod bad_input;
mod bench;
mod chaos;
mod drains;
mod engines;
mod failures;
mod ha;
mod local;
mod managers;
mod measures;
mod security;
mod sharing;
mod slt;
mod spilling;
mod tpcds;
mod tpch;
