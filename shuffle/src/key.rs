//! Names of blocks and where they lie.

use std::fmt;
use std::str::FromStr;

use firesteel_base::{AttemptKey, Epoch, ExecutorId};

use xxhash_rust::xxh3::xxh3_64;

use crate::sizes::LaneSizes;

/// What one lane of an attempt wrote for one partition: `job7/s2/p14/a1/l0/b3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockKey {
    /// The attempt that wrote it.
    pub producer: AttemptKey,
    /// The lane of that attempt, from 0.
    pub lane: u32,
    /// The partition of the exchange, from 0.
    pub partition: u32,
}

impl BlockKey {
    /// The seal of a frame of this block (`FORMAT.md`): whoever reads another frame in its place finds that out.
    #[must_use]
    pub fn seal(&self, frame: u32) -> u64 {
        let task = self.producer.task;
        let numbers =
            [task.stage.stage.0, task.task, self.producer.attempt, self.lane, self.partition, frame];
        let mut bytes = task.stage.job.0.to_le_bytes().to_vec();
        bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        xxh3_64(&bytes)
    }
}

impl fmt::Display for BlockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/l{}/b{}", self.producer, self.lane, self.partition)
    }
}

/// A text that names no block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a block key such as job7/s2/p14/a1/l0/b3")]
pub struct ParseBlockKeyError {
    text: String,
}

impl FromStr for BlockKey {
    type Err = ParseBlockKeyError;

    fn from_str(text: &str) -> Result<Self, ParseBlockKeyError> {
        let parse = || {
            let (rest, partition) = text.rsplit_once("/b")?;
            let (producer, lane) = rest.rsplit_once("/l")?;
            Some(Self {
                producer: producer.parse().ok()?,
                lane: lane.parse().ok()?,
                partition: partition.parse().ok()?,
            })
        };
        parse().ok_or_else(|| ParseBlockKeyError { text: text.to_owned() })
    }
}

/// An executor in one of its lives that holds blocks, and where its block server is reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder {
    /// The executor.
    pub executor: ExecutorId,
    /// Which of its lives: blocks of an earlier one are gone.
    pub epoch: Epoch,
    /// `host:port` of its block server.
    pub address: String,
    /// `host:port` where its worker serves its blocks once it is gone; empty when nobody does.
    pub keeper: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}) at {}", self.executor, self.epoch, self.address)
    }
}

/// Size of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlockStat {
    /// Rows in all frames.
    pub rows: u64,
    /// Bytes of all frames, encoded.
    pub bytes: u64,
}

/// What one lane of an attempt wrote: one entry a partition, empty ones included.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LaneOutput {
    /// Sizes by partition.
    pub partitions: Vec<BlockStat>,
}

impl LaneOutput {
    /// Rows and bytes of all partitions together.
    #[must_use]
    pub fn total(&self) -> BlockStat {
        self.partitions.iter().fold(BlockStat::default(), |sum, block| BlockStat {
            rows: sum.rows + block.rows,
            bytes: sum.bytes + block.bytes,
        })
    }
}

/// All that one attempt wrote and committed, and who holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapOutput {
    /// The attempt.
    pub producer: AttemptKey,
    /// Who holds its blocks.
    pub holder: Holder,
    /// What each lane wrote.
    pub lanes: Vec<LaneSizes>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use firesteel_base::{JobId, StageId};

    #[test]
    fn block_keys_print_and_parse_the_same() {
        let key = BlockKey { producer: AttemptKey::new(JobId(7), StageId(2), 14, 1), lane: 0, partition: 3 };
        assert_eq!(key.to_string(), "job7/s2/p14/a1/l0/b3");
        assert_eq!("job7/s2/p14/a1/l0/b3".parse(), Ok(key));
        for text in ["", "job7/s2/p14/a1", "job7/s2/p14/a1/b3/l0", "job7/s2/p14/a1/l/b3", "x/l0/b0"] {
            assert!(text.parse::<BlockKey>().is_err(), "{text}");
        }
    }
}
