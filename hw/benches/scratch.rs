//! The scratch engines side by side: 64 MiB written and read in pieces, several at a time, buffered and direct.
//!
//! Files lie in the folder that `FIRESTEEL_BENCH_DIR` names, else in the temporary one.
#![allow(missing_docs)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use firesteel_hw::scratch::{EngineKind, Scratch, ScratchConfig, ScratchFile};
use futures::executor::block_on;
use futures::future::join_all;
use futures::stream::{self, StreamExt};

const SEGMENT_BYTES: usize = 512 << 10;
const FILES: usize = 8;
const SEGMENTS_PER_FILE: usize = 16;
const TOTAL_BYTES: u64 = (SEGMENT_BYTES * FILES * SEGMENTS_PER_FILE) as u64;
const READS_AT_A_TIME: usize = 16;

fn folder() -> PathBuf {
    std::env::var_os("FIRESTEEL_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from)
}

fn start(engine: EngineKind, direct: bool) -> Scratch {
    let config = ScratchConfig { name: format!("bench-{engine}"), engine, direct, cpu: None };
    Scratch::start(&config).expect("this machine has the engine")
}

/// Files are written at the same time, the segments of each one after another.
async fn write(scratch: &Scratch, content: &[u8]) -> Vec<ScratchFile> {
    let folder = folder();
    let files = (0..FILES).map(|i| {
        let path = folder.join(format!("firesteel-bench-{}-{i}", std::process::id()));
        async move {
            let mut file = scratch.create(&path).await.expect("the folder can be written to");
            for _ in 0..SEGMENTS_PER_FILE {
                file.append(&[content]).await.expect("there is room");
            }
            file
        }
    });
    join_all(files).await
}

async fn read(files: &[ScratchFile]) {
    let piece = SEGMENT_BYTES as u64;
    let places = files.iter().flat_map(|file| (0..SEGMENTS_PER_FILE as u64).map(move |i| (file, i * piece)));
    let reads = stream::iter(places)
        .map(|(file, at)| async move { file.read(at..at + piece).await.expect("it was written").len() });
    let bytes: usize =
        reads.buffer_unordered(READS_AT_A_TIME).fold(0, |sum, len| async move { sum + len }).await;
    assert_eq!(bytes as u64, TOTAL_BYTES);
}

async fn remove(files: Vec<ScratchFile>) {
    for file in files {
        file.remove().await.expect("it is there");
    }
}

fn each(criterion: &mut Criterion, name: &str, run: impl Fn(&Scratch, u64) -> Duration) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Bytes(TOTAL_BYTES)).sample_size(10);
    for direct in [false, true] {
        for engine in EngineKind::ALL {
            let scratch = start(engine, direct);
            let id = format!("{engine}/{}", if direct { "direct" } else { "buffered" });
            group.bench_function(id, |b| b.iter_custom(|times| run(&scratch, times)));
        }
    }
    group.finish();
}

fn bench(criterion: &mut Criterion) {
    let content = vec![0xa5; SEGMENT_BYTES];
    each(criterion, "write_64MiB", |scratch, times| {
        let mut total = Duration::ZERO;
        for _ in 0..times {
            let start = Instant::now();
            let files = block_on(write(scratch, &content));
            total += start.elapsed();
            block_on(remove(files));
        }
        total
    });
    each(criterion, "read_64MiB", |scratch, times| {
        let files = block_on(write(scratch, &content));
        let start = Instant::now();
        for _ in 0..times {
            block_on(read(&files));
        }
        let total = start.elapsed();
        block_on(remove(files));
        total
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
