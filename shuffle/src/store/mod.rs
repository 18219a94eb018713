//! The blocks of one executor: in memory first, then in files.
//!
//! Frames are written to files behind the back of those who write blocks, so that memory is given up at once when it is
//! wanted (`behind`), by direct input and output on a thread of each scratch folder (`firesteel_hw::scratch`).
//!
//! A store guarantees: nothing of an attempt is readable before its commit; what is discarded or freed is gone from
//! memory at once, and from the disk soon, with a stage the names of its files at once; memory of frames is counted in the
//! executor's budget until the last reader lets go of it, be it in another executor. It does not guarantee that blocks outlive the process, nor that the kernel has memory back as
//! soon as the budget has: what is shared is kept for the next frames, within the bound that `segment` names.
//!
//! Locks are held for map operations only, never while a file is read or written.

mod adopt;
#[cfg(test)]
mod ahead;
mod begun;
mod behind;
mod cell;
mod config;
mod disk;
mod error;
mod file;
mod folders;
mod lane;
#[cfg(test)]
mod large;
mod queue;
mod share;
mod taken;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow_schema::SchemaRef;
use firesteel_base::{AttemptKey, Epoch, ExecutorId, Grant, JobId, MemoryBudget, OutOfBudget, StageKey};
use parking_lot::Mutex;

pub(crate) use begun::begin;
pub(crate) use cell::{Cell, Loaded};
pub(crate) use config::Counts;
pub use config::{FileConfig, StoreConfig, StoreUsage};
pub use error::StoreError;
pub(crate) use file::{FileRange, FrameReader};
pub(crate) use lane::Lane;

use crate::format::{Frame, FrameBuffer, FramePlan};
use crate::keep::{News, Reporter};
use crate::key::BlockKey;
use crate::pack::Packing;
use crate::segment::{NoRoom, SegmentUsage, Segments};
use crate::write::LaneWriter;
use behind::Behind;
use disk::Disk;
use folders::Folders;

/// In whose name frames are counted in the budget.
const FRAMES: &str = "shuffle blocks";

/// The blocks of one executor.
#[derive(Debug)]
pub struct BlockStore {
    budget: MemoryBudget,
    memory_max: u64,
    attempts: Mutex<BTreeMap<AttemptKey, Attempt>>,
    counts: Arc<Counts>,
    /// Where frames go that other processes may map; none before somebody offers them.
    segments: OnceLock<Arc<Segments>>,
    behind: Arc<Behind>,
    /// Removed when all else is gone.
    _folders: Folders,
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
        Self::with_files(config, FileConfig::default())
    }

    /// The same, with a say in how files are written.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_files(config: StoreConfig, files: FileConfig) -> Result<Arc<Self>, StoreError> {
        let StoreConfig { budget, memory_max, scratch } = config;
        let folders = Folders::new(&scratch)?;
        let disks =
            folders.paths().enumerate().map(|(number, path)| Disk::new(path, number, &files)).collect();
        let counts = Arc::default();
        let behind = Behind::start((budget.clone(), memory_max), files.wait_max, disks, &counts)?;
        Ok(Arc::new(Self {
            budget,
            memory_max,
            attempts: Mutex::default(),
            counts,
            segments: OnceLock::new(),
            behind,
            _folders: folders,
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
        let lanes = entry.lanes.values();
        self.counts
            .tell(|| News::Committed { attempt: *attempt, lanes: lanes.map(|lane| lane.kept()).collect() });
        Ok(())
    }

    /// Removes all that the attempt wrote, committed or not.
    pub fn discard(&self, attempt: &AttemptKey) {
        let removed = self.attempts.lock().remove(attempt);
        self.tell_freed(removed.iter().map(|entry| (attempt, entry)));
        removed.into_iter().for_each(Attempt::discard);
        self.behind.let_go();
    }

    /// Removes the blocks of a stage.
    pub fn free_stage(&self, stage: StageKey) {
        self.free(|found| found == stage);
    }

    /// Removes the blocks of a job.
    pub fn free_job(&self, job: JobId) {
        self.free(|found| found.job == job);
    }

    fn free(&self, matches: impl Fn(StageKey) -> bool) {
        // First, for what is written from now on goes to other files.
        self.behind.doom(&matches);
        let is_freed = |attempt: &AttemptKey| matches(attempt.task.stage);
        let removed: Vec<_> = self.attempts.lock().extract_if(.., |attempt, _| is_freed(attempt)).collect();
        self.tell_freed(removed.iter().map(|(attempt, entry)| (attempt, entry)));
        removed.into_iter().for_each(|(_, entry)| entry.discard());
        self.behind.let_go();
    }

    /// Before the memory of what is freed is used again.
    fn tell_freed<'a>(&self, removed: impl Iterator<Item = (&'a AttemptKey, &'a Attempt)>) {
        let committed = removed.filter(|(_, entry)| entry.committed).map(|(attempt, _)| *attempt);
        let attempts: Vec<_> = committed.collect();
        if !attempts.is_empty() {
            self.counts.tell(|| News::Freed { attempts });
        }
    }

    /// Has a keeper told of what becomes of the blocks, so that they outlive this process. Comes before any is written and
    /// before the store is shared.
    pub fn report_to(&self, reporter: Reporter) {
        let is_first = self.counts.reporter.set(Arc::new(reporter)).is_ok() && self.segments.get().is_none();
        debug_assert!(is_first, "a store reports from its beginning, to one keeper");
    }

    /// Says whose blocks these are, and in which life of it: those of an earlier one are gone.
    pub fn begin_life(&self, executor: &ExecutorId, epoch: Epoch) {
        self.counts.tell(|| News::Begun { executor: executor.clone(), epoch });
    }

    /// What it holds now.
    #[must_use]
    pub fn usage(&self) -> StoreUsage {
        StoreUsage {
            memory_bytes: self.counts.memory_bytes.load(Ordering::Relaxed),
            clean_bytes: self.counts.clean_bytes.load(Ordering::Relaxed),
            disk_bytes: self.counts.disk_bytes.load(Ordering::Relaxed),
            blocks: self.counts.blocks.load(Ordering::Relaxed),
        }
    }

    /// Bytes of frames written to files since the store was made, whether or not they are in memory too.
    #[must_use]
    pub fn spilled_bytes(&self) -> u64 {
        self.counts.spilled_bytes.load(Ordering::Relaxed)
    }

    /// The frames that were written to files packed since the store was made. The bytes that its files took in all are
    /// [`spilled_bytes`](Self::spilled_bytes), less what packing saved.
    #[must_use]
    pub fn packing(&self) -> Packing {
        self.counts.packing.get()
    }

    /// Bytes of frames encoded since the store was made: each was copied once, out of the batches that were written.
    #[must_use]
    pub fn encoded_bytes(&self) -> u64 {
        self.counts.encoded_bytes.load(Ordering::Relaxed)
    }

    /// Puts the frames that are written from now on into memory that other processes of this host can map. A block
    /// server that offers that does it; a store that nobody else reads has no need.
    pub fn share(&self) {
        let reporter = self.counts.reporter.get().cloned();
        self.segments.get_or_init(|| Segments::new(&self.budget, self.memory_max, reporter));
    }

    /// What the memory takes that other processes can map; nothing, while none is shared.
    #[must_use]
    pub fn segments(&self) -> SegmentUsage {
        self.segments.get().map(|segments| segments.usage()).unwrap_or_default()
    }

    /// Waits until what is written behind is written, for `limit` at most; whether that came.
    #[must_use]
    pub fn settle(&self, limit: Duration) -> bool {
        self.behind.settle(limit)
    }

    /// Gives up the memory of the coldest frames until at least `bytes` of it are free, or none is left; returns the bytes
    /// given up. What is not in a file yet is written first. Memory that readers still look at returns to the budget when
    /// they are done.
    ///
    /// # Errors
    /// When no folder takes them, or not in time.
    pub fn make_room(&self, bytes: u64) -> Result<u64, StoreError> {
        let counted_spare = || self.segments.get().map_or(0, |segments| segments.counted_spare());
        if let Some(segments) = self.segments.get() {
            segments.trim();
        }
        let mut freed = 0;
        while freed < bytes {
            let before = counted_spare();
            let spilled = self.behind.give_up(bytes - freed)?;
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
        let fits = fits && room.is_some();
        let buffer = room.unwrap_or_else(|| {
            // Nothing of ours is left to give up. The frame is in memory only until it is in its file.
            grant.grow_unchecked(bytes);
            FrameBuffer::new(bytes as usize)
        });
        self.counts.encoded_bytes.fetch_add(bytes, Ordering::Relaxed);
        let (producer, number) = lane.name();
        let key = BlockKey { producer, lane: number, partition };
        let seal = key.seal(lane.frames(partition));
        let frame = plan.write_into(buffer, seal).freeze(Some(grant));
        self.put(lane, partition, frame, fits)?;
        Ok(bytes)
    }

    /// Puts a frame into a block; one for which there is no memory is not kept there once it is in its file.
    fn put(&self, lane: &Lane, partition: u32, frame: Frame, is_kept: bool) -> Result<(), StoreError> {
        let now = self.counts.tick();
        if is_kept {
            let cell = Cell::resident(lane, frame, now);
            lane.push(partition, Arc::clone(&cell));
            self.behind.keep(&cell);
        } else {
            let cell = Cell::passing(lane, frame, now);
            self.behind.pass(&cell)?;
            lane.push(partition, cell);
        }
        Ok(())
    }

    /// Waits until the frames for which there is no memory are in files.
    ///
    /// # Errors
    /// When no folder takes them, or not in time.
    pub(crate) fn wait_passed(&self) -> Result<(), StoreError> {
        self.behind.wait_passed(0)
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
                Err(refusal) if !self.behind.has_disks() => return Err(StoreError::Budget(refusal)),
                Err(_) if self.behind.give_up(bytes)? == 0 => return Ok(None),
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

    /// Takes back what an unfinished writer wrote.
    pub(crate) fn abandon(&self, lane: &Lane) {
        let (attempt, number) = lane.name();
        lane.discard();
        self.behind.let_go();
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

    /// Gives memory up until `bytes` more fit under `memory_max`; false when they never will.
    fn make_memory_fit(&self, bytes: u64) -> Result<bool, StoreError> {
        if !self.behind.has_disks() {
            return Ok(true);
        }
        while self.counts.memory_bytes.load(Ordering::Relaxed) + bytes > self.memory_max {
            if bytes > self.memory_max || self.behind.give_up(bytes)? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Drop for BlockStore {
    fn drop(&mut self) {
        self.behind.stop();
    }
}

impl Attempt {
    fn discard(self) {
        self.lanes.values().for_each(|lane| lane.discard());
    }
}
