//! The blocks of one executor: in memory first, then in files.
//!
//! A store guarantees: nothing of an attempt is readable before its commit; what is discarded or freed is gone from
//! memory and disk at once; memory of frames is counted in the executor's budget until the last reader lets go of it, be
//! it in another executor. It does not guarantee that blocks outlive the process, nor that the kernel has memory back as
//! soon as the budget has: what is shared is kept for the next frames, within the bound that `segment` names.
//!
//! Locks are held for map operations only, never while a file is read or written.

mod cell;
mod error;
mod file;
#[cfg(test)]
mod large;
mod scratch;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use arrow_schema::SchemaRef;
use firesteel_base::{AttemptKey, Grant, JobId, MemoryBudget, OutOfBudget, StageKey};
use parking_lot::Mutex;

pub(crate) use cell::{Cell, Lane, Loaded};
pub use error::StoreError;
pub(crate) use file::{FileRange, FrameReader};

use crate::format::{FrameBuffer, FramePlan};
use crate::key::BlockKey;
use crate::segment::{NoRoom, SegmentUsage, Segments};
use crate::write::LaneWriter;
use scratch::Scratch;

/// In whose name frames are counted in the budget.
const FRAMES: &str = "shuffle blocks";

/// What a store may use.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The executor's memory; frames and buffered rows are counted in it.
    pub budget: MemoryBudget,
    /// Bytes of frames kept in memory before the coldest go to files. Without a scratch folder the budget alone
    /// limits.
    pub memory_max: u64,
    /// Folders for files, used in turn; none: frames stay in memory.
    pub scratch: Vec<PathBuf>,
}

/// What a store holds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreUsage {
    /// Bytes of frames in memory.
    pub memory_bytes: u64,
    /// Bytes of frames in files.
    pub disk_bytes: u64,
    /// Blocks that hold at least one frame.
    pub blocks: u64,
}

/// Counted as it happens, so that usage is read without a lock.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    memory_bytes: AtomicU64,
    disk_bytes: AtomicU64,
    blocks: AtomicU64,
    spilled_bytes: AtomicU64,
    encoded_bytes: AtomicU64,
}

/// The blocks of one executor.
#[derive(Debug)]
pub struct BlockStore {
    budget: MemoryBudget,
    memory_max: u64,
    scratch: Scratch,
    attempts: Mutex<BTreeMap<AttemptKey, Attempt>>,
    /// Frames in memory, those that were used longest ago first; a frame used since it was queued goes round again.
    cold: Mutex<VecDeque<(u64, Weak<Cell>)>>,
    clock: AtomicU64,
    counts: Arc<Counts>,
    /// Where frames go that other processes may map; none before somebody offers them.
    segments: OnceLock<Arc<Segments>>,
}

#[derive(Debug, Default)]
struct Attempt {
    committed: bool,
    lanes: BTreeMap<u32, Arc<Lane>>,
}

impl BlockStore {
    /// An empty store with a folder of its own in every scratch folder. Folders left by dead processes are removed.
    ///
    /// # Errors
    /// When a scratch folder cannot be made or written to.
    pub fn new(config: StoreConfig) -> Result<Arc<Self>, StoreError> {
        Ok(Arc::new(Self {
            budget: config.budget,
            memory_max: config.memory_max,
            scratch: Scratch::new(&config.scratch)?,
            attempts: Mutex::default(),
            cold: Mutex::default(),
            clock: AtomicU64::default(),
            counts: Arc::default(),
            segments: OnceLock::new(),
        }))
    }

    /// A writer for one lane of an attempt, into `partitions` partitions. Each lane of an attempt is written once:
    /// another writer for it is refused at its first write.
    pub fn writer(
        self: &Arc<Self>,
        attempt: AttemptKey,
        lane: u32,
        schema: SchemaRef,
        partitions: u32,
    ) -> LaneWriter {
        let new = Arc::new(Lane::new(attempt, lane, partitions, Arc::clone(&self.counts)));
        let mut attempts = self.attempts.lock();
        let entry = attempts.entry(attempt).or_default();
        let taken = entry.committed || entry.lanes.contains_key(&lane);
        if !taken {
            entry.lanes.insert(lane, Arc::clone(&new));
        }
        drop(attempts);
        LaneWriter::new(Arc::clone(self), new, schema, taken)
    }

    /// Makes all that the attempt wrote readable. Committing again changes nothing.
    ///
    /// # Errors
    /// When the attempt is unknown or a lane of it is not finished.
    pub fn commit(&self, attempt: &AttemptKey) -> Result<(), StoreError> {
        let mut attempts = self.attempts.lock();
        let entry = attempts.get_mut(attempt).ok_or(StoreError::UnknownAttempt(*attempt))?;
        if let Some((lane, _)) = entry.lanes.iter().find(|(_, lane)| !lane.is_finished()) {
            return Err(StoreError::Unfinished { attempt: *attempt, lane: *lane });
        }
        entry.committed = true;
        Ok(())
    }

    /// Removes all that the attempt wrote, committed or not.
    pub fn discard(&self, attempt: &AttemptKey) {
        let removed = self.attempts.lock().remove(attempt);
        removed.into_iter().for_each(Attempt::discard);
    }

    /// Removes the blocks of a stage.
    pub fn free_stage(&self, stage: StageKey) {
        self.free(|attempt| attempt.task.stage == stage);
    }

    /// Removes the blocks of a job.
    pub fn free_job(&self, job: JobId) {
        self.free(|attempt| attempt.job() == job);
    }

    fn free(&self, mut matches: impl FnMut(&AttemptKey) -> bool) {
        let removed: Vec<_> = self.attempts.lock().extract_if(.., |attempt, _| matches(attempt)).collect();
        removed.into_iter().for_each(|(_, entry)| entry.discard());
    }

    /// What it holds now.
    #[must_use]
    pub fn usage(&self) -> StoreUsage {
        StoreUsage {
            memory_bytes: self.counts.memory_bytes.load(Ordering::Relaxed),
            disk_bytes: self.counts.disk_bytes.load(Ordering::Relaxed),
            blocks: self.counts.blocks.load(Ordering::Relaxed),
        }
    }

    /// Bytes of frames written to files since the store was made.
    #[must_use]
    pub fn spilled_bytes(&self) -> u64 {
        self.counts.spilled_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of frames encoded since the store was made: each was copied once, out of the batches that were written.
    #[must_use]
    pub fn encoded_bytes(&self) -> u64 {
        self.counts.encoded_bytes.load(Ordering::Relaxed)
    }

    /// Puts the frames that are written from now on into memory that other processes of this host can map. A block
    /// server that offers that does it; a store that nobody else reads has no need.
    pub fn share(&self) {
        self.segments.get_or_init(|| Segments::new(&self.budget, self.memory_max));
    }

    /// What the memory takes that other processes can map; nothing, while none is shared.
    #[must_use]
    pub fn segments(&self) -> SegmentUsage {
        self.segments.get().map(|segments| segments.usage()).unwrap_or_default()
    }

    /// Writes the coldest frames to files until at least `bytes` of memory are given up, or none is left; returns the
    /// bytes given up. Memory that readers still look at returns to the budget when they are done.
    ///
    /// # Errors
    /// When no folder takes them.
    pub fn make_room(&self, bytes: u64) -> Result<u64, StoreError> {
        let counted_spare = || self.segments.get().map_or(0, |segments| segments.counted_spare());
        if let Some(segments) = self.segments.get() {
            segments.trim();
        }
        let mut freed = 0;
        while freed < bytes {
            let before = counted_spare();
            let spilled = self.spill_coldest()?;
            if spilled == 0 {
                break;
            }
            // A gap in a segment may still count, until the segment is empty.
            freed = (freed + before + spilled).saturating_sub(counted_spare());
        }
        Ok(freed)
    }

    /// The budget that frames and buffered rows are counted in.
    pub(crate) fn budget(&self) -> &MemoryBudget {
        &self.budget
    }

    /// Encodes a planned frame into a block: in memory when there is room or room can be made, else in a file. Returns
    /// its bytes.
    pub(crate) fn add(&self, lane: &Lane, partition: u32, plan: FramePlan<'_>) -> Result<u64, StoreError> {
        let bytes = plan.frame_bytes() as u64;
        let fits = self.make_memory_fit(bytes)?;
        let mut grant = self.budget.open(FRAMES);
        let room = self.room_for(lane, bytes, fits, &mut grant)?;
        self.counts.encoded_bytes.fetch_add(bytes, Ordering::Relaxed);
        match room {
            Some(buffer) if fits => {
                let frame = plan.write_into(buffer).freeze(Some(grant));
                let now = self.tick();
                let cell = Cell::resident(lane, frame, now);
                self.cold.lock().push_back((now, Arc::downgrade(&cell)));
                lane.push(partition, cell);
            }
            Some(buffer) => {
                let frame = plan.write_into(buffer).freeze(Some(grant));
                lane.push(partition, Cell::spilled(lane, &frame.bytes, &self.scratch)?);
            }
            None => {
                // Nothing of ours is left to give up. The frame exists only until it is in its file.
                grant.grow_unchecked(bytes);
                let frame = plan.encode(Some(grant));
                lane.push(partition, Cell::spilled(lane, &frame, &self.scratch)?);
            }
        }
        Ok(bytes)
    }

    /// A buffer for a frame, once the coldest frames have made room for it; none when nothing more can be given up.
    fn room_for(
        &self,
        lane: &Lane,
        bytes: u64,
        is_kept: bool,
        grant: &mut Grant,
    ) -> Result<Option<FrameBuffer>, StoreError> {
        loop {
            match self.buffer(lane.stage(), bytes, is_kept, grant) {
                Ok(buffer) => return Ok(Some(buffer)),
                Err(refusal) if self.scratch.is_empty() => return Err(StoreError::Budget(refusal)),
                Err(_) if self.spill_coldest()? == 0 => return Ok(None),
                Err(_) => {}
            }
        }
    }

    /// A buffer for a frame, counted in `grant`: in a segment, when it is to be kept and segments are shared.
    fn buffer(
        &self,
        stage: StageKey,
        bytes: u64,
        is_kept: bool,
        grant: &mut Grant,
    ) -> Result<FrameBuffer, OutOfBudget> {
        if let Some(segments) = self.segments.get().filter(|_| is_kept) {
            match segments.room(stage, bytes, grant) {
                Ok(room) => return Ok(FrameBuffer::within(room)),
                Err(NoRoom::Budget(refusal)) => return Err(refusal),
                Err(NoRoom::Kernel(error)) => {
                    tracing::warn!(%error, "no shared memory for a frame: other executors get it over TCP");
                }
            }
        }
        grant.try_grow(bytes)?;
        Ok(FrameBuffer::new(bytes as usize))
    }

    /// The frames of a committed block, in the order in which they were written.
    pub(crate) fn frames(&self, key: &BlockKey) -> Result<Vec<Arc<Cell>>, StoreError> {
        let attempts = self.attempts.lock();
        let attempt = attempts.get(&key.producer).ok_or(StoreError::UnknownBlock(*key))?;
        if !attempt.committed {
            return Err(StoreError::NotCommitted(*key));
        }
        let lane = attempt.lanes.get(&key.lane).map(Arc::clone);
        drop(attempts);
        lane.and_then(|lane| lane.block(key.partition)).ok_or(StoreError::UnknownBlock(*key))
    }

    /// Where a frame lies now; it counts as used now.
    pub(crate) fn load(&self, cell: &Cell) -> Loaded {
        cell.touch(self.tick());
        cell.load()
    }

    /// Takes back what an unfinished writer wrote.
    pub(crate) fn abandon(&self, lane: &Lane) {
        let (attempt, number) = lane.name();
        lane.discard();
        let mut attempts = self.attempts.lock();
        let Some(entry) = attempts.get_mut(&attempt) else { return };
        if !entry.lanes.get(&number).is_some_and(|known| std::ptr::eq(known.as_ref(), lane)) {
            return;
        }
        let removed = entry.lanes.remove(&number);
        if entry.lanes.is_empty() && !entry.committed {
            attempts.remove(&attempt);
        }
        drop(attempts);
        drop(removed);
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Spills until `bytes` more fit under `memory_max`; false when they never will.
    fn make_memory_fit(&self, bytes: u64) -> Result<bool, StoreError> {
        if self.scratch.is_empty() {
            return Ok(true);
        }
        while self.counts.memory_bytes.load(Ordering::Relaxed) + bytes > self.memory_max {
            if bytes > self.memory_max || self.spill_coldest()? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes the coldest frame to a file; returns its bytes, 0 when there is none or no folder.
    fn spill_coldest(&self) -> Result<u64, StoreError> {
        if self.scratch.is_empty() {
            return Ok(0);
        }
        while let Some((queued, cell)) = self.pop_coldest() {
            match cell.spill(&self.scratch) {
                Ok(0) => {}
                Ok(bytes) => return Ok(bytes),
                Err(error) => {
                    self.cold.lock().push_front((queued, Arc::downgrade(&cell)));
                    return Err(error);
                }
            }
        }
        Ok(0)
    }

    fn pop_coldest(&self) -> Option<(u64, Arc<Cell>)> {
        let mut cold = self.cold.lock();
        // Every frame may go round once; after that the front one is taken even if it was used meanwhile.
        for _ in 0..=cold.len() {
            let (queued, cell) = cold.pop_front()?;
            let Some(cell) = cell.upgrade() else { continue };
            let touched = cell.touched();
            if touched == queued {
                return Some((queued, cell));
            }
            cold.push_back((touched, Arc::downgrade(&cell)));
        }
        let (queued, cell) = cold.pop_front()?;
        cell.upgrade().map(|cell| (queued, cell))
    }
}

impl Attempt {
    fn discard(self) {
        self.lanes.values().for_each(|lane| lane.discard());
    }
}
