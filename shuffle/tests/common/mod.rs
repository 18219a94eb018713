//! Arrays of any type from a seed, and what tests of blocks start from.
#![allow(dead_code)] // each test program uses its part

pub mod process;

use std::sync::Arc;

use arrow_array::builder::StringViewBuilder;
use arrow_array::types::*;
use arrow_array::*;
use arrow_buffer::{BooleanBuffer, Buffer, MutableBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_data::ArrayData;
use arrow_schema::{
    DataType, Field, Fields, IntervalUnit, Schema, SchemaRef, TimeUnit, UnionFields, UnionMode,
};
use firesteel_base::{AttemptKey, ByteSize, JobId, MemoryBudget, StageId};
use firesteel_shuffle::Compression;
use firesteel_shuffle::store::{BlockStore, FileConfig, StoreConfig};

/// A small generator of numbers (xorshift64*): tests replay from a seed.
#[derive(Clone)]
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn nulls(&mut self, len: usize) -> Option<NullBuffer> {
        match self.below(3) {
            0 => None,
            1 => Some(NullBuffer::new_valid(len)),
            _ => Some(NullBuffer::new(BooleanBuffer::collect_bool(len, |_| self.below(4) > 0))),
        }
    }

    fn bytes(&mut self, size: usize) -> Vec<u8> {
        (0..size).map(|_| self.next() as u8).collect()
    }

    fn text(&mut self) -> String {
        let long = self.below(3) == 0;
        let size = self.below(if long { 40 } else { 13 });
        (0..size).map(|_| ['a', 'b', 'ß', '7', '火', ' '][self.below(6)]).collect()
    }

    fn offsets<O: OffsetSizeTrait>(&mut self, len: usize, item_max: usize) -> OffsetBuffer<O> {
        OffsetBuffer::from_lengths((0..len).map(|_| self.below(item_max + 1)))
    }
}

/// Every type without children.
pub fn flat_types() -> Vec<DataType> {
    use DataType as T;
    use TimeUnit as U;
    vec![
        T::Null,
        T::Boolean,
        T::Int8,
        T::Int16,
        T::Int32,
        T::Int64,
        T::UInt8,
        T::UInt16,
        T::UInt32,
        T::UInt64,
        T::Float16,
        T::Float32,
        T::Float64,
        T::Date32,
        T::Date64,
        T::Time32(U::Second),
        T::Time32(U::Millisecond),
        T::Time64(U::Microsecond),
        T::Time64(U::Nanosecond),
        T::Timestamp(U::Second, None),
        T::Timestamp(U::Nanosecond, Some("Europe/Berlin".into())),
        T::Duration(U::Microsecond),
        T::Interval(IntervalUnit::YearMonth),
        T::Interval(IntervalUnit::DayTime),
        T::Interval(IntervalUnit::MonthDayNano),
        T::Decimal32(9, 2),
        T::Decimal64(18, 4),
        T::Decimal128(38, 10),
        T::Decimal256(76, 20),
        T::Utf8,
        T::LargeUtf8,
        T::Utf8View,
        T::Binary,
        T::LargeBinary,
        T::BinaryView,
        T::FixedSizeBinary(1),
        T::FixedSizeBinary(3),
        T::FixedSizeBinary(16),
        T::FixedSizeBinary(33),
    ]
}

fn field(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

/// A type with children of the given ones, by number.
pub fn nested_type(number: usize, a: DataType, b: DataType) -> DataType {
    use DataType as T;
    let item = Arc::new(field("item", a.clone()));
    match number % 14 {
        0 => T::List(item),
        1 => T::LargeList(item),
        2 => T::FixedSizeList(item, 3),
        3 => T::ListView(item),
        4 => T::LargeListView(item),
        5 => T::Struct(Fields::from(vec![field("a", a), field("b", b)])),
        6 => {
            let entries = Fields::from(vec![Field::new("keys", T::Utf8, false), field("values", b)]);
            T::Map(Arc::new(Field::new("entries", T::Struct(entries), false)), false)
        }
        7 => T::Union(union_fields(a, b), UnionMode::Sparse),
        8 => T::Union(union_fields(a, b), UnionMode::Dense),
        9 => T::Dictionary(Box::new(T::Int32), Box::new(T::Utf8)),
        10 => T::Dictionary(Box::new(T::UInt8), Box::new(T::Decimal128(20, 3))),
        11 => T::Dictionary(Box::new(T::Int64), Box::new(T::Utf8View)),
        12 => run_type(T::Int16, a),
        _ => run_type(T::Int32, b),
    }
}

fn union_fields(a: DataType, b: DataType) -> UnionFields {
    UnionFields::try_new([3, 7], [field("a", a), field("b", b)]).unwrap()
}

fn run_type(ends: DataType, values: DataType) -> DataType {
    // Arrow's kernels gather runs of flat types only.
    let values =
        if values.is_nested() || matches!(values, DataType::Null) { DataType::Int64 } else { values };
    DataType::RunEndEncoded(Arc::new(Field::new("run_ends", ends, false)), Arc::new(field("values", values)))
}

/// An array of any type.
pub fn array(n: &mut Numbers, data_type: &DataType, len: usize) -> ArrayRef {
    use DataType as T;
    match data_type {
        T::Null => Arc::new(NullArray::new(len)),
        T::Boolean => {
            Arc::new(BooleanArray::new(BooleanBuffer::collect_bool(len, |_| n.below(2) == 0), n.nulls(len)))
        }
        T::Utf8 => Arc::new((0..len).map(|_| (n.below(5) > 0).then(|| n.text())).collect::<StringArray>()),
        T::LargeUtf8 => {
            Arc::new((0..len).map(|_| (n.below(5) > 0).then(|| n.text())).collect::<LargeStringArray>())
        }
        T::Utf8View => Arc::new(text_views(n, len)),
        T::Binary => Arc::new((0..len).map(|_| opaque(n)).collect::<BinaryArray>()),
        T::LargeBinary => Arc::new((0..len).map(|_| opaque(n)).collect::<LargeBinaryArray>()),
        T::BinaryView => Arc::new((0..len).map(|_| opaque(n)).collect::<BinaryViewArray>()),
        T::FixedSizeBinary(size) => {
            let values = Buffer::from(n.bytes(len * *size as usize));
            Arc::new(FixedSizeBinaryArray::new(*size, values, n.nulls(len)))
        }
        T::Dictionary(keys, values) => dictionary(n, keys, values, len),
        T::RunEndEncoded(ends, values) => runs(n, data_type, ends.data_type(), values.data_type(), len),
        other if other.is_nested() => nested(n, other, len),
        other => primitive(n, other, len),
    }
}

fn opaque(n: &mut Numbers) -> Option<Vec<u8>> {
    let size = n.below(30);
    (n.below(5) > 0).then(|| n.bytes(size))
}

/// Views whose rows share strings, some of whose buffers are larger than what the rows use.
fn text_views(n: &mut Numbers, len: usize) -> StringViewArray {
    let mut builder = StringViewBuilder::new().with_fixed_block_size(64);
    if n.below(2) == 0 {
        builder = builder.with_deduplicate_strings();
    }
    let words: Vec<_> = (0..5).map(|_| n.text()).collect();
    for _ in 0..len {
        match n.below(4) {
            0 => builder.append_null(),
            1 => builder.append_value(n.text()),
            _ => builder.append_value(&words[n.below(5)]),
        }
    }
    builder.finish()
}

fn primitive(n: &mut Numbers, data_type: &DataType, len: usize) -> ArrayRef {
    let width = data_type.primitive_width().unwrap();
    let mut bytes = n.bytes(len * width);
    if matches!(data_type, DataType::Float16 | DataType::Float32 | DataType::Float64) {
        // No NaN, which is not equal to itself.
        bytes.chunks_mut(width).for_each(|value| value[width - 1] = 1);
    }
    let mut aligned = MutableBuffer::new(bytes.len());
    aligned.extend_from_slice(&bytes);
    let data = ArrayData::builder(data_type.clone()).len(len).add_buffer(aligned.into()).nulls(n.nulls(len));
    make_array(data.build().unwrap())
}

fn nested(n: &mut Numbers, data_type: &DataType, len: usize) -> ArrayRef {
    use DataType as T;
    match data_type {
        T::List(item) => list::<i32>(n, item.as_ref(), len),
        T::LargeList(item) => list::<i64>(n, item.as_ref(), len),
        T::ListView(item) => list_view::<i32>(n, item.as_ref(), len),
        T::LargeListView(item) => list_view::<i64>(n, item.as_ref(), len),
        T::FixedSizeList(item, size) => {
            let items = array(n, item.data_type(), len * *size as usize);
            Arc::new(FixedSizeListArray::new(Arc::clone(item), *size, items, n.nulls(len)))
        }
        T::Struct(fields) => {
            let children = fields.iter().map(|field| array(n, field.data_type(), len)).collect();
            Arc::new(StructArray::new(fields.clone(), children, n.nulls(len)))
        }
        T::Map(entries, sorted) => {
            let offsets = n.offsets::<i32>(len, 3);
            let items = *offsets.last().unwrap() as usize;
            let DataType::Struct(fields) = entries.data_type() else { unreachable!() };
            let keys: ArrayRef = Arc::new((0..items).map(|i| Some(format!("k{i}"))).collect::<StringArray>());
            let values = array(n, fields[1].data_type(), items);
            let items = StructArray::new(fields.clone(), vec![keys, values], None);
            Arc::new(MapArray::new(Arc::clone(entries), offsets, items, n.nulls(len), *sorted))
        }
        T::Union(fields, UnionMode::Sparse) => {
            let ids: ScalarBuffer<i8> = (0..len).map(|_| [3, 7][n.below(2)]).collect();
            let children = fields.iter().map(|(_, field)| array(n, field.data_type(), len)).collect();
            Arc::new(UnionArray::try_new(fields.clone(), ids, None, children).unwrap())
        }
        T::Union(fields, UnionMode::Dense) => {
            let ids: ScalarBuffer<i8> = (0..len).map(|_| [3, 7][n.below(2)]).collect();
            let children: Vec<_> =
                fields.iter().map(|(_, field)| array(n, field.data_type(), len + 2)).collect();
            let mut next = [0_i32, 1];
            let offsets: ScalarBuffer<i32> = ids
                .iter()
                .map(|id| {
                    let next = &mut next[usize::from(*id == 7)];
                    *next += 1;
                    *next - 1
                })
                .collect();
            Arc::new(UnionArray::try_new(fields.clone(), ids, Some(offsets), children).unwrap())
        }
        other => unreachable!("{other}"),
    }
}

fn list<O: OffsetSizeTrait>(n: &mut Numbers, item: &Field, len: usize) -> ArrayRef {
    let offsets = n.offsets::<O>(len, 4);
    let items = array(n, item.data_type(), offsets.last().unwrap().as_usize());
    Arc::new(GenericListArray::<O>::new(Arc::new(item.clone()), offsets, items, n.nulls(len)))
}

fn list_view<O: OffsetSizeTrait>(n: &mut Numbers, item: &Field, len: usize) -> ArrayRef {
    let items = array(n, item.data_type(), 20);
    let sizes: Vec<usize> = (0..len).map(|_| n.below(4)).collect();
    let offsets: ScalarBuffer<O> = (0..len).map(|_| O::usize_as(n.below(17))).collect();
    let sizes: ScalarBuffer<O> = sizes.into_iter().map(O::usize_as).collect();
    Arc::new(GenericListViewArray::<O>::new(Arc::new(item.clone()), offsets, sizes, items, n.nulls(len)))
}

fn dictionary(n: &mut Numbers, keys: &DataType, values: &DataType, len: usize) -> ArrayRef {
    let size = [1, 5, 100][n.below(3)];
    let values = array(n, values, size);
    macro_rules! of {
        ($key:ty) => {{
            let keys: PrimitiveArray<$key> =
                (0..len).map(|_| (n.below(6) > 0).then(|| n.below(size) as _)).collect();
            Arc::new(DictionaryArray::<$key>::new(keys, values))
        }};
    }
    match keys {
        DataType::UInt8 => of!(UInt8Type),
        DataType::Int32 => of!(Int32Type),
        DataType::Int64 => of!(Int64Type),
        other => unreachable!("{other}"),
    }
}

fn runs(n: &mut Numbers, data_type: &DataType, ends: &DataType, values: &DataType, len: usize) -> ArrayRef {
    let mut at = 0;
    let mut run_ends = Vec::new();
    while at < len {
        at = (at + 1 + n.below(5)).min(len);
        run_ends.push(at);
    }
    let values = array(n, values, run_ends.len());
    let ends: ArrayRef = match ends {
        DataType::Int16 => Arc::new(Int16Array::from_iter_values(run_ends.iter().map(|e| *e as i16))),
        _ => Arc::new(Int32Array::from_iter_values(run_ends.iter().map(|e| *e as i32))),
    };
    let data = ArrayData::builder(data_type.clone())
        .len(len)
        .add_child_data(ends.to_data())
        .add_child_data(values.to_data());
    make_array(data.build().unwrap())
}

/// A batch of one column.
pub fn one_column(array: ArrayRef) -> RecordBatch {
    let schema = Schema::new(vec![Field::new("c", array.data_type().clone(), true)]);
    RecordBatch::try_new(Arc::new(schema), vec![array]).unwrap()
}

/// Keys, decimals, dates and short and long strings, as a line item has them.
pub fn line_items(seed: u64, rows: usize) -> RecordBatch {
    let mut n = Numbers::new(seed);
    let key: Int64Array = (0..rows).map(|_| Some(n.below(1 << 20) as i64)).collect();
    let price: Decimal128Array = (0..rows).map(|_| Some(n.below(1 << 30) as i128)).collect();
    let day: Date32Array = (0..rows).map(|_| (n.below(9) > 0).then(|| n.below(10_000) as i32)).collect();
    let flag: StringArray = (0..rows).map(|_| Some(["A", "N", "R"][n.below(3)])).collect();
    let comment: StringViewArray = (0..rows).map(|_| Some(n.text())).collect();
    let price = price.with_precision_and_scale(15, 2).unwrap();
    let columns: Vec<ArrayRef> =
        vec![Arc::new(key), Arc::new(price), Arc::new(day), Arc::new(flag), Arc::new(comment)];
    RecordBatch::try_new(line_item_schema(), columns).unwrap()
}

pub fn line_item_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int64, false),
        Field::new("price", DataType::Decimal128(15, 2), false),
        Field::new("day", DataType::Date32, true),
        Field::new("flag", DataType::Utf8, false),
        Field::new("comment", DataType::Utf8View, true),
    ]))
}

pub fn attempt(job: u64, task: u32) -> AttemptKey {
    AttemptKey::new(JobId(job), StageId(2), task, 0)
}

/// A store with that much memory for blocks, a budget of `budget` bytes, and a scratch folder.
pub fn store(budget: u64, memory_max: u64) -> (Arc<BlockStore>, MemoryBudget, tempfile::TempDir) {
    // Whether frames would be packed depends on how fast the disk is while the test runs.
    let files = FileConfig { compression: Compression::None, ..FileConfig::default() };
    store_with(budget, memory_max, files)
}

/// The same, that writes files as told.
pub fn store_with(
    budget: u64,
    memory_max: u64,
    files: FileConfig,
) -> (Arc<BlockStore>, MemoryBudget, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let budget = MemoryBudget::new(ByteSize(budget));
    let config =
        StoreConfig { budget: budget.clone(), memory_max, scratch: vec![folder.path().to_path_buf()] };
    (BlockStore::with_files(config, files).unwrap(), budget, folder)
}

/// The rows of batches as text, sorted: for comparing without order.
pub fn sorted_rows(batches: &[RecordBatch]) -> Vec<Vec<u8>> {
    let Some(first) = batches.first() else { return Vec::new() };
    let fields =
        first.schema().fields().iter().map(|f| arrow_row::SortField::new(f.data_type().clone())).collect();
    let converter = arrow_row::RowConverter::new(fields).unwrap();
    let mut rows: Vec<Vec<u8>> = batches
        .iter()
        .flat_map(|batch| {
            let rows = converter.convert_columns(batch.columns()).unwrap();
            rows.iter().map(|row| row.as_ref().to_vec()).collect::<Vec<_>>()
        })
        .collect();
    rows.sort();
    rows
}

/// Checks that two arrays hold the same values.
pub fn assert_same(found: &dyn Array, expected: &dyn Array) {
    assert_eq!(found.data_type(), expected.data_type());
    assert_eq!(found.len(), expected.len());
    assert_eq!(found.to_data(), expected.to_data());
}
