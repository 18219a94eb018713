//! The session at its public surface: SQL in, rows or errors out, over a cluster that lives in the test.

mod bad_input;
mod explain;
mod formats;
mod lab;
mod s3;
mod stage_graphs;
mod statements;
mod writes;
