//! Memory that other executors of this host may look at: segments, and the rooms in them that frames are written into.
//!
//! A segment is a memfd that cannot shrink and that only this process may write. It holds frames of one stage, so that it
//! is free as a whole when the stage is; then it is used again, its pages already there. When it ends its pages go back to the
//! kernel, and be it mapped by readers still: these keep mapped what they have looked at for some time.
//!
//! Every room is counted in the budget by its owner. Memory that has pages behind it and is in no room, which is what lies
//! idle for the next stage and the gaps in segments in use, is *spare*: up to a bound it is not counted, beyond it it is.

mod memory;
mod room;
mod space;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use firesteel_base::{Grant, MemoryBudget, OutOfBudget, StageKey};

use crate::keep::{News, Reporter};
use crate::sync::{AtomicBool, Mutex};

pub(crate) use memory::{Mapping, map_foreign};
pub(crate) use room::{Home, Room};

use memory::Memory;
use space::{Space, Taken};

/// The most bytes of a segment. A reader maps no larger one.
pub(crate) const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// Segments come in multiples of this, the size of a huge page.
const STEP_BYTES: u64 = 2 << 20;
/// The usual size of a segment is this part of the memory that blocks may fill, so that few are open at a time.
const SEGMENTS_PER_MEMORY: u64 = 128;
/// The largest usual size. What is not touched takes no memory, so that a small stage pays nothing for it.
const SEGMENT_BYTES_USUAL_MAX: u64 = 256 << 20;
/// Spare memory that is not counted: at most this part of the memory that blocks may fill.
const SPARE_PER_MEMORY: u64 = 16;
/// And at most that many bytes.
const SPARE_BYTES_MAX: u64 = 256 << 20;
/// Segments kept idle, for each is an open file.
const IDLE_MAX: usize = 16;
/// In whose name spare memory beyond the bound is counted.
const SPARE: &str = "spare shuffle segments";

/// A piece of memory that other processes can map.
#[derive(Debug)]
pub(crate) struct Segment {
    id: u64,
    number: u64,
    memory: Memory,
    /// Somebody may look at parts of it that nothing here knows of: no part of it is used again.
    is_tainted: AtomicBool,
    /// Is told when it goes.
    reporter: Option<Arc<Reporter>>,
}

impl Segment {
    /// One that another process has left behind; nothing is written to it.
    ///
    /// # Errors
    /// When the file is no memory of a segment.
    pub fn left_behind(id: u64, file: OwnedFd) -> Result<Arc<Self>, String> {
        Ok(Arc::new(Self::new(id, Memory::of_other(file)?, None)))
    }

    fn new(id: u64, memory: Memory, reporter: Option<Arc<Reporter>>) -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        Self { id, number, memory, is_tainted: AtomicBool::new(false), reporter }
    }

    /// Its number among the segments of the store that made it.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its number among all that this process ever has, by which readers know it.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its memory.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Says that a reader went away without a word of what it still looks at: no part of it is used again, and it ends
    /// with its last frame.
    pub fn taint(&self) {
        self.is_tainted.store(true, Ordering::Relaxed);
    }

    fn is_tainted(&self) -> bool {
        self.is_tainted.load(Ordering::Relaxed)
    }

    fn bytes(&self) -> u64 {
        self.memory.mapping().len() as u64
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if let Some(reporter) = &self.reporter {
            reporter.tell(News::SegmentGone { number: self.id });
        }
        // Readers keep mapped what they looked at. Whoever went without a word may look still.
        if !self.is_tainted() {
            self.memory.give_back();
        }
    }
}

/// Whether this host has memory that can be shared.
///
/// # Errors
/// As the kernel says.
pub(crate) fn probe() -> io::Result<()> {
    Memory::create(STEP_BYTES).map(drop)
}

/// What the segments of a store take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SegmentUsage {
    /// Segments that hold frames.
    pub used: usize,
    /// Segments that lie idle.
    pub idle: usize,
    /// Bytes that have pages behind them and hold no frame: idle segments, and gaps in those that are used.
    pub spare_bytes: u64,
}

/// Why there is no room.
#[derive(Debug)]
pub(crate) enum NoRoom {
    /// The budget is used up.
    Budget(OutOfBudget),
    /// The kernel gives no more shared memory.
    Kernel(io::Error),
}

/// The segments of one store.
#[derive(Debug)]
pub(crate) struct Segments {
    /// Is told of segments that are made.
    reporter: Option<Arc<Reporter>>,
    usual_bytes: u64,
    spare_max: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Segments that hold frames, by the stage whose frames these are.
    used: BTreeMap<(StageKey, u64), Part>,
    /// Those that hold none; used last comes last.
    idle: Vec<Part>,
    spare: u64,
    /// Counts the spare memory beyond the bound.
    excess: Grant,
    made: u64,
}

#[derive(Debug)]
struct Part {
    segment: Arc<Segment>,
    space: Space,
}

impl Segments {
    /// No segments yet. They will hold at most `memory_max` bytes of frames, about. A reporter is told of them.
    pub fn new(budget: &MemoryBudget, memory_max: u64, reporter: Option<Arc<Reporter>>) -> Arc<Self> {
        let memory = memory_max.min(budget.limit());
        let usual = (memory / SEGMENTS_PER_MEMORY).clamp(STEP_BYTES, SEGMENT_BYTES_USUAL_MAX);
        Arc::new(Self {
            reporter,
            usual_bytes: usual.next_multiple_of(STEP_BYTES),
            spare_max: (memory / SPARE_PER_MEMORY).min(SPARE_BYTES_MAX),
            state: Mutex::new(State {
                used: BTreeMap::new(),
                idle: Vec::new(),
                spare: 0,
                excess: budget.open(SPARE),
                made: 0,
            }),
        })
    }

    /// Room for a frame of `bytes` of a stage, counted in `grant`.
    ///
    /// # Errors
    /// When the budget or the kernel refuses; then nothing has changed.
    pub fn room(self: &Arc<Self>, stage: StageKey, bytes: u64, grant: &mut Grant) -> Result<Room, NoRoom> {
        let mut state = self.state.lock();
        let (segment, taken) = match state.take_used(stage, bytes) {
            Some(found) => found,
            None => state.take_new(stage, bytes, self).map_err(NoRoom::Kernel)?,
        };
        state.spare -= bytes - taken.cold;
        let released = state.settle(self.spare_max);
        if let Err(refusal) = grant.try_grow(bytes) {
            let unused = self.give_locked(&mut state, (stage, &segment), taken, bytes);
            drop(state);
            drop((released, unused));
            return Err(NoRoom::Budget(refusal));
        }
        drop(state);
        drop(released);
        let room = Room::new(Arc::clone(self), stage, segment, taken.offset, bytes);
        room.populate_last(taken.cold);
        Ok(room)
    }

    /// What they take now.
    pub fn usage(&self) -> SegmentUsage {
        let state = self.state.lock();
        SegmentUsage { used: state.used.len(), idle: state.idle.len(), spare_bytes: state.spare }
    }

    /// Spare bytes that are counted in the budget.
    pub fn counted_spare(&self) -> u64 {
        self.state.lock().excess.bytes()
    }

    /// Gives idle segments back to the kernel.
    pub fn trim(&self) {
        let mut state = self.state.lock();
        let released = state.idle.drain(..).collect::<Vec<_>>();
        state.spare -= released.iter().map(|part| part.space.spare()).sum::<u64>();
        let _none = state.settle(self.spare_max);
        drop(state);
        drop(released);
    }

    /// Takes a room back.
    fn give(&self, stage: StageKey, segment: &Segment, offset: u64, bytes: u64) {
        let mut state = self.state.lock();
        let unused = self.give_locked(&mut state, (stage, segment), Taken { offset, cold: 0 }, bytes);
        drop(state);
        // The kernel takes its time to unmap: not under the lock.
        drop(unused);
    }

    fn give_locked(
        &self,
        state: &mut State,
        (stage, segment): (StageKey, &Segment),
        taken: Taken,
        bytes: u64,
    ) -> Vec<Part> {
        let key = (stage, segment.id());
        let part = state.used.get_mut(&key).expect("a segment with a room in it is in use");
        part.space.give(taken, bytes);
        let is_empty = part.space.is_empty();
        state.spare += bytes - taken.cold;
        let mut released = Vec::new();
        if is_empty {
            let part = state.used.remove(&key).expect("it was just found");
            if segment.is_tainted() || segment.bytes() != self.usual_bytes || state.idle.len() >= IDLE_MAX {
                state.spare -= part.space.spare();
                released.push(part);
            } else {
                state.idle.push(part);
            }
        }
        released.extend(state.settle(self.spare_max));
        released
    }
}

impl State {
    /// Room in a segment that holds frames of this stage already.
    fn take_used(&mut self, stage: StageKey, bytes: u64) -> Option<(Arc<Segment>, Taken)> {
        let of_stage = self.used.range_mut((stage, 0)..=(stage, u64::MAX));
        of_stage
            .filter(|(_, part)| !part.segment.is_tainted())
            .find_map(|(_, part)| Some((Arc::clone(&part.segment), part.space.take(bytes)?)))
    }

    /// Room in an idle segment or in a new one.
    fn take_new(
        &mut self,
        stage: StageKey,
        bytes: u64,
        segments: &Segments,
    ) -> io::Result<(Arc<Segment>, Taken)> {
        let mut part = match self.idle.pop_if(|part| part.segment.bytes() >= bytes) {
            Some(idle) => idle,
            None => {
                let size = bytes.max(segments.usual_bytes).next_multiple_of(STEP_BYTES);
                self.make(size, segments.reporter.clone())?
            }
        };
        let segment = Arc::clone(&part.segment);
        let taken = part.space.take(bytes).expect("the segment is empty and large enough");
        self.used.insert((stage, segment.id()), part);
        Ok((segment, taken))
    }

    fn make(&mut self, bytes: u64, reporter: Option<Arc<Reporter>>) -> io::Result<Part> {
        let memory = Memory::create(bytes)?;
        if let Some(reporter) = &reporter {
            match memory.file().try_clone_to_owned() {
                Ok(memory) => reporter.tell(News::Segment { number: self.made, memory }),
                Err(error) => tracing::warn!(%error, "the keeper is not told of a segment"),
            }
        }
        let segment = Segment::new(self.made, memory, reporter);
        self.made += 1;
        Ok(Part { segment: Arc::new(segment), space: Space::new(bytes) })
    }

    /// Lets go of idle segments, the ones used longest ago first, until spare memory is within its bound; what is beyond
    /// even then is counted. Returns what is to be dropped without the lock.
    fn settle(&mut self, spare_max: u64) -> Vec<Part> {
        let mut released = Vec::new();
        while self.spare > spare_max && !self.idle.is_empty() {
            let part = self.idle.remove(0);
            self.spare -= part.space.spare();
            released.push(part);
        }
        let beyond = self.spare.saturating_sub(spare_max);
        let counted = self.excess.bytes();
        if beyond > counted {
            // These pages are there already.
            self.excess.grow_unchecked(beyond - counted);
        } else {
            self.excess.shrink(counted - beyond);
        }
        released
    }
}

#[cfg(test)]
mod interleavings;
#[cfg(test)]
mod tests;
