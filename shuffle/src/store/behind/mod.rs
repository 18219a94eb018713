//! Writing behind: frames go to files before memory is short, so that it can be given up at once when it is.
//!
//! ```text
//!   keep --> dirty --(thread: gathers pieces, copies them)--> disks --> clean --give_up--> in files alone
//!   pass --> dirty, first in line --------------------------------> in files alone
//! ```
//!
//! When more than half of the memory that frames may fill is dirty, the store's thread writes the coldest until it is less.
//! So memory that is full is half clean, and small jobs never touch a disk. Only who finds nothing clean waits for a disk, and
//! nobody for longer than `wait_max`. Frames for which there is no memory at all pass through: small ones gather before their
//! writer waits for them.
//!
//! For a disk that is slower than packing, frames are packed when they are gathered (`pack`).
//!
//! What is in flight lies in the buffers of the disks' services: 16 MiB each, which no budget counts, and frames that are
//! larger than such a buffer; a piece that is packed is in memory once more until it is copied there. The frames themselves are free to go meanwhile.

mod paths;
mod thread;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use firesteel_base::{MemoryBudget, StageKey};
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use super::cell::Cell;
use super::disk::Disk;
use super::file::FrameFile;
use super::queue::ColdQueue;
use super::{Counts, StoreError};

/// This part of the memory that frames may fill is dirty at most, or the thread writes.
const DIRTY_PER_MEMORY: u64 = 2;
/// Once it writes, it goes on until so much less is dirty, so that pieces are large.
const SLACK_PER_DIRTY: u64 = 8;

/// Bytes of frames for which there is no memory, gathered before their writers wait.
const PASSING_BYTES_MAX: u64 = 256 << 10;

/// What the store, its thread and its cells share.
#[derive(Debug)]
pub(super) struct Behind {
    budget: MemoryBudget,
    memory_max: u64,
    wait_max: Duration,
    counts: Arc<Counts>,
    disks: Vec<Arc<Disk>>,
    files: Files,
    state: Mutex<State>,
    /// Told to those who wait for the state to change.
    progress: Condvar,
    /// Told to the thread.
    signal: Notify,
    /// Held while the thread has frames in its hands, which is as long as it copies a piece.
    hands: Mutex<()>,
    /// How often the thread has looked for something to write.
    #[cfg(test)]
    pub looks: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// Frames in memory that are in no file; those that are being written are not among them.
    dirty: ColdQueue,
    /// Frames in memory and in a file.
    clean: ColdQueue,
    /// Bytes of frames that somebody waits for to become clean, and that are not being written yet.
    wanted: u64,
    /// Bytes of frames that are being written and become clean.
    in_flight: u64,
    is_draining: bool,
    /// Somebody new waits: disks that failed are to be tried again.
    is_retried: bool,
    /// How often somebody waited in vain, and why the last time.
    faults: u64,
    fault: Option<StoreError>,
    is_stopping: bool,
    is_over: bool,
}

/// The files that may be appended to.
#[derive(Debug, Default)]
struct Files {
    open: Mutex<BTreeMap<(StageKey, usize), Weak<FrameFile>>>,
    made: AtomicU64,
}

impl Files {
    /// The file of a stage on a disk.
    fn of(&self, stage: StageKey, (number, disk): (usize, &Arc<Disk>)) -> Arc<FrameFile> {
        let mut open = self.open.lock();
        if let Some(file) = open.get(&(stage, number)).and_then(Weak::upgrade) {
            return file;
        }
        open.retain(|_, file| file.strong_count() > 0);
        let unique = self.made.fetch_add(1, Ordering::Relaxed);
        let name = format!("{stage}-{unique}").replace('/', "-");
        let file = Arc::new(FrameFile::new(disk.folder().join(name), Arc::clone(disk)));
        open.insert((stage, number), Arc::downgrade(&file));
        file
    }

    fn take(&self, mut matches: impl FnMut(StageKey) -> bool) -> Vec<Arc<FrameFile>> {
        let taken = self.open.lock().extract_if(.., |(stage, _), _| matches(*stage)).collect::<Vec<_>>();
        taken.into_iter().filter_map(|(_, file)| file.upgrade()).collect()
    }
}

impl Behind {
    /// Its thread, when there are disks, inherits the CPUs of the caller's.
    ///
    /// # Errors
    /// When the thread cannot be had.
    pub fn start(
        (budget, memory_max): (MemoryBudget, u64),
        wait_max: Duration,
        disks: Vec<Disk>,
        counts: &Arc<Counts>,
    ) -> Result<Arc<Self>, StoreError> {
        let behind = Arc::new(Self {
            budget,
            memory_max,
            wait_max,
            counts: Arc::clone(counts),
            disks: disks.into_iter().map(Arc::new).collect(),
            files: Files::default(),
            state: Mutex::default(),
            progress: Condvar::new(),
            signal: Notify::new(),
            hands: Mutex::new(()),
            #[cfg(test)]
            looks: AtomicU64::new(0),
        });
        if behind.has_disks() {
            thread::start(&behind).map_err(|error| behind.ended(&error.to_string()))?;
        }
        Ok(behind)
    }

    #[cfg(test)]
    pub fn disk(&self, number: usize) -> &Disk {
        &self.disks[number]
    }

    /// Whether frames can be written to files at all.
    pub fn has_disks(&self) -> bool {
        !self.disks.is_empty()
    }

    /// Takes care of a frame in memory.
    pub fn keep(&self, cell: &Arc<Cell>) {
        if !self.has_disks() {
            return;
        }
        let mut state = self.state.lock();
        state.dirty.push(cell);
        self.note_level(&mut state);
        let is_draining = state.is_draining;
        drop(state);
        if is_draining {
            self.signal.notify_one();
        }
    }

    /// Gives up the memory of the coldest clean frame; returns its bytes, 0 when there is nothing left to give up. When
    /// nothing is clean it waits until something is, and has `wanted` bytes made so.
    ///
    /// # Errors
    /// When no disk takes them, or not within `wait_max`.
    pub fn give_up(&self, wanted: u64) -> Result<u64, StoreError> {
        let deadline = Instant::now() + self.wait_max;
        let mut state = self.state.lock();
        let seen = state.faults;
        let mut waits = false;
        loop {
            if let Some(cell) = state.clean.pop() {
                drop(state);
                match cell.let_go() {
                    0 => state = self.state.lock(),
                    bytes => return Ok(bytes),
                }
                continue;
            }
            if state.faults > seen {
                return Err(state.fault.clone().expect("it was set when it was counted"));
            }
            if state.is_over || self.has_no_dirty(&state) {
                return Ok(0);
            }
            self.want(&mut state, wanted, !waits);
            waits = true;
            if self.progress.wait_until(&mut state, deadline).timed_out() {
                return Err(StoreError::Slow { bytes: wanted, limit: self.wait_max });
            }
        }
    }

    /// Whether no frame can become clean any more: those that pass through never do.
    fn has_no_dirty(&self, state: &State) -> bool {
        let [memory, clean, passing] =
            [&self.counts.memory_bytes, &self.counts.clean_bytes, &self.counts.passing_bytes]
                .map(|count| count.load(Ordering::Relaxed));
        // What is in flight counts as clean a moment before it can be given up.
        state.in_flight == 0 && (state.dirty.is_empty() || memory <= clean + passing)
    }

    fn want(&self, state: &mut State, bytes: u64, is_new: bool) {
        state.wanted = state.wanted.max(bytes.saturating_sub(state.in_flight));
        state.is_retried |= is_new;
        self.signal.notify_one();
    }

    /// Has a frame written for which there is no memory, and waits until few bytes of such frames are left.
    ///
    /// # Errors
    /// As [`give_up`](Self::give_up).
    pub fn pass(&self, cell: &Arc<Cell>) -> Result<(), StoreError> {
        self.state.lock().dirty.put_back(std::slice::from_ref(cell));
        self.wait_passed(PASSING_BYTES_MAX)
    }

    /// Waits until no more than `max` bytes are in memory for which there is none.
    ///
    /// # Errors
    /// As [`give_up`](Self::give_up).
    pub fn wait_passed(&self, max: u64) -> Result<(), StoreError> {
        let passing = || self.counts.passing_bytes.load(Ordering::Relaxed);
        if passing() <= max {
            return Ok(());
        }
        let deadline = Instant::now() + self.wait_max;
        let mut state = self.state.lock();
        let seen = state.faults;
        let mut waits = false;
        while passing() > max {
            if state.faults > seen {
                return Err(state.fault.clone().expect("it was set when it was counted"));
            }
            if state.is_over {
                return Err(self.ended("it failed"));
            }
            self.want(&mut state, passing(), !waits);
            waits = true;
            if self.progress.wait_until(&mut state, deadline).timed_out() {
                return Err(StoreError::Slow { bytes: passing(), limit: self.wait_max });
            }
        }
        Ok(())
    }

    /// Waits until nothing is being written and nothing needs to be; whether that came within `limit`.
    pub fn settle(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut state = self.state.lock();
        loop {
            self.note_level(&mut state);
            if !state.is_draining && state.in_flight == 0 {
                drop(state);
                self.let_go();
                return true;
            }
            self.signal.notify_one();
            if self.progress.wait_until(&mut state, deadline).timed_out() {
                return false;
            }
        }
    }

    /// Takes the names of the files of stages away whose frames are about to be freed, all of them.
    pub fn doom(&self, matches: impl FnMut(StageKey) -> bool) {
        self.files.take(matches).iter().for_each(|file| file.doom());
    }

    /// Waits until the thread has let go of the frames that it holds: those that were freed before are gone.
    pub fn let_go(&self) {
        drop(self.hands.lock());
    }

    /// Ends the thread. It may hang in the kernel: it is not waited for longer than a moment.
    pub fn stop(&self) {
        const MOMENT: Duration = Duration::from_secs(1);
        self.doom(|_| true);
        let mut state = self.state.lock();
        state.is_stopping = true;
        self.signal.notify_one();
        let deadline = Instant::now() + MOMENT;
        while self.has_disks() && !state.is_over {
            if self.progress.wait_until(&mut state, deadline).timed_out() {
                tracing::warn!("the thread that writes shuffle files does not end");
                return;
            }
        }
    }

    /// Bytes of frames that are in no file and are not on their way to one.
    fn dirty_bytes(&self, state: &State) -> u64 {
        let memory = self.counts.memory_bytes.load(Ordering::Relaxed);
        memory.saturating_sub(self.counts.clean_bytes.load(Ordering::Relaxed) + state.in_flight)
    }

    /// Bytes of frames that may be so: part of what others leave of the memory.
    fn dirty_max(&self) -> u64 {
        let memory = self.counts.memory_bytes.load(Ordering::Relaxed);
        let others = self.budget.used().saturating_sub(memory);
        self.memory_max.min(self.budget.limit().saturating_sub(others)) / DIRTY_PER_MEMORY
    }

    /// Bytes that each disk may have in flight: a disk that hangs must not hold all that is dirty.
    fn in_flight_max(&self) -> u64 {
        let disks = self.disks.len() as u64;
        self.memory_max.min(self.budget.limit()) / DIRTY_PER_MEMORY / (2 * disks)
    }

    fn note_level(&self, state: &mut State) {
        let (dirty, max) = (self.dirty_bytes(state), self.dirty_max());
        state.is_draining = !state.dirty.is_empty()
            && (dirty > max || (state.is_draining && dirty > max - max / SLACK_PER_DIRTY));
    }

    fn ended(&self, why: &str) -> StoreError {
        let path = self.disks.first().map_or_else(PathBuf::new, |disk| disk.folder().to_owned());
        StoreError::Scratch { path, reason: format!("the thread that writes to it has ended: {why}") }
    }
}
