//! The scratch engines side by side: files written and read in pieces, several at a time, buffered and direct. Throughput is
//! in bytes of files.
//!
//! Files lie in the folder that `FIRESTEEL_BENCH_DIR` names, else in the target folder.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use firesteel_hw::scratch::{EngineKind, Scratch, ScratchConfig, ScratchFile};
use firesteel_micro::{Bench, Digest, Throughput, run};
use futures::executor::block_on;
use futures::future::join_all;
use futures::stream::{self, StreamExt};
use tempfile::TempDir;

const READS_AT_A_TIME: usize = 16;

/// How much is written and read.
#[derive(Debug, Clone, Copy)]
struct Shape {
    files: u64,
    segments_per_file: u64,
    segment_bytes: u64,
}

const FULL: Shape = Shape { files: 8, segments_per_file: 16, segment_bytes: 512 << 10 };
const TINY: Shape = Shape { files: 2, segments_per_file: 3, segment_bytes: 64 << 10 };

impl Shape {
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
        let mut file = scratch.create(&path).await.expect("the folder can be written to");
        for segment in 0..shape.segments_per_file {
            let number = number * shape.segments_per_file + segment;
            file.append(&[&number.to_le_bytes(), content]).await.expect("there is room");
        }
        file
    });
    join_all(files).await
}

/// Reads all segments, several at a time and in any order, and gives what `take` makes of each.
async fn read<T>(files: &[ScratchFile], shape: Shape, take: impl Fn(&[u8]) -> T) -> Vec<T> {
    let take = &take;
    let segments =
        files.iter().flat_map(|file| (0..shape.segments_per_file).map(move |segment| (file, segment)));
    let reads = stream::iter(segments).map(|(file, segment)| async move {
        let at = segment * shape.segment_bytes;
        take(&file.read(at..at + shape.segment_bytes).await.expect("it was written"))
    });
    reads.buffer_unordered(READS_AT_A_TIME).collect().await
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
    fn write(&self) -> Vec<ScratchFile> {
        block_on(write(&self.scratch, self.folder.path(), self.shape, &self.content))
    }

    /// What lies in the files, which are then removed.
    fn take(&self, files: Vec<ScratchFile>) -> Vec<Vec<u8>> {
        let segments = block_on(read(&files, self.shape, <[u8]>::to_vec));
        block_on(remove(files));
        segments
    }

    fn time_writes(&self, times: u64) -> (Duration, Vec<Vec<u8>>) {
        let (mut took, mut last) = (Duration::ZERO, Vec::new());
        for _ in 0..times {
            block_on(remove(last));
            let start = Instant::now();
            last = self.write();
            took += start.elapsed();
        }
        (took, self.take(last))
    }

    fn time_reads(&self, times: u64) -> (Duration, Vec<Vec<u8>>) {
        let files = self.write();
        let start = Instant::now();
        for _ in 0..times {
            let lengths = block_on(read(&files, self.shape, <[u8]>::len));
            assert_eq!(lengths.iter().sum::<usize>() as u64, self.shape.bytes());
        }
        (start.elapsed(), self.take(files))
    }
}

fn scratch(bench: &mut Bench) {
    let shape = bench.size(FULL, TINY);
    let content =
        vec![0xa5; usize::try_from(shape.segment_bytes).expect("it fits into memory") - size_of::<u64>()];
    for direct in [false, true] {
        for engine in EngineKind::ALL {
            let name = format!("{engine}/{}", if direct { "direct" } else { "buffered" });
            let files =
                Files { scratch: start(engine, direct), folder: folder(), shape, content: content.clone() };
            let mut group = bench.group("write", Throughput::Bytes(shape.bytes()));
            group.samples(10);
            group.bench_timed(&name, |times| files.time_writes(times), hash);
            drop(group);

            let mut group = bench.group("read", Throughput::Bytes(shape.bytes()));
            group.samples(10);
            group.bench_timed(&name, |times| files.time_reads(times), hash);
        }
    }
}

fn main() {
    run(include_str!("scratch.hashes"), &[scratch]);
}
