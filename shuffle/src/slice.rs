//! What a lane reads of exchanges, when the sizes of what was written have decided.

use std::fmt;
use std::ops::Range;

use firesteel_base::StageId;

/// Consecutive partitions, of all exchanges that are divided alike; of one of them perhaps only what some lanes wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// The partitions.
    pub partitions: Range<u32>,
    /// The exchange whose partition is divided further, and the part that is read.
    pub part: Option<LanesOf>,
}

/// Some of the lanes that wrote an exchange, counted over all of its map outputs in the order of their tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LanesOf {
    /// The stage that wrote.
    pub stage: StageId,
    /// Its lanes.
    pub lanes: Range<u32>,
}

impl Slice {
    /// These partitions, whole.
    #[must_use]
    pub fn whole(partitions: Range<u32>) -> Self {
        Self { partitions, part: None }
    }

    /// Whether it reads what `lane` of `stage` wrote for its partitions.
    #[must_use]
    pub fn reads_lane(&self, stage: StageId, lane: u32) -> bool {
        match &self.part {
            Some(part) if part.stage == stage => part.lanes.contains(&lane),
            _ => true,
        }
    }
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.partitions.start, self.partitions.end)?;
        match &self.part {
            Some(LanesOf { stage, lanes }) => write!(f, " of {stage}'s lanes {}..{}", lanes.start, lanes.end),
            None => Ok(()),
        }
    }
}
