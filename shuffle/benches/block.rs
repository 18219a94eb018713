//! What a block costs: encoding, decoding, and scattering rows to partitions. Throughput is in bytes of frames.

use std::hint::black_box;
use std::sync::Arc;

use arrow_array::*;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use firesteel_base::{AttemptKey, ByteSize, JobId, MemoryBudget, StageId};
use firesteel_shuffle::Assignment;
use firesteel_shuffle::format::{Decoder, Trust, encode};
use firesteel_shuffle::partition::hash_assignment;
use firesteel_shuffle::store::{BlockStore, StoreConfig};

const ROWS: usize = 8192;
const BATCHES: u64 = 32;

fn schema() -> SchemaRef {
    let column = |name: &str, data_type| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        column("orderkey", DataType::Int64),
        column("partkey", DataType::Int64),
        column("suppkey", DataType::Int64),
        column("line", DataType::Int32),
        column("quantity", DataType::Decimal128(15, 2)),
        column("price", DataType::Decimal128(15, 2)),
        column("discount", DataType::Decimal128(15, 2)),
        column("tax", DataType::Decimal128(15, 2)),
        column("flag", DataType::Utf8View),
        column("shipped", DataType::Date32),
        column("mode", DataType::Utf8),
        column("comment", DataType::Utf8View),
    ]))
}

/// Rows like those of TPC-H's lineitem.
fn line_items(seed: u64) -> RecordBatch {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = move |limit: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % limit
    };
    let mut long = || (0..ROWS).map(|_| Some(next(1 << 22) as i64)).collect::<Int64Array>();
    let (order, part, supplier) = (long(), long(), long());
    let mut money = || {
        let values = (0..ROWS).map(|_| Some(i128::from(next(1 << 24)))).collect::<Decimal128Array>();
        values.with_precision_and_scale(15, 2).expect("a valid precision")
    };
    let (quantity, price, discount, tax) = (money(), money(), money(), money());
    let comment =
        (0..ROWS).map(|_| Some(format!("{:0width$}", next(1 << 30), width = 10 + next(34) as usize)));
    let comment = comment.collect::<StringViewArray>();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(order),
        Arc::new(part),
        Arc::new(supplier),
        Arc::new((0..ROWS).map(|i| Some(i as i32 % 7)).collect::<Int32Array>()),
        Arc::new(quantity),
        Arc::new(price),
        Arc::new(discount),
        Arc::new(tax),
        Arc::new((0..ROWS).map(|i| Some(["A", "N", "R"][i % 3])).collect::<StringViewArray>()),
        Arc::new((0..ROWS).map(|i| (i % 50 > 0).then_some(i as i32)).collect::<Date32Array>()),
        Arc::new((0..ROWS).map(|i| Some(["TRUCK", "MAIL", "REG AIR"][i % 3])).collect::<StringArray>()),
        Arc::new(comment),
    ];
    RecordBatch::try_new(schema(), columns).expect("columns of the schema")
}

fn frames(c: &mut Criterion) {
    let batch = line_items(1);
    let frame = encode(&batch).expect("a frame");
    let decoder = Decoder::new(batch.schema());
    let mut group = c.benchmark_group("frame");
    group.throughput(Throughput::Bytes(frame.len() as u64));
    group.bench_function("encode", |b| b.iter(|| encode(black_box(&batch)).expect("a frame")));
    for trust in [Trust::Resident, Trust::Cluster, Trust::Outside] {
        group.bench_function(format!("decode/{trust:?}"), |b| {
            b.iter(|| decoder.decode(black_box(&frame), trust).expect("a batch"));
        });
    }
    group.finish();
}

fn partition(c: &mut Criterion) {
    let batches: Vec<_> = (1..=BATCHES).map(line_items).collect();
    let bytes: usize = batches.iter().map(|batch| encode(batch).expect("a frame").len()).sum();
    let budget = MemoryBudget::new(ByteSize(1 << 40));
    let config = StoreConfig { budget, memory_max: 1 << 40, scratch: vec![] };
    let store = BlockStore::new(config).expect("a store");
    let mut group = c.benchmark_group("partition");
    group.throughput(Throughput::Bytes(bytes as u64));
    group.sample_size(20);
    for partitions in [1, 4, 16, 64, 256] {
        group.bench_function(BenchmarkId::from_parameter(partitions), |b| {
            b.iter(|| write(&store, black_box(&batches), partitions));
        });
    }
    group.finish();
}

/// Hashes, scatters, encodes and keeps all batches, then frees them.
fn write(store: &Arc<BlockStore>, batches: &[RecordBatch], partitions: u32) {
    let attempt = AttemptKey::new(JobId(1), StageId(0), 0, 0);
    let mut writer = store.writer(attempt, 0, schema(), partitions);
    let (mut hashes, mut assignment) = (Vec::new(), Vec::new());
    for batch in batches {
        let keys = batch.column(0).as_any().downcast_ref::<Int64Array>().expect("the order key");
        hashes.clear();
        hashes.extend(keys.values().iter().map(|key| (*key as u64).wrapping_mul(0xFF51_AFD7_ED55_8CCD)));
        hash_assignment(&hashes, partitions, &mut assignment);
        writer.write(batch, &Assignment::Rows(&assignment)).expect("room for a frame");
    }
    writer.finish().expect("room for a frame");
    store.discard(&attempt);
}

criterion_group!(benches, frames, partition);
criterion_main!(benches);
