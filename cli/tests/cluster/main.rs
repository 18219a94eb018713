//! The whole system: local mode and clusters of real processes, over real data, against right answers.
//!
//! One test binary, because linking it takes long.

#![allow(clippy::unwrap_used)]

mod admission;
mod bad_input;
mod bench;
mod chaos;
mod corrupt;
mod drains;
mod engines;
mod failures;
mod ha;
mod local;
mod managers;
mod measures;
mod metrics;
mod prometheus;
mod security;
mod sharing;
mod skew;
mod slt;
mod spilling;
mod submitted;
mod tokens;
mod tpcds;
mod tpch;
mod waiting;
