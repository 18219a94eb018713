use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use firesteel_base::UserError;
use futures::FutureExt;
use futures::executor::block_on;
use futures::future::join_all;

use super::*;

fn config(engine: EngineKind, direct: bool) -> ScratchConfig {
    ScratchConfig { name: format!("test-{engine}"), engine, direct, cpu: None }
}

/// Every engine, buffered and direct, on the disk of the build: each test is one behaviour of all of them.
fn with_every_engine(test: impl Fn(Scratch, &Path)) {
    for engine in EngineKind::ALL {
        for direct in [false, true] {
            let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
            let scratch = Scratch::start(&config(engine, direct)).unwrap();
            test(scratch, folder.path());
            assert_eq!(
                entries(folder.path()),
                Vec::<String>::new(),
                "{engine}, direct {direct}: left behind"
            );
        }
    }
}

fn entries(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

/// Bytes that differ from place to place and from seed to seed.
fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(next).collect()
}

#[test]
fn segments_come_back_as_they_were_written() {
    with_every_engine(|scratch, folder| {
        block_on(async {
            let file = scratch.create(&folder.join("a")).await.unwrap();
            let lengths = [1, PAGE_BYTES - 1, PAGE_BYTES, PAGE_BYTES + 1, 3 << 20, 0, 70_000];
            let mut segments = Vec::new();
            for (seed, len) in lengths.into_iter().enumerate() {
                let bytes = pattern(seed as u64, len);
                let (head, tail) = bytes.split_at(len / 3);
                let segment = file.append(&[head, tail]).await.unwrap();
                assert_eq!((segment.offset % PAGE_BYTES as u64, segment.len), (0, len as u64));
                segments.push((segment, bytes));
            }
            for (segment, bytes) in segments.iter().rev() {
                let read = file.read(segment.offset..segment.offset + segment.len).await.unwrap();
                assert!(&read[..] == bytes, "{scratch:?}: segment {segment:?} differs");
            }
            let (segment, bytes) = &segments[4];
            let part = file.read(segment.offset + 5_000..segment.offset + 15_000).await.unwrap();
            assert!(part[..] == bytes[5_000..15_000], "{scratch:?}: a part differs");
            assert!(file.bytes() >= 3 << 20);
            file.remove().await.unwrap();
        });
    });
}

#[test]
fn many_files_and_reads_at_a_time() {
    with_every_engine(|scratch, folder| {
        let contents: Vec<Vec<u8>> = (0..8).map(|seed| pattern(seed, 300_000)).collect();
        block_on(async {
            let files = contents.iter().enumerate().map(|(i, content)| {
                let (scratch, path) = (scratch.clone(), folder.join(i.to_string()));
                async move {
                    let file = scratch.create(&path).await.unwrap();
                    file.append(&[content]).await.unwrap();
                    file
                }
            });
            let files = join_all(files).await;
            // More than one service works on at a time.
            let reads = (0..200_usize).map(|i| {
                let (file, start) = (&files[i % 8], i as u64 * 1_000);
                async move { file.read(start..start + 50_000).await.unwrap() }
            });
            for (i, read) in join_all(reads).await.into_iter().enumerate() {
                let start = i * 1_000;
                assert!(read[..] == contents[i % 8][start..start + 50_000], "{scratch:?}: read {i} differs");
            }
            for file in files {
                file.remove().await.unwrap();
            }
        });
    });
}

#[test]
fn a_dropped_file_is_removed() {
    with_every_engine(|scratch, folder| {
        block_on(async {
            let dropped = scratch.create(&folder.join("dropped")).await.unwrap();
            dropped.append(&[b"spark"]).await.unwrap();
            drop(dropped);
            assert!(!folder.join("dropped").exists());
        });
    });
}

#[test]
fn a_file_that_nobody_waits_for_any_more_is_removed() {
    with_every_engine(|scratch, folder| {
        let (early, late) = (folder.join("early"), folder.join("late"));
        // Given up while the service works on it, and when its answer is there and nobody has looked.
        drop(scratch.create(&early).now_or_never());
        let mut answered = Box::pin(scratch.create(&late));
        let looked = answered.as_mut().now_or_never();
        drop(block_on(scratch.create(&folder.join("next"))).unwrap());
        wait_until(|| late.exists());
        drop((looked, answered));
        wait_until(|| entries(folder).is_empty());
    });
}

fn wait_until(reached: impl Fn() -> bool) {
    let started = Instant::now();
    while !reached() {
        assert!(started.elapsed() < Duration::from_secs(20), "it is not reached");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn several_append_to_a_file_at_a_time() {
    with_every_engine(|scratch, folder| {
        block_on(async {
            let file = &scratch.create(&folder.join("a")).await.unwrap();
            let lengths = [1, 900_000, PAGE_BYTES, 3 << 20, 70_000, 2 << 20, 5, 600_000];
            let appended = lengths.into_iter().enumerate().map(|(seed, len)| async move {
                let bytes = pattern(seed as u64, len);
                (file.append(&[&bytes]).await.unwrap(), bytes)
            });
            for (segment, bytes) in join_all(appended).await {
                let read = file.read(segment.offset..segment.offset + segment.len).await.unwrap();
                assert!(read[..] == bytes, "{scratch:?}: segment {segment:?} differs");
            }
        });
    });
}

#[test]
fn a_segment_that_is_discarded_gives_its_room_back_and_the_others_stay() {
    use std::os::unix::fs::MetadataExt;
    with_every_engine(|scratch, folder| {
        block_on(async {
            let path = folder.join("a");
            let file = scratch.create(&path).await.unwrap();
            let parts = [pattern(1, 1 << 20), pattern(2, (4 << 20) - 100), pattern(3, 1 << 20)];
            let mut segments = Vec::new();
            for part in &parts {
                segments.push(file.append(&[part]).await.unwrap());
            }
            let used = || 512 * fs::metadata(&path).unwrap().blocks();
            let before = used();
            file.discard(segments[1]);
            for at in [0, 2] {
                let Segment { offset, len } = segments[at];
                assert!(file.read(offset..offset + len).await.unwrap()[..] == parts[at], "{scratch:?}");
            }
            // The requests of a service begin in order, so it was done before the reads.
            assert!(used() + (3 << 20) < before, "{scratch:?}: {} of {before} bytes", used());
        });
    });
}

#[test]
fn who_fills_a_buffer_of_the_service_appends_it() {
    with_every_engine(|scratch, folder| {
        block_on(async {
            let file = scratch.create(&folder.join("a")).await.unwrap();
            let mut pages = scratch.buffer(10_000).unwrap();
            assert!(pages.is_pooled());
            pages.fill(&[&pattern(5, 10_000)]);
            let segment = file.append_pages(pages, 10_000).await.unwrap();
            assert_eq!((segment, file.bytes()), (Segment { offset: 0, len: 10_000 }, 12_288));
            assert!(file.read(0..10_000).await.unwrap()[..] == pattern(5, 10_000));
            assert!(!scratch.buffer(64 << 20).unwrap().is_pooled());
        });
    });
}

#[test]
fn a_folder_tells_whether_it_takes_direct_writes() {
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    takes_direct(folder.path()).unwrap();
    assert!(entries(folder.path()).is_empty());
    // What else is wrong shows later.
    takes_direct(&folder.path().join("nowhere")).unwrap();
}

#[test]
fn faults_name_the_file_and_what_was_tried() {
    with_every_engine(|scratch, folder| {
        block_on(async {
            let path = folder.join("a");
            let file = scratch.create(&path).await.unwrap();
            let told = |fault: ScratchError| UserError::from(fault).to_string();
            let twice = told(scratch.create(&path).await.unwrap_err());
            assert!(twice.contains("create") && twice.contains(&path.display().to_string()), "{twice}");
            let nowhere = told(scratch.create(&folder.join("no/b")).await.unwrap_err());
            assert!(nowhere.contains("no/b") && nowhere.contains("hint"), "{nowhere}");
            let beyond = told(file.read(0..1).await.unwrap_err());
            assert!(beyond.contains("no bytes 0..1"), "{beyond}");
            fs::remove_file(&path).unwrap();
            let gone = told(file.remove().await.unwrap_err());
            assert!(gone.contains("remove"), "{gone}");
        });
    });
}

#[test]
fn a_service_that_has_ended_holds_no_file_open() {
    with_every_engine(|scratch, folder| {
        // The last files go together with their service.
        let files = block_on(join_all((0..20).map(|file| {
            let (scratch, path) = (scratch.clone(), folder.join(format!("file-{file}")));
            async move { scratch.create(&path).await.unwrap() }
        })));
        drop((scratch, files));
        wait_until(|| !open_files().iter().any(|path| path.starts_with(folder)));
    });
}

/// What this process holds open now; names of removed files end in " (deleted)".
fn open_files() -> Vec<PathBuf> {
    let links = fs::read_dir("/proc/self/fd").unwrap().map(|link| link.unwrap().path());
    // One that is closed meanwhile is none.
    links.filter_map(|link| fs::read_link(link).ok()).collect()
}

#[test]
fn the_service_runs_where_it_is_pinned_or_says_why_not() {
    for engine in EngineKind::ALL {
        let absent = ScratchConfig { cpu: Some(1023), ..config(engine, false) };
        let fault = Scratch::start(&absent).unwrap_err().to_string();
        assert!(fault.contains("CPU 1023") && fault.contains(engine.name()), "{fault}");
        let present =
            ScratchConfig { cpu: crate::pin::allowed_cpus().first().copied(), ..config(engine, false) };
        Scratch::start(&present).unwrap();
    }
}

#[test]
fn names_of_engines_read_back() {
    for engine in EngineKind::ALL {
        assert_eq!(engine.to_string().parse(), Ok(engine));
    }
    assert!("libaio".parse::<EngineKind>().unwrap_err().to_string().contains("'glommio'"));
}
