//! Views: short strings inside the view, long ones in data buffers.
//!
//! A frame must not carry what no view points to. Either the data buffers are taken as they are, when they are hardly
//! larger than what the rows use (or smaller: many views may share bytes), or the long strings are copied into one
//! buffer.

use std::rc::Rc;

use arrow_array::cast::AsArray;
use arrow_array::types::{BinaryViewType, StringViewType};
use arrow_array::{Array, GenericByteViewArray};
use arrow_buffer::{Buffer, NullBuffer, ScalarBuffer};
use arrow_data::{ByteView, MAX_INLINE_VIEW_LEN};
use arrow_schema::DataType;

use super::FrameBuffer;
use super::gather::{Part, Rows, rows_of};
use super::plan::Planner;

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

    fn of<T: arrow_array::types::ByteViewType>(array: &GenericByteViewArray<T>, rows: Rows<'a>) -> Self {
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

    /// Calls `visit` with the bytes of each row that are not inside its view.
    fn for_each_long(&self, mut visit: impl FnMut(&[u8])) {
        self.rows.for_each(|row| {
            let view = self.view(row);
            if is_long(view) {
                visit(self.long_bytes(view));
            }
        });
    }

    fn long_bytes(&self, view: u128) -> &[u8] {
        let view = ByteView::from(view);
        let start = view.offset as usize;
        &self.data[view.buffer_index as usize][start..start + view.length as usize]
    }
}

fn is_long(view: u128) -> bool {
    view as u32 > MAX_INLINE_VIEW_LEN
}

/// Plans an array of views.
pub(super) fn plan<'a>(planner: &mut Planner<'a>, parts: &[Part<'_, 'a>]) {
    let sources: Vec<_> = parts.iter().map(ViewPart::new).collect();
    let used: usize = sources.iter().map(long_bytes_of).sum();
    let view_bytes = rows_of(parts) * size_of::<u128>();
    match shared_buffers(&sources, used) {
        Some(shared) => {
            planner.node(parts, shared.buffers.len());
            planner.buffer(view_bytes, move |out| put_shared_views(out, &sources, &shared.first_of));
            for buffer in shared.buffers {
                planner.buffer(buffer.len(), move |out| out.put(&buffer));
            }
        }
        None => {
            planner.node(parts, 1);
            let sources: Rc<[_]> = sources.into();
            let views = Rc::clone(&sources);
            planner.buffer(view_bytes, move |out| put_packed_views(out, &views));
            planner.buffer(used, move |out| {
                sources.iter().for_each(|part| part.for_each_long(|bytes| out.put(bytes)));
            });
        }
    }
}

fn long_bytes_of(part: &ViewPart<'_>) -> usize {
    if part.data.is_empty() {
        return 0;
    }
    let mut bytes = 0;
    part.rows.for_each(|row| {
        let view = part.view(row);
        if is_long(view) {
            bytes += view as u32 as usize;
        }
    });
    bytes
}

/// Data buffers that a frame takes as they are.
#[derive(Default)]
struct Shared {
    buffers: Vec<Buffer>,
    /// For each part and each of its data buffers, the buffer's place among `buffers`.
    first_of: Vec<Vec<u32>>,
}

/// The different data buffers of all parts, when taking them whole is worth it.
fn shared_buffers(parts: &[ViewPart<'_>], used: usize) -> Option<Shared> {
    if used == 0 {
        return Some(Shared { buffers: Vec::new(), first_of: vec![Vec::new(); parts.len()] });
    }
    if parts.iter().map(|part| part.data.len()).sum::<usize>() > SHARED_BUFFERS_MAX {
        return None;
    }
    let mut shared = Shared::default();
    let mut bytes = 0;
    for part in parts {
        let places = part.data.iter().map(|data| {
            let known =
                shared.buffers.iter().position(|b| b.as_ptr() == data.as_ptr() && b.len() == data.len());
            known.unwrap_or_else(|| {
                bytes += data.len();
                shared.buffers.push(data.clone());
                shared.buffers.len() - 1
            }) as u32
        });
        let places = places.collect();
        shared.first_of.push(places);
    }
    (bytes <= used + used / 4).then_some(shared)
}

fn put_shared_views(out: &mut FrameBuffer, parts: &[ViewPart<'_>], places: &[Vec<u32>]) {
    for (part, places) in parts.iter().zip(places) {
        out.fill(part.rows.len(), |i| {
            let view = part.view(part.rows.at(i));
            if !is_long(view) {
                return view.to_le_bytes();
            }
            let view = ByteView::from(view);
            view.with_buffer_index(places[view.buffer_index as usize]).as_u128().to_le_bytes()
        });
    }
}

fn put_packed_views(out: &mut FrameBuffer, parts: &[ViewPart<'_>]) {
    let mut end = 0_u32;
    for part in parts {
        out.fill(part.rows.len(), |i| {
            let view = part.view(part.rows.at(i));
            if !is_long(view) {
                return view.to_le_bytes();
            }
            let view = ByteView::from(view).with_buffer_index(0).with_offset(end);
            end += view.length;
            view.as_u128().to_le_bytes()
        });
    }
}
