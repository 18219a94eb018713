//! Benchmark data, queries and answers: [`generate`] makes the tables of TPC-H and TPC-DS as files, [`queries`] holds
//! the queries, [`verify`] holds answers against right ones,
//! [`run`] asks and times these and other workloads, [`record`] keeps what was measured, compares it and shows it, [`scale`]
//! tells how times fall as a cluster grows.
//!
//! The `firesteel-bench` binary of this package measures; this library only makes and names things, so the
//! `firesteel` command and the tests can use it.
//!
//! Results derived from TPC-H or TPC-DS are not comparable to published TPC results.

pub mod generate;
pub mod progress;
#[macro_use]
pub mod queries;
pub mod record;
pub mod run;
pub mod scale;
pub mod verify;

pub use generate::{Benchmark, Compression, Format, GenerateOptions, Manifest, Skew, generate};
pub use progress::Progress;

/// The commit that a release build is of; none when it was not built in a checkout, and in other builds.
pub const COMMIT: Option<&str> = option_env!("FIRESTEEL_COMMIT");
