//! Rows to shuffle, the same in every run.
#![allow(dead_code)] // each bench uses its part

use std::sync::Arc;

use arrow_array::*;
use arrow_row::{RowConverter, SortField};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use firesteel_base::{ByteSize, MemoryBudget};
use firesteel_micro::Digest;
use firesteel_shuffle::partition::hash_assignment;
use firesteel_shuffle::{Assignment, BlockStore, LaneOutput, LaneWriter, StoreConfig};

/// A small generator of numbers (xorshift64).
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

pub fn line_item_schema() -> SchemaRef {
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
pub fn line_items(seed: u64, rows: usize) -> RecordBatch {
    let mut numbers = Numbers::new(seed);
    let mut long = || (0..rows).map(|_| Some(numbers.below(1 << 22) as i64)).collect::<Int64Array>();
    let (order, part, supplier) = (long(), long(), long());
    let mut money = || {
        let values = (0..rows).map(|_| Some(i128::from(numbers.below(1 << 24)))).collect::<Decimal128Array>();
        values.with_precision_and_scale(15, 2).expect("a valid precision")
    };
    let (quantity, price, discount, tax) = (money(), money(), money(), money());
    let mut comment = || {
        let (number, width) = (numbers.below(1 << 30), 10 + numbers.below(34) as usize);
        Some(format!("{number:0width$}"))
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(order),
        Arc::new(part),
        Arc::new(supplier),
        Arc::new((0..rows).map(|i| Some(i as i32 % 7)).collect::<Int32Array>()),
        Arc::new(quantity),
        Arc::new(price),
        Arc::new(discount),
        Arc::new(tax),
        Arc::new((0..rows).map(|i| Some(["A", "N", "R"][i % 3])).collect::<StringViewArray>()),
        Arc::new((0..rows).map(|i| (i % 50 > 0).then_some(i as i32)).collect::<Date32Array>()),
        Arc::new((0..rows).map(|i| Some(["TRUCK", "MAIL", "REG AIR"][i % 3])).collect::<StringArray>()),
        Arc::new((0..rows).map(|_| comment()).collect::<StringViewArray>()),
    ];
    RecordBatch::try_new(line_item_schema(), columns).expect("columns of the schema")
}

/// A store that keeps all in memory, and its budget.
pub fn store() -> (Arc<BlockStore>, MemoryBudget) {
    let budget = MemoryBudget::new(ByteSize(1 << 40));
    let config = StoreConfig { budget: budget.clone(), memory_max: 1 << 40, scratch: vec![] };
    (BlockStore::new(config).expect("a store"), budget)
}

/// A hash of each row's order key.
pub fn hashes(batch: &RecordBatch, hashes: &mut Vec<u64>) {
    let keys = batch.column(0).as_any().downcast_ref::<Int64Array>().expect("the order key");
    hashes.clear();
    hashes.extend(keys.values().iter().map(|key| (*key as u64).wrapping_mul(0xFF51_AFD7_ED55_8CCD)));
}

/// Hashes, scatters and encodes all batches.
pub fn write(mut writer: LaneWriter, batches: &[RecordBatch], partitions: u32) -> LaneOutput {
    let (mut of_rows, mut assignment) = (Vec::new(), Vec::new());
    for batch in batches {
        hashes(batch, &mut of_rows);
        hash_assignment(&of_rows, partitions, &mut assignment);
        writer.write(batch, &Assignment::Rows(&assignment)).expect("room for a frame");
    }
    writer.finish().expect("room for a frame")
}

/// Adds the rows of all batches, whatever batches they come in.
pub fn digest_rows<'a>(batches: impl IntoIterator<Item = &'a RecordBatch>, digest: &mut Digest) {
    let mut rows = Vec::new();
    for batch in batches {
        let fields =
            batch.schema_ref().fields().iter().map(|field| SortField::new(field.data_type().clone()));
        let converter = RowConverter::new(fields.collect()).expect("types with a row form");
        let converted = converter.convert_columns(batch.columns()).expect("columns of these types");
        rows.extend(converted.iter().map(|row| row.as_ref().to_vec()));
    }
    digest.unordered(&rows);
}
