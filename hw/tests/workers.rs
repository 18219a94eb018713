//! A ring in steady state never needs a worker thread of the kernel. A process of its own, for such threads are counted
//! by process.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

use std::fs;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use firesteel_hw::pages::{PAGE_BYTES, PagePool, Pages};
use firesteel_hw::ring::{Ring, RingConfig, RingFile};
use firesteel_hw::scratch::{EngineKind, Scratch, ScratchConfig};
use futures::executor::block_on;
use futures::stream::{self, StreamExt};
use rustix::fs::{FallocateFlags, fallocate};
use tokio::runtime::LocalOptions;

const PIECE_BYTES: usize = 128 << 10;
const PIECES: u64 = 64;
const ROUNDS: u64 = 4;

/// Worker threads of this process's rings.
fn workers() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|entry| entry.unwrap().path().join("comm"));
    // A thread may end while it is looked at.
    let names = tasks.filter_map(|comm| fs::read_to_string(comm).ok());
    names.filter(|name| name.starts_with("iou-wrk")).count()
}

fn direct(path: &Path) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).custom_flags(libc::O_DIRECT).open(path).unwrap()
}

async fn write_and_read(ring: &Ring, pool: &PagePool, file: &RingFile) {
    let pieces = stream::iter(0..PIECES * ROUNDS).map(|number| async move {
        let at = number % PIECES * PIECE_BYTES as u64;
        let mut pages: Pages = pool.take(PIECE_BYTES).await;
        pages.as_bytes_mut().fill(1);
        let (written, pages) = ring.write(file, pages, at).await;
        let (read, _) = ring.read(file, pages, at).await;
        assert_eq!((written.unwrap(), read.unwrap()), (PIECE_BYTES, PIECE_BYTES));
        assert_eq!(workers(), 0, "after {number} pieces");
    });
    pieces.buffer_unordered(16).for_each(|()| async {}).await;
}

#[test]
fn direct_reads_and_writes_into_room_that_is_there_need_none() {
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let builder = &mut tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build_local(LocalOptions::default()).unwrap().block_on(async {
        let pool = PagePool::new(16, PIECE_BYTES).unwrap();
        let ring = Ring::start(&RingConfig { pool: Some(pool.clone()), ..RingConfig::default() }).unwrap();
        let path = folder.path().join("a");
        let file = ring.adopt(direct(&path), &path, true);
        fallocate(file.file(), FallocateFlags::empty(), 0, PIECES * PIECE_BYTES as u64).unwrap();
        write_and_read(&ring, &pool, &file).await;
    });

    // The same through a service, whose files grow.
    let config =
        ScratchConfig { name: "test-ring".to_owned(), engine: EngineKind::Ring, direct: true, cpu: None };
    let scratch = Scratch::start(&config).unwrap();
    block_on(async {
        let file = scratch.create(&folder.path().join("b")).await.unwrap();
        let content = vec![7; PIECE_BYTES - PAGE_BYTES / 2];
        for _ in 0..PIECES * 2 {
            let segment = file.append(&[&content]).await.unwrap();
            let piece = file.read(segment.offset..segment.offset + segment.len).await.unwrap();
            assert!(piece[..] == content);
            assert_eq!(workers(), 0, "at {segment:?}");
        }
        file.remove().await.unwrap();
    });
}
