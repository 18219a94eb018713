//! Looking at every value of an array, so that a reader which lets a wrong one through is found out.

use std::hint::black_box;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int16Type, Int32Type, Int64Type, RunEndIndexType};
use arrow_array::{Array, ArrayAccessor, RunArray};
use arrow_schema::DataType;

use super::ROWS_USED_MAX;

/// Reads all values of `array` and of its children.
///
/// # Panics
/// When a value cannot be read.
pub fn touch(array: &dyn Array) {
    use DataType as T;
    match array.data_type() {
        T::Utf8 => each(array, array.as_string::<i32>(), |text| text.chars().count()),
        T::LargeUtf8 => each(array, array.as_string::<i64>(), |text| text.chars().count()),
        T::Utf8View => each(array, array.as_string_view(), |text| text.chars().count()),
        T::Binary => each(array, array.as_binary::<i32>(), sum),
        T::LargeBinary => each(array, array.as_binary::<i64>(), sum),
        T::BinaryView => each(array, array.as_binary_view(), sum),
        T::FixedSizeBinary(_) => each(array, array.as_fixed_size_binary(), sum),
        T::Boolean => each(array, array.as_boolean(), usize::from),
        T::List(_) => each(array, array.as_list::<i32>(), |items| items.len()),
        T::LargeList(_) => each(array, array.as_list::<i64>(), |items| items.len()),
        T::ListView(_) => each(array, array.as_list_view::<i32>(), |items| items.len()),
        T::LargeListView(_) => each(array, array.as_list_view::<i64>(), |items| items.len()),
        T::FixedSizeList(_, _) => each(array, array.as_fixed_size_list(), |items| items.len()),
        T::Map(_, _) => each(array, array.as_map(), |entries| entries.len()),
        T::Union(_, _) => rows(array.len()).for_each(|row| _ = black_box(array.as_union().value(row))),
        T::Dictionary(_, _) => touch_keys(array),
        T::RunEndEncoded(ends, _) => match ends.data_type() {
            T::Int16 => touch_runs::<Int16Type>(array),
            T::Int32 => touch_runs::<Int32Type>(array),
            _ => touch_runs::<Int64Type>(array),
        },
        _ => array.to_data().buffers().iter().for_each(|buffer| _ = black_box(sum(buffer))),
    }
    touch_children(array);
}

fn touch_children(array: &dyn Array) {
    for child in array.to_data().child_data() {
        touch(arrow_array::make_array(child.clone()).as_ref());
    }
}

fn sum(bytes: &[u8]) -> usize {
    bytes.iter().map(|byte| usize::from(*byte)).sum()
}

/// Calls `use_one` with the value of each row that is not null.
fn each<A: ArrayAccessor>(array: &dyn Array, values: A, use_one: impl Fn(A::Item) -> usize) {
    for row in rows(array.len()).filter(|row| array.is_valid(*row)) {
        black_box(use_one(values.value(row)));
    }
}

/// All rows, or the first and the last where there are very many.
fn rows(len: usize) -> impl Iterator<Item = usize> {
    let first = len.min(ROWS_USED_MAX / 2);
    (0..first).chain(first.max(len.saturating_sub(ROWS_USED_MAX / 2))..len)
}

fn touch_keys(array: &dyn Array) {
    let dictionary = array.as_any_dictionary();
    if dictionary.values().is_empty() {
        assert_eq!(array.null_count(), array.len(), "a key of no value");
        return;
    }
    let keys = dictionary.normalized_keys();
    let valid = keys.iter().enumerate().filter(|(row, _)| array.is_valid(*row));
    assert!(valid.into_iter().all(|(_, key)| *key < dictionary.values().len()), "a key of no value");
}

fn touch_runs<R: RunEndIndexType>(array: &dyn Array) {
    let runs: &RunArray<R> = array.as_any().downcast_ref().expect("an array of its type");
    for row in rows(array.len()) {
        assert!(runs.get_physical_index(row) < runs.values().len(), "a run of no value");
    }
}
