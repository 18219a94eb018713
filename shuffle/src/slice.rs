//! What a lane reads of exchanges, when the sizes of what was written have decided.

use std::fmt;
use std::ops::Range;

use firesteel_base::StageId;

/// Consecutive partitions, of all exchanges that are divided alike; of a single one perhaps only a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// The partitions.
    pub partitions: Range<u32>,
    /// The part of the partition that is read, where that is not all of it.
    pub part: Option<Part>,
}

/// A part of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Of one exchange only what some lanes wrote; of the others all.
    Lanes(LanesOf),
    /// Of every exchange only the rows of some keys.
    Keys(KeysOf),
}

/// Some of the lanes that wrote an exchange, counted over all of its map outputs in the order of their tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LanesOf {
    /// The stage that wrote.
    pub stage: StageId,
    /// Its lanes.
    pub lanes: Range<u32>,
}

/// Some of the keys of a partition: those that the same hash brings into one of so many partitions, had there been that many for each
/// one that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeysOf {
    /// Which of the parts, from 0.
    pub part: u32,
    /// How many there are.
    pub parts: u32,
}

impl Slice {
    /// These partitions, whole.
    #[must_use]
    pub fn whole(partitions: Range<u32>) -> Self {
        Self { partitions, part: None }
    }

    /// Whether it reads something of what `lane` of `stage` wrote for its partitions.
    #[must_use]
    pub fn reads_lane(&self, stage: StageId, lane: u32) -> bool {
        match &self.part {
            Some(Part::Lanes(part)) if part.stage == stage => part.lanes.contains(&lane),
            Some(Part::Lanes(_) | Part::Keys(_)) | None => true,
        }
    }

    /// The keys that it reads, where these are not all.
    #[must_use]
    pub fn keys(&self) -> Option<KeysOf> {
        match self.part {
            Some(Part::Keys(keys)) => Some(keys),
            Some(Part::Lanes(_)) | None => None,
        }
    }
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.partitions.start, self.partitions.end)?;
        match &self.part {
            Some(Part::Lanes(LanesOf { stage, lanes })) => {
                write!(f, " of {stage}'s lanes {}..{}", lanes.start, lanes.end)
            }
            Some(Part::Keys(KeysOf { part, parts })) => write!(f, " of keys {part}/{parts}"),
            None => Ok(()),
        }
    }
}
