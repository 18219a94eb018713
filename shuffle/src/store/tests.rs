//! A store whose disks are held up, or refuse, when the test says so.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arrow_array::{Int64Array, RecordBatch};
use firesteel_base::{AttemptKey, ByteSize, JobId, MemoryBudget, StageId};
use firesteel_hw::scratch::ScratchError;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::watch;

use super::*;
use crate::format::{Decoder, Trust};
use crate::pack::Compression;
use crate::write::{Assignment, WriteError};

pub(super) const MIB: u64 = 1 << 20;
pub(super) const LONG: Duration = Duration::from_secs(30);
/// Longer than a disk that works ever takes.
const SHORT: Duration = Duration::from_secs(2);

/// What every transfer of a disk passes through.
#[derive(Debug, Default)]
pub(super) struct Gate {
    is_shut: watch::Sender<bool>,
    refusal: Mutex<Option<io::ErrorKind>>,
    pub(super) waiting: AtomicUsize,
    /// Bytes per second that are written, if that is held to a rate.
    pub(super) rate: AtomicU64,
    /// Pieces that came to be written, and their bytes.
    came: AtomicU64,
    came_bytes: AtomicU64,
    /// How many of them are let through, if not all.
    allowed: watch::Sender<Option<u64>>,
}

impl Gate {
    pub(super) async fn pass(&self, path: &Path) -> Result<(), ScratchError> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let mut is_shut = self.is_shut.subscribe();
        // It fails when the sender is gone, which is part of this.
        let _ = is_shut.wait_for(|is_shut| !is_shut).await;
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        let refusal = *self.refusal.lock();
        refusal.map_or(Ok(()), |kind| {
            Err(ScratchError::Io { operation: "write", path: path.to_owned(), source: kind.into() })
        })
    }

    /// Takes as long as writing so many bytes may take, as a disk does that writes one piece after the other.
    pub(super) fn crawl(&self, bytes: u64) {
        if let rate @ 1.. = self.rate.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_secs_f64(bytes as f64 / rate as f64));
        }
    }

    /// Waits until a piece of so many bytes is let through.
    pub(super) async fn queue(&self, bytes: u64) {
        self.came_bytes.fetch_add(bytes, Ordering::SeqCst);
        let before = self.came.fetch_add(1, Ordering::SeqCst);
        let mut allowed = self.allowed.subscribe();
        // As above.
        let _ = allowed.wait_for(|allowed| allowed.is_none_or(|allowed| before < allowed)).await;
    }

    fn queued(&self) -> u64 {
        self.came.load(Ordering::SeqCst) - self.allowed.borrow().unwrap_or(0)
    }

    /// Lets so many pieces more through.
    fn allow(&self, pieces: u64) {
        self.allowed.send_modify(|allowed| *allowed = Some(allowed.unwrap_or(0) + pieces));
    }

    pub(super) fn shut(&self, is_shut: bool) {
        self.is_shut.send_replace(is_shut);
    }

    fn refuse(&self, kind: impl Into<Option<io::ErrorKind>>) {
        *self.refusal.lock() = kind.into();
    }
}

pub(super) struct Lab {
    pub(super) store: Arc<BlockStore>,
    pub(super) budget: MemoryBudget,
    folders: Vec<TempDir>,
}

impl Lab {
    /// Its frames lie in files as they are: whether a disk is so slow that they are packed depends on the machine's other work.
    pub(super) fn new(memory_max: u64, folders: usize, wait_max: Duration) -> Self {
        let compression = Compression::None;
        Self::with_files(memory_max, folders, FileConfig { wait_max, compression, ..FileConfig::default() })
    }

    fn with_files(memory_max: u64, folders: usize, files: FileConfig) -> Self {
        let folders: Vec<_> = (0..folders).map(|_| tempfile::tempdir().unwrap()).collect();
        let scratch = folders.iter().map(|folder| folder.path().to_owned()).collect();
        let budget = MemoryBudget::new(ByteSize(1 << 30));
        let config = StoreConfig { budget: budget.clone(), memory_max, scratch };
        let store = BlockStore::with_files(config, files).unwrap();
        Self { store, budget, folders }
    }

    pub(super) fn gate(&self, disk: usize) -> &Gate {
        &self.store.behind.disk(disk).gate
    }

    /// Writes and commits so many frames of about a megabyte; returns their bytes.
    pub(super) fn write(&self, task: u32, frames: i64) -> Result<u64, WriteError> {
        let mut writer = self.store.writer(attempt(task), 0, batch(0).schema(), 1);
        for frame in 0..frames {
            writer.write(&batch(frame), &Assignment::Single)?;
        }
        let output = writer.finish()?;
        self.store.commit(&attempt(task)).unwrap();
        Ok(output.total().bytes)
    }

    /// Reads the block of a task; how many frames had to come from files.
    async fn check(&self, task: u32, frames: i64) -> Result<usize, StoreError> {
        let key = BlockKey { producer: attempt(task), lane: 0, partition: 0 };
        let (mut found, mut from_files) = (Vec::new(), 0);
        for (number, cell) in (0..).zip(self.store.frames(&key)?) {
            let (bytes, trust) = match cell.load() {
                Loaded::Memory(frame) => (frame.bytes, Trust::Resident),
                Loaded::File(range) => {
                    from_files += 1;
                    (range.read_unpacked(cell.bytes()).await?, Trust::Cluster)
                }
            };
            let decoder = Decoder::new(batch(0).schema());
            let batch = decoder.decode_sealed(&bytes, trust, key.seal(number)).unwrap();
            let column = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap().clone();
            found.extend_from_slice(column.values());
        }
        assert!(found.into_iter().eq(0..frames * ROWS));
        Ok(from_files)
    }

    fn files(&self) -> usize {
        let stores = self.folders.iter().flat_map(|folder| fs::read_dir(folder.path()).unwrap());
        let entries = stores.flat_map(|store| fs::read_dir(store.unwrap().path()).unwrap());
        entries.filter(|entry| entry.as_ref().unwrap().file_name() != "lock").count()
    }

    pub(super) fn assert_empty(&self) {
        self.store.free_job(JobId(1));
        assert_eq!((self.store.usage(), self.budget.used(), self.files()), (StoreUsage::default(), 0, 0));
    }
}

pub(super) fn attempt(task: u32) -> AttemptKey {
    AttemptKey::new(JobId(1), StageId(0), task, 0)
}

/// As many as go into one frame; their columns make a MiB.
pub(super) const ROWS: i64 = 1 << 15;

pub(super) fn batch(number: i64) -> RecordBatch {
    let numbers = Arc::new(Int64Array::from_iter_values(number * ROWS..(number + 1) * ROWS));
    RecordBatch::try_from_iter(["n", "o", "p", "q"].map(|name| (name, Arc::clone(&numbers) as _))).unwrap()
}

pub(super) fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {LONG:?}: {what}");
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn frames_are_written_before_memory_is_short_and_stay_in_it() {
    let lab = Lab::new(16 * MIB, 1, LONG);
    let small = lab.write(0, 4).unwrap();
    assert!(lab.store.settle(LONG));
    assert_eq!((lab.store.spilled_bytes(), lab.files()), (0, 0), "small jobs touch no disk");
    let bytes = small + lab.write(1, 10).unwrap();
    assert!(lab.store.settle(LONG));
    let usage = lab.store.usage();
    assert_eq!((usage.memory_bytes, usage.disk_bytes), (bytes, 0), "nothing was given up");
    assert!(bytes < 16 * MIB && usage.clean_bytes >= bytes - 8 * MIB, "{usage:?}");
    assert_eq!((usage.clean_bytes, lab.files()), (lab.store.spilled_bytes(), 1));
    assert_eq!(lab.check(0, 4).await.unwrap() + lab.check(1, 10).await.unwrap(), 0);
    lab.assert_empty();
}

#[tokio::test]
async fn giving_up_clean_memory_waits_for_no_disk() {
    let lab = Lab::new(16 * MIB, 1, LONG);
    lab.write(0, 14).unwrap();
    assert!(lab.store.settle(LONG));
    let usage = lab.store.usage();
    lab.gate(0).shut(true);
    // A writer that finds memory full, and somebody else who wants some.
    lab.write(1, 4).unwrap();
    let full = lab.store.usage();
    assert!(full.disk_bytes > MIB && full.memory_bytes <= 16 * MIB, "{usage:?}, then {full:?}");
    let freed = lab.store.make_room(MIB).unwrap();
    assert!(freed >= MIB && lab.budget.used() == full.memory_bytes - freed);
    lab.gate(0).shut(false);
    assert!(lab.check(0, 14).await.unwrap() > 0);
    lab.check(1, 4).await.unwrap();
    lab.assert_empty();
}

#[test]
fn freeing_a_stage_whose_frames_are_being_written_leaves_nothing() {
    let lab = Lab::new(8 * MIB, 1, LONG);
    lab.gate(0).shut(true);
    lab.write(0, 6).unwrap();
    until("a piece is on its way", || lab.gate(0).waiting.load(Ordering::SeqCst) > 0);
    assert_eq!(lab.files(), 1);
    lab.store.free_stage(attempt(0).task.stage);
    // A piece that was just gathered may have made a file since, which goes when it has been written.
    assert_eq!((lab.store.usage(), lab.budget.used()), (StoreUsage::default(), 0));
    lab.gate(0).shut(false);
    assert!(lab.store.settle(LONG));
    assert_eq!((lab.store.usage(), lab.budget.used(), lab.files()), (StoreUsage::default(), 0, 0));
    // The stage is run again, into another file.
    lab.write(0, 7).unwrap();
    assert!(lab.store.settle(LONG));
    assert_eq!(lab.files(), 1);
    lab.assert_empty();
}

#[tokio::test]
async fn a_disk_that_hangs_is_an_error_in_time_and_all_goes_on_when_it_comes_back() {
    for memory_max in [0, 4 * MIB] {
        let lab = Lab::new(memory_max, 1, SHORT);
        lab.gate(0).shut(true);
        let begun = Instant::now();
        let fault = lab.write(0, 20).unwrap_err();
        assert!(matches!(fault, WriteError::Store(StoreError::Slow { .. })), "{fault}");
        assert!(begun.elapsed() >= SHORT && begun.elapsed() < LONG);
        lab.gate(0).shut(false);
        lab.write(0, 20).unwrap();
        assert!(lab.check(0, 20).await.unwrap() > 10);
        lab.gate(0).shut(true);
        let fault = lab.check(0, 20).await.unwrap_err();
        assert!(fault.to_string().contains("took more than 2s"), "{fault}");
        lab.gate(0).shut(false);
        lab.assert_empty();
    }
}

/// Who waits and the thread once woke each other until the disk was done, on the core where the kernel should have finished the write.
#[test]
fn who_waits_for_what_is_in_flight_sleeps() {
    let lab = Lab::new(64 * MIB, 1, SHORT);
    lab.gate(0).shut(true);
    lab.write(0, 1).unwrap();
    assert!(matches!(lab.store.make_room(8 * MIB), Err(StoreError::Slow { .. })));
    let looks = lab.store.behind.looks.load(Ordering::SeqCst);
    assert!(looks < 100, "{looks}");
    lab.gate(0).shut(false);
    assert!(lab.store.make_room(8 * MIB).unwrap() >= MIB);
    lab.assert_empty();
}

#[tokio::test]
async fn a_disk_that_hangs_does_not_hold_up_the_others() {
    let lab = Lab::new(4 * MIB, 2, LONG);
    lab.gate(0).shut(true);
    lab.write(0, 60).unwrap();
    assert_eq!(lab.files(), 2);
    lab.gate(0).shut(false);
    lab.check(0, 60).await.unwrap();
    lab.assert_empty();
}

/// One of the disks writes a piece in the time in which the other writes four.
#[tokio::test]
async fn disks_get_frames_in_proportion_to_what_they_write() {
    const ROUNDS: u64 = 20;
    /// A quarter of half of the memory for each disk, in pieces of a frame.
    const QUEUED_MAX: u64 = 2;
    let lab = Lab::new(16 * MIB, 2, LONG);
    let gates = [lab.gate(0), lab.gate(1)];
    gates.iter().for_each(|gate| gate.allow(0));
    let given = std::thread::scope(|scope| {
        let writer = scope.spawn(|| lab.write(0, 150).unwrap());
        for _ in 0..ROUNDS {
            for (gate, pieces) in gates.into_iter().zip([4, 1]) {
                for _ in 0..pieces {
                    until("a disk has something to write", || gate.queued() == QUEUED_MAX);
                    gate.allow(1);
                }
            }
        }
        assert!(!writer.is_finished(), "there was more to be written than the disks took");
        until("both have got the next", || gates.iter().all(|gate| gate.queued() == QUEUED_MAX));
        let given = gates.map(|gate| gate.came_bytes.load(Ordering::SeqCst));
        for gate in &gates {
            gate.allowed.send_replace(None);
        }
        given
    });
    let of_the_fast = given[0] as f64 / (given[0] + given[1]) as f64;
    assert!((0.77..=0.8).contains(&of_the_fast), "{given:?}");
    lab.check(0, 150).await.unwrap();
    lab.assert_empty();
}

#[tokio::test]
async fn a_full_disk_is_passed_over_and_all_full_is_a_clear_error() {
    let lab = Lab::new(4 * MIB, 2, LONG);
    lab.gate(0).refuse(io::ErrorKind::StorageFull);
    lab.write(0, 20).unwrap();
    assert!(lab.check(0, 20).await.unwrap() > 10);
    lab.gate(1).refuse(io::ErrorKind::StorageFull);
    let WriteError::Store(StoreError::DiskFull { reasons, .. }) = lab.write(1, 20).unwrap_err() else {
        panic!("another error");
    };
    for (folder, reason) in lab.folders.iter().zip(&reasons) {
        assert!(reason.contains(folder.path().to_str().unwrap()) && reason.contains("no storage space"));
    }
    // Room is made, and used at once.
    lab.gate(0).refuse(None);
    lab.write(1, 20).unwrap();
    lab.check(1, 20).await.unwrap();
    lab.assert_empty();
}

#[test]
fn a_store_ends_while_its_disk_hangs() {
    let lab = Lab::new(8 * MIB, 1, LONG);
    lab.gate(0).shut(true);
    lab.write(0, 6).unwrap();
    until("a piece is on its way", || lab.gate(0).waiting.load(Ordering::SeqCst) > 0);
    let Lab { store, budget, folders } = lab;
    drop(store);
    assert_eq!((budget.used(), fs::read_dir(folders[0].path()).unwrap().count()), (0, 0));
}

#[tokio::test]
async fn a_slow_disk_is_packed_by_itself() {
    let lab = Lab::with_files(8 * MIB, 1, FileConfig::default());
    lab.gate(0).rate.store(20_000_000, Ordering::SeqCst);
    lab.write(0, 80).unwrap();
    assert!(lab.store.settle(LONG));
    let packing = lab.store.packing();
    assert!(packing.packed_bytes > 0 && packing.packed_bytes < packing.frame_bytes / 2, "{packing:?}");
    assert!(lab.check(0, 80).await.unwrap() > 10);
    lab.assert_empty();
}
