//! What it costs to write several times the memory of a store through it, and to read all of it back: by a ring of our own, with
//! frames as they are and packed, and by blocking calls, beside the plain direct writing and reading of as many bytes, one
//! piece after another. Throughput is in bytes of frames.
//!
//! `read_long` reads blocks of many frames of 1 MiB one by one, so that all that is read at one time is of one block: in the own
//! store, from the file of another executor of this host, and over TCP, beside plain direct reading by one thread and by
//! several. `read_small` does so with frames of 128 KiB, as they are with many partitions. What the page cache has of the
//! files is dropped before each reading.
//!
//! Files lie in the folder that `FIRESTEEL_BENCH_DIR` names, else in the target folder. There are never more than 256 MiB
//! of them.

mod data;

use std::fs::{self, File, OpenOptions};
use std::net::TcpListener;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use data::{digest_rows, line_item_schema, line_items, write};
use firesteel_base::{AttemptKey, ByteSize, Epoch, ExecutorId, JobId, MemoryBudget, StageId};
use firesteel_hw::pages::Pages;
use firesteel_hw::scratch::EngineKind;
use firesteel_micro::{Bench, Throughput, run};
use firesteel_shuffle::{
    BlockKey, BlockServer, BlockStore, Compression, FetchConfig, Fetcher, FileConfig, Holder, ServeConfig,
    StoreConfig, Transport,
};
use futures::stream::{self, StreamExt, TryStreamExt};
use rustix::fs::{Advice, OFlags, fadvise};
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
/// Partitions whose blocks have frames of 1 MiB and of 128 KiB.
const LONG_PARTITIONS: u32 = 2;
const SMALL_PARTITIONS: u32 = 128;
/// Threads that read plainly, and pieces that are read at one time.
const READERS: u64 = 8;

fn folder() -> TempDir {
    let root =
        std::env::var_os("FIRESTEEL_BENCH_DIR").map_or(env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    TempDir::with_prefix_in("firesteel-bench-", root).expect("a folder that can be written to")
}

/// How the rows lie in blocks: attempts, how often each writes all rows, and partitions.
#[derive(Debug, Clone, Copy)]
struct Layout {
    attempts: u32,
    times: u32,
    partitions: u32,
}

impl Layout {
    const SHORT: Self = Self { attempts: ROUNDS, times: 1, partitions: PARTITIONS };

    /// Of one attempt, so that blocks are long.
    const fn long(partitions: u32) -> Self {
        Self { attempts: 1, times: ROUNDS, partitions }
    }
}

/// A store with less memory than what is written to it, and its reader.
struct Spilling {
    store: Arc<BlockStore>,
    fetcher: Arc<Fetcher>,
    holder: Holder,
    runtime: Runtime,
    batches: Vec<RecordBatch>,
    layout: Layout,
    fetches_max: usize,
    folder: TempDir,
    /// Serves the blocks on a thread of its own, when they are to come from there.
    _server: Option<(BlockServer, Runtime)>,
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
        let (batches, layout, fetches_max) = (batches(bench), Layout::SHORT, FETCHES_MAX);
        Self { store, fetcher, holder, runtime, batches, layout, fetches_max, folder, _server: None }
    }

    /// Long blocks that are read one after another: from the own store, or by the way that is named.
    fn long(bench: &Bench, memory_max: u64, layout: Layout, way: Option<Transport>) -> Self {
        let new = Self::new(bench, EngineKind::Ring, Compression::None, memory_max);
        let new = Self { layout, fetches_max: 1, ..new };
        let Some(transport) = way else { return new };
        let serving = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let identity = Some((new.holder.executor.clone(), EPOCH));
        let config = ServeConfig { identity, transport, ..ServeConfig::default() };
        let entered = serving.enter();
        let server = BlockServer::start(listener, Arc::clone(&new.store), config).expect("a server");
        drop(entered);
        let holder = Holder { address: server.local_addr().to_string(), ..new.holder };
        let fetcher = Fetcher::new(FetchConfig { transport, ..FetchConfig::default() });
        Self { holder, fetcher, _server: Some((server, serving)), ..new }
    }

    /// Bytes of frames.
    fn write(&self) -> u64 {
        self.store.free_job(JobId(1));
        write_all(&self.store, &self.batches, self.layout)
    }

    /// Reads everything; the batches of the first attempt.
    fn read(&self) -> Vec<RecordBatch> {
        let rounds = (0..self.layout.attempts).rev().map(|round| {
            let block = |partition| {
                let key = BlockKey { producer: attempt(round), lane: 0, partition };
                self.fetcher.fetch(self.holder.clone(), key, line_item_schema())
            };
            let batches =
                stream::iter(0..self.layout.partitions).map(block).flatten_unordered(self.fetches_max);
            self.runtime.block_on(batches.try_collect::<Vec<_>>()).expect("the blocks are there")
        });
        rounds.last().expect("there are rounds")
    }
}

/// Has the page cache drop what it holds of all files in a folder.
fn drop_cached(folder: &Path) {
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() {
            drop_cached(&path);
        } else {
            let file = File::open(&path).expect("it is not removed now");
            fadvise(&file, 0, None, Advice::DontNeed).expect("advice is taken");
        }
    }
}

/// Writes and commits all attempts; bytes of their frames.
fn write_all(store: &Arc<BlockStore>, batches: &[RecordBatch], layout: Layout) -> u64 {
    let Layout { attempts, times, partitions } = layout;
    let all = (0..times).flat_map(|_| batches).cloned().collect::<Vec<_>>();
    let bytes = (0..attempts).map(|round| {
        let writer = store.writer(attempt(round), 0, line_item_schema(), partitions);
        let output = write(writer, &all, partitions);
        store.commit(&attempt(round)).expect("it is finished");
        output.total().bytes
    });
    bytes.sum()
}

fn attempt(round: u32) -> AttemptKey {
    AttemptKey::new(JobId(1), StageId(0), round, 0)
}

fn batches(bench: &Bench) -> Vec<RecordBatch> {
    let rows = bench.size(8192, 100);
    (1..=bench.size(32, 3)).map(|seed| line_items(seed, rows)).collect()
}

fn engines(bench: &mut Bench) {
    let bytes = write_all(&data::store().0, &batches(bench), Layout::SHORT);
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

/// Long blocks, one after another.
fn long(bench: &mut Bench) {
    for (group, partitions) in [("read_long", LONG_PARTITIONS), ("read_small", SMALL_PARTITIONS)] {
        let bytes = read_long(bench, group, Layout::long(partitions));
        plain_long(bench, group, bytes);
    }
}

/// By each way. Returns the bytes of frames.
fn read_long(bench: &mut Bench, group: &str, layout: Layout) -> u64 {
    let bytes = write_all(&data::store().0, &batches(bench), layout);
    let ways = [("own", None), ("passed", Some(Transport::Shared)), ("tcp", Some(Transport::Tcp))];
    for (name, way) in ways {
        let spilling = Spilling::long(bench, bytes / TIMES_MEMORY, layout, way);
        spilling.write();
        let mut group = bench.group(group, Throughput::Bytes(bytes));
        group.samples(10);
        let read = |times| {
            let (mut took, mut batches) = (Duration::ZERO, Vec::new());
            for _ in 0..times {
                drop_cached(spilling.folder.path());
                let begun = Instant::now();
                batches = spilling.read();
                took += begun.elapsed();
            }
            (took, batches)
        };
        group.bench_timed(name, read, |batches, digest| digest_rows(batches, digest));
    }
    bytes
}

/// The same bytes by blocking direct calls, by one thread and by several.
fn plain_long(bench: &mut Bench, group: &str, bytes: u64) {
    let folder = folder();
    let pieces = bytes.div_ceil(PIECE_BYTES);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).custom_flags(OFlags::DIRECT.bits() as i32);
    let file = options.open(folder.path().join("plain")).expect("the folder can be written to");
    let pages = Pages::zeroed(PIECE_BYTES as usize);
    for piece in 0..pieces {
        file.write_all_at(pages.as_bytes(), piece * PIECE_BYTES).expect("there is room");
    }
    let mut group = bench.group(group, Throughput::Bytes(pieces * PIECE_BYTES));
    group.samples(10);
    for (name, readers) in [("plain", 1), ("plain_8", READERS)] {
        let read_every = |first: u64| {
            let mut pages = Pages::zeroed(PIECE_BYTES as usize);
            for piece in (first..pieces).step_by(readers as usize) {
                file.read_exact_at(pages.as_bytes_mut(), piece * PIECE_BYTES).expect("it was written");
            }
        };
        let read = || {
            std::thread::scope(|scope| {
                (0..readers).for_each(|first| drop(scope.spawn(move || read_every(first))));
            });
            pieces
        };
        group.bench(name, read, |pieces, digest| digest.number(*pieces));
    }
}

fn main() {
    run(include_str!("store.hashes"), &[engines, long]);
}
