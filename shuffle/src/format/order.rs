//! Rows of several batches in the order of their partitions: each column is read from its first row to its last, and every
//! value is written to its place.
//!
//! The other way round, picking the rows of one partition after the other, reads every column once a partition, and of
//! each line of the cache that it reads it uses a value or two. Written to their places, values of one partition follow
//! each other, so that a partition takes one line of the cache until that is full.
//!
//! Unsafe is needed to make arrays without looking at every value again.
#![allow(unsafe_code)]

use arrow_array::cast::AsArray;
use arrow_array::types::{
    BinaryType, BinaryViewType, ByteArrayType, LargeBinaryType, LargeUtf8Type, StringViewType, Utf8Type,
};
use arrow_array::{Array, ArrayRef, OffsetSizeTrait, RecordBatch, RecordBatchOptions, make_array};
use arrow_buffer::{ArrowNativeType, BooleanBuffer, Buffer, MutableBuffer, NullBuffer};
use arrow_data::ArrayData;
use arrow_schema::DataType;
use arrow_select::interleave::interleave;

use super::flat::fixed_values;
use super::{FormatError, nested, scratch::Scratch, views};

/// A batch whose rows are to be ordered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    /// The batch.
    pub batch: &'a RecordBatch,
    /// Where its rows go.
    pub places: Places<'a>,
}

/// Where the rows of a batch go among all that are ordered.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Places<'a> {
    /// Next to one another, from this place on.
    From(usize),
    /// The place of each.
    Each(&'a [u32]),
}

/// A column of one batch, and where its rows go.
pub(super) struct Column<'p> {
    pub array: &'p dyn Array,
    pub places: Places<'p>,
}

impl Column<'_> {
    /// Calls `visit` with each row that is not null, and its place.
    pub fn for_each_valid(&self, mut visit: impl FnMut(usize, usize)) {
        let nulls = self.array.nulls().filter(|nulls| nulls.null_count() > 0);
        match (nulls, self.places) {
            (None, Places::From(first)) => (0..self.array.len()).for_each(|row| visit(row, first + row)),
            (None, Places::Each(places)) => {
                places.iter().enumerate().for_each(|(row, &place)| visit(row, place as usize));
            }
            (Some(nulls), places) => nulls.valid_indices().for_each(|row| visit(row, places.of(row))),
        }
    }
}

impl Places<'_> {
    fn of(&self, row: usize) -> usize {
        match self {
            Self::From(first) => first + row,
            Self::Each(places) => places[row] as usize,
        }
    }
}

/// The rows of all `sources` in one batch, each in its place; the places are `0..rows`, each once. The columns lie in buffers of
/// `scratch`. The batch is going to be cut into `parts` parts, about.
///
/// # Errors
/// When Arrow cannot bring values of the batches into one array, or they pass what offsets of 32 bits can tell.
pub(crate) fn order(
    sources: &[Source<'_>],
    rows: usize,
    parts: usize,
    scratch: &mut Scratch,
) -> Result<RecordBatch, FormatError> {
    let Some(first) = sources.first() else { return Err(FormatError::malformed("rows of no batch")) };
    let mut orderer = Orderer { rows, parts, scratch, origins: None };
    let columns = (0..first.batch.num_columns()).map(|column| {
        let columns: Vec<_> = sources
            .iter()
            .map(|source| Column { array: source.batch.column(column).as_ref(), places: source.places })
            .collect();
        orderer.column(&columns)
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(first.batch.schema(), columns, &options).map_err(FormatError::gather)
}

/// Orders one column after the other.
pub(super) struct Orderer<'s> {
    pub rows: usize,
    pub parts: usize,
    pub scratch: &'s mut Scratch,
    /// For each place the source and the row that it comes from, once a column asked for it.
    origins: Option<Vec<(usize, usize)>>,
}

impl Orderer<'_> {
    fn column(&mut self, columns: &[Column<'_>]) -> Result<ArrayRef, FormatError> {
        let first = columns[0].array;
        let data_type = first.data_type();
        match data_type {
            DataType::Null => Ok(self.array(data_type, None, vec![], vec![])),
            DataType::Boolean => Ok(self.bits(columns)),
            DataType::Utf8 => self.bytes::<Utf8Type>(columns),
            DataType::LargeUtf8 => self.bytes::<LargeUtf8Type>(columns),
            DataType::Binary => self.bytes::<BinaryType>(columns),
            DataType::LargeBinary => self.bytes::<LargeBinaryType>(columns),
            DataType::Utf8View => views::order::<StringViewType>(self, columns),
            DataType::BinaryView => views::order::<BinaryViewType>(self, columns),
            DataType::Struct(fields) => {
                let children = (0..fields.len())
                    .map(|child| self.child(columns, |array| array.as_struct().column(child).as_ref()));
                let children = children.collect::<Result<Vec<_>, _>>()?;
                let nulls = self.nulls(columns);
                Ok(self.array(data_type, nulls, vec![], children.iter().map(|c| c.to_data()).collect()))
            }
            DataType::Dictionary(_, _) if nested::share_values(columns.iter().map(|c| c.array)) => {
                let keys = self.child(columns, |array| array.as_any_dictionary().keys())?.to_data();
                let values = first.as_any_dictionary().values().to_data();
                let (nulls, buffers) = (keys.nulls().cloned(), keys.buffers().to_vec());
                Ok(self.array(data_type, nulls, buffers, vec![values]))
            }
            _ => match fixed_values(first) {
                Some((width, _)) => Ok(self.fixed(columns, width)),
                None => self.others(columns),
            },
        }
    }

    fn child<'p>(
        &mut self,
        columns: &[Column<'p>],
        child: impl Fn(&'p dyn Array) -> &'p dyn Array,
    ) -> Result<ArrayRef, FormatError> {
        let children = columns.iter().map(|c| Column { array: child(c.array), places: c.places });
        self.column(&children.collect::<Vec<_>>())
    }

    /// An array of the ordered rows.
    pub(super) fn array(
        &self,
        data_type: &DataType,
        nulls: Option<NullBuffer>,
        buffers: Vec<Buffer>,
        children: Vec<ArrayData>,
    ) -> ArrayRef {
        let data = ArrayData::builder(data_type.clone())
            .len(self.rows)
            .nulls(nulls)
            .buffers(buffers)
            .child_data(children);
        // SAFETY: all sources are valid arrays of this type, and each of `rows` places got the value of one of their rows, or, for
        // a null that is a string, an empty one. Offsets and views were written to fit the buffers that are given here, keys are
        // those of the same values, and children are such arrays themselves, of as many rows.
        make_array(unsafe { data.build_unchecked() })
    }

    fn fixed(&mut self, columns: &[Column<'_>], width: usize) -> ArrayRef {
        let nulls = self.nulls(columns);
        let mut out = self.scratch.take(self.rows * width);
        for column in columns {
            let values = fixed_values(column.array).expect("sources have one type").1;
            put(&mut out, width, &values[..column.array.len() * width], column.places);
        }
        let values = self.scratch.lend(out);
        self.array(columns[0].array.data_type(), nulls, vec![values], vec![])
    }

    /// The validity of all rows; `None` when none is null.
    pub(super) fn nulls(&mut self, columns: &[Column<'_>]) -> Option<NullBuffer> {
        if columns.iter().all(|column| column.array.null_count() == 0) {
            return None;
        }
        let mut out = self.scratch.take(self.rows.div_ceil(8));
        out.fill(0xFF);
        for column in columns {
            let Some(nulls) = column.array.nulls().filter(|nulls| nulls.null_count() > 0) else { continue };
            let null = !nulls.inner();
            null.set_indices().for_each(|row| {
                let place = column.places.of(row);
                out[place / 8] &= !(1 << (place % 8));
            });
        }
        Some(NullBuffer::new(BooleanBuffer::new(self.scratch.lend(out), 0, self.rows)))
    }

    fn bits(&mut self, columns: &[Column<'_>]) -> ArrayRef {
        let nulls = self.nulls(columns);
        let mut out = self.scratch.take(self.rows.div_ceil(8));
        out.fill(0);
        for column in columns {
            column.array.as_boolean().values().set_indices().for_each(|row| {
                let place = column.places.of(row);
                out[place / 8] |= 1 << (place % 8);
            });
        }
        let bits = self.scratch.lend(out);
        self.array(&DataType::Boolean, nulls, vec![bits], vec![])
    }

    fn bytes<T: ByteArrayType>(&mut self, columns: &[Column<'_>]) -> Result<ArrayRef, FormatError> {
        let nulls = self.nulls(columns);
        let width = size_of::<T::Offset>();
        let mut offsets = self.scratch.take((self.rows + 1) * width);
        offsets.fill(0);
        let ends = offsets.typed_data_mut::<T::Offset>();
        for column in columns {
            let source = column.array.as_bytes::<T>().offsets();
            column.for_each_valid(|row, place| ends[place + 1] = source[row + 1] - source[row]);
        }
        let bytes = sum_up(ends)?;
        let mut out = self.scratch.take(bytes);
        for column in columns {
            let source = column.array.as_bytes::<T>();
            let (from, values) = (source.offsets(), source.values());
            column.for_each_valid(|row, place| {
                let bytes = &values[from[row].as_usize()..from[row + 1].as_usize()];
                let start = ends[place].as_usize();
                out[start..start + bytes.len()].copy_from_slice(bytes);
            });
        }
        let buffers = vec![self.scratch.lend(offsets), self.scratch.lend(out)];
        Ok(self.array(columns[0].array.data_type(), nulls, buffers, vec![]))
    }

    /// Types whose rows only Arrow's kernels bring together.
    fn others(&mut self, columns: &[Column<'_>]) -> Result<ArrayRef, FormatError> {
        let arrays: Vec<_> = columns.iter().map(|column| column.array).collect();
        nested::check_inner_keys(&arrays)?;
        let rows = self.rows;
        let origins = self.origins.get_or_insert_with(|| {
            let mut origins = vec![(0, 0); rows];
            for (number, column) in columns.iter().enumerate() {
                (0..column.array.len()).for_each(|row| origins[column.places.of(row)] = (number, row));
            }
            origins
        });
        interleave(&arrays, origins).map_err(FormatError::gather)
    }
}

/// Turns lengths, each one after its place, into offsets; returns the last.
pub(super) fn sum_up<O: OffsetSizeTrait>(lengths: &mut [O]) -> Result<usize, FormatError> {
    let mut end = 0_usize;
    for length in lengths {
        end += length.as_usize();
        *length = O::from_usize(end).ok_or(FormatError::Limit {
            what: "bytes of ordered strings",
            found: end as u64,
            limit: O::MAX_OFFSET as u64,
        })?;
    }
    Ok(end)
}

/// Puts items of a fixed width into their places.
fn put(out: &mut MutableBuffer, width: usize, values: &[u8], places: Places<'_>) {
    match (places, width) {
        (Places::From(first), _) => out[first * width..][..values.len()].copy_from_slice(values),
        (Places::Each(places), 1) => scatter::<1>(out, values, places),
        (Places::Each(places), 2) => scatter::<2>(out, values, places),
        (Places::Each(places), 4) => scatter::<4>(out, values, places),
        (Places::Each(places), 8) => scatter::<8>(out, values, places),
        (Places::Each(places), 16) => scatter::<16>(out, values, places),
        (Places::Each(places), 32) => scatter::<32>(out, values, places),
        (Places::Each(_), 0) => {}
        (Places::Each(places), _) => values.chunks_exact(width).zip(places).for_each(|(item, &place)| {
            out[place as usize * width..][..width].copy_from_slice(item);
        }),
    }
}

fn scatter<const W: usize>(out: &mut [u8], values: &[u8], places: &[u32]) {
    let (items, out) = (values.as_chunks::<W>().0, out.as_chunks_mut::<W>().0);
    items.iter().zip(places).for_each(|(item, &place)| out[place as usize] = *item);
}
