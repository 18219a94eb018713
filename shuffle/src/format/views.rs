//! Views: short strings inside the view, long ones in data buffers.
//!
//! A frame must not carry what no view points to. Of each data buffer the *window* from the first byte in use to the last
//! is taken as it is, when all windows are hardly larger than what the rows use (or smaller: many views may share bytes); else
//! the long strings are copied into one buffer.

use std::rc::Rc;

use arrow_array::cast::AsArray;
use arrow_array::types::{BinaryViewType, ByteViewType, StringViewType};
use arrow_array::{Array, ArrayRef, GenericByteViewArray};
use arrow_buffer::{Buffer, NullBuffer, ScalarBuffer, ToByteSlice};
use arrow_data::{ByteView, MAX_INLINE_VIEW_LEN};
use arrow_schema::DataType;

use super::gather::{Part, Rows, put_fixed, rows_of};
use super::order::{Column, Orderer, sum_up};
use super::plan::Planner;
use super::{FormatError, FrameBuffer};

/// With more data buffers than this, looking for equal ones costs more than copying the strings.
const SHARED_BUFFERS_MAX: usize = 64;

struct ViewPart<'a> {
    views: ScalarBuffer<u128>,
    nulls: Option<NullBuffer>,
    data: Vec<Buffer>,
    rows: Rows<'a>,
}

impl<'a> ViewPart<'a> {
    fn new(part: &Part<'_, 'a>) -> Self {
        match part.array.data_type() {
            DataType::Utf8View => Self::of(part.array.as_byte_view::<StringViewType>(), part.rows),
            _ => Self::of(part.array.as_byte_view::<BinaryViewType>(), part.rows),
        }
    }

    fn of<T: ByteViewType>(array: &GenericByteViewArray<T>, rows: Rows<'a>) -> Self {
        Self {
            views: array.views().clone(),
            nulls: array.nulls().filter(|nulls| nulls.null_count() > 0).cloned(),
            data: array.data_buffers().to_vec(),
            rows,
        }
    }

    /// The view of a row; an empty one for a null, whose view may point anywhere.
    fn view(&self, row: usize) -> u128 {
        match &self.nulls {
            Some(nulls) if nulls.is_null(row) => 0,
            _ => self.views[row],
        }
    }

    /// Calls `visit` with each view that does not hold its bytes itself.
    fn for_each_long(&self, mut visit: impl FnMut(ByteView)) {
        if self.data.is_empty() {
            return;
        }
        self.rows.for_each(|row| {
            let view = self.view(row);
            if is_long(view) {
                visit(ByteView::from(view));
            }
        });
    }

    /// Appends all views, the long ones as `moved` gives them.
    fn put_views(&self, out: &mut FrameBuffer, mut moved: impl FnMut(ByteView) -> ByteView) {
        if self.data.is_empty() && self.nulls.is_none() {
            return put_fixed(out, size_of::<u128>(), self.views.to_byte_slice(), self.rows);
        }
        out.fill(self.rows.len(), |i| match self.view(self.rows.at(i)) {
            view if is_long(view) => moved(ByteView::from(view)).as_u128().to_le_bytes(),
            view => view.to_le_bytes(),
        });
    }
}

fn is_long(view: u128) -> bool {
    view as u32 > MAX_INLINE_VIEW_LEN
}

fn bytes_at<'b>(data: &'b [Buffer], view: &ByteView) -> &'b [u8] {
    &data[view.buffer_index as usize][view.offset as usize..][..view.length as usize]
}

/// Plans an array of views.
pub(super) fn plan<'a>(planner: &mut Planner<'a>, parts: &[Part<'_, 'a>]) {
    let sources: Vec<_> = parts.iter().map(ViewPart::new).collect();
    let view_bytes = rows_of(parts) * size_of::<u128>();
    let (used, windows) = Windows::of(&sources);
    match windows {
        Some(windows) => {
            planner.node(parts, windows.all.len());
            let places = windows.places;
            planner.buffer(view_bytes, move |out| put_shared_views(out, &sources, &places));
            windows.all.into_iter().for_each(|window| planner.put(window.bytes()));
        }
        None => {
            planner.node(parts, 1);
            let sources: Rc<[_]> = sources.into();
            let views = Rc::clone(&sources);
            planner.buffer(view_bytes, move |out| put_packed_views(out, &views));
            planner.buffer(used, move |out| {
                let mut put = |part: &ViewPart<'_>| {
                    part.for_each_long(|view| out.put(bytes_at(&part.data, &view)));
                };
                sources.iter().for_each(&mut put);
            });
        }
    }
}

/// A part of a data buffer.
struct Window {
    buffer: Buffer,
    first: usize,
    end: usize,
}

impl Window {
    fn bytes(&self) -> Buffer {
        self.buffer.slice_with_length(self.first, self.end - self.first)
    }

    fn len(&self) -> usize {
        self.end.saturating_sub(self.first)
    }
}

/// Where the bytes of a data buffer lie in the frame.
#[derive(Clone, Copy, Default)]
struct Place {
    buffer: u32,
    /// Bytes of the data buffer before those that the frame has.
    skipped: u32,
}

/// The windows of data buffers that a frame takes as they are.
struct Windows {
    all: Vec<Window>,
    /// For each part and each of its data buffers, where its bytes lie.
    places: Vec<Vec<Place>>,
}

impl Windows {
    /// Bytes that the long views of all parts use, each for itself, and the windows when taking them is worth it.
    fn of(parts: &[ViewPart<'_>]) -> (usize, Option<Self>) {
        let mut used = 0;
        if parts.iter().map(|part| part.data.len()).sum::<usize>() > SHARED_BUFFERS_MAX {
            parts.iter().for_each(|part| part.for_each_long(|view| used += view.length as usize));
            return (used, None);
        }
        let (mut all, mut window_of) = (Vec::new(), Vec::with_capacity(parts.len()));
        for part in parts {
            let of_part: Vec<usize> = part.data.iter().map(|data| window_over(&mut all, data)).collect();
            part.for_each_long(|view| {
                used += view.length as usize;
                let window = &mut all[of_part[view.buffer_index as usize]];
                window.first = window.first.min(view.offset as usize);
                window.end = window.end.max(view.offset as usize + view.length as usize);
            });
            window_of.push(of_part);
        }
        let taken: usize = all.iter().map(Window::len).sum();
        (used, (taken <= used + used / 4).then(|| Self::taken(all, &window_of)))
    }

    /// Leaves out what no row uses.
    fn taken(all: Vec<Window>, window_of: &[Vec<usize>]) -> Self {
        let mut buffers = 0;
        let places: Vec<_> = all
            .iter()
            .map(|window| {
                let place = Place { buffer: buffers, skipped: window.first as u32 };
                buffers += u32::from(window.len() > 0);
                place
            })
            .collect();
        let places =
            window_of.iter().map(|windows| windows.iter().map(|window| places[*window]).collect()).collect();
        Self { all: all.into_iter().filter(|window| window.len() > 0).collect(), places }
    }
}

/// The number of the window over `data`, which is added, empty, when there is none.
fn window_over(all: &mut Vec<Window>, data: &Buffer) -> usize {
    let same = |window: &Window| window.buffer.as_ptr() == data.as_ptr() && window.buffer.len() == data.len();
    all.iter().position(same).unwrap_or_else(|| {
        all.push(Window { buffer: data.clone(), first: usize::MAX, end: 0 });
        all.len() - 1
    })
}

fn put_shared_views(out: &mut FrameBuffer, parts: &[ViewPart<'_>], places: &[Vec<Place>]) {
    for (part, places) in parts.iter().zip(places) {
        part.put_views(out, |view| {
            let place = places[view.buffer_index as usize];
            view.with_buffer_index(place.buffer).with_offset(view.offset - place.skipped)
        });
    }
}

fn put_packed_views(out: &mut FrameBuffer, parts: &[ViewPart<'_>]) {
    let mut end = 0_u32;
    for part in parts {
        part.put_views(out, |view| {
            let view = view.with_buffer_index(0).with_offset(end);
            end += view.length;
            view
        });
    }
}

/// Orders an array of views. Long strings are ordered too, so that a partition's lie together, unless the data buffers are
/// so small beside what the rows use that every frame may take them.
pub(super) fn order<T: ByteViewType>(
    orderer: &mut Orderer<'_>,
    columns: &[Column<'_>],
) -> Result<ArrayRef, FormatError> {
    let nulls = orderer.nulls(columns);
    let used = long_bytes::<T>(columns);
    let mut out = orderer.scratch.take(orderer.rows * size_of::<u128>());
    if nulls.is_some() {
        out.fill(0);
    }
    let mut buffers = Vec::new();
    match shared_buffers::<T>(columns, used / orderer.parts.max(1)) {
        Some((shared, places)) => {
            let views = out.typed_data_mut::<u128>();
            for (column, places) in columns.iter().zip(&places) {
                order_views::<T>(views, column, |view, _| {
                    view.with_buffer_index(places[view.buffer_index as usize])
                });
            }
            buffers.extend(shared);
        }
        None => buffers.push(order_strings::<T>(orderer, columns, out.typed_data_mut())?),
    }
    buffers.insert(0, orderer.scratch.lend(out));
    Ok(orderer.array(columns[0].array.data_type(), nulls, buffers, vec![]))
}

fn long_bytes<T: ByteViewType>(columns: &[Column<'_>]) -> usize {
    let arrays = columns.iter().map(|column| column.array.as_byte_view::<T>());
    arrays.filter(|array| !array.data_buffers().is_empty()).map(|a| a.total_buffer_bytes_used()).sum()
}

/// Puts the views of a column into their places, the long ones as `moved` gives them, told their place.
fn order_views<T: ByteViewType>(
    out: &mut [u128],
    column: &Column<'_>,
    mut moved: impl FnMut(ByteView, usize) -> ByteView,
) {
    let views = column.array.as_byte_view::<T>().views();
    column.for_each_valid(|row, place| {
        let view = views[row];
        out[place] = if is_long(view) { moved(ByteView::from(view), place).as_u128() } else { view };
    });
}

/// The different data buffers of all columns and, for each column and each of its buffers, the buffer's place among them; `None`
/// when they are more than `used` bytes.
fn shared_buffers<T: ByteViewType>(
    columns: &[Column<'_>],
    used: usize,
) -> Option<(Vec<Buffer>, Vec<Vec<u32>>)> {
    let (mut shared, mut bytes, mut places) = (Vec::<Buffer>::new(), 0, Vec::with_capacity(columns.len()));
    for column in columns {
        let mut of_column = Vec::new();
        for data in column.array.as_byte_view::<T>().data_buffers() {
            let known = shared.iter().position(|b| b.as_ptr() == data.as_ptr() && b.len() == data.len());
            of_column.push(known.unwrap_or(shared.len()) as u32);
            if known.is_none() {
                bytes += data.len();
                shared.push(data.clone());
            }
            if bytes > used || shared.len() > SHARED_BUFFERS_MAX {
                return None;
            }
        }
        places.push(of_column);
    }
    Some((shared, places))
}

/// Puts the views of all columns into their places, and the long strings one after the other into one buffer.
fn order_strings<T: ByteViewType>(
    orderer: &mut Orderer<'_>,
    columns: &[Column<'_>],
    views: &mut [u128],
) -> Result<Buffer, FormatError> {
    let mut starts = orderer.scratch.take((orderer.rows + 1) * size_of::<i32>());
    starts.fill(0);
    let ends = starts.typed_data_mut::<i32>();
    for column in columns {
        let source = column.array.as_byte_view::<T>().views();
        column.for_each_valid(|row, place| {
            let view = source[row];
            ends[place + 1] = if is_long(view) { view as u32 as i32 } else { 0 };
        });
    }
    let bytes = sum_up(ends)?;
    let mut strings = orderer.scratch.take(bytes);
    for column in columns {
        let data = column.array.as_byte_view::<T>().data_buffers();
        order_views::<T>(views, column, |view, place| {
            let start = ends[place] as u32;
            strings[start as usize..][..view.length as usize].copy_from_slice(bytes_at(data, &view));
            view.with_buffer_index(0).with_offset(start)
        });
    }
    drop(orderer.scratch.lend(starts));
    Ok(orderer.scratch.lend(strings))
}
