//! A frame before it is written: its header, its size, and how each buffer gets its bytes.

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use bytes::Bytes;
use firesteel_base::Grant;
use rkyv::util::AlignedVec;

use super::gather::{Part, Piece, Rows, rows_of, validity};
use super::header::{CODEC_NONE, Header, Node, Prefix, Span, check_limit, payload_start, sign};
use super::{ALIGNMENT, FRAME_BYTES_MAX, FRAME_ROWS_MAX, FormatError, FrameBuffer, fingerprint, flat};

/// A frame that is planned and not yet written. Planning measures; all copying happens in [`FramePlan::encode`].
pub struct FramePlan<'a> {
    header: AlignedVec,
    rows: usize,
    payload_bytes: u64,
    buffers: Vec<PlannedBuffer<'a>>,
}

/// How a buffer of the frame gets its bytes.
enum PlannedBuffer<'a> {
    /// By a copy of bytes that lie together.
    Whole(Buffer),
    /// By what appends exactly that many bytes.
    Written { bytes: usize, write: Box<dyn FnOnce(&mut FrameBuffer) + 'a> },
}

impl PlannedBuffer<'_> {
    fn write(self, out: &mut FrameBuffer) {
        match self {
            Self::Whole(bytes) => out.put(&bytes),
            Self::Written { bytes, write } => {
                let end = out.len() + bytes;
                write(out);
                assert_eq!(out.len(), end, "a frame is written as it was planned");
            }
        }
        out.pad();
    }
}

/// Encodes all rows of a batch into a frame.
///
/// # Errors
/// When the batch has a type that cannot be shuffled or passes the limits of a frame.
pub fn encode(batch: &RecordBatch) -> Result<Bytes, FormatError> {
    let rows = Rows::Range { start: 0, len: batch.num_rows() };
    let print = fingerprint(&batch.schema());
    Ok(FramePlan::new(print, &[Piece { batch, rows }])?.encode(None))
}

impl<'a> FramePlan<'a> {
    /// Plans a frame of the rows of all `pieces`, one after the other. There is at least one; they have the same
    /// column types, those of the schema with that `fingerprint`.
    ///
    /// # Errors
    /// When a type cannot be shuffled, the limits of a frame are passed, or dictionaries of several pieces do not go
    /// into one.
    pub fn new(fingerprint: u64, pieces: &[Piece<'a>]) -> Result<Self, FormatError> {
        let rows: usize = pieces.iter().map(|piece| piece.rows.len()).sum();
        check_limit("rows of a frame", rows as u64, FRAME_ROWS_MAX)?;
        let columns = pieces.first().map_or(0, |piece| piece.batch.num_columns());
        let mut planner = Planner::default();
        let mut parts = Vec::with_capacity(pieces.len());
        for column in 0..columns {
            parts.clear();
            parts
                .extend(pieces.iter().map(|p| Part { array: p.batch.column(column).as_ref(), rows: p.rows }));
            flat::plan(&mut planner, &parts)?;
            check_limit("bytes of a frame", planner.payload_bytes, FRAME_BYTES_MAX)?;
        }
        planner.finish(fingerprint, rows)
    }

    /// Rows of the frame.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of the frame.
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        payload_start(self.header.len()) + self.payload_bytes as usize
    }

    /// Writes the frame; `grant` is held as long as its memory.
    #[must_use]
    pub fn encode(self, grant: Option<Grant>) -> Bytes {
        let out = FrameBuffer::new(self.frame_bytes());
        self.write_into(out, 0).freeze(grant).bytes
    }

    /// Writes the frame, under a seal, into a buffer of its size.
    pub(crate) fn write_into(self, mut out: FrameBuffer, seal: u64) -> FrameBuffer {
        let header_bytes = u32::try_from(self.header.len()).expect("the header's length was checked");
        out.put(&Prefix::unsigned(header_bytes, self.payload_bytes));
        out.put(&self.header);
        out.pad();
        self.buffers.into_iter().for_each(|buffer| buffer.write(&mut out));
        sign(out.written_mut(), seal);
        out
    }
}

impl std::fmt::Debug for FramePlan<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FramePlan({} rows, {} bytes)", self.rows, self.frame_bytes())
    }
}

/// Collects nodes and buffers while the columns are walked.
#[derive(Default)]
pub(super) struct Planner<'a> {
    header: Header,
    buffers: Vec<PlannedBuffer<'a>>,
    payload_bytes: u64,
}

impl<'a> Planner<'a> {
    /// Adds an array without a validity bitmap.
    pub fn bare_node(&mut self, rows: usize) {
        self.header.nodes.push(Node { rows: rows as u64, nulls: 0, variadic: 0 });
    }

    /// Adds an array and its validity bitmap, with `variadic` data buffers.
    pub fn node(&mut self, parts: &[Part<'_, '_>], variadic: usize) {
        let rows = rows_of(parts) as u64;
        match validity(parts) {
            Some((bits, nulls)) => {
                self.header.nodes.push(Node { rows, nulls: nulls as u64, variadic: variadic as u64 });
                self.put(bits);
            }
            None => {
                self.header.nodes.push(Node { rows, nulls: 0, variadic: variadic as u64 });
                self.span(0);
            }
        }
    }

    /// Adds a buffer of `bytes` bytes; `write` appends exactly that many.
    pub fn buffer(&mut self, bytes: usize, write: impl FnOnce(&mut FrameBuffer) + 'a) {
        self.span(bytes);
        if bytes > 0 {
            self.buffers.push(PlannedBuffer::Written { bytes, write: Box::new(write) });
        }
    }

    /// Adds a buffer of bytes that lie together.
    pub fn put(&mut self, bytes: Buffer) {
        self.span(bytes.len());
        if !bytes.is_empty() {
            self.buffers.push(PlannedBuffer::Whole(bytes));
        }
    }

    fn span(&mut self, bytes: usize) {
        self.header.spans.push(Span { offset: self.payload_bytes, bytes: bytes as u64 });
        self.payload_bytes += bytes.next_multiple_of(ALIGNMENT) as u64;
    }

    fn finish(mut self, fingerprint: u64, rows: usize) -> Result<FramePlan<'a>, FormatError> {
        self.header.fingerprint = fingerprint;
        self.header.rows = rows as u64;
        self.header.codec = CODEC_NONE;
        let header = self.header.archive()?;
        Ok(FramePlan { header, rows, payload_bytes: self.payload_bytes, buffers: self.buffers })
    }
}
