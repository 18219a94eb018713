//! What a lane writes by assignment is what a plain model says, for every type, in every size, with memory and without.
#![allow(clippy::unwrap_used)] // helpers of tests are tests too

mod common;

use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::*;
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use common::{Numbers, array, attempt, flat_types, nested_type, one_column, store};
use firesteel_base::{ByteSize, Epoch, MemoryBudget};
use firesteel_shuffle::{
    Assignment, BlockKey, BlockStore, FetchConfig, Fetcher, Holder, LaneOutput, StoreConfig, WriteError,
};
use futures::TryStreamExt;
use proptest::prelude::*;

/// Reads a block by pointer.
fn read(store: &Arc<BlockStore>, schema: &SchemaRef, partition: u32) -> Vec<RecordBatch> {
    let holder = Holder {
        executor: "host/e0".parse().unwrap(),
        epoch: Epoch(1),
        address: String::new(),
        keeper: String::new(),
    };
    let local = Some((holder.executor.clone(), holder.epoch, Arc::clone(store)));
    let fetcher = Fetcher::new(FetchConfig { local, ..FetchConfig::default() });
    let key = BlockKey { producer: attempt(1, 0), lane: 0, partition };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(fetcher.fetch(holder, key, Arc::clone(schema)).try_collect()).unwrap()
}

/// A batch, and where its rows go.
struct Written {
    batch: RecordBatch,
    to: To,
}

enum To {
    Rows(Vec<u32>),
    Whole(u32),
}

impl Written {
    fn assignment(&self) -> Assignment<'_> {
        match &self.to {
            To::Rows(of_rows) => Assignment::Rows(of_rows),
            To::Whole(partition) => Assignment::Whole(*partition),
        }
    }

    fn partition_of(&self, row: usize) -> u32 {
        match &self.to {
            To::Rows(of_rows) => of_rows[row],
            To::Whole(partition) => *partition,
        }
    }
}

fn write(store: &Arc<BlockStore>, batches: &[Written], partitions: u32) -> Result<LaneOutput, WriteError> {
    let mut writer = store.writer(attempt(1, 0), 0, batches[0].batch.schema(), partitions);
    for written in batches {
        writer.write(&written.batch, &written.assignment())?;
    }
    let output = writer.finish()?;
    store.commit(&attempt(1, 0)).unwrap();
    Ok(output)
}

/// Checks that each partition has the rows that were assigned to it, in the order in which they were written.
fn assert_holds(store: &Arc<BlockStore>, batches: &[Written], output: &LaneOutput) {
    let schema = batches[0].batch.schema();
    let mut expected = vec![Vec::new(); output.partitions.len()];
    for written in batches {
        for row in 0..written.batch.num_rows() {
            expected[written.partition_of(row) as usize].push(written.batch.slice(row, 1));
        }
    }
    for (partition, (expected, stat)) in expected.iter().zip(&output.partitions).enumerate() {
        assert_eq!(stat.rows, expected.len() as u64);
        if expected.is_empty() {
            assert_eq!(stat.bytes, 0);
            continue;
        }
        let frames = read(store, &schema, partition as u32);
        let rows = frames.iter().flat_map(|frame| (0..frame.num_rows()).map(|row| frame.slice(row, 1)));
        let mut expected = expected.iter();
        for found in rows {
            let expected = expected.next().unwrap();
            for (found, expected) in found.columns().iter().zip(expected.columns()) {
                assert_eq!(found.to_data(), expected.to_data(), "in partition {partition}");
            }
        }
        assert_eq!(expected.len(), 0, "rows are missing in partition {partition}");
    }
}

/// Any type, nested up to two levels deep.
fn any_type() -> impl Strategy<Value = DataType> {
    let flat = prop::sample::select(flat_types());
    let nested =
        (any::<usize>(), flat.clone(), flat.clone()).prop_map(|(number, a, b)| nested_type(number, a, b));
    let twice =
        (any::<usize>(), nested.clone(), flat.clone()).prop_map(|(number, a, b)| nested_type(number, a, b));
    prop_oneof![2 => flat, 2 => nested, 1 => twice]
}

/// A batch of up to `len` rows, sliced out of a larger one, whose rows go to random partitions.
fn random(n: &mut Numbers, types: &[DataType], len: usize, partitions: u32) -> Written {
    let rows = n.below(len + 1);
    let skipped = n.below(5);
    let columns = types.iter().map(|data_type| array(n, data_type, rows + skipped + 3).slice(skipped, rows));
    let fields = types.iter().enumerate().map(|(i, t)| Field::new(format!("c{i}"), t.clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let columns: Vec<ArrayRef> = columns.collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(schema, columns, &options).unwrap();
    let to = match n.below(6) {
        0 => To::Whole(n.below(partitions as usize) as u32),
        1 => To::Rows(vec![n.below(partitions as usize) as u32; rows]),
        _ => To::Rows((0..rows).map(|_| n.below(partitions as usize) as u32).collect()),
    };
    Written { batch, to }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_row_of_every_type_arrives_in_its_partition(
        types in prop::collection::vec(any_type(), 0..4), seed in any::<u64>(), count in 1_usize..5,
        len in prop::sample::select(vec![1_usize, 9, 70]),
        partitions in prop::sample::select(vec![1_u32, 2, 3, 5, 17, 200]),
        memory in prop::sample::select(vec![1_u64 << 30, 200 << 10]),
    ) {
        let mut n = Numbers::new(seed);
        let batches: Vec<_> = (0..count).map(|_| random(&mut n, &types, len, partitions)).collect();
        let (store, budget, _folder) = store(memory, memory);
        let output = write(&store, &batches, partitions).unwrap();
        assert_holds(&store, &batches, &output);
        prop_assert_eq!(budget.used(), store.usage().memory_bytes);
    }
}

/// A batch of numbers and of texts of `width` bytes.
fn texts(first: i64, rows: usize, width: usize) -> RecordBatch {
    let numbers: Int64Array = (first..first + rows as i64).map(Some).collect();
    let texts: StringViewArray = (0..rows).map(|row| Some(format!("{row:0width$}"))).collect();
    RecordBatch::try_from_iter([("n", Arc::new(numbers) as ArrayRef), ("t", Arc::new(texts))]).unwrap()
}

#[test]
fn a_lane_whose_rows_all_go_to_one_of_4096_partitions_stays_within_its_bound() {
    // Frames go to files at once, so that what the budget has seen is what the lane held.
    let (store, budget, _folder) = store(1 << 30, 0);
    let mut writer = store.writer(attempt(1, 0), 0, texts(0, 1, 1).schema(), 4096);
    let (mut rows, mut held_most) = (0, 0);
    for number in 0..60 {
        let batch = texts(rows, 8000, 100);
        writer.write(&batch, &Assignment::Rows(&[1234; 8000])).unwrap();
        rows += 8000;
        held_most = held_most.max(budget.used());
        assert!(budget.used() > 0, "batch {number} is held or its buffers are, and neither is counted");
    }
    // 16 MiB of batches, as much again to order them in, and a frame.
    assert!(held_most <= 40 << 20, "{held_most}");
    assert!(budget.peak() <= 44 << 20, "{}", budget.peak());
    let output = writer.finish().unwrap();
    assert_eq!(budget.used(), 0);
    assert_eq!(output.partitions[1234].rows, rows as u64);
    assert_eq!(output.total(), output.partitions[1234]);
    store.commit(&attempt(1, 0)).unwrap();
    let found = read(&store, &texts(0, 1, 1).schema(), 1234);
    assert!(found.len() as u64 >= output.total().bytes >> 21, "frames are of about 1 MiB");
    let numbers = found.iter().flat_map(|batch| {
        let numbers: &Int64Array = batch.column(0).as_any().downcast_ref().unwrap();
        numbers.values().to_vec()
    });
    assert!(numbers.eq(0..rows));
}

#[test]
fn a_batch_larger_than_what_a_lane_holds_is_cut() {
    let (store, budget, _folder) = store(1 << 30, 0);
    let batch = texts(0, 400_000, 150);
    let of_rows: Vec<u32> = (0..400_000).map(|row| row % 4096).collect();
    let mut writer = store.writer(attempt(1, 0), 0, batch.schema(), 4096);
    writer.write(&batch, &Assignment::Rows(&of_rows)).unwrap();
    assert!(budget.peak() <= 44 << 20, "{}", budget.peak());
    let output = writer.finish().unwrap();
    assert_eq!(output.total().rows, 400_000);
    store.commit(&attempt(1, 0)).unwrap();
    let found = read(&store, &batch.schema(), 77);
    assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>() as u64, output.partitions[77].rows);
}

#[test]
fn without_memory_to_order_rows_in_they_are_written_all_the_same() {
    // The batches take 10 MiB of 13, and what is left is too little for a copy of them.
    let budget = MemoryBudget::new(ByteSize(13 << 20));
    let folder = tempfile::tempdir().unwrap();
    let scratch = vec![folder.path().to_path_buf()];
    let store =
        BlockStore::new(StoreConfig { budget: budget.clone(), memory_max: 1 << 20, scratch }).unwrap();
    let batches: Vec<_> = (0..9)
        .map(|number| {
            let batch = texts(number * 8000, 8000, 100);
            let to = To::Rows((0..8000).map(|row| (row * 31 % 100) as u32).collect());
            Written { batch, to }
        })
        .collect();
    let output = write(&store, &batches, 100).unwrap();
    assert!(budget.peak() <= 13 << 20, "{}", budget.peak());
    assert_holds(&store, &batches, &output);
}

#[test]
fn dictionaries_that_do_not_go_into_one_are_cut() {
    let batch = |number: i64| {
        let values: ArrayRef = Arc::new((0..200).map(|i| Some(number * 200 + i)).collect::<Int64Array>());
        let keys: UInt8Array = (0..200).map(|key| (key % 7 > 0).then_some(key)).collect();
        one_column(Arc::new(DictionaryArray::new(keys, values)))
    };
    let batches: Vec<_> = (0..4)
        .map(|number| Written { batch: batch(number), to: To::Rows((0..200).map(|row| row % 6).collect()) })
        .collect();
    let (store, _, _folder) = store(1 << 30, 1 << 30);
    let output = write(&store, &batches, 6).unwrap();
    assert_holds(&store, &batches, &output);
}

#[test]
fn a_dictionary_that_all_batches_share_stays_one() {
    let words: ArrayRef = Arc::new(StringArray::from(vec!["TRUCK", "MAIL", "REG AIR"]));
    let batches: Vec<_> = (0..5)
        .map(|number| {
            let keys: Int32Array = (0..300).map(|row| (row % 5 > 0).then_some((row + number) % 3)).collect();
            let column = DictionaryArray::<Int32Type>::new(keys, Arc::clone(&words));
            let to = To::Rows((0..300).map(|row| row % 8).collect());
            Written { batch: one_column(Arc::new(column)), to }
        })
        .collect();
    let (store, _, _folder) = store(1 << 30, 1 << 30);
    let output = write(&store, &batches, 8).unwrap();
    assert_holds(&store, &batches, &output);
    let frames = read(&store, &batches[0].batch.schema(), 3);
    assert_eq!(frames.len(), 1);
    let column: &DictionaryArray<Int32Type> = frames[0].column(0).as_any().downcast_ref().unwrap();
    assert_eq!(column.values().len(), 3);
}

#[test]
fn words_that_many_rows_share_do_not_multiply() {
    // As a column is when it was read from a file with a dictionary: all views point to the same few words.
    let mut words = builder::StringViewBuilder::new().with_deduplicate_strings();
    (0..4000).for_each(|row| {
        words.append_value(
            ["DELIVER IN PERSON, AND NOT AT NIGHT", "TAKE BACK RETURN AND PAY FOR IT"][row % 2],
        );
    });
    let batch = one_column(Arc::new(words.finish()));
    let batches = vec![Written { batch, to: To::Rows((0..4000).map(|row| row / 2 % 8).collect()) }];
    let (store, _, _folder) = store(1 << 30, 1 << 30);
    let output = write(&store, &batches, 8).unwrap();
    assert_holds(&store, &batches, &output);
    assert!(output.total().bytes < 4000 * 16 + 8 * 500, "{}", output.total().bytes);
}

#[test]
fn a_very_wide_schema_is_written_to_many_partitions() {
    let types: Vec<_> = (0..2000).map(|i| flat_types()[i % 30].clone()).collect();
    let mut n = Numbers::new(7);
    let batches: Vec<_> = (0..3).map(|_| random(&mut n, &types, 40, 50)).collect();
    let (store, _, _folder) = store(1 << 30, 1 << 30);
    let output = write(&store, &batches, 50).unwrap();
    assert_holds(&store, &batches, &output);
}

/// As a sort hands them on: batches that are slices of one.
#[test]
fn slices_of_lists_make_as_few_frames_as_whole_ones() {
    let frames = |item: DataType, slices: usize| {
        let items = array(&mut Numbers::new(3), &item, 40_000);
        let offsets = OffsetBuffer::from_lengths((0..20_000).map(|_| 2));
        let whole = one_column(Arc::new(ListArray::new(
            Arc::new(Field::new_list_field(item, true)),
            offsets,
            items,
            None,
        )));
        let (store, _, _folder) = store(1 << 30, 1 << 30);
        let mut writer = store.writer(attempt(1, 0), 0, whole.schema(), 16);
        let counters = writer.counters();
        let rows = whole.num_rows() / slices;
        for first in (0..whole.num_rows()).step_by(rows) {
            let of_rows: Vec<u32> = (first..first + rows).map(|row| (row * 7 % 16) as u32).collect();
            writer.write(&whole.slice(first, rows), &Assignment::Rows(&of_rows)).unwrap();
        }
        writer.finish().unwrap();
        (counters.rows(), counters.frames())
    };
    for item in [DataType::Int64, DataType::Utf8, DataType::Utf8View] {
        assert_eq!((frames(item.clone(), 1), frames(item, 80)), ((20_000, 16), (20_000, 16)));
    }
}

/// What a list holds counts towards what a lane may hold, also where it holds views.
#[test]
fn lists_of_long_views_are_not_held_without_bound() {
    let text = "a long text ".repeat(100);
    let items: StringViewArray = (0..2000).map(|i| Some(format!("{i} {text}"))).collect();
    let item = Arc::new(Field::new_list_field(DataType::Utf8View, true));
    let lists = ListArray::new(item, OffsetBuffer::from_lengths((0..1000).map(|_| 2)), Arc::new(items), None);
    let batch = one_column(Arc::new(lists));
    let (store, budget, _folder) = store(1 << 30, 1 << 30);
    let mut writer = store.writer(attempt(1, 0), 0, batch.schema(), 4);
    let of_rows: Vec<u32> = (0..1000).map(|row| row % 4).collect();
    writer.write(&batch, &Assignment::Rows(&of_rows)).unwrap();
    assert!(budget.used() > 2 << 20, "{} are counted", budget.used());
    writer.finish().unwrap();
}

#[test]
fn many_small_batches_make_as_few_frames_as_large_ones() {
    let frames = |rows: usize| {
        let (store, _, _folder) = store(1 << 30, 1 << 30);
        let mut writer = store.writer(attempt(1, 0), 0, texts(0, 1, 1).schema(), 4096);
        let counters = writer.counters();
        for first in (0..40_000).step_by(rows) {
            let of_rows: Vec<u32> = (first..first + rows).map(|row| (row * 7 % 4096) as u32).collect();
            writer.write(&texts(first as i64, rows, 5), &Assignment::Rows(&of_rows)).unwrap();
        }
        writer.finish().unwrap();
        (counters.rows(), counters.frames())
    };
    assert_eq!((frames(20), frames(8000)), ((40_000, 4096), (40_000, 4096)));
}

#[test]
fn the_frames_of_the_first_partition_are_told_before_the_lane_ends() {
    let (store, _, _folder) = store(1 << 30, 1 << 30);
    let batch = texts(0, 5000, 400);
    let mut writer = store.writer(attempt(1, 0), 0, batch.schema(), 2);
    for _ in 0..3 {
        writer.write(&batch, &Assignment::Whole(0)).unwrap();
    }
    let frames = writer.frames().unwrap().to_vec();
    writer.write_aside(&texts(0, 7, 3)).unwrap();
    writer.finish().unwrap();
    store.commit(&attempt(1, 0)).unwrap();
    let read = read(&store, &batch.schema(), 0);
    assert!(frames.len() > 1);
    assert_eq!(frames, read.iter().map(|batch| batch.num_rows() as u32).collect::<Vec<_>>());
}
