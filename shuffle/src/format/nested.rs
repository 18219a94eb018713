//! Arrays whose rows are first brought into one array by Arrow's kernels, and then trimmed to what they use: lists,
//! maps, unions, runs, and dictionaries that differ.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int16Type, Int32Type, Int64Type, RunEndIndexType};
use arrow_array::{Array, ArrayRef, OffsetSizeTrait, PrimitiveArray, RunArray, UInt32Array, UnionArray};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_data::ArrayData;
use arrow_schema::{ArrowError, DataType, UnionFields, UnionMode};
use arrow_select::concat::concat;
use arrow_select::dictionary::garbage_collect_any_dictionary;
use arrow_select::interleave::interleave;
use arrow_select::take::take;

use super::FormatError;
use super::flat::{self, plan_child, put_native, put_offset};
use super::gather::{Part, Rows, rows_of};
use super::plan::Planner;

/// A dictionary of up to this many values is written as it is, however few the rows.
const SMALL_DICTIONARY: usize = 64;

/// Plans an array of a nested type.
pub(super) fn plan<'a>(planner: &mut Planner<'a>, parts: &[Part<'_, 'a>]) -> Result<(), FormatError> {
    let array = gathered(parts)?;
    let array = array.as_ref();
    match array.data_type() {
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            plan_list(planner, array, list.offsets(), list.values())
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            plan_list(planner, array, list.offsets(), list.values())
        }
        DataType::Map(_, _) => {
            let map = array.as_map();
            plan_list(planner, array, map.offsets(), &(Arc::new(map.entries().clone()) as ArrayRef))
        }
        DataType::ListView(_) => plan_list_view::<i32>(planner, array),
        DataType::LargeListView(_) => plan_list_view::<i64>(planner, array),
        DataType::FixedSizeList(_, size) => {
            planner.node(&[whole(array)], 0);
            let items = array.len() * usize::try_from(*size).unwrap_or_default();
            plan_whole(planner, array.as_fixed_size_list().values().slice(0, items).as_ref())
        }
        DataType::Union(fields, mode) => plan_union(planner, array.as_union(), fields, *mode),
        DataType::RunEndEncoded(ends, _) => match ends.data_type() {
            DataType::Int16 => plan_runs::<Int16Type>(planner, array),
            DataType::Int32 => plan_runs::<Int32Type>(planner, array),
            _ => plan_runs::<Int64Type>(planner, array),
        },
        other => Err(FormatError::Unsupported(other.to_string())),
    }
}

/// Plans a dictionary array: its keys, and its values as the child.
pub(super) fn plan_dictionary<'a>(
    planner: &mut Planner<'a>,
    parts: &[Part<'_, 'a>],
) -> Result<(), FormatError> {
    let values = parts[0].array.as_any_dictionary().values();
    let few = values.len() <= rows_of(parts).max(SMALL_DICTIONARY);
    if few && share_values(parts.iter().map(|part| part.array)) {
        plan_keys(planner, parts)?;
        return plan_whole(planner, values.as_ref());
    }
    let mut array = gathered(parts)?;
    if array.as_any_dictionary().values().len() > array.len().max(SMALL_DICTIONARY) {
        array = garbage_collect_any_dictionary(array.as_any_dictionary()).map_err(FormatError::gather)?;
    }
    plan_keys(planner, &[whole(array.as_ref())])?;
    plan_whole(planner, array.as_any_dictionary().values().as_ref())
}

/// Whether dictionary arrays have one and the same array of values.
pub(super) fn share_values<'p>(mut arrays: impl Iterator<Item = &'p dyn Array>) -> bool {
    let first = arrays.next().map(|array| array.as_any_dictionary().values());
    first.is_none_or(|values| arrays.all(|array| Arc::ptr_eq(values, array.as_any_dictionary().values())))
}

fn plan_keys<'a>(planner: &mut Planner<'a>, parts: &[Part<'_, 'a>]) -> Result<(), FormatError> {
    plan_child(planner, parts, |array| array.as_any_dictionary().keys())
}

/// All rows of an array.
fn whole<'p, 'a>(array: &'p dyn Array) -> Part<'p, 'a> {
    Part { array, rows: Rows::Range { start: 0, len: array.len() } }
}

fn plan_whole(planner: &mut Planner<'_>, array: &dyn Array) -> Result<(), FormatError> {
    flat::plan(planner, &[whole(array)])
}

/// The rows of all parts as one array.
fn gathered(parts: &[Part<'_, '_>]) -> Result<ArrayRef, FormatError> {
    check_inner_keys(&parts.iter().map(|part| part.array).collect::<Vec<_>>())?;
    let array = match parts {
        [Part { array, rows: Rows::Range { start, len } }] => Ok(array.slice(*start, *len)),
        [Part { array, rows: Rows::Take(rows) }] => take(*array, &UInt32Array::from(rows.to_vec()), None),
        _ => match parts.iter().map(slice_of).collect::<Option<Vec<_>>>() {
            Some(slices) => concat(&slices.iter().map(AsRef::as_ref).collect::<Vec<_>>()),
            None => {
                let arrays: Vec<_> = parts.iter().map(|part| part.array).collect();
                interleave(&arrays, &places(parts))
            }
        },
    };
    array.map_err(FormatError::gather)
}

/// Refuses arrays whose inner dictionaries Arrow's kernels cannot join: in items of lists they panic where the keys do not
/// hold all dictionaries' values, and tell of it only at the top.
pub(super) fn check_inner_keys(arrays: &[&dyn Array]) -> Result<(), FormatError> {
    if arrays.len() < 2 || matches!(arrays[0].data_type(), DataType::Dictionary(_, _)) {
        return Ok(());
    }
    let arrays: Vec<ArrayData> = arrays.iter().map(|array| array.to_data()).collect();
    if keys_hold(&arrays.iter().collect::<Vec<_>>()) {
        Ok(())
    } else {
        Err(FormatError::gather(ArrowError::DictionaryKeyOverflowError))
    }
}

/// Whether each dictionary in arrays of one type, joined one after the other as Arrow does, has no more values than its
/// keys can tell apart.
fn keys_hold(arrays: &[&ArrayData]) -> bool {
    if let DataType::Dictionary(keys, _) = arrays[0].data_type() {
        let values = |array: &ArrayData| array.child_data()[0].len();
        let shared = arrays.windows(2).all(|pair| pair[0].child_data()[0].ptr_eq(&pair[1].child_data()[0]));
        if !shared && arrays.iter().map(|array| values(array)).sum::<usize>() > keys_max(keys) {
            return false;
        }
    }
    let children = 0..arrays[0].child_data().len();
    children
        .into_iter()
        .all(|child| keys_hold(&arrays.iter().map(|array| &array.child_data()[child]).collect::<Vec<_>>()))
}

/// How many values keys of that type can tell apart.
fn keys_max(keys: &DataType) -> usize {
    match keys {
        DataType::Int8 => 1 << 7,
        DataType::UInt8 => 1 << 8,
        DataType::Int16 => 1 << 15,
        DataType::UInt16 => 1 << 16,
        DataType::Int32 => 1 << 31,
        DataType::UInt32 => 1 << 32,
        _ => usize::MAX,
    }
}

fn slice_of(part: &Part<'_, '_>) -> Option<ArrayRef> {
    match part.rows {
        Rows::Range { start, len } => Some(part.array.slice(start, len)),
        Rows::Take(_) => None,
    }
}

/// Each row of all parts as (part, row).
fn places(parts: &[Part<'_, '_>]) -> Vec<(usize, usize)> {
    let mut places = Vec::with_capacity(rows_of(parts));
    for (number, part) in parts.iter().enumerate() {
        part.rows.for_each(|row| places.push((number, row)));
    }
    places
}

fn plan_list<O: OffsetSizeTrait>(
    planner: &mut Planner<'_>,
    array: &dyn Array,
    offsets: &OffsetBuffer<O>,
    items: &ArrayRef,
) -> Result<(), FormatError> {
    planner.node(&[whole(array)], 0);
    let (first, last) = (offsets[0].as_usize(), offsets[array.len()].as_usize());
    let offsets = offsets.clone();
    planner.buffer(offsets.len() * size_of::<O>(), move |out| {
        put_offset::<O>(out, offsets.len(), |i| offsets[i].as_usize() - first);
    });
    plan_whole(planner, items.slice(first, last - first).as_ref())
}

fn plan_list_view<O: OffsetSizeTrait>(
    planner: &mut Planner<'_>,
    array: &dyn Array,
) -> Result<(), FormatError> {
    planner.node(&[whole(array)], 0);
    let list = array.as_list_view::<O>();
    let (offsets, sizes) = (list.offsets().clone(), list.sizes().clone());
    let used = || (0..list.len()).filter(|&row| !sizes[row].is_zero());
    let first = used().map(|row| offsets[row].as_usize()).min().unwrap_or(0);
    let last = used().map(|row| offsets[row].as_usize() + sizes[row].as_usize()).max().unwrap_or(0);
    let items = list.values().slice(first, last - first);
    let bytes = size_of_val::<[O]>(&offsets);
    let starts = sizes.clone();
    planner.buffer(bytes, move |out| {
        put_offset::<O>(out, offsets.len(), |i| {
            if starts[i].is_zero() { 0 } else { offsets[i].as_usize() - first }
        });
    });
    planner.buffer(bytes, move |out| put_native(out, &sizes));
    plan_whole(planner, items.as_ref())
}

fn plan_union(
    planner: &mut Planner<'_>,
    array: &UnionArray,
    fields: &UnionFields,
    mode: UnionMode,
) -> Result<(), FormatError> {
    planner.bare_node(array.len());
    let ids = array.type_ids().clone();
    let Some(offsets) = array.offsets().filter(|_| mode == UnionMode::Dense).cloned() else {
        planner.buffer(ids.len(), move |out| put_native(out, &ids));
        return fields.iter().try_for_each(|(id, _)| plan_whole(planner, array.child(id).as_ref()));
    };
    let used = DenseUse::new(&ids, &offsets);
    let children: Vec<_> = fields.iter().map(|(id, _)| used.trim(id, array.child(id))).collect();
    let type_ids = ids.clone();
    planner.buffer(ids.len(), move |out| put_native(out, &type_ids));
    planner.buffer(offsets.len() * size_of::<i32>(), move |out| {
        put_offset::<i32>(out, ids.len(), |i| (offsets[i] - used.first(ids[i])) as usize);
    });
    children.iter().try_for_each(|child| plan_whole(planner, child.as_ref()))
}

/// Which part of each child the rows of a dense union use.
struct DenseUse {
    first: [i32; 128],
    end: [i32; 128],
}

impl DenseUse {
    fn new(ids: &[i8], offsets: &ScalarBuffer<i32>) -> Self {
        let mut used = Self { first: [i32::MAX; 128], end: [0; 128] };
        for (id, offset) in ids.iter().zip(offsets.iter()) {
            let id = *id as usize;
            used.first[id] = used.first[id].min(*offset);
            used.end[id] = used.end[id].max(offset + 1);
        }
        used
    }

    fn first(&self, id: i8) -> i32 {
        self.first[id as usize]
    }

    fn trim(&self, id: i8, child: &ArrayRef) -> ArrayRef {
        let (first, end) = (self.first(id), self.end[id as usize]);
        if end == 0 { child.slice(0, 0) } else { child.slice(first as usize, (end - first) as usize) }
    }
}

fn plan_runs<R: RunEndIndexType>(planner: &mut Planner<'_>, array: &dyn Array) -> Result<(), FormatError> {
    let runs: &RunArray<R> = array
        .as_any()
        .downcast_ref()
        .ok_or_else(|| FormatError::Unsupported(array.data_type().to_string()))?;
    planner.bare_node(array.len());
    let (ends, first): (Vec<R::Native>, usize) = if array.is_empty() {
        (Vec::new(), 0)
    } else {
        (runs.run_ends().sliced_values().collect(), runs.get_start_physical_index())
    };
    let values = runs.values().slice(first, ends.len());
    let ends = PrimitiveArray::<R>::new(ends.into(), None);
    plan_whole(planner, &ends)?;
    plan_whole(planner, values.as_ref())
}
