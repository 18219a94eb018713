//! What is written is kept, in memory or in files, and is gone when it is freed.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::Schema;
use common::{Numbers, attempt, line_item_schema, line_items, sorted_rows, store, store_with};
use firesteel_base::{AttemptKey, ByteSize, Class, Epoch, JobId, MemoryBudget, StageId};
use firesteel_hw::scratch::EngineKind;
use firesteel_shuffle::partition::hash_assignment;
use firesteel_shuffle::{
    Assignment, BlockKey, BlockStore, FetchCause, FetchConfig, FetchError, Fetcher, FileConfig, Holder,
    LaneOutput, StoreConfig, StoreError, StoreUsage, WriteError,
};
use futures::TryStreamExt;
use proptest::prelude::*;

const PARTITIONS: u32 = 7;
const LONG: Duration = Duration::from_secs(30);
/// What a test that was started once more, as a process of its own, finds in its environment: its folders.
const ROLE: &str = "FIRESTEEL_TEST_ROLE";

/// Reads a block by pointer.
async fn read(store: &Arc<BlockStore>, key: BlockKey) -> Result<Vec<RecordBatch>, FetchError> {
    let holder = Holder {
        executor: "host/e0".parse().unwrap(),
        epoch: Epoch(1),
        address: String::new(),
        keeper: String::new(),
    };
    let local = Some((holder.executor.clone(), holder.epoch, Arc::clone(store)));
    let fetcher = Fetcher::new(FetchConfig { local, ..FetchConfig::default() });
    fetcher.fetch(holder, key, line_item_schema()).try_collect().await
}

fn block(producer: AttemptKey, partition: u32) -> BlockKey {
    BlockKey { producer, lane: 0, partition }
}

/// Partitions of the rows of a batch, by its key column.
fn assignment(batch: &RecordBatch) -> Vec<u32> {
    let keys = batch.column(0).as_primitive::<Int64Type>().values();
    let hashes: Vec<u64> = keys.iter().map(|key| *key as u64).collect();
    let mut out = Vec::new();
    hash_assignment(&hashes, PARTITIONS, &mut out);
    out
}

/// Writes batches by hash into lane 0 of an attempt.
fn write_hashed(
    store: &Arc<BlockStore>,
    attempt: AttemptKey,
    batches: &[RecordBatch],
) -> Result<LaneOutput, WriteError> {
    let mut writer = store.writer(attempt, 0, line_item_schema(), PARTITIONS);
    for batch in batches {
        writer.write(batch, &Assignment::Rows(&assignment(batch)))?;
    }
    writer.finish()
}

/// Checks that the blocks of an attempt hold the rows of `batches`, each in its partition.
async fn assert_holds(
    store: &Arc<BlockStore>,
    attempt: AttemptKey,
    batches: &[RecordBatch],
    output: &LaneOutput,
) {
    let mut all = Vec::new();
    for partition in 0..PARTITIONS {
        let found = read(store, block(attempt, partition)).await.unwrap();
        assert!(found.iter().all(|batch| assignment(batch).iter().all(|&p| p == partition)));
        let rows: usize = found.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows as u64, output.partitions[partition as usize].rows);
        all.extend(found);
    }
    assert_eq!(sorted_rows(&all), sorted_rows(batches));
}

fn batches(count: u64, rows: usize) -> Vec<RecordBatch> {
    (1..=count).map(|seed| line_items(seed, rows)).collect()
}

#[tokio::test]
async fn rows_arrive_in_their_partitions() {
    let (store, budget, _folder) = store(1 << 30, 1 << 30);
    let batches = batches(30, 1000);
    let output = write_hashed(&store, attempt(1, 0), &batches).unwrap();
    store.commit(&attempt(1, 0)).unwrap();
    assert_holds(&store, attempt(1, 0), &batches, &output).await;
    let usage = store.usage();
    assert_eq!(
        usage,
        StoreUsage { memory_bytes: output.total().bytes, blocks: PARTITIONS.into(), ..StoreUsage::default() }
    );
    assert_eq!(budget.used(), usage.memory_bytes);
    store.free_job(JobId(1));
    assert_eq!((store.usage(), budget.used()), (StoreUsage::default(), 0));
}

#[tokio::test]
async fn nothing_is_readable_before_its_commit() {
    let (store, _, _folder) = store(1 << 30, 1 << 30);
    let cause = async || read(&store, block(attempt(1, 0), 0)).await.unwrap_err().cause;
    assert_eq!(cause().await, FetchCause::Missing);
    let mut writer = store.writer(attempt(1, 0), 0, line_item_schema(), 1);
    writer.write(&line_items(1, 10), &Assignment::Single).unwrap();
    assert_eq!(cause().await, FetchCause::NotCommitted);
    assert_eq!(store.commit(&attempt(1, 0)), Err(StoreError::Unfinished { attempt: attempt(1, 0), lane: 0 }));
    writer.finish().unwrap();
    assert_eq!(cause().await, FetchCause::NotCommitted);
    store.commit(&attempt(1, 0)).unwrap();
    store.commit(&attempt(1, 0)).unwrap();
    assert_eq!(read(&store, block(attempt(1, 0), 0)).await.unwrap().len(), 1);
    let beyond = read(&store, block(attempt(1, 0), 1)).await.unwrap_err();
    assert_eq!((beyond.cause.clone(), beyond.class()), (FetchCause::Missing, Class::Fetch));
    assert_eq!(store.commit(&attempt(1, 9)), Err(StoreError::UnknownAttempt(attempt(1, 9))));
}

#[tokio::test]
async fn the_coldest_frames_go_to_files_and_come_back() {
    let (store, budget, folder) = store(1 << 30, 300_000);
    let batches = batches(40, 1000);
    let output = write_hashed(&store, attempt(1, 0), &batches).unwrap();
    let later = write_hashed(&store, attempt(1, 1), &batches[..5]).unwrap();
    store.commit(&attempt(1, 0)).unwrap();
    store.commit(&attempt(1, 1)).unwrap();
    assert!(store.settle(LONG));
    let usage = store.usage();
    assert!(usage.memory_bytes <= 300_000, "{usage:?}");
    assert_eq!(usage.memory_bytes + usage.disk_bytes, output.total().bytes + later.total().bytes);
    assert_eq!(store.spilled_bytes(), usage.clean_bytes + usage.disk_bytes);
    assert_holds(&store, attempt(1, 0), &batches, &output).await;
    assert_holds(&store, attempt(1, 1), &batches[..5], &later).await;
    assert_eq!(frame_files(folder.path()), 1, "one file a stage");
    store.discard(&attempt(1, 0));
    assert_holds(&store, attempt(1, 1), &batches[..5], &later).await;
    store.free_job(JobId(1));
    assert_eq!((frame_files(folder.path()), budget.used()), (0, 0));
    assert_eq!(store.usage(), StoreUsage::default());
}

/// Files of frames in the stores' folders below a scratch folder.
fn frame_files(scratch: &std::path::Path) -> usize {
    frame_paths(scratch).len()
}

fn frame_paths(scratch: &std::path::Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(scratch).unwrap().map(|entry| entry.unwrap().path());
    let paths = folders.flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    paths.filter(|path| path.file_name().unwrap() != "lock").collect()
}

#[tokio::test]
async fn the_room_of_a_discarded_attempt_is_given_back_while_others_of_its_stage_are_kept() {
    let files = FileConfig { engine: EngineKind::Blocking, ..FileConfig::default() };
    let (store, _, folder) = store_with(1 << 30, 0, files);
    let batches = batches(20, 2000);
    let kept = write_hashed(&store, attempt(1, 0), &batches).unwrap();
    write_hashed(&store, attempt(1, 1), &batches).unwrap();
    store.commit(&attempt(1, 0)).unwrap();
    let used = || {
        let paths = frame_paths(folder.path());
        paths.iter().map(|path| 512 * fs::metadata(path).unwrap().blocks()).sum::<u64>()
    };
    let before = used();
    store.discard(&attempt(1, 1));
    // The folder's thread does that when it comes to it.
    let deadline = Instant::now() + LONG;
    while used() > before * 2 / 3 {
        assert!(Instant::now() < deadline, "{} of {before} bytes are in use", used());
        tokio::task::yield_now().await;
    }
    assert_holds(&store, attempt(1, 0), &batches, &kept).await;
}

#[tokio::test]
async fn a_small_budget_sends_frames_to_files_and_is_passed_by_one_frame_at_most() {
    let limit = 3 << 20;
    let (store, budget, _folder) = store(limit, u64::MAX);
    let batches = batches(60, 2000);
    let output = write_hashed(&store, attempt(1, 0), &batches).unwrap();
    store.commit(&attempt(1, 0)).unwrap();
    assert!(output.total().bytes > 2 * limit, "{:?}", output.total());
    // A frame on its way to a file, while held batches fill the budget.
    assert!(budget.peak() <= limit + (3 << 19), "{budget:?} peak {}", budget.peak());
    assert!(store.usage().disk_bytes > 0);
    assert_holds(&store, attempt(1, 0), &batches, &output).await;
}

#[tokio::test]
async fn frames_go_straight_to_files_when_others_hold_all_memory() {
    let (store, budget, _folder) = store(1 << 20, u64::MAX);
    let join = budget.grant("join", 1 << 20).unwrap();
    let batches = batches(5, 1000);
    let output = write_hashed(&store, attempt(1, 0), &batches).unwrap();
    store.commit(&attempt(1, 0)).unwrap();
    assert_eq!((store.usage().memory_bytes, budget.used()), (0, join.bytes()));
    assert_holds(&store, attempt(1, 0), &batches, &output).await;
}

#[test]
fn without_a_scratch_folder_a_full_budget_is_an_error_that_names_who_holds_it() {
    let budget = MemoryBudget::new(ByteSize(1 << 20));
    let _join = budget.grant("join", 1 << 20).unwrap();
    let store = BlockStore::new(StoreConfig { budget, memory_max: 1, scratch: vec![] }).unwrap();
    let fault = write_hashed(&store, attempt(1, 0), &batches(1, 100)).unwrap_err();
    assert_eq!(fault.class(), Class::Resources);
    assert!(fault.to_string().contains("join holds 1MiB"), "{fault}");
    assert_eq!(store.usage(), StoreUsage::default());
}

#[tokio::test]
async fn room_is_made_on_request() {
    let (store, budget, _folder) = store(1 << 30, 1 << 30);
    let batches = batches(20, 1000);
    let output = write_hashed(&store, attempt(1, 0), &batches).unwrap();
    store.commit(&attempt(1, 0)).unwrap();
    let freed = store.make_room(output.total().bytes / 2).unwrap();
    assert!(freed >= output.total().bytes / 2);
    assert_eq!(budget.used(), output.total().bytes - freed);
    assert_eq!(store.make_room(u64::MAX).unwrap() + freed, output.total().bytes);
    assert_eq!(store.make_room(1).unwrap(), 0);
    assert_holds(&store, attempt(1, 0), &batches, &output).await;
}

#[tokio::test]
async fn memory_that_a_reader_looks_at_is_counted_until_it_is_done() {
    let (store, budget, _folder) = store(1 << 30, 1 << 30);
    let output = write_hashed(&store, attempt(1, 0), &batches(3, 1000)).unwrap();
    store.commit(&attempt(1, 0)).unwrap();
    let found = read(&store, block(attempt(1, 0), 2)).await.unwrap();
    store.free_job(JobId(1));
    assert_eq!(store.usage(), StoreUsage::default());
    assert_eq!(budget.used(), output.partitions[2].bytes);
    drop(found);
    assert_eq!(budget.used(), 0);
}

#[test]
fn an_unfinished_writer_takes_back_what_it_wrote() {
    let (store, budget, folder) = store(1 << 30, 10_000);
    let mut writer = store.writer(attempt(1, 0), 0, line_item_schema(), PARTITIONS);
    for batch in batches(100, 2000) {
        writer.write(&batch, &Assignment::Rows(&assignment(&batch))).unwrap();
    }
    assert!(store.usage().disk_bytes > 0 && budget.used() > 0);
    drop(writer);
    assert_eq!((store.usage(), budget.used(), frame_files(folder.path())), (StoreUsage::default(), 0, 0));
    assert_eq!(store.commit(&attempt(1, 0)), Err(StoreError::UnknownAttempt(attempt(1, 0))));
}

#[test]
fn a_discarded_attempt_cannot_be_written_on() {
    let (store, budget, _folder) = store(1 << 30, 1 << 30);
    let mut writer = store.writer(attempt(1, 0), 0, line_item_schema(), 1);
    writer.write(&line_items(1, 10), &Assignment::Single).unwrap();
    store.discard(&attempt(1, 0));
    let fault = writer.write(&line_items(1, 10), &Assignment::Single).unwrap_err();
    assert_eq!((fault.clone(), fault.class()), (WriteError::Discarded(attempt(1, 0)), Class::Cancelled));
    assert_eq!(writer.finish(), Err(WriteError::Discarded(attempt(1, 0))));
    assert_eq!((store.usage(), budget.used()), (StoreUsage::default(), 0));
}

#[test]
fn a_lane_has_one_writer() {
    let (store, _, _folder) = store(1 << 30, 1 << 30);
    let first = store.writer(attempt(1, 0), 0, line_item_schema(), 1);
    let mut second = store.writer(attempt(1, 0), 0, line_item_schema(), 1);
    let fault = second.write(&line_items(1, 1), &Assignment::Single).unwrap_err();
    assert_eq!(fault, WriteError::Taken { attempt: attempt(1, 0), lane: 0 });
    drop(second);
    first.finish().unwrap();
    store.commit(&attempt(1, 0)).unwrap();
    let late = store.writer(attempt(1, 0), 1, line_item_schema(), 1).finish().unwrap_err();
    assert_eq!(late, WriteError::Taken { attempt: attempt(1, 0), lane: 1 });
}

#[tokio::test]
async fn freeing_takes_only_what_is_named() {
    let (store, _, _folder) = store(1 << 30, 1 << 30);
    let other_stage = AttemptKey::new(JobId(1), StageId(3), 0, 0);
    for key in [attempt(1, 0), attempt(1, 1), other_stage, attempt(2, 0)] {
        write_hashed(&store, key, &batches(1, 100)).unwrap();
        store.commit(&key).unwrap();
    }
    store.free_stage(attempt(1, 0).task.stage);
    assert_eq!(read(&store, block(attempt(1, 1), 0)).await.unwrap_err().cause, FetchCause::Missing);
    assert!(read(&store, block(other_stage, 0)).await.is_ok());
    store.free_job(JobId(1));
    assert!(read(&store, block(other_stage, 0)).await.is_err());
    assert!(read(&store, block(attempt(2, 0), 0)).await.is_ok());
}

#[tokio::test]
async fn a_folder_that_fails_is_passed_over_and_all_failing_is_a_clear_error() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let scratch = vec![first.path().to_path_buf(), second.path().to_path_buf()];
    let budget = MemoryBudget::new(ByteSize(1 << 30));
    let store = BlockStore::new(StoreConfig { budget, memory_max: 0, scratch }).unwrap();
    let remove = |scratch: &std::path::Path| {
        for folder in fs::read_dir(scratch).unwrap() {
            fs::remove_dir_all(folder.unwrap().path()).unwrap();
        }
    };
    remove(first.path());
    let batches = batches(4, 500);
    for task in 0..2 {
        let output = write_hashed(&store, attempt(1, task), &batches).unwrap();
        store.commit(&attempt(1, task)).unwrap();
        assert_holds(&store, attempt(1, task), &batches, &output).await;
    }
    // What becomes of a file that is there already is the disk's affair.
    frame_paths(second.path()).iter().for_each(|path| drop(fs::File::create(path).unwrap()));
    remove(second.path());
    let other_stage = AttemptKey::new(JobId(1), StageId(3), 0, 0);
    let fault = write_hashed(&store, other_stage, &batches).unwrap_err();
    assert_eq!(fault.class(), Class::Resources);
    for scratch in [first.path(), second.path()] {
        assert!(fault.to_string().contains(scratch.to_str().unwrap()), "{fault}");
    }
    // What was there is lost with its file, and that is a fetch failure.
    let lost = read(&store, block(attempt(1, 0), 0)).await.unwrap_err();
    assert!(matches!(lost.cause, FetchCause::Unreadable(_)) && lost.class() == Class::Fetch, "{lost}");
}

#[test]
fn a_store_removes_its_folder_and_those_of_the_dead() {
    let scratch = tempfile::tempdir().unwrap();
    let dead = scratch.path().join("firesteel-blocks-4194999-1-0");
    let foreign = scratch.path().join("firesteel-blocks-of-mine");
    for folder in [&dead, &foreign] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("job1-s0-p0-a0-l0-0"), "frames").unwrap();
    }
    let open = || {
        let budget = MemoryBudget::new(ByteSize(1 << 30));
        BlockStore::new(StoreConfig { budget, memory_max: 0, scratch: vec![scratch.path().to_path_buf()] })
            .unwrap()
    };
    let first = open();
    assert!(!dead.exists() && foreign.exists());
    let second = open();
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 3, "the living keep theirs");
    drop(first);
    drop(second);
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
}

#[test]
fn a_scratch_folder_that_is_a_file_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let budget = MemoryBudget::new(ByteSize(1));
    let scratch = vec![file.path().to_path_buf()];
    let fault = BlockStore::new(StoreConfig { budget, memory_max: 0, scratch }).unwrap_err();
    assert!(fault.to_string().contains(file.path().to_str().unwrap()), "{fault}");
}

fn numbers(range: std::ops::Range<i64>) -> RecordBatch {
    RecordBatch::try_from_iter(vec![("n", Arc::new(Int64Array::from_iter_values(range)) as ArrayRef)])
        .unwrap()
}

async fn read_numbers(store: &Arc<BlockStore>, key: BlockKey) -> (Vec<i64>, Vec<usize>) {
    let holder = Holder {
        executor: "host/e0".parse().unwrap(),
        epoch: Epoch(1),
        address: String::new(),
        keeper: String::new(),
    };
    let local = Some((holder.executor.clone(), holder.epoch, Arc::clone(store)));
    let fetcher = Fetcher::new(FetchConfig { local, ..FetchConfig::default() });
    let found: Vec<_> = fetcher.fetch(holder, key, numbers(0..0).schema()).try_collect().await.unwrap();
    let values = found.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec());
    (values.collect(), found.iter().map(RecordBatch::num_rows).collect())
}

#[tokio::test]
async fn whole_batches_keep_their_order_small_ones_share_a_frame_and_large_ones_are_cut() {
    let (store, _, _folder) = store(1 << 30, 1 << 30);
    let mut writer = store.writer(attempt(1, 0), 0, numbers(0..0).schema(), 1);
    let mut next = 0;
    for size in [3, 5, 0, 200_000, 1, 2] {
        writer.write(&numbers(next..next + size), &Assignment::Single).unwrap();
        next += size;
    }
    let output = writer.finish().unwrap();
    store.commit(&attempt(1, 0)).unwrap();
    let (found, frames) = read_numbers(&store, block(attempt(1, 0), 0)).await;
    assert_eq!(found, (0..next).collect::<Vec<_>>());
    assert_eq!(output.total().rows, next as u64);
    assert!((7..=9).contains(&frames.len()), "{frames:?}");
    assert_eq!(frames.last(), Some(&3));
}

#[tokio::test]
async fn whole_batches_go_to_the_partition_they_are_sent_to() {
    let (store, _, _folder) = store(1 << 30, 1 << 30);
    let mut writer = store.writer(attempt(1, 0), 0, numbers(0..0).schema(), 3);
    writer.write(&numbers(0..5), &Assignment::Whole(2)).unwrap();
    writer.write(&numbers(5..8), &Assignment::Whole(0)).unwrap();
    writer.write(&numbers(8..10), &Assignment::Rows(&[2, 0])).unwrap();
    let output = writer.finish().unwrap();
    store.commit(&attempt(1, 0)).unwrap();
    assert_eq!(read_numbers(&store, block(attempt(1, 0), 0)).await.0, vec![5, 6, 7, 9]);
    assert_eq!(read_numbers(&store, block(attempt(1, 0), 1)).await.0, Vec::<i64>::new());
    assert_eq!(read_numbers(&store, block(attempt(1, 0), 2)).await.0, vec![0, 1, 2, 3, 4, 8]);
    assert_eq!(output.partitions.iter().map(|stat| stat.rows).collect::<Vec<_>>(), vec![4, 0, 6]);
}

#[tokio::test]
async fn rows_of_other_columns_lie_in_a_partition_of_their_own() {
    let (store, _, _folder) = store(1 << 30, 1 << 30);
    let mut writer = store.writer(attempt(1, 0), 0, line_item_schema(), 3);
    writer.write(&line_items(1, 10), &Assignment::Whole(1)).unwrap();
    writer.write_aside(&numbers(0..5)).unwrap();
    writer.write(&line_items(2, 10), &Assignment::Whole(0)).unwrap();
    let output = writer.finish().unwrap();
    store.commit(&attempt(1, 0)).unwrap();
    assert_eq!(output.partitions.iter().map(|stat| stat.rows).collect::<Vec<_>>(), vec![10, 10, 5]);
    assert_eq!(read_numbers(&store, block(attempt(1, 0), 2)).await.0, vec![0, 1, 2, 3, 4]);
    assert_eq!(read(&store, block(attempt(1, 0), 1)).await.unwrap(), vec![line_items(1, 10)]);
    // Read as what they are not, they are no rows.
    assert!(read(&store, block(attempt(1, 0), 2)).await.is_err());

    let mut writer = store.writer(attempt(2, 0), 0, line_item_schema(), 2);
    writer.write(&line_items(1, 10), &Assignment::Whole(1)).unwrap();
    let fault = writer.write_aside(&numbers(0..5)).unwrap_err();
    assert!(fault.to_string().contains("partition 1 has rows already"), "{fault}");
}

#[test]
fn rows_of_very_different_sizes_are_cut_into_frames_that_are_not_too_large() {
    let (store, _, _folder) = store(1 << 30, 1 << 30);
    let texts: StringArray = (0..2000).map(|i| Some("x".repeat(if i < 30 { 1 << 20 } else { 1 }))).collect();
    let batch = RecordBatch::try_from_iter(vec![("t", Arc::new(texts) as ArrayRef)]).unwrap();
    let mut writer = store.writer(attempt(1, 0), 0, batch.schema(), 1);
    let counters = writer.counters();
    writer.write(&batch, &Assignment::Single).unwrap();
    let output = writer.finish().unwrap();
    assert!(counters.frames() >= 4, "{counters:?}");
    assert_eq!((counters.rows(), counters.bytes()), (2000, output.total().bytes));
}

#[test]
fn what_does_not_fit_the_exchange_is_refused() {
    let (store, _, _folder) = store(1 << 30, 1 << 30);
    let mut writer = store.writer(attempt(1, 0), 0, line_item_schema(), 3);
    let mut fault =
        |batch: &RecordBatch, assignment: Assignment<'_>| writer.write(batch, &assignment).unwrap_err();
    for wrong in [Assignment::Rows(&[0, 1]), Assignment::Rows(&[0, 3, 1]), Assignment::Whole(3)] {
        let fault = fault(&line_items(1, 3), wrong);
        assert!(matches!(fault, WriteError::Assignment(_)) && fault.class() == Class::User, "{fault}");
    }
    let wrong = fault(&numbers(0..3), Assignment::Single);
    assert!(matches!(wrong, WriteError::Schema { .. }), "{wrong}");
    let mut columns = line_items(1, 3).columns().to_vec();
    columns[0] = Arc::new(Int64Array::from(vec![Some(1), None, None]));
    let nullable: Vec<_> =
        line_item_schema().fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    let with_nulls = RecordBatch::try_new(Arc::new(Schema::new(nullable)), columns).unwrap();
    let wrong = fault(&with_nulls, Assignment::Single);
    assert!(wrong.to_string().contains("2 nulls where column key without nulls"), "{wrong}");
    let columns = line_items(1, 3)
        .columns()
        .iter()
        .rev()
        .cloned()
        .enumerate()
        .map(|(i, c)| (i.to_string(), c))
        .collect::<Vec<_>>();
    let reversed = RecordBatch::try_from_iter(columns).unwrap();
    let wrong = fault(&reversed, Assignment::Single);
    assert!(wrong.to_string().contains("column key of type Int64"), "{wrong}");
}

#[test]
fn many_threads_write_read_and_free_under_pressure() {
    let (store, budget, folder) = store(4 << 20, 1 << 20);
    let batches = batches(8, 2000);
    std::thread::scope(|scope| {
        for task in 0..8 {
            let (store, batches) = (&store, &batches);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                for round in 0..3 {
                    let key = AttemptKey::new(JobId(1 + u64::from(task % 2)), StageId(0), task, round);
                    let output = write_hashed(store, key, batches).unwrap();
                    store.commit(&key).unwrap();
                    runtime.block_on(assert_holds(store, key, batches, &output));
                    store.discard(&key);
                }
            });
        }
    });
    // A piece of which nothing is left may still be on its way.
    assert!(store.settle(LONG));
    assert_eq!((store.usage(), budget.used(), frame_files(folder.path())), (StoreUsage::default(), 0, 0));
}

#[test]
fn a_dictionary_that_differs_from_batch_to_batch_is_written() {
    use arrow_array::{DictionaryArray, types::UInt8Type};
    let (store, _, _folder) = store(1 << 30, 1 << 30);
    let batch = |from: usize| {
        let values: Vec<String> = (from..from + 200).map(|i| format!("value {i}")).collect();
        let column: DictionaryArray<UInt8Type> = values.iter().map(String::as_str).collect();
        RecordBatch::try_from_iter(vec![("d", Arc::new(column) as ArrayRef)]).unwrap()
    };
    let mut writer = store.writer(attempt(1, 0), 0, batch(0).schema(), 1);
    for from in [0, 200, 400] {
        writer.write(&batch(from), &Assignment::Single).unwrap();
    }
    // 600 values do not go into one dictionary of 256: the frame is cut until they do.
    assert_eq!(writer.finish().unwrap().total().rows, 600);
}

/// Something that is done to a store.
#[derive(Debug, Clone)]
enum Step {
    Write { task: u32, stage: u32, batches: u64, rows: usize },
    Read(usize),
    Discard(usize),
    FreeStage(u32),
    MakeRoom(u64),
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u32..1000, 0_u32..3, 1_u64..8, 1_usize..4000)
            .prop_map(|(task, stage, batches, rows)| Step::Write { task, stage, batches, rows }),
        3 => (0_usize..8).prop_map(Step::Read),
        1 => (0_usize..8).prop_map(Step::Discard),
        1 => (0_u32..3).prop_map(Step::FreeStage),
        1 => (0_u64..3_000_000).prop_map(Step::MakeRoom),
        1 => Just(Step::Settle),
    ]
}

/// What a store must hold.
type Model = Vec<(AttemptKey, Vec<RecordBatch>, LaneOutput)>;

async fn take(store: &Arc<BlockStore>, model: &mut Model, number: usize, step: Step) {
    match step {
        Step::Write { task, stage, batches, rows } => {
            let key = AttemptKey::new(JobId(1), StageId(stage), task, number as u32);
            let first = 10 * u64::from(task);
            let batches: Vec<_> = (first..first + batches).map(|seed| line_items(seed, rows)).collect();
            let output = write_hashed(store, key, &batches).unwrap();
            store.commit(&key).unwrap();
            model.push((key, batches, output));
        }
        Step::Read(nth) => {
            if let Some((key, batches, output)) = model.get(nth) {
                assert_holds(store, *key, batches, output).await;
            }
        }
        Step::Discard(nth) if nth < model.len() => store.discard(&model.remove(nth).0),
        Step::Discard(_) => {}
        Step::FreeStage(stage) => {
            let is_freed = |key: &AttemptKey| key.task.stage.stage == StageId(stage);
            if let Some((key, ..)) = model.iter().find(|(key, ..)| is_freed(key)) {
                store.free_stage(key.task.stage);
            }
            model.retain(|(key, ..)| !is_freed(key));
        }
        Step::MakeRoom(bytes) => drop(store.make_room(bytes).unwrap()),
        Step::Settle => assert!(store.settle(LONG)),
    }
    let usage = store.usage();
    let bytes: u64 = model.iter().map(|(.., output)| output.total().bytes).sum();
    assert_eq!(usage.memory_bytes + usage.disk_bytes, bytes, "{usage:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// What comes out is what went in, by every engine, and nothing is left of what is freed.
    #[test]
    fn what_is_kept_comes_back_whatever_else_is_done(
        steps in prop::collection::vec(step(), 1..14),
        memory_max in prop::sample::select(vec![0, 100_000, 600_000, u64::MAX]),
        budget in prop::sample::select(vec![2 << 20, 1 << 30]),
        engine in prop::sample::select(EngineKind::ALL.to_vec()),
        direct in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let files = FileConfig { engine, direct, ..FileConfig::default() };
            let (store, budget, folder) = store_with(budget, memory_max, files);
            let mut model = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                take(&store, &mut model, number, step).await;
            }
            for (key, batches, output) in &model {
                assert_holds(&store, *key, batches, output).await;
            }
            store.free_job(JobId(1));
            assert!(store.settle(LONG));
            let left = (store.usage(), budget.used(), frame_files(folder.path()));
            assert_eq!(left, (StoreUsage::default(), 0, 0));
        });
    }
}

#[tokio::test]
async fn small_frames_of_several_lanes_are_written_together_and_come_back() {
    let (store, _, folder) = store(1 << 30, 1 << 20);
    let mut n = Numbers::new(7);
    let written: Vec<_> = (0..200)
        .map(|task| {
            let batch = line_items(task, 1 + n.below(500));
            let key = attempt(1, task as u32);
            let output = write_hashed(&store, key, std::slice::from_ref(&batch)).unwrap();
            store.commit(&key).unwrap();
            (key, vec![batch], output)
        })
        .collect();
    assert!(store.usage().disk_bytes > 1 << 20 && frame_files(folder.path()) == 1);
    for (key, batches, output) in written.iter().rev() {
        assert_holds(&store, *key, batches, output).await;
    }
}

/// This test, as a process of its own whose role has that argument.
fn once_more(test: &str, argument: &str) -> Vec<std::ffi::OsString> {
    let program = std::env::current_exe().unwrap();
    let role = format!("{ROLE}={argument}");
    let words = ["--exact", test, "--nocapture", "--test-threads=1"];
    let command = ["env".into(), role.into(), program.into_os_string()].into_iter();
    command.chain(words.map(Into::into)).collect()
}

#[test]
fn a_process_that_is_killed_leaves_files_that_the_next_store_removes() {
    if let Ok(folder) = std::env::var(ROLE) {
        let budget = MemoryBudget::new(ByteSize(1 << 30));
        let config = StoreConfig { budget, memory_max: 1 << 20, scratch: vec![folder.into()] };
        let store = BlockStore::new(config).unwrap();
        write_hashed(&store, attempt(1, 0), &batches(40, 2000)).unwrap();
        println!("\nhas written {} bytes", store.spilled_bytes());
        std::io::stdout().flush().unwrap();
        return std::io::stdin().lines().for_each(drop);
    }
    let folder = tempfile::tempdir().unwrap();
    let name = "a_process_that_is_killed_leaves_files_that_the_next_store_removes";
    let command = once_more(name, folder.path().to_str().unwrap());
    let mut other = Command::new(&command[0]);
    other.args(&command[1..]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut other = other.spawn().unwrap();
    let mut said = BufReader::new(other.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line.contains("has written")));
    // As `kill -9` does: `env` has become the test.
    other.kill().unwrap();
    other.wait().unwrap();
    assert_eq!(frame_files(folder.path()), 1, "the dead cannot tidy up");
    let budget = MemoryBudget::new(ByteSize(1 << 30));
    let scratch = vec![folder.path().to_path_buf()];
    let store = BlockStore::new(StoreConfig { budget, memory_max: 0, scratch }).unwrap();
    assert_eq!((frame_files(folder.path()), fs::read_dir(folder.path()).unwrap().count()), (0, 1));
    drop(store);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Bytes of each of two small disks.
const DISK_BYTES: u64 = 5 << 20;

#[test]
fn full_disks_are_used_to_the_end_and_then_an_error_that_names_them() {
    let name = "full_disks_are_used_to_the_end_and_then_an_error_that_names_them";
    if let Ok(folder) = std::env::var(ROLE) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for engine in EngineKind::ALL {
            // glommio takes no such file system past the page cache.
            let direct = engine != EngineKind::Glommio;
            let files = FileConfig { engine, direct, ..FileConfig::default() };
            println!("by {engine:?}");
            runtime.block_on(fill_disks(Path::new(&folder), files));
        }
        return;
    }
    let may_mount = Command::new("unshare").args(["--mount", "true"]).stderr(Stdio::null()).status();
    if !may_mount.is_ok_and(|status| status.success()) {
        return println!("SKIPPED: full disks, for this user may mount none");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    let mounts: String = (0..2)
        .map(|disk| {
            let at = format!("{path}/{disk}");
            format!("mkdir {at} && mount -t tmpfs -o size={DISK_BYTES} tmpfs {at} && ")
        })
        .collect();
    let mut other = Command::new("unshare");
    other.args(["--mount", "sh", "-c", &format!("{mounts} exec \"$@\""), "sh"]);
    let done = other.args(once_more(name, folder.path().to_str().unwrap())).output().unwrap();
    let said = [done.stdout, done.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    assert!(done.status.success(), "{}", said.concat());
}

/// Waits until small disks are empty: a ring lets go of removed files by and by.
fn wait_for_room(disks: &[PathBuf]) {
    let has_room = |disk: &PathBuf| {
        let status = rustix::fs::statvfs(disk).unwrap();
        status.f_bfree * status.f_frsize > DISK_BYTES - DISK_BYTES / 8
    };
    let started = Instant::now();
    while !disks.iter().all(has_room) {
        assert!(started.elapsed() < LONG, "what was freed takes room all the same");
        std::thread::sleep(Duration::from_millis(5));
    }
}

async fn fill_disks(folder: &Path, files: FileConfig) {
    let scratch: Vec<_> = ["0", "1"].map(|disk| folder.join(disk)).into();
    wait_for_room(&scratch);
    let budget = MemoryBudget::new(ByteSize(1 << 30));
    let config = StoreConfig { budget: budget.clone(), memory_max: 1 << 20, scratch: scratch.clone() };
    let store = BlockStore::with_files(config, files).unwrap();
    let batches = batches(10, 4000);
    let mut written = Vec::new();
    let fault = 'full: {
        for task in 0..100 {
            match write_hashed(&store, attempt(1, task), &batches) {
                Ok(output) => written.push((attempt(1, task), output)),
                Err(fault) => break 'full fault,
            }
            store.commit(&attempt(1, task)).unwrap();
        }
        panic!("more was written than there is room for");
    };
    let WriteError::Store(StoreError::DiskFull { reasons, .. }) = &fault else { panic!("{fault}") };
    let is_named = |path: &PathBuf| reasons.iter().any(|reason| reason.contains(path.to_str().unwrap()));
    assert!(scratch.iter().all(is_named) && fault.class() == Class::Resources, "{fault}");
    let bytes: u64 = written.iter().map(|(_, output)| output.total().bytes).sum();
    assert!(bytes > DISK_BYTES, "{bytes} bytes fit onto two disks of {DISK_BYTES}: {files:?}");
    for (key, output) in &written {
        assert_holds(&store, *key, &batches, output).await;
    }
    // What is freed makes room for others.
    store.free_job(JobId(1));
    wait_for_room(&scratch);
    let output = write_hashed(&store, attempt(2, 0), &batches).unwrap();
    store.commit(&attempt(2, 0)).unwrap();
    assert_holds(&store, attempt(2, 0), &batches, &output).await;
    store.free_job(JobId(2));
    assert!(store.settle(LONG));
    let left: usize = scratch.iter().map(|disk| frame_files(disk)).sum();
    assert_eq!((store.usage(), budget.used(), left), (StoreUsage::default(), 0, 0));
}
