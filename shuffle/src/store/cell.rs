//! A frame's place, and the frames of a lane.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use firesteel_base::{AttemptKey, StageKey};
use parking_lot::Mutex;

use super::file::{FileRange, LaneFiles};
use super::scratch::Scratch;
use super::{Counts, StoreError};
use crate::format::Frame;

/// One frame of a block, wherever it lies now.
#[derive(Debug)]
pub(crate) struct Cell {
    bytes: u64,
    place: Mutex<Loaded>,
    touched: AtomicU64,
    files: Arc<LaneFiles>,
    counts: Arc<Counts>,
}

/// Where a frame lies.
#[derive(Debug, Clone)]
pub(crate) enum Loaded {
    /// In memory.
    Memory(Frame),
    /// In a file.
    File(FileRange),
}

impl Cell {
    /// A frame in memory, last used at `now`.
    pub fn resident(lane: &Lane, frame: Frame, now: u64) -> Arc<Self> {
        let bytes = frame.bytes.len();
        lane.counts.memory_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Arc::new(Self::new(lane, bytes, Loaded::Memory(frame), now))
    }

    /// A frame that goes to a file at once.
    pub fn spilled(lane: &Lane, frame: &[u8], scratch: &Scratch) -> Result<Arc<Self>, StoreError> {
        let range = lane.files.append(scratch, frame)?;
        lane.counts.count_spill(frame.len() as u64);
        Ok(Arc::new(Self::new(lane, frame.len(), Loaded::File(range), 0)))
    }

    fn new(lane: &Lane, bytes: usize, place: Loaded, now: u64) -> Self {
        Self {
            bytes: bytes as u64,
            place: Mutex::new(place),
            touched: AtomicU64::new(now),
            files: Arc::clone(&lane.files),
            counts: Arc::clone(&lane.counts),
        }
    }

    /// Bytes of the frame.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn touch(&self, now: u64) {
        self.touched.store(now, Ordering::Relaxed);
    }

    pub fn touched(&self) -> u64 {
        self.touched.load(Ordering::Relaxed)
    }

    pub fn load(&self) -> Loaded {
        self.place.lock().clone()
    }

    /// Moves the frame to a file; returns its bytes, 0 when it lies in one already. Only the thread that took the cell
    /// from the queue of cold frames does this.
    pub fn spill(&self, scratch: &Scratch) -> Result<u64, StoreError> {
        let Loaded::Memory(frame) = self.load() else { return Ok(0) };
        let range = self.files.append(scratch, &frame.bytes)?;
        let resident = std::mem::replace(&mut *self.place.lock(), Loaded::File(range));
        self.counts.memory_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.counts.count_spill(self.bytes);
        drop(resident);
        Ok(self.bytes)
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        let count = match self.place.get_mut() {
            Loaded::Memory(_) => &self.counts.memory_bytes,
            Loaded::File(_) => &self.counts.disk_bytes,
        };
        count.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Counts {
    fn count_spill(&self, bytes: u64) {
        self.disk_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.spilled_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// All that one lane of an attempt writes.
#[derive(Debug)]
pub(crate) struct Lane {
    attempt: AttemptKey,
    number: u32,
    partitions: u32,
    /// Frames by partition; `None` once discarded.
    blocks: Mutex<Option<Vec<Vec<Arc<Cell>>>>>,
    finished: AtomicBool,
    files: Arc<LaneFiles>,
    counts: Arc<Counts>,
}

impl Lane {
    pub fn new(attempt: AttemptKey, number: u32, partitions: u32, counts: Arc<Counts>) -> Self {
        Self {
            attempt,
            number,
            partitions,
            blocks: Mutex::new(Some(vec![Vec::new(); partitions as usize])),
            finished: AtomicBool::new(false),
            files: Arc::new(LaneFiles::new(attempt, number)),
            counts,
        }
    }

    pub fn name(&self) -> (AttemptKey, u32) {
        (self.attempt, self.number)
    }

    pub fn stage(&self) -> StageKey {
        self.attempt.task.stage
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

    /// The frames of a block.
    pub fn block(&self, partition: u32) -> Option<Vec<Arc<Cell>>> {
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
