//! Which rows go into a frame, and copying them there: one pass, straight from the arrays to the frame.

use arrow_array::{Array, RecordBatch};
use arrow_buffer::{BooleanBuffer, BooleanBufferBuilder, Buffer, NullBuffer};

use super::FrameBuffer;

/// Rows of a batch that go into a frame.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    /// The batch.
    pub batch: &'a RecordBatch,
    /// Which of its rows.
    pub rows: Rows<'a>,
}

/// Which rows of an array.
#[derive(Debug, Clone, Copy)]
pub enum Rows<'a> {
    /// Neighbouring ones.
    Range {
        /// The first.
        start: usize,
        /// How many.
        len: usize,
    },
    /// Single ones, in this order.
    Take(&'a [u32]),
}

impl Rows<'_> {
    /// How many rows.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Range { len, .. } => *len,
            Self::Take(rows) => rows.len(),
        }
    }

    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `visit` with each row.
    pub(super) fn for_each(&self, mut visit: impl FnMut(usize)) {
        match *self {
            Self::Range { start, len } => (start..start + len).for_each(visit),
            Self::Take(rows) => rows.iter().for_each(|&row| visit(row as usize)),
        }
    }

    /// The row at position `index` among these.
    pub(super) fn at(&self, index: usize) -> usize {
        match *self {
            Self::Range { start, .. } => start + index,
            Self::Take(rows) => rows[index] as usize,
        }
    }
}

/// An array, and the rows of it that go into the frame.
pub(super) struct Part<'p, 'a> {
    pub array: &'p dyn Array,
    pub rows: Rows<'a>,
}

/// Rows of all parts together.
pub(super) fn rows_of(parts: &[Part<'_, '_>]) -> usize {
    parts.iter().map(|part| part.rows.len()).sum()
}

/// The validity of the parts' rows, with the number of nulls; `None` when there are none.
pub(super) fn validity(parts: &[Part<'_, '_>]) -> Option<(Buffer, usize)> {
    if parts.iter().all(|part| part.array.null_count() == 0) {
        return None;
    }
    let bits = gather_bits(parts, |array| array.nulls().map(NullBuffer::inner));
    let nulls = bits.len() - bits.count_set_bits();
    (nulls > 0).then(|| (whole_bytes(bits), nulls))
}

/// The bits of the parts' rows; arrays without any count as all set.
pub(super) fn gather_bits<'p>(
    parts: &'p [Part<'p, '_>],
    bits_of: impl Fn(&'p dyn Array) -> Option<&'p BooleanBuffer>,
) -> BooleanBuffer {
    let mut out = BooleanBufferBuilder::new(rows_of(parts));
    for part in parts {
        match (bits_of(part.array), part.rows) {
            (None, rows) => out.append_n(rows.len(), true),
            (Some(bits), Rows::Range { start, len }) => out.append_buffer(&bits.slice(start, len)),
            (Some(bits), Rows::Take(rows)) => {
                out.append_buffer(&BooleanBuffer::collect_bool(rows.len(), |i| bits.value(rows[i] as usize)));
            }
        }
    }
    out.finish()
}

/// The bytes of a bitmap that starts at bit zero.
pub(super) fn whole_bytes(bits: BooleanBuffer) -> Buffer {
    let bytes = bits.len().div_ceil(8);
    debug_assert_eq!(bits.offset(), 0);
    bits.into_inner().slice_with_length(0, bytes)
}

/// Appends items of a fixed width.
pub(super) fn put_fixed(out: &mut FrameBuffer, width: usize, values: &[u8], rows: Rows<'_>) {
    match (rows, width) {
        (Rows::Range { start, len }, _) => out.put(&values[start * width..(start + len) * width]),
        (Rows::Take(rows), 1) => take::<1>(out, values, rows),
        (Rows::Take(rows), 2) => take::<2>(out, values, rows),
        (Rows::Take(rows), 4) => take::<4>(out, values, rows),
        (Rows::Take(rows), 8) => take::<8>(out, values, rows),
        (Rows::Take(rows), 16) => take::<16>(out, values, rows),
        (Rows::Take(rows), 32) => take::<32>(out, values, rows),
        (Rows::Take(rows), _) => rows.iter().for_each(|&row| {
            let start = row as usize * width;
            out.put(&values[start..start + width]);
        }),
    }
}

fn take<const W: usize>(out: &mut FrameBuffer, values: &[u8], rows: &[u32]) {
    let items = values.as_chunks::<W>().0;
    out.fill(rows.len(), |i| items[rows[i] as usize]);
}
