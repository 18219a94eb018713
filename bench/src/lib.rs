//! Benchmark data and queries: [`generate`] makes TPC-H tables as Parquet files, [`queries`] holds the queries.
//!
//! The `firesteel-bench` binary of this package measures; this library only makes and names things, so the
//! `firesteel` command and the tests can use it.
//!
//! Results derived from TPC-H are not comparable to published TPC-H results.

pub mod generate;
pub mod progress;
pub mod queries;

pub use generate::{Compression, GenerateOptions, Manifest, generate};
pub use progress::Progress;
