//! Writing the output of a lane: rows are scattered to partitions and encoded into frames.
//!
//! Batches are held, without a copy, until they come to about a frame a partition, or to what a lane may hold. Then their rows
//! are brought into the order of their partitions, each column from its first row to its last, and copied from there into
//! frames; to few partitions they are gathered from the batches straight into frames.

use std::ops::Range;

mod error;
mod flush;
mod held;
mod lane;

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

impl Assignment<'_> {
    /// That of some of the rows.
    fn of(&self, rows: Range<usize>) -> Self {
        match *self {
            Self::Rows(of_rows) => Self::Rows(&of_rows[rows]),
            other => other,
        }
    }
}
