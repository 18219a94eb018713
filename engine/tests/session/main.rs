//! The session at its public surface: SQL in, rows or errors out, over a cluster that lives in the test.

#![allow(clippy::unwrap_used)] // What a test sets up is there, or the test fails.

mod bad_input;
mod explain;
mod formats;
mod hostile_plans;
mod key_hashes;
mod key_parts;
mod lab;
mod merges;
mod range_sorts;
mod repartitions;
mod runtime_filters;
mod s3;
mod same_names;
mod spilling;
mod stage_graphs;
mod statements;
mod writes;
