//! What it costs to write several times the memory of a store through it, and to read all of it back: by a ring of our own, with
//! frames as they are and packed, and by blocking calls, beside the plain direct writing and reading of as many bytes, one
//! piece after another. Throughput is in bytes of frames.
//!
//! Files lie in the folder that `FIRESTEEL_BENCH_DIR` names, else in the target folder. There are never more than 256 MiB
//! of them.

mod data;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use data::{digest_rows, line_item_schema, line_items, write};
use firesteel_base::{AttemptKey, ByteSize, Epoch, ExecutorId, JobId, MemoryBudget, StageId};
use firesteel_hw::pages::Pages;
use firesteel_hw::scratch::EngineKind;
use firesteel_micro::{Bench, Throughput, run};
use firesteel_shuffle::{
    BlockKey, BlockStore, Compression, FetchConfig, Fetcher, FileConfig, Holder, StoreConfig,
};
use futures::stream::{self, StreamExt, TryStreamExt};
use rustix::fs::OFlags;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

const PARTITIONS: u32 = 16;
const EPOCH: Epoch = Epoch(1);
/// Blocks that are read at the same time, as an operator does.
const FETCHES_MAX: usize = 4;
/// All that is written is so many times the memory for frames.
const TIMES_MEMORY: u64 = 8;
/// Batches are written so many times over.
const ROUNDS: u32 = 8;
/// What is written plainly at once.
const PIECE_BYTES: u64 = 1 << 20;

fn folder() -> TempDir {
    let root =
        std::env::var_os("FIRESTEEL_BENCH_DIR").map_or(env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    TempDir::with_prefix_in("firesteel-bench-", root).expect("a folder that can be written to")
}

/// A store with less memory than what is written to it, and its reader.
struct Spilling {
    store: Arc<BlockStore>,
    fetcher: Arc<Fetcher>,
    holder: Holder,
    runtime: Runtime,
    batches: Vec<RecordBatch>,
    _folder: TempDir,
}

impl Spilling {
    fn new(bench: &Bench, engine: EngineKind, compression: Compression, memory_max: u64) -> Self {
        let folder = folder();
        let budget = MemoryBudget::new(ByteSize(1 << 40));
        let config = StoreConfig { budget, memory_max, scratch: vec![folder.path().to_owned()] };
        let files = FileConfig { engine, compression, ..FileConfig::default() };
        let store = BlockStore::with_files(config, files).expect("a store");
        let executor: ExecutorId = "bench/e0".parse().expect("an executor's name");
        let local = Some((executor.clone(), EPOCH, Arc::clone(&store)));
        let fetcher = Fetcher::new(FetchConfig { local, ..FetchConfig::default() });
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let holder = Holder { executor, epoch: EPOCH, address: String::new(), keeper: String::new() };
        Self { store, fetcher, holder, runtime, batches: batches(bench), _folder: folder }
    }

    /// Bytes of frames.
    fn write(&self) -> u64 {
        self.store.free_job(JobId(1));
        write_rounds(&self.store, &self.batches)
    }

    /// Reads everything; the batches of the first round.
    fn read(&self) -> Vec<RecordBatch> {
        let rounds = (0..ROUNDS).rev().map(|round| {
            let block = |partition| {
                let key = BlockKey { producer: attempt(round), lane: 0, partition };
                self.fetcher.fetch(self.holder.clone(), key, line_item_schema())
            };
            let batches = stream::iter(0..PARTITIONS).map(block).flatten_unordered(FETCHES_MAX);
            self.runtime.block_on(batches.try_collect::<Vec<_>>()).expect("the blocks are there")
        });
        rounds.last().expect("there are rounds")
    }
}

/// Writes and commits all rounds; bytes of their frames.
fn write_rounds(store: &Arc<BlockStore>, batches: &[RecordBatch]) -> u64 {
    let rounds = (0..ROUNDS).map(|round| {
        let writer = store.writer(attempt(round), 0, line_item_schema(), PARTITIONS);
        let output = write(writer, batches, PARTITIONS);
        store.commit(&attempt(round)).expect("it is finished");
        output.total().bytes
    });
    rounds.sum()
}

fn attempt(round: u32) -> AttemptKey {
    AttemptKey::new(JobId(1), StageId(0), round, 0)
}

fn batches(bench: &Bench) -> Vec<RecordBatch> {
    let rows = bench.size(8192, 100);
    (1..=bench.size(32, 3)).map(|seed| line_items(seed, rows)).collect()
}

fn engines(bench: &mut Bench) {
    let bytes = write_rounds(&data::store().0, &batches(bench));
    for (engine, compression) in [
        (EngineKind::Ring, Compression::None),
        (EngineKind::Ring, Compression::Lz4),
        (EngineKind::Ring, Compression::Zstd),
        (EngineKind::Blocking, Compression::None),
    ] {
        let spilling = Spilling::new(bench, engine, compression, bytes / TIMES_MEMORY);
        let name = match compression {
            Compression::None => engine.to_string(),
            packed => format!("{engine}_{packed}"),
        };
        let mut group = bench.group("write", Throughput::Bytes(bytes));
        group.samples(10);
        group.bench(&name, || spilling.write(), |bytes, digest| digest.number(*bytes));
        drop(group);

        // By itself it may be the only one that runs.
        spilling.write();
        let mut group = bench.group("read", Throughput::Bytes(bytes));
        group.samples(10);
        group.bench(&name, || spilling.read(), |batches, digest| digest_rows(batches, digest));
    }
    plain(bench, bytes);
}

/// The same bytes by blocking direct calls, in pieces.
fn plain(bench: &mut Bench, bytes: u64) {
    let folder = folder();
    let path = folder.path().join("plain");
    let pieces = bytes / PIECE_BYTES.min(bytes);
    let mut pages = Pages::zeroed(PIECE_BYTES.min(bytes) as usize);
    let size = pages.len() as u64;
    let make = || {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        options.custom_flags(OFlags::DIRECT.bits() as i32).open(&path).expect("the folder can be written to")
    };
    let fill = |file: &File, pages: &Pages| {
        for piece in 0..pieces {
            file.write_all_at(pages.as_bytes(), piece * size).expect("there is room");
        }
    };
    let mut group = bench.group("write", Throughput::Bytes(bytes));
    group.samples(10);
    let write = |times| {
        let mut took = Duration::ZERO;
        for _ in 0..times {
            let begun = Instant::now();
            fill(&make(), &pages);
            took += begun.elapsed();
        }
        (took, pieces * size)
    };
    group.bench_timed("plain", write, |bytes, digest| digest.number(*bytes));
    drop(group);

    let file = make();
    fill(&file, &pages);
    let mut group = bench.group("read", Throughput::Bytes(bytes));
    group.samples(10);
    let read = || {
        for piece in 0..pieces {
            file.read_exact_at(pages.as_bytes_mut(), piece * size).expect("it was written");
        }
        pieces * size
    };
    group.bench("plain", read, |bytes, digest| digest.number(*bytes));
}

fn main() {
    run(include_str!("store.hashes"), &[engines]);
}
