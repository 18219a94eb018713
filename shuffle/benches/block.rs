//! What a block costs: encoding, decoding, deciding where rows go, and scattering them to partitions. Throughput of the first
//! two and the last is in bytes of frames.

mod data;

use std::hint::black_box;
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::*;
use arrow_buffer::OffsetBuffer;
use arrow_row::SortField;
use arrow_schema::{DataType, Field, Fields};
use data::{Numbers, digest_rows, hashes, line_item_schema, line_items, store, write};
use firesteel_base::{AttemptKey, JobId, StageId};
use firesteel_micro::{Bench, Throughput, run};
use firesteel_shuffle::format::{Decoder, Trust, encode};
use firesteel_shuffle::partition::{RangePartitioner, hash_assignment};

/// Rows of a batch: full size, and tiny.
const ROWS: (usize, usize) = (8192, 100);
/// Batches of a lane: full size, and tiny.
const BATCHES: (u64, u64) = (32, 3);

/// Lists of pairs, words from a dictionary, and pairs with nulls.
fn nested(seed: u64, rows: usize) -> RecordBatch {
    let mut numbers = Numbers::new(seed);
    let pairs = |numbers: &mut Numbers, count: usize| {
        let fields = Fields::from(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("text", DataType::Utf8, true),
        ]);
        let id: Int64Array = (0..count).map(|i| (i % 9 > 0).then(|| numbers.below(1 << 40) as i64)).collect();
        let text: StringArray = (0..count).map(|_| Some(format!("{:x}", numbers.below(1 << 50)))).collect();
        StructArray::new(fields, vec![Arc::new(id), Arc::new(text)], None)
    };
    let lengths = OffsetBuffer::<i32>::from_lengths((0..rows).map(|_| numbers.below(5) as usize));
    let items = pairs(&mut numbers, *lengths.last().expect("one more than rows") as usize);
    let item = Arc::new(Field::new_list_field(items.data_type().clone(), true));
    let words: Vec<_> = (0..rows).map(|_| ["TRUCK", "MAIL", "REG AIR"][numbers.below(3) as usize]).collect();
    let columns: [(&str, ArrayRef); 3] = [
        ("lists", Arc::new(ListArray::new(item, lengths, Arc::new(items), None))),
        ("words", Arc::new(words.into_iter().collect::<DictionaryArray<Int32Type>>())),
        ("pairs", Arc::new(pairs(&mut numbers, rows))),
    ];
    RecordBatch::try_from_iter(columns).expect("columns of one length")
}

fn frames(bench: &mut Bench) {
    let rows = bench.size(ROWS.0, ROWS.1);
    for (name, batch) in [("line_items", line_items(1, rows)), ("nested", nested(1, rows))] {
        let frame = encode(&batch).expect("a frame");
        let mut group = bench.group("encode", Throughput::Bytes(frame.len() as u64));
        group.bench(
            name,
            || encode(black_box(&batch)).expect("a frame"),
            |frame, digest| digest.bytes(frame),
        );
        drop(group);

        let decoder = Decoder::new(batch.schema());
        let mut group = bench.group("decode", Throughput::Bytes(frame.len() as u64));
        for trust in [Trust::Resident, Trust::Cluster, Trust::Outside] {
            group.bench(
                format!("{name}/{trust:?}"),
                || decoder.decode(black_box(&frame), trust).expect("a batch"),
                |batch, digest| digest_rows([batch], digest),
            );
        }
    }
}

/// Where each row goes.
fn assign(bench: &mut Bench) {
    let batch = line_items(1, bench.size(ROWS.0, ROWS.1));
    let mut of_rows = Vec::new();
    hashes(&batch, &mut of_rows);
    let mut group = bench.group("assign", Throughput::Elements(batch.num_rows() as u64));
    for partitions in [16_u32, 256] {
        let hash = || {
            let mut assignment = Vec::new();
            hash_assignment(black_box(&of_rows), partitions, &mut assignment);
            assignment
        };
        group.bench(format!("hash/{partitions}"), hash, |assignment, digest| {
            assignment.iter().for_each(|partition| digest.number((*partition).into()));
        });

        let splits: Int64Array =
            (1..partitions).map(|i| Some(i64::from(i << 22 >> partitions.ilog2()))).collect();
        let sort = vec![SortField::new(DataType::Int64)];
        let partitioner = RangePartitioner::new(sort, &[Arc::new(splits)]).expect("a sort of numbers");
        let range = || {
            let mut assignment = Vec::new();
            partitioner.assign(black_box(&batch.columns()[..1]), &mut assignment).expect("the order key");
            assignment
        };
        group.bench(format!("range/{partitions}"), range, |assignment, digest| {
            assignment.iter().for_each(|partition| digest.number((*partition).into()));
        });
    }
}

/// Hashes, scatters, encodes and keeps all batches of a lane, then frees them.
fn partition(bench: &mut Bench) {
    let rows = bench.size(ROWS.0, ROWS.1);
    let batches: Vec<_> = (1..=bench.size(BATCHES.0, BATCHES.1)).map(|seed| line_items(seed, rows)).collect();
    let bytes: usize = batches.iter().map(|batch| encode(batch).expect("a frame").len()).sum();
    let (store, _) = store();
    let attempt = AttemptKey::new(JobId(1), StageId(0), 0, 0);
    let mut group = bench.group("partition", Throughput::Bytes(bytes as u64));
    group.samples(20);
    for partitions in [1, 4, 16, 64, 256] {
        let keep = || {
            let writer = store.writer(attempt, 0, line_item_schema(), partitions);
            let output = write(writer, black_box(&batches), partitions);
            store.discard(&attempt);
            output
        };
        group.bench(partitions, keep, |output, digest| {
            for block in &output.partitions {
                digest.number(block.rows);
                digest.number(block.bytes);
            }
        });
    }
}

fn main() {
    run(include_str!("block.hashes"), &[frames, assign, partition]);
}
