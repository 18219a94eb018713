//! The scratch engines side by side: files written and read in pieces of several sizes, several at a time, buffered and
//! direct, and written and read again at once. Then a ring of our own with each of its features left out: direct reads from
//! the disk, and small reads from the page cache, where the cost of an operation itself shows. Throughput is in bytes of files.
//!
//! Files lie in the folder that `FIRESTEEL_BENCH_DIR` names, else in the target folder. There are never more than 128 MiB
//! of them. All cases take a few minutes with `--warm-up-time 0.2 --measurement-time 1`.

use std::cell::LazyCell;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use firesteel_hw::pages::{PagePool, Pages};
use firesteel_hw::ring::{Ring, RingConfig};
use firesteel_hw::scratch::{EngineKind, Scratch, ScratchConfig, ScratchFile};
use firesteel_micro::{Bench, Digest, Throughput, run};
use futures::executor::block_on;
use futures::future::join_all;
use futures::stream::{self, StreamExt};
use tempfile::TempDir;
use tokio::runtime::{LocalOptions, LocalRuntime};

const SEGMENT_KIB: [u64; 3] = [128, 512, 1024];
const DEPTHS: [u64; 3] = [1, 4, 16];

/// How much is written and read, and how: so many files at a time, each one segment after another.
#[derive(Debug, Clone, Copy)]
struct Shape {
    files: u64,
    segments_per_file: u64,
    segment_bytes: u64,
}

impl Shape {
    fn of(bench: &Bench, segment_kib: u64, depth: u64) -> Self {
        let segment_bytes = bench.size(segment_kib << 10, segment_kib << 5);
        let bytes: u64 = bench.size(128 << 20, 16 * segment_bytes);
        Self { files: depth, segments_per_file: bytes / segment_bytes / depth, segment_bytes }
    }

    fn bytes(self) -> u64 {
        self.files * self.segments_per_file * self.segment_bytes
    }
}

fn folder() -> TempDir {
    let root =
        std::env::var_os("FIRESTEEL_BENCH_DIR").map_or(env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    TempDir::with_prefix_in("firesteel-bench-", root).expect("a folder that can be written to")
}

fn start(engine: EngineKind, direct: bool) -> Scratch {
    let config = ScratchConfig { name: format!("bench-{engine}"), engine, direct, cpu: None };
    Scratch::start(&config).expect("this machine has the engine")
}

/// Files are written at the same time, the segments of each one after another. Each segment begins with its number.
async fn write(scratch: &Scratch, folder: &Path, shape: Shape, content: &[u8]) -> Vec<ScratchFile> {
    let files = (0..shape.files).map(|number| async move {
        let path = folder.join(number.to_string());
        let file = scratch.create(&path).await.expect("the folder can be written to");
        for segment in 0..shape.segments_per_file {
            let number = number * shape.segments_per_file + segment;
            file.append(&[&number.to_le_bytes(), content]).await.expect("there is room");
        }
        file
    });
    join_all(files).await
}

/// Reads all segments, as many at a time as there are files and in any order, and gives what `take` makes of each.
async fn read<T>(files: &[ScratchFile], shape: Shape, take: impl Fn(&[u8]) -> T) -> Vec<T> {
    let take = &take;
    let segments =
        (0..shape.segments_per_file).flat_map(|segment| files.iter().map(move |file| (file, segment)));
    let reads = stream::iter(segments).map(|(file, segment)| async move {
        let at = segment * shape.segment_bytes;
        take(&file.read(at..at + shape.segment_bytes).await.expect("it was written"))
    });
    reads.buffer_unordered(files.len()).collect().await
}

async fn remove(files: Vec<ScratchFile>) {
    for file in files {
        file.remove().await.expect("it is there");
    }
}

fn hash(segments: &Vec<Vec<u8>>, digest: &mut Digest) {
    digest.unordered(segments);
}

/// Files of one engine, and how to measure them.
struct Files {
    scratch: Scratch,
    folder: TempDir,
    shape: Shape,
    content: Vec<u8>,
}

impl Files {
    fn new(engine: EngineKind, direct: bool, shape: Shape) -> Self {
        let content = usize::try_from(shape.segment_bytes).expect("it fits into memory") - size_of::<u64>();
        Self { scratch: start(engine, direct), folder: folder(), shape, content: vec![0xa5; content] }
    }

    fn write(&self) -> Vec<ScratchFile> {
        block_on(write(&self.scratch, self.folder.path(), self.shape, &self.content))
    }

    fn read(&self, files: &[ScratchFile]) {
        let lengths = block_on(read(files, self.shape, <[u8]>::len));
        assert_eq!(lengths.iter().sum::<usize>() as u64, self.shape.bytes());
    }

    /// What lies in the files, which are then removed.
    fn take(&self, files: Vec<ScratchFile>) -> Vec<Vec<u8>> {
        let segments = block_on(read(&files, self.shape, <[u8]>::to_vec));
        block_on(remove(files));
        segments
    }

    /// Writes the files, works on them, and takes the time of both.
    fn time_writes(&self, times: u64, then: impl Fn(&[ScratchFile])) -> (Duration, Vec<Vec<u8>>) {
        let (mut took, mut last) = (Duration::ZERO, Vec::new());
        for _ in 0..times {
            block_on(remove(last));
            let start = Instant::now();
            last = self.write();
            then(&last);
            took += start.elapsed();
        }
        (took, self.take(last))
    }

    fn time_reads(&self, times: u64) -> (Duration, Vec<Vec<u8>>) {
        let files = self.write();
        let start = Instant::now();
        for _ in 0..times {
            self.read(&files);
        }
        (start.elapsed(), self.take(files))
    }
}

fn engines(bench: &mut Bench) {
    for segment_kib in SEGMENT_KIB {
        for depth in DEPTHS {
            let shape = Shape::of(bench, segment_kib, depth);
            for direct in [false, true] {
                for engine in EngineKind::ALL {
                    let how = if direct { "direct" } else { "buffered" };
                    let name = format!("{segment_kib}K/{depth}/{how}/{engine}");
                    engine_case(bench, &name, shape, &LazyCell::new(|| Files::new(engine, direct, shape)));
                }
            }
        }
    }
}

/// The engine is started by the first of these benches that runs.
fn engine_case<F: FnOnce() -> Files>(
    bench: &mut Bench,
    name: &str,
    shape: Shape,
    files: &LazyCell<Files, F>,
) {
    let throughput = || Throughput::Bytes(shape.bytes());
    let mut group = bench.group("write", throughput());
    group.samples(10);
    group.bench_timed(name, |times| files.time_writes(times, |_| ()), hash);
    drop(group);
    let mut group = bench.group("read", throughput());
    group.samples(10);
    group.bench_timed(name, |times| files.time_reads(times), hash);
    drop(group);
    let mut group = bench.group("again", throughput());
    group.samples(10);
    group.bench_timed(name, |times| files.time_writes(times, |last| files.read(last)), hash);
}

/// Reads of one ring.
struct Reads {
    runtime: LocalRuntime,
    config: RingConfig,
    pool: PagePool,
    direct: bool,
    bytes: usize,
    count: u64,
    depth: usize,
}

impl Reads {
    /// Reads the whole file; the sum of the first bytes of all reads.
    async fn pass(&self, ring: &Ring, path: &Path) -> u64 {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(if self.direct { libc::O_DIRECT } else { 0 });
        let file = options.open(path).expect("it was made");
        let file = ring.adopt(file, path, self.direct);
        let reads = stream::iter(0..self.count).map(|number| self.read(ring, &file, number));
        reads.buffer_unordered(self.depth).fold(0, async |sum, first| sum + u64::from(first)).await
    }

    async fn read(&self, ring: &Ring, file: &firesteel_hw::ring::RingFile, number: u64) -> u8 {
        let pages: Pages = self.pool.take(self.bytes).await;
        let (read, pages) = ring.read(file, pages, number * self.bytes as u64).await;
        assert_eq!(read.expect("it can be read"), self.bytes);
        pages.as_bytes()[0]
    }

    fn time(&self, path: &Path, times: u64) -> (Duration, u64) {
        self.runtime.block_on(async {
            let ring = Ring::start(&self.config).expect("the kernel gives rings");
            let start = Instant::now();
            let mut sum = 0;
            for _ in 0..times {
                sum = self.pass(&ring, path).await;
            }
            (start.elapsed(), sum)
        })
    }
}

/// A ring with all its features, with each left out, and with none.
fn variants(pool: &PagePool) -> [(&'static str, RingConfig); 6] {
    let all = RingConfig { depth: 64, pool: Some(pool.clone()), ..RingConfig::default() };
    let none = RingConfig { pool: None, files: 0, deferred: false, batch: 1, ..all.clone() };
    [
        ("all", all.clone()),
        ("no registered buffers", RingConfig { pool: None, ..all.clone() }),
        ("no registered files", RingConfig { files: 0, ..all.clone() }),
        ("no deferred task work", RingConfig { deferred: false, ..all.clone() }),
        ("batches of one", RingConfig { batch: 1, ..all }),
        ("none", none),
    ]
}

fn features(bench: &mut Bench) {
    let total: usize = bench.size(128 << 20, 1 << 20);
    let made = LazyCell::new(|| {
        let folder = folder();
        let path = folder.path().join("a");
        let content: Vec<u8> = (0..total).map(|place| (place / 4096) as u8).collect();
        std::fs::write(&path, content).expect("there is room");
        std::fs::File::open(&path).and_then(|file| file.sync_all()).expect("the disk works");
        (folder, path)
    });
    for (group, direct, bytes, depth) in
        [("disk", true, 128 << 10, 16), ("disk", true, 512 << 10, 16), ("cached", false, 4 << 10, 64)]
    {
        let pool = PagePool::new(64, bytes).expect("there is memory");
        for (name, config) in variants(&pool) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build_local(LocalOptions::default())
                .expect("the system gives an epoll");
            let (pool, count) = (pool.clone(), (total / bytes) as u64);
            let reads = Reads { runtime, config, pool, direct, bytes, count, depth };
            let mut group = bench.group(group, Throughput::Bytes(total as u64));
            group.samples(10);
            let name = format!("{}K/{name}", bytes >> 10);
            group.bench_timed(name, |times| reads.time(&made.1, times), |sum, digest| digest.number(*sum));
        }
    }
}

fn main() {
    run(include_str!("scratch.hashes"), &[engines, features]);
}
