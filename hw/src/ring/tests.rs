use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use futures::future::join_all;
use futures::stream::{self, StreamExt};
use tempfile::TempDir;
use tokio::runtime::{LocalOptions, LocalRuntime};

use super::*;
use crate::pages::{PAGE_BYTES, PagePool};

/// Longer than any of these tests takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn runtime() -> LocalRuntime {
    tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap()
}

fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap()
}

fn pool() -> PagePool {
    PagePool::new(32, 64 << 10).unwrap()
}

/// Rings with all features, and with each left out.
fn configs(pool: &PagePool) -> Vec<RingConfig> {
    let all = RingConfig { depth: 16, pool: Some(pool.clone()), ..RingConfig::default() };
    vec![
        all.clone(),
        RingConfig { pool: None, ..all.clone() },
        RingConfig { files: 0, ..all.clone() },
        RingConfig { deferred: false, ..all.clone() },
        RingConfig { batch: 1, ..all.clone() },
        RingConfig { depth: 1, files: 1, ..all },
    ]
}

/// Runs a test on a ring of each kind, direct and buffered, and sees to it that nothing is left behind.
fn with_every_ring(test: impl AsyncFn(&Ring, &PagePool, &Path, bool)) {
    for config in configs(&pool()) {
        for direct in [false, true] {
            let (folder, pool) = (folder(), config.pool.clone().unwrap_or_else(pool));
            runtime().block_on(async {
                let ring = Ring::start(&config).unwrap();
                let work = test(&ring, &pool, folder.path(), direct);
                tokio::time::timeout(PATIENCE, work).await.expect("it does not hang");
                assert_eq!((ring.in_flight(), ring.counts().unknown), (0, 0), "{ring:?}");
            });
            assert_eq!(pool.free(), 32, "{config:?}");
        }
    }
}

fn open(path: &Path, direct: bool) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.custom_flags(if direct { libc::O_DIRECT } else { 0 }).open(path).unwrap()
}

fn filled(pool: &PagePool, byte: u8, bytes: usize) -> Pages {
    let mut pages = pool.try_take(bytes).unwrap();
    pages.as_bytes_mut().fill(byte);
    pages
}

/// A pipe: reading it does not end before something is written.
fn pipe(ring: &Ring) -> (RingFile, File) {
    let (reader, writer) = std::io::pipe().unwrap();
    let reader = File::from(std::os::fd::OwnedFd::from(reader));
    (ring.adopt(reader, Path::new("pipe"), false), File::from(std::os::fd::OwnedFd::from(writer)))
}

#[test]
fn what_was_written_is_read() {
    with_every_ring(async |ring, pool, folder, direct| {
        let path = folder.join("a");
        let file = ring.adopt(open(&path, direct), &path, direct);
        for (number, bytes) in [4096, 64 << 10, 20_000, 3 << 20].into_iter().enumerate() {
            let at = (number << 22) as u64;
            let pages = filled(pool, number as u8 + 1, bytes);
            let len = pages.len();
            let (written, _) = ring.write(&file, pages, at).await;
            assert_eq!(written.unwrap(), len);
            let (read, pages) = ring.read(&file, filled(pool, 0, bytes), at).await;
            assert_eq!(read.unwrap(), len);
            assert!(pages.as_bytes().iter().all(|&byte| byte == number as u8 + 1), "{ring:?}");
        }
        let (nothing, _) = ring.write(&file, Pages::zeroed(0), 0).await;
        assert_eq!(nothing.unwrap(), 0);
    });
}

#[test]
fn many_files_written_and_read_at_a_time() {
    with_every_ring(async |ring, pool, folder, direct| {
        let files: Vec<RingFile> = (0..8)
            .map(|number| folder.join(number.to_string()))
            .map(|path| ring.adopt(open(&path, direct), &path, direct))
            .collect();
        let copies = (0..200_usize).map(|number| {
            let file = &files[number % 8];
            async move {
                let at = (number / 8 * 8192) as u64;
                let mut pages = pool.take(8192).await;
                pages.as_bytes_mut().fill(number as u8);
                ring.write(file, pages, at).await.0.unwrap();
                let (read, pages) = ring.read(file, pool.take(8192).await, at).await;
                assert_eq!(read.unwrap(), 8192);
                assert!(pages.as_bytes().iter().all(|&byte| byte == number as u8));
            }
        });
        join_all(copies).await;
        if ring.shared.report.has.contains(&Feature::RegisteredFiles) {
            assert!(files[0].is_registered());
        }
    });
}

#[test]
fn thousands_of_operations_wait_for_their_turn() {
    with_every_ring(async |ring, pool, folder, direct| {
        let path = folder.join("a");
        let file = ring.adopt(open(&path, direct), &path, direct);
        ring.write(&file, filled(pool, 7, 64 << 10), 0).await.0.unwrap();
        let depth = ring.shared.limit.available_permits();
        let reads = stream::iter(0..3000_u64).map(|number| {
            let file = &file;
            async move {
                let (read, pages) = ring.read(file, Pages::zeroed(4096), number % 16 * 4096).await;
                assert!(ring.in_flight() <= depth, "{} in flight", ring.in_flight());
                assert_eq!((read.unwrap(), pages.as_bytes()[0]), (4096, 7));
            }
        });
        reads.buffer_unordered(1000).for_each(|()| async {}).await;
        assert_eq!(ring.shared.limit.available_permits(), depth);
        assert!(ring.shared.slots() <= depth, "the slab has {} places", ring.shared.slots());
    });
}

#[test]
fn reads_are_short_at_the_end_of_a_file() {
    with_every_ring(async |ring, pool, folder, direct| {
        for bytes in [0_usize, 1, 511, 512, 4095, 4096, 5000, 70_000] {
            let path = folder.join(bytes.to_string());
            std::fs::write(&path, vec![9; bytes]).unwrap();
            let file = ring.adopt(open(&path, direct), &path, direct);
            let (read, pages) = ring.read(&file, filled(pool, 0, 128 << 10), 0).await;
            assert_eq!(read.unwrap(), bytes, "direct {direct}");
            assert!(pages.as_bytes()[..bytes].iter().all(|&byte| byte == 9));
            let (beyond, _) = ring.read(&file, filled(pool, 0, 4096), 1 << 20).await;
            assert_eq!(beyond.unwrap(), 0);
        }
    });
}

#[test]
fn steps_are_done_in_order() {
    with_every_ring(async |ring, pool, folder, direct| {
        if ring.shared.limit.available_permits() < 3 {
            return;
        }
        let path = folder.join("a");
        let file = ring.adopt(open(&path, direct), &path, direct);
        for round in 1..=20 {
            let steps = vec![
                Step::write(&file, filled(pool, round, 8192), 0),
                Step::read(&file, filled(pool, 0, 8192), 0),
                Step::write(&file, filled(pool, 0, 4096), 4096),
            ];
            let outcomes = ring.in_order(steps).await;
            assert!(outcomes.iter().all(|(result, _)| result.is_ok()), "{outcomes:?}");
            assert!(outcomes[1].1.as_bytes().iter().all(|&byte| byte == round), "the read came before");
        }
        // The first comes back short, which breaks the chain in the kernel; it is gone on with here.
        let steps = vec![
            Step::read(&file, filled(pool, 0, 16384), 0),
            Step::write(&file, filled(pool, 3, 4096), 0),
            Step::read(&file, filled(pool, 0, 4096), 0),
        ];
        let outcomes = ring.in_order(steps).await;
        let bytes: Vec<usize> = outcomes.iter().map(|(result, _)| *result.as_ref().unwrap()).collect();
        assert_eq!((bytes, outcomes[2].1.as_bytes()[0]), (vec![8192, 4096, 4096], 3));
    });
}

#[test]
fn after_a_step_that_failed_the_rest_is_not_done() {
    with_every_ring(async |ring, pool, folder, _| {
        if ring.shared.limit.available_permits() < 2 {
            return;
        }
        let path = folder.join("a");
        std::fs::write(&path, "").unwrap();
        let unwritable = ring.adopt(File::open(&path).unwrap(), &path, false);
        let file = ring.adopt(open(&path, false), &path, false);
        let steps = vec![
            Step::write(&unwritable, filled(pool, 1, 4096), 0),
            Step::write(&file, filled(pool, 1, 4096), 0),
        ];
        let outcomes = ring.in_order(steps).await;
        let faults: Vec<_> = outcomes.into_iter().map(|(result, _)| result.unwrap_err()).collect();
        assert!(!faults[0].is_cancelled() && faults[1].is_cancelled(), "{faults:?}");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
        let told = faults[0].to_string();
        assert!(told.contains("cannot write") && told.contains(&path.display().to_string()), "{told}");
    });
}

#[test]
fn a_file_that_was_removed_serves_until_it_is_closed() {
    with_every_ring(async |ring, pool, folder, direct| {
        let path = folder.join("a");
        let file = ring.adopt(open(&path, direct), &path, direct);
        std::fs::remove_file(&path).unwrap();
        ring.write(&file, filled(pool, 5, 4096), 0).await.0.unwrap();
        let (read, pages) = ring.read(&file, filled(pool, 0, 4096), 0).await;
        assert_eq!((read.unwrap(), pages.as_bytes()[0]), (4096, 5));
    });
}

#[test]
fn places_of_closed_files_are_used_again() {
    with_every_ring(async |ring, pool, folder, direct| {
        for number in 0..200 {
            let path = folder.join(number.to_string());
            let file = ring.adopt(open(&path, direct), &path, direct);
            assert_eq!(file.is_registered(), ring.report().has.contains(&Feature::RegisteredFiles));
            ring.write(&file, filled(pool, 1, 4096), 0).await.0.unwrap();
            std::fs::remove_file(&path).unwrap();
        }
    });
}

#[test]
fn dropping_a_future_cancels_and_keeps_the_buffer_until_then() {
    with_every_ring(async |ring, pool, _, _| {
        let (file, _writer) = pipe(ring);
        let mut read = Box::pin(ring.read(&file, filled(pool, 0, 4096), 0));
        assert!(futures::poll!(read.as_mut()).is_pending());
        while ring.counts().enters == 0 {
            tokio::task::yield_now().await;
        }
        drop(read);
        drop(file);
        assert_eq!((ring.in_flight(), pool.free()), (1, 31), "the kernel has it still");
        while ring.in_flight() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!((ring.counts().abandoned, pool.free()), (1, 32));
    });
}

#[test]
fn a_future_that_is_dropped_while_it_waits_takes_no_place() {
    with_every_ring(async |ring, pool, _, _| {
        let depth = ring.shared.limit.available_permits();
        let (file, mut writer) = pipe(ring);
        let mut reads: Vec<_> =
            (0..=depth).map(|_| Box::pin(ring.read(&file, filled(pool, 0, 4096), 0))).collect();
        for read in &mut reads {
            assert!(futures::poll!(read.as_mut()).is_pending());
        }
        assert_eq!(ring.in_flight(), depth);
        drop(reads.pop());
        writer.write_all(&[1]).unwrap();
        drop(writer);
        let bytes: usize = join_all(reads).await.into_iter().map(|(read, _)| read.unwrap()).sum();
        assert_eq!(bytes, 1);
    });
}

#[test]
fn a_runtime_that_ends_takes_back_what_is_in_flight() {
    for config in configs(&pool()) {
        let (runtime, pool) = (runtime(), config.pool.clone().unwrap_or_else(pool));
        let (ring, mut writer, mut read) = runtime.block_on(async {
            let ring = Ring::start(&config).unwrap();
            let (file, writer) = pipe(&ring);
            let operation = ring.clone();
            let pages = filled(&pool, 0, 4096);
            let mut read = Box::pin(async move { operation.read(&file, pages, 0).await });
            assert!(futures::poll!(read.as_mut()).is_pending());
            while ring.counts().enters == 0 {
                tokio::task::yield_now().await;
            }
            (ring, writer, read)
        });
        drop(runtime);
        assert_eq!(ring.in_flight(), 0);
        let (result, pages) = futures::executor::block_on(read.as_mut());
        assert!(result.unwrap_err().is_cancelled());
        // A ring that has ended takes no more, and says so.
        let (file, _) = pipe(&ring);
        let (result, pages) = futures::executor::block_on(ring.read(&file, pages, 0));
        assert!(result.unwrap_err().is_cancelled());
        drop((ring, file, pages, read));
        assert_eq!(pool.free(), 32);
        assert_eq!(writer.write_all(&[1]).unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    }
}

#[test]
fn a_ring_ends_with_its_last_handle() {
    for config in configs(&pool()) {
        runtime().block_on(async {
            let ring = Ring::start(&config).unwrap();
            let shared = Rc::downgrade(&ring.shared);
            drop(ring.clone());
            drop(ring);
            let ended = async {
                while shared.strong_count() > 0 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(PATIENCE, ended).await.unwrap();
        });
    }
}

#[test]
fn a_ring_runs_in_the_loops_of_core_threads() {
    use crate::{CoreThread, CoreThreadConfig, LoopKind};
    for kind in [LoopKind::Tokio, LoopKind::TokioUring] {
        let config = CoreThreadConfig { name: "test-ring".to_owned(), cpu: None, numa_node: None, kind };
        let core = CoreThread::start(config).unwrap();
        let folder = folder();
        let path = folder.path().join("a");
        let (sender, receiver) = std::sync::mpsc::channel();
        let make = move || async move {
            let ring = Ring::start(&RingConfig::default()).unwrap();
            let file = ring.adopt(open(&path, true), &path, true);
            let (written, pages) = ring.write(&file, Pages::gather(&[b"spark"]), 0).await;
            let (read, pages) = ring.read(&file, pages, 0).await;
            sender.send((written.unwrap(), read.unwrap(), pages.as_bytes()[..5].to_vec())).unwrap();
        };
        core.handle().spawn_with(make).unwrap();
        assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), (PAGE_BYTES, PAGE_BYTES, b"spark".to_vec()));
        core.stop(PATIENCE).unwrap();
    }
}

#[test]
fn what_a_ring_has_is_told_and_a_depth_that_cannot_be_is_refused() {
    runtime().block_on(async {
        let pool = pool();
        let ring = Ring::start(&RingConfig { pool: Some(pool), ..RingConfig::default() }).unwrap();
        let report = ring.report();
        assert_eq!(report.has.len() + report.lacks.len(), 4, "{report:?}");
        for feature in &report.has {
            assert!(report.to_string().contains(feature.name()), "{report}");
        }
        for depth in [0, u32::MAX] {
            assert!(Ring::start(&RingConfig { depth, ..RingConfig::default() }).is_err());
        }
    });
}
