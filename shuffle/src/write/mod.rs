//! Writing the output of a lane: rows are scattered to partitions and encoded into frames.
//!
//! Batches are held, without a copy, until they come to about a frame a partition; then the rows of each partition are
//! gathered from them straight into that partition's frames. So every byte is copied once.

mod error;
mod lane;
mod scatter;

pub use error::WriteError;
pub use lane::{LaneWriter, WriteCounters};

/// Where the rows of a batch go.
#[derive(Debug, Clone, Copy)]
pub enum Assignment<'a> {
    /// All rows to partition 0.
    Single,
    /// The partition of each row.
    Rows(&'a [u32]),
    /// The whole batch to that partition.
    Whole(u32),
}
