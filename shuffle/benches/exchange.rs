//! Whole exchanges: rows are given partitions by the hash of their key, written, fetched and read, by each way that blocks take, beside
//! the same work through a file of Arrow IPC streams and through Arrow Flight over loopback, and beside what the machine can do:
//! a copy of memory, plain TCP, plain direct files.
//!
//! **Time is processor time**, of all threads of the process: throughput is in bytes of rows, as they lie in Arrow's
//! buffers, per second of one core, whoever else uses the cores. Waiting for a disk is not in it.
//!
//! Files lie in the folder that `FIRESTEEL_BENCH_DIR` names, else in the target folder.

#[path = "../tests/certs/mod.rs"]
#[allow(dead_code, clippy::unwrap_used)] // it is of the tests, which use all of it
mod certs;
mod clock;
mod data;
mod peers;
mod plain;

use std::hint::black_box;
use std::net::TcpListener;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::*;
use arrow_schema::SchemaRef;
use clock::measure;
use data::{Numbers, hashes};
use firesteel_base::{AttemptKey, ByteSize, Epoch, ExecutorId, JobId, MemoryBudget, StageId};
use firesteel_hw::pages::Pages;
use firesteel_micro::{Bench, Digest, Throughput, run};
use firesteel_shuffle::partition::hash_assignment;
use firesteel_shuffle::{
    BlockKey, BlockServer, BlockStore, FetchConfig, Fetcher, Holder, ServeConfig, StoreConfig, Transport,
};
use futures::stream::{self, StreamExt, TryStreamExt};
use peers::flight::Flight;
use plain::{MEMORY_BYTES, Plain};
use rustix::fs::OFlags;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// The allocator of the command: frames are memory that it has just given.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EPOCH: Epoch = Epoch(1);
const PARTITIONS: [u32; 4] = [2, 64, 1024, 4096];
/// Rows of a batch.
const ROWS: usize = 8192;
/// Bytes of rows that are exchanged: as much as a lane holds before it writes, twice.
const BYTES: u64 = 32 << 20;
/// Blocks that are fetched at the same time, as an operator does.
const FETCHES_MAX: usize = 4;
const SAMPLES: usize = 10;

/// A key and a number.
fn narrow(numbers: &mut Numbers, rows: usize) -> RecordBatch {
    let mut column = || -> ArrayRef { Arc::new(longs(numbers, rows)) };
    let columns = [("key", column()), ("number", column())];
    RecordBatch::try_from_iter(columns).expect("columns of one length")
}

/// A key and seven columns: numbers of 4 to 16 bytes, a word and a comment.
fn wide(numbers: &mut Numbers, rows: usize) -> RecordBatch {
    let word = |number: u64| ["AIR", "MAIL", "REG AIR", "TRUCK"][number as usize];
    let money: Decimal128Array = (0..rows).map(|_| Some(i128::from(numbers.below(1 << 24)))).collect();
    let columns: [(&str, ArrayRef); 8] = [
        ("key", Arc::new(longs(numbers, rows))),
        ("part", Arc::new(longs(numbers, rows))),
        ("line", Arc::new((0..rows).map(|row| row as i32 % 7).collect::<Int32Array>())),
        ("price", Arc::new(money)),
        ("tax", Arc::new((0..rows).map(|_| numbers.below(100) as f64).collect::<Float64Array>())),
        ("shipped", Arc::new((0..rows).map(|_| Some(numbers.below(10_000) as i32)).collect::<Date32Array>())),
        ("mode", Arc::new(StringArray::from_iter_values((0..rows).map(|_| word(numbers.below(4)))))),
        ("comment", Arc::new(StringArray::from_iter_values((0..rows).map(|_| comment(numbers))))),
    ];
    RecordBatch::try_from_iter(columns).expect("columns of one length")
}

fn longs(numbers: &mut Numbers, rows: usize) -> Int64Array {
    (0..rows).map(|_| numbers.below(1 << 22) as i64).collect()
}

fn comment(numbers: &mut Numbers) -> String {
    let (number, width) = (numbers.below(1 << 30), 10 + numbers.below(34) as usize);
    format!("{number:0width$}")
}

/// Rows to exchange.
struct Rows {
    name: &'static str,
    batches: Vec<RecordBatch>,
    bytes: u64,
}

impl Rows {
    fn new(bench: &Bench, name: &'static str, make: fn(&mut Numbers, usize) -> RecordBatch) -> Self {
        let (mut numbers, mut batches, mut bytes) = (Numbers::new(1), Vec::new(), 0);
        while bytes < bench.size(BYTES, 10_000) {
            let batch = make(&mut numbers, bench.size(ROWS, 100));
            let columns = batch.columns().iter();
            bytes += columns
                .map(|column| column.to_data().get_slice_memory_size().expect("its types are simple") as u64)
                .sum::<u64>();
            batches.push(batch);
        }
        Self { name, batches, bytes }
    }

    fn schema(&self) -> SchemaRef {
        self.batches[0].schema()
    }
}

/// Decides where the rows of batches go.
fn places(partitions: u32) -> impl FnMut(&RecordBatch, &mut Vec<u32>) {
    let mut of_rows = Vec::new();
    move |batch, assignment| {
        hashes(batch, &mut of_rows);
        hash_assignment(&of_rows, partitions, assignment);
    }
}

/// Batches by partition.
type Parts = Vec<Vec<RecordBatch>>;

/// Rows, and what depends on the partition that each came from.
fn digest(parts: &Parts, digest: &mut Digest) {
    let (mut rows, mut sum) = (0, 0_u64);
    for (partition, batch) in (1..).zip(parts).flat_map(|(p, batches)| batches.iter().map(move |b| (p, b))) {
        rows += batch.num_rows() as u64;
        let keys = batch.column(0).as_primitive::<Int64Type>().values();
        let last: u64 = match batch.columns().last().and_then(|column| column.as_string_opt::<i32>()) {
            Some(texts) => texts.iter().flatten().map(|text| text.len() as u64).sum(),
            None => batch.column(1).as_primitive::<Int64Type>().values().iter().map(|&n| n as u64).sum(),
        };
        let keys = keys.iter().map(|&key| (key as u64).wrapping_mul(partition)).fold(last, u64::wrapping_add);
        sum = sum.wrapping_add(keys);
    }
    digest.number(rows);
    digest.number(sum);
}

/// The way that blocks take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Pointer,
    Shared,
    Tcp,
    /// Over TCP, under TLS.
    Tls,
    /// In the own executor, through files.
    Spilled,
}

impl Way {
    const ALL: [Self; 5] = [Self::Pointer, Self::Shared, Self::Tcp, Self::Tls, Self::Spilled];

    fn name(self) -> &'static str {
        match self {
            Self::Pointer => "pointer",
            Self::Shared => "shared",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Spilled => "spilled",
        }
    }

    /// Copies of each byte that are counted, as `PROTOCOL.md` has them: those that TLS makes are not.
    fn copies(self) -> u64 {
        match self {
            Self::Pointer | Self::Shared => 1,
            Self::Tcp | Self::Tls | Self::Spilled => 3,
        }
    }
}

/// An executor that writes, one that reads, and the way between them.
struct Exchange {
    store: Arc<BlockStore>,
    server: BlockServer,
    fetcher: Arc<Fetcher>,
    holder: Holder,
    runtime: Runtime,
    _serving: Runtime,
}

impl Exchange {
    fn new(way: Way, folder: &Path) -> Self {
        let budget = MemoryBudget::new(ByteSize(1 << 40));
        let memory_max = if way == Way::Spilled { 0 } else { 1 << 40 };
        let scratch = if way == Way::Spilled { vec![folder.to_owned()] } else { vec![] };
        let store =
            BlockStore::new(StoreConfig { budget: budget.clone(), memory_max, scratch }).expect("a store");
        let serving = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let executor: ExecutorId = "bench/e0".parse().expect("an executor's name");
        let transport = if way == Way::Shared { Transport::Shared } else { Transport::Tcp };
        let identity = Some((executor.clone(), EPOCH));
        let tls = (way == Way::Tls).then(certs::server);
        let config = ServeConfig { identity, transport, tls, ..ServeConfig::default() };
        let entered = serving.enter();
        let server = BlockServer::start(listener, Arc::clone(&store), config).expect("a server");
        drop(entered);
        let is_own = matches!(way, Way::Pointer | Way::Spilled);
        let local = is_own.then(|| (executor.clone(), EPOCH, Arc::clone(&store)));
        let (budget, tls) = (Some(budget), (way == Way::Tls).then(certs::client));
        let config = FetchConfig { local, budget, transport, tls, ..FetchConfig::default() };
        let address = server.local_addr().to_string();
        let holder = Holder { executor, epoch: EPOCH, address, keeper: String::new() };
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { store, server, fetcher: Fetcher::new(config), holder, runtime, _serving: serving }
    }

    fn attempt() -> AttemptKey {
        AttemptKey::new(JobId(1), StageId(0), 0, 0)
    }

    /// Writes and commits all rows; bytes of their frames.
    fn write(&self, rows: &Rows, partitions: u32) -> u64 {
        let writer = self.store.writer(Self::attempt(), 0, rows.schema(), partitions);
        let output = data::write(writer, &rows.batches, partitions);
        self.store.commit(&Self::attempt()).expect("it is finished");
        output.total().bytes
    }

    fn read(&self, rows: &Rows, partitions: u32) -> Parts {
        let block = |partition| {
            let key = BlockKey { producer: Self::attempt(), lane: 0, partition };
            self.fetcher.fetch(self.holder.clone(), key, rows.schema()).try_collect()
        };
        let all = stream::iter(0..partitions).map(block).buffered(FETCHES_MAX);
        self.runtime.block_on(all.try_collect()).expect("the blocks are there")
    }

    fn whole(&self, rows: &Rows, partitions: u32) -> Parts {
        self.write(rows, partitions);
        let parts = self.read(rows, partitions);
        self.store.discard(&Self::attempt());
        parts
    }

    /// Copies of the bytes of frames so far.
    fn copied(&self) -> u64 {
        let read = self.fetcher.counters().copied_bytes() + self.server.copied_bytes();
        self.store.encoded_bytes() + self.store.spilled_bytes() + read
    }

    /// Each byte is copied as often as it is said to be.
    fn check_copies(&self, way: Way, rows: &Rows, partitions: u32) {
        let before = self.copied();
        let bytes = self.write(rows, partitions);
        self.read(rows, partitions);
        self.store.discard(&Self::attempt());
        assert_eq!(self.copied() - before, way.copies() * bytes, "{way:?}");
    }
}

fn folder() -> TempDir {
    let root =
        std::env::var_os("FIRESTEEL_BENCH_DIR").map_or(env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    TempDir::with_prefix_in("firesteel-bench-", root).expect("a folder that can be written to")
}

fn exchanges(bench: &mut Bench) {
    let folder = folder();
    for rows in [Rows::new(bench, "narrow", narrow), Rows::new(bench, "wide", wide)] {
        for partitions in PARTITIONS {
            let name = format!("{}/{partitions}", rows.name);
            let mut group = bench.group(&name, Throughput::Bytes(rows.bytes));
            group.samples(SAMPLES);
            for way in Way::ALL {
                let exchange = Exchange::new(way, folder.path());
                let checked = |parts: &Parts, sum: &mut Digest| {
                    exchange.check_copies(way, &rows, partitions);
                    digest(parts, sum);
                };
                measure(&mut group, way.name(), || exchange.whole(&rows, partitions), checked);
            }
            measure(&mut group, "ipc", || through_ipc(&rows, partitions, folder.path()), digest);
            let flight = Flight::start();
            measure(&mut group, "flight", || through_flight(&flight, &rows, partitions), digest);
        }
    }
}

fn through_ipc(rows: &Rows, partitions: u32, folder: &Path) -> Parts {
    let mut writer = peers::ipc::Writer::new(folder.join("streams"), partitions);
    peers::scatter(&rows.batches, partitions, places(partitions), |partition, batch| {
        writer.add(partition, &batch)
    });
    writer.finish().read()
}

fn through_flight(flight: &Flight, rows: &Rows, partitions: u32) -> Parts {
    let mut parts = vec![Vec::new(); partitions as usize];
    peers::scatter(&rows.batches, partitions, places(partitions), |partition, batch| {
        parts[partition as usize].push(batch);
    });
    flight.serve(parts);
    flight.read(partitions, FETCHES_MAX)
}

/// What the machine can do, per core: every byte once, in pieces of a MiB.
fn limits(bench: &mut Bench) {
    let bytes = bench.size(BYTES, 1 << 20);
    let mut group = bench.group("limit", Throughput::Bytes(bytes));
    group.samples(SAMPLES);
    let (source, mut target) = (vec![7_u8; MEMORY_BYTES], vec![0_u8; MEMORY_BYTES]);
    let mut at = 0;
    let copy = || {
        let end = at + bytes as usize;
        target[at..end].copy_from_slice(&source[at..end]);
        at = end % MEMORY_BYTES;
        black_box(target[0]);
        bytes
    };
    measure(&mut group, "copy", copy, |bytes, digest| digest.number(*bytes));
    let (mut plain, mut memory) = (Plain::start(bytes), vec![0; MEMORY_BYTES]);
    measure(&mut group, "tcp", || plain.receive(&mut memory), |bytes, digest| digest.number(*bytes));
    let folder = folder();
    let direct = || direct(&folder.path().join("plain"), bytes);
    measure(&mut group, "files", direct, |bytes, digest| digest.number(*bytes));
}

/// Writes a file directly, reads it back, and removes it.
fn direct(path: &Path, bytes: u64) -> u64 {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create_new(true).custom_flags(OFlags::DIRECT.bits() as i32);
    let file = options.open(path).expect("the folder can be written to");
    let mut pages = Pages::zeroed(1 << 20);
    for piece in 0..bytes >> 20 {
        file.write_all_at(pages.as_bytes(), piece << 20).expect("there is room");
    }
    for piece in 0..bytes >> 20 {
        file.read_exact_at(pages.as_bytes_mut(), piece << 20).expect("it was written");
    }
    std::fs::remove_file(path).expect("nobody else removes it");
    bytes
}

fn main() {
    run(include_str!("exchange.hashes"), &[limits, exchanges]);
}
