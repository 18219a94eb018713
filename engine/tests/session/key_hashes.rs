//! Which partition a key goes to. Both sides of a join, and executors of different builds, must agree on it, so what each type
//! hashes to is stored here. The hash is DataFusion's (`create_hashes`, over foldhash with a fixed seed): when an update of
//! these, or of how the standard library feeds strings to a hasher, changes a stored value, executors of the old and of the new
//! build must not write one exchange together.

use std::sync::Arc;

use arrow::array::types::{ArrowDictionaryKeyType, Int8Type, Int32Type};
use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{ArrowNativeType, DataType, Field, Fields, Float64Type, Int64Type, TimeUnit};
use datafusion::common::hash_utils::create_hashes;
use datafusion::physical_plan::repartition::REPARTITION_RANDOM_STATE;
use firesteel_shuffle::partition::hash_assignment;

const LONG: &str = "longer than the twelve bytes of a view";

fn hashes(columns: &[ArrayRef]) -> Vec<u64> {
    let mut hashes = vec![0; columns[0].len()];
    create_hashes(columns, REPARTITION_RANDOM_STATE.random_state(), &mut hashes).unwrap();
    hashes
}

fn ints() -> ArrayRef {
    Arc::new(Int64Array::from(vec![Some(0), Some(1), Some(-1), None]))
}

fn texts() -> ArrayRef {
    Arc::new(StringArray::from(vec![Some(""), Some("firesteel"), Some(LONG), None]))
}

fn to(array: &ArrayRef, data_type: &DataType) -> ArrayRef {
    cast(array, data_type).unwrap()
}

/// A dictionary with values in another order, one that no row uses, and a null among them for the last row.
fn dictionary<K: ArrowDictionaryKeyType>(values: &ArrayRef) -> ArrayRef {
    let backwards = arrow::compute::take(values, &UInt32Array::from(vec![3, 2, 1, 0, 1]), None).unwrap();
    let keys = [3, 2, 1, 0].into_iter().map(K::Native::from_usize).collect::<PrimitiveArray<K>>();
    Arc::new(DictionaryArray::new(keys, backwards))
}

fn pairs() -> StructArray {
    let fields =
        Fields::from(vec![Field::new("n", DataType::Int64, true), Field::new("t", DataType::Utf8, true)]);
    StructArray::new(fields, vec![ints(), texts()], Some(NullBuffer::from(vec![true, true, true, false])))
}

fn lists() -> ListArray {
    let item = Arc::new(Field::new_list_field(DataType::Int64, true));
    let lengths = OffsetBuffer::from_lengths([0, 1, 3, 0]);
    ListArray::new(item, lengths, ints(), Some(NullBuffer::from(vec![true, true, true, false])))
}

/// One column of each type, the last row of each null.
fn keys() -> Vec<(String, ArrayRef)> {
    use DataType as T;
    let numbers = [
        T::Int8,
        T::Int16,
        T::Int32,
        T::Int64,
        T::Float16,
        T::Float32,
        T::Float64,
        T::Decimal128(15, 2),
        T::Decimal256(40, 2),
    ];
    let days = Arc::new(Int32Array::from(vec![Some(0), Some(1), Some(-1), None])) as ArrayRef;
    let unsigned = Arc::new(UInt64Array::from(vec![Some(0), Some(1), Some(u64::MAX), None])) as ArrayRef;
    let times = [T::Date64, T::Time64(TimeUnit::Nanosecond), T::Timestamp(TimeUnit::Microsecond, None)];
    let strings = [T::Utf8, T::LargeUtf8, T::Utf8View, T::Binary, T::BinaryView];
    let mut columns: Vec<ArrayRef> = numbers.iter().map(|data_type| to(&ints(), data_type)).collect();
    columns.extend([unsigned, to(&days, &T::Date32)]);
    columns.extend(times.iter().map(|data_type| to(&ints(), data_type)));
    columns.extend(strings.iter().map(|data_type| to(&texts(), data_type)));
    columns.push(Arc::new(BooleanArray::from(vec![Some(false), Some(true), Some(true), None])));
    columns.extend([Arc::new(pairs()) as ArrayRef, Arc::new(lists())]);
    columns.into_iter().map(|column| (column.data_type().to_string(), column)).collect()
}

#[test]
fn what_a_key_hashes_to_is_the_same_in_every_build() {
    let line = |name: &str, columns: &[ArrayRef]| {
        let hashes = hashes(columns).iter().map(|hash| format!(" {hash:016x}")).collect::<String>();
        format!("{name}:{hashes}\n")
    };
    let mut found: String = keys().into_iter().map(|(name, column)| line(&name, &[column])).collect();
    found += &line("three columns", &[ints(), texts(), to(&ints(), &DataType::Decimal128(15, 2))]);
    assert_eq!(found, STORED, "\n{found}");
}

#[test]
fn a_key_and_its_partition_do_not_depend_on_how_it_is_held() {
    let same = |a: ArrayRef, b: ArrayRef| {
        assert_eq!(
            hashes(std::slice::from_ref(&a)),
            hashes(std::slice::from_ref(&b)),
            "{} and {}",
            a.data_type(),
            b.data_type()
        );
    };
    same(texts(), dictionary::<Int32Type>(&texts()));
    same(texts(), dictionary::<Int8Type>(&texts()));
    same(ints(), dictionary::<Int32Type>(&ints()));
    same(texts(), to(&texts(), &DataType::LargeUtf8));
    let views = to(&texts(), &DataType::Utf8View);
    same(views.clone(), dictionary::<Int32Type>(&views));
    // Without a long string there is no data buffer.
    assert_eq!(hashes(&[views.slice(0, 2)]), hashes(&[to(&texts().slice(0, 2), &DataType::Utf8View)]));
    for (name, column) in keys() {
        assert_eq!(hashes(&[column.slice(1, 3)]), hashes(&[column])[1..], "{name} in a slice");
    }
    // The number's scale is not in its bytes: both sides of a join have the same.
    same(to(&ints(), &DataType::Decimal128(15, 2)), to(&ints(), &DataType::Decimal128(30, 2)));
}

#[test]
fn zeros_are_one_key_and_each_nan_is_one() {
    let nan = f64::from_bits(0x7FF8_0000_0000_0001);
    let floats =
        |values: Vec<f64>| hashes(&[Arc::new(PrimitiveArray::<Float64Type>::from(values)) as ArrayRef]);
    let found = floats(vec![0.0, -0.0, f64::NAN, f64::NAN, nan]);
    assert_eq!(found[0], found[1]);
    assert_eq!(found[2], found[3]);
    assert_ne!(found[3], found[4], "NaNs of different bits are different keys");
}

/// Both sides of a join have the same types: the planner sees to it. Here is why it must.
#[test]
fn keys_of_different_types_are_not_where_each_other_are() {
    let views = to(&texts(), &DataType::Utf8View);
    assert_ne!(hashes(&[texts()])[1], hashes(&[views])[1]);
    assert_ne!(hashes(&[ints()])[2], hashes(&[to(&ints(), &DataType::Int32)])[2]);
    let second = |column: ArrayRef| hashes(&[texts(), column])[1];
    assert_ne!(second(ints()), second(dictionary::<Int32Type>(&ints())), "a dictionary as a second column");
}

#[test]
fn a_null_is_where_every_null_is() {
    let nulls: Vec<u64> = keys().into_iter().map(|(_, column)| hashes(&[column])[3]).collect();
    assert!(nulls.iter().all(|hash| *hash == 0), "{nulls:?}");
    let mut partitions = Vec::new();
    hash_assignment(&nulls, 7, &mut partitions);
    assert!(partitions.iter().all(|partition| *partition == 0));
    // A column of the type that has nulls only, in which no join has a match.
    assert_ne!(hashes(&[new_null_array(&DataType::Null, 1)]), [0]);
    let single = PrimitiveArray::<Int64Type>::new_null(1);
    assert_eq!(hashes(&[Arc::new(single) as ArrayRef]), [0]);
}

/// `type: hashes of the rows`, in hex.
const STORED: &str = "\
Int8: 5fdf1327d2d8911f 9f633a9fad5c2231 0b182b83c6e29292 0000000000000000
Int16: 5fdf1327d2d8911f 9f633a9fad5c2231 41a32bd5d7301c78 0000000000000000
Int32: 5fdf1327d2d8911f 9f633a9fad5c2231 99fc9d424293ef03 0000000000000000
Int64: 5fdf1327d2d8911f 9f633a9fad5c2231 5fdf4a97c2d3115f 0000000000000000
Float16: 5fdf1327d2d8911f 834f292e7a03a802 9c6bc66c42b288d8 0000000000000000
Float32: 5fdf1327d2d8911f 4507f69a1dcb1b19 58599d0bfd2106c5 0000000000000000
Float64: 5fdf1327d2d8911f aeeb61224680e9ef 8e854c4663c2165c 0000000000000000
Decimal128(15, 2): 5fdf1327d2d8911f 9b1f47122fa80b3c 19433a747288b611 0000000000000000
Decimal256(40, 2): 66601d9b1eb22b36 9f13742bf76ed525 78f4ea24194071e2 0000000000000000
UInt64: 5fdf1327d2d8911f 9f633a9fad5c2231 5fdf4a97c2d3115f 0000000000000000
Date32: 5fdf1327d2d8911f 9f633a9fad5c2231 99fc9d424293ef03 0000000000000000
Date64: 5fdf1327d2d8911f 9f633a9fad5c2231 5fdf4a97c2d3115f 0000000000000000
Time64(ns): 5fdf1327d2d8911f 9f633a9fad5c2231 5fdf4a97c2d3115f 0000000000000000
Timestamp(µs): 5fdf1327d2d8911f 9f633a9fad5c2231 5fdf4a97c2d3115f 0000000000000000
Utf8: 36ce5d2e63322a37 655330155093308a 88501ae2883c6a4a 0000000000000000
LargeUtf8: 36ce5d2e63322a37 655330155093308a 88501ae2883c6a4a 0000000000000000
Utf8View: 5fdf1327d2d8911f e2937d9a76e34922 858a9dc77de44668 0000000000000000
Binary: 09b761d51e124bd8 f91419fc46ee756c 858a9dc77de44668 0000000000000000
BinaryView: 5fdf1327d2d8911f e2937d9a76e34922 858a9dc77de44668 0000000000000000
Boolean: 5fdf1327d2d8911f 9f633a9fad5c2231 9f633a9fad5c2231 0000000000000000
Struct(\"n\": Int64, \"t\": Utf8): 4bb28adc291960e4 44692db452a2dbf5 13732d55738f23e3 0000000000000000
List(Int64): 0000000000000000 5fdf1327d2d8ec08 34ea47d53c28015b 0000000000000000
three columns: 39b98ffad89db4b6 90137dbed8c7ccc2 29cfce53f4659017 0000000000000000
";
