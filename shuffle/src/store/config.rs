//! What a store may use, how it writes files, and what it holds.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use firesteel_base::MemoryBudget;
use firesteel_hw::scratch::EngineKind;

use crate::keep::{News, Reporter};
use crate::pack::{Compression, PackingCounts};

/// What a store may use.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The executor's memory; frames and buffered rows are counted in it.
    pub budget: MemoryBudget,
    /// Bytes of frames kept in memory before the coldest are given up. Without a scratch folder the budget alone
    /// limits.
    pub memory_max: u64,
    /// Folders for files, used in proportion to the speed of their disks; none: frames stay in memory.
    pub scratch: Vec<PathBuf>,
}

/// How a store writes its files. What is asked for and cannot be had in a folder is done without there, with a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileConfig {
    /// What does the input and output; the blocking engine where it cannot be had.
    pub engine: EngineKind,
    /// Whether to bypass the page cache, which no budget counts.
    pub direct: bool,
    /// How long anyone waits for a disk: a writer for room in memory or for its frame to be in a file, a reader for a piece
    /// of a frame.
    pub wait_max: Duration,
    /// Whether frames are packed in files; by default on disks that are so slow that packing makes them faster, which is
    /// measured while they write. Folders in memory are taken for fast.
    pub compression: Compression,
}

impl Default for FileConfig {
    fn default() -> Self {
        let (wait_max, compression) = (Duration::from_secs(30), Compression::Auto);
        Self { engine: EngineKind::Ring, direct: true, wait_max, compression }
    }
}

/// What a store holds now. `memory_bytes` and `disk_bytes` together are all its frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreUsage {
    /// Bytes of frames in memory.
    pub memory_bytes: u64,
    /// Bytes of those of them that are in files too, so that their memory can be given up at once.
    pub clean_bytes: u64,
    /// Bytes of frames that are in files alone.
    pub disk_bytes: u64,
    /// Blocks that hold at least one frame.
    pub blocks: u64,
}

/// Counted as it happens, so that usage is read without a lock.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub memory_bytes: AtomicU64,
    pub clean_bytes: AtomicU64,
    /// Part of `memory_bytes`: frames for which there is no memory, until they are in files.
    pub passing_bytes: AtomicU64,
    pub disk_bytes: AtomicU64,
    pub blocks: AtomicU64,
    pub spilled_bytes: AtomicU64,
    pub encoded_bytes: AtomicU64,
    /// Frames that were written to files packed.
    pub packing: PackingCounts,
    /// Goes on with each use of a frame.
    pub clock: AtomicU64,
    /// Frames made.
    pub frames: AtomicU64,
    /// Is told what becomes of frames.
    pub reporter: OnceLock<Arc<Reporter>>,
}

impl Counts {
    pub fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub fn tell(&self, news: impl FnOnce() -> News) {
        if let Some(reporter) = self.reporter.get() {
            reporter.tell(news());
        }
    }
}
