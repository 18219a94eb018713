//! Arrays whose rows are gathered straight into the frame: fixed widths, bits, bytes with offsets, structs of those.

use std::rc::Rc;

use arrow_array::cast::AsArray;
use arrow_array::types::{BinaryType, ByteArrayType, LargeBinaryType, LargeUtf8Type, Utf8Type};
use arrow_array::{Array, OffsetSizeTrait, downcast_primitive_array};
use arrow_buffer::{ArrowNativeType, Buffer, OffsetBuffer, ToByteSlice};
use arrow_schema::DataType;

use super::gather::{Part, Rows, gather_bits, put_fixed, rows_of, whole_bytes};
use super::plan::Planner;
use super::{FormatError, FrameBuffer, nested, views};

/// Plans one array from the rows of its parts.
pub(super) fn plan<'a>(planner: &mut Planner<'a>, parts: &[Part<'_, 'a>]) -> Result<(), FormatError> {
    let Some(first) = parts.first() else { return Err(FormatError::malformed("a frame of no batch")) };
    match first.array.data_type() {
        DataType::Null => planner.bare_node(rows_of(parts)),
        DataType::Boolean => plan_bits(planner, parts),
        DataType::Utf8 => plan_bytes::<Utf8Type>(planner, parts),
        DataType::LargeUtf8 => plan_bytes::<LargeUtf8Type>(planner, parts),
        DataType::Binary => plan_bytes::<BinaryType>(planner, parts),
        DataType::LargeBinary => plan_bytes::<LargeBinaryType>(planner, parts),
        DataType::Utf8View | DataType::BinaryView => views::plan(planner, parts),
        DataType::Struct(fields) => {
            planner.node(parts, 0);
            for child in 0..fields.len() {
                plan_child(planner, parts, |array| array.as_struct().column(child).as_ref())?;
            }
        }
        DataType::Dictionary(_, _) => return nested::plan_dictionary(planner, parts),
        _ => match fixed_values(first.array) {
            Some((width, _)) => plan_fixed(planner, parts, width),
            None => return nested::plan(planner, parts),
        },
    }
    Ok(())
}

/// Plans the children of all parts that `child` picks, which have the same rows as their parents.
pub(super) fn plan_child<'p, 'a>(
    planner: &mut Planner<'a>,
    parts: &[Part<'p, 'a>],
    child: impl Fn(&'p dyn Array) -> &'p dyn Array,
) -> Result<(), FormatError> {
    let children: Vec<_> =
        parts.iter().map(|part| Part { array: child(part.array), rows: part.rows }).collect();
    plan(planner, &children)
}

/// Plans an array of fixed width.
pub(super) fn plan_fixed<'a>(planner: &mut Planner<'a>, parts: &[Part<'_, 'a>], width: usize) {
    planner.node(parts, 0);
    if let [Part { array, rows: Rows::Range { start, len } }] = parts {
        let values = fixed_values(*array).expect("the type has a width").1;
        return planner.put(values.slice_with_length(start * width, len * width));
    }
    let sources: Vec<(Buffer, Rows<'a>)> = parts
        .iter()
        .map(|part| (fixed_values(part.array).expect("parts have one type").1, part.rows))
        .collect();
    planner.buffer(rows_of(parts) * width, move |out| {
        sources.iter().for_each(|(values, rows)| put_fixed(out, width, values, *rows));
    });
}

/// Width and values of an array of fixed width, from its first row on.
pub(super) fn fixed_values(array: &dyn Array) -> Option<(usize, Buffer)> {
    if let DataType::FixedSizeBinary(width) = array.data_type() {
        return Some((usize::try_from(*width).ok()?, array.as_fixed_size_binary().values().clone()));
    }
    downcast_primitive_array!(
        array => Some((width_of(array.values()), array.values().inner().clone())),
        _ => None
    )
}

fn width_of<T>(_: &[T]) -> usize {
    size_of::<T>()
}

fn plan_bits<'a>(planner: &mut Planner<'a>, parts: &[Part<'_, 'a>]) {
    planner.node(parts, 0);
    let bits = whole_bytes(gather_bits(parts, |array| Some(array.as_boolean().values())));
    planner.put(bits);
}

/// Rows of one array of bytes with offsets.
struct BytesPart<'a, O: OffsetSizeTrait> {
    offsets: OffsetBuffer<O>,
    values: Buffer,
    rows: Rows<'a>,
}

impl<O: OffsetSizeTrait> BytesPart<'_, O> {
    fn range(&self, row: usize) -> std::ops::Range<usize> {
        self.offsets[row].as_usize()..self.offsets[row + 1].as_usize()
    }

    fn bytes(&self) -> usize {
        if let Rows::Range { start, len } = self.rows {
            return self.offsets[start + len].as_usize() - self.offsets[start].as_usize();
        }
        let mut bytes = 0;
        self.rows.for_each(|row| bytes += self.range(row).len());
        bytes
    }

    fn put_values(&self, out: &mut FrameBuffer) {
        match self.rows {
            Rows::Range { start, len } => {
                out.put(&self.values[self.offsets[start].as_usize()..self.offsets[start + len].as_usize()]);
            }
            Rows::Take(rows) => rows.iter().for_each(|&row| out.put(&self.values[self.range(row as usize)])),
        }
    }
}

fn plan_bytes<'a, T: ByteArrayType>(planner: &mut Planner<'a>, parts: &[Part<'_, 'a>]) {
    planner.node(parts, 0);
    let sources: Rc<[BytesPart<'a, T::Offset>]> = parts
        .iter()
        .map(|part| {
            let array = part.array.as_bytes::<T>();
            BytesPart { offsets: array.offsets().clone(), values: array.values().clone(), rows: part.rows }
        })
        .collect();
    let bytes = sources.iter().map(BytesPart::bytes).sum();
    let offsets = Rc::clone(&sources);
    planner.buffer((rows_of(parts) + 1) * size_of::<T::Offset>(), move |out| put_offsets(out, &offsets));
    planner.buffer(bytes, move |out| sources.iter().for_each(|part| part.put_values(out)));
}

fn put_offsets<O: OffsetSizeTrait>(out: &mut FrameBuffer, parts: &[BytesPart<'_, O>]) {
    let mut end = 0_usize;
    put_offset::<O>(out, 1, |_| 0);
    for part in parts {
        put_offset::<O>(out, part.rows.len(), |i| {
            end += part.range(part.rows.at(i)).len();
            end
        });
    }
}

/// Appends offsets of the width of `O`.
pub(super) fn put_offset<O: OffsetSizeTrait>(
    out: &mut FrameBuffer,
    count: usize,
    mut item: impl FnMut(usize) -> usize,
) {
    // A frame is smaller than 2 GiB: `FRAME_BYTES_MAX` was checked when it was planned.
    if O::IS_LARGE {
        out.fill(count, |i| (item(i) as i64).to_le_bytes());
    } else {
        out.fill(count, |i| (item(i) as i32).to_le_bytes());
    }
}

/// Appends native values as they lie in memory.
pub(super) fn put_native<T: ArrowNativeType>(out: &mut FrameBuffer, values: &[T]) {
    out.put(values.to_byte_slice());
}
