//! The frames of a lane, by partition.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use firesteel_base::{AttemptKey, StageKey};
use parking_lot::Mutex;

use super::Counts;
use super::cell::Cell;
use crate::keep::KeptLane;

/// All that one lane of an attempt writes.
#[derive(Debug)]
pub(crate) struct Lane {
    attempt: AttemptKey,
    number: u32,
    partitions: u32,
    /// Frames by partition; `None` once discarded.
    blocks: Mutex<Option<Vec<Vec<Arc<Cell>>>>>,
    /// Blocks of another process of which not all could be taken over.
    lost: Mutex<BTreeSet<u32>>,
    finished: AtomicBool,
    counts: Arc<Counts>,
}

impl Lane {
    pub fn new(attempt: AttemptKey, number: u32, partitions: u32, counts: Arc<Counts>) -> Self {
        Self {
            attempt,
            number,
            partitions,
            blocks: Mutex::new(Some(vec![Vec::new(); partitions as usize])),
            lost: Mutex::default(),
            finished: AtomicBool::new(false),
            counts,
        }
    }

    pub fn name(&self) -> (AttemptKey, u32) {
        (self.attempt, self.number)
    }

    pub fn stage(&self) -> StageKey {
        self.attempt.task.stage
    }

    pub(super) fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    pub fn finish(&self) {
        self.finished.store(true, Ordering::Release);
    }

    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    pub fn is_discarded(&self) -> bool {
        self.blocks.lock().is_none()
    }

    /// Adds a frame to a block; drops it when the lane was discarded meanwhile.
    pub fn push(&self, partition: u32, cell: Arc<Cell>) {
        let mut blocks = self.blocks.lock();
        let Some(block) = blocks.as_mut().map(|blocks| &mut blocks[partition as usize]) else { return };
        if block.is_empty() {
            self.counts.blocks.fetch_add(1, Ordering::Relaxed);
        }
        block.push(cell);
    }

    /// Says that a block is not here, rather than empty.
    pub fn lose(&self, partition: u32) {
        self.lost.lock().insert(partition);
    }

    /// How many frames a block has.
    pub fn frames(&self, partition: u32) -> u32 {
        let blocks = self.blocks.lock();
        let block = blocks.as_ref().and_then(|blocks| blocks.get(partition as usize));
        u32::try_from(block.map_or(0, Vec::len)).expect("a block has fewer than 2^32 frames")
    }

    /// Where somebody else would find its frames.
    pub fn kept(&self) -> KeptLane {
        let blocks = self.blocks.lock();
        let filled = (0..).zip(blocks.iter().flatten()).filter(|(_, block)| !block.is_empty());
        let kept =
            filled.map(|(partition, block)| (partition, block.iter().map(|cell| cell.kept()).collect()));
        KeptLane { lane: self.number, partitions: self.partitions, blocks: kept.collect() }
    }

    /// The frames of a block.
    pub fn block(&self, partition: u32) -> Option<Vec<Arc<Cell>>> {
        if self.lost.lock().contains(&partition) {
            return None;
        }
        self.blocks.lock().as_ref()?.get(partition as usize).cloned()
    }

    /// Lets go of all frames, now and in the future.
    pub fn discard(&self) {
        let blocks = self.blocks.lock().take();
        self.uncount(blocks.as_deref().unwrap_or_default());
    }

    fn uncount(&self, blocks: &[Vec<Arc<Cell>>]) {
        let held = blocks.iter().filter(|block| !block.is_empty()).count();
        self.counts.blocks.fetch_sub(held as u64, Ordering::Relaxed);
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.discard();
    }
}
