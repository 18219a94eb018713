//! Reading a frame: checking it, and wrapping its buffers as arrays where they lie.
//!
//! Unsafe is needed to make arrays without looking at every value, which is what "no copy" is worth.
#![allow(unsafe_code)]

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, make_array};
use arrow_buffer::{BooleanBuffer, Buffer, MutableBuffer, NullBuffer};
use arrow_data::ArrayData;
use arrow_schema::{DataType, SchemaRef, UnionMode};
use bytes::Bytes;

use super::header::{
    ArchivedHeader, ArchivedNode, CODEC_NONE, PREFIX_BYTES, Prefix, Summed, check_limit, verify,
};
use super::{ALIGNMENT, FRAME_ROWS_MAX, FormatError, fingerprint};

/// How far a frame's bytes are trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// It never left this process: structure only.
    Resident,
    /// An encoder of this cluster wrote it: checksum and structure. The checksum stands for the values: they are what
    /// the encoder wrote.
    Cluster,
    /// Anybody may have written it: checksum, structure, and every value (offsets, UTF-8, keys).
    Outside,
}

/// Reads frames of one schema.
#[derive(Debug, Clone)]
pub struct Decoder {
    schema: SchemaRef,
    fingerprint: u64,
}

impl Decoder {
    /// A decoder of frames whose columns have the types of `schema`.
    #[must_use]
    pub fn new(schema: SchemaRef) -> Self {
        let fingerprint = fingerprint(&schema);
        Self { schema, fingerprint }
    }

    /// The frame's batch; its arrays point into `frame`.
    ///
    /// # Errors
    /// When the bytes are not a whole frame of this schema and version, as far as `trust` demands it.
    pub fn decode(&self, frame: &Bytes, trust: Trust) -> Result<RecordBatch, FormatError> {
        self.decode_sealed(frame, trust, 0)
    }

    /// The same, of a frame that was written under a seal.
    ///
    /// # Errors
    /// As [`decode`](Self::decode); a frame under another seal has the wrong checksum.
    pub fn decode_sealed(&self, frame: &Bytes, trust: Trust, seal: u64) -> Result<RecordBatch, FormatError> {
        self.decode_summed(frame, trust, seal, None)
    }

    /// The same, of a frame that may have been summed up as it came.
    pub(crate) fn decode_summed(
        &self,
        frame: &Bytes,
        trust: Trust,
        seal: u64,
        summed: Option<Summed>,
    ) -> Result<RecordBatch, FormatError> {
        let prefix = checked_prefix(frame, trust, seal, summed)?;
        if frame.as_ptr().align_offset(ALIGNMENT) != 0 {
            return Err(FormatError::malformed("the frame does not lie at a multiple of 64 bytes"));
        }
        let header = &frame[PREFIX_BYTES..PREFIX_BYTES + prefix.header_bytes as usize];
        let header = rkyv::access::<ArchivedHeader, rkyv::rancor::Error>(header)
            .map_err(|error| FormatError::malformed(format!("header: {error}")))?;
        let empty = MutableBuffer::new(0).into();
        let payload = prefix.payload_start();
        self.read(Walk { frame, header, payload, node: 0, span: 0, next: 0, empty }, trust)
    }

    fn read(&self, mut walk: Walk<'_>, trust: Trust) -> Result<RecordBatch, FormatError> {
        let found = walk.header.fingerprint.to_native();
        if found != self.fingerprint {
            return Err(FormatError::Schema { expected: self.fingerprint, found });
        }
        if walk.header.codec != CODEC_NONE {
            return Err(FormatError::malformed(format!("unknown codec {}", walk.header.codec)));
        }
        let rows = walk.header.rows.to_native();
        check_limit("rows of a frame", rows, FRAME_ROWS_MAX)?;
        let columns = self
            .schema
            .fields()
            .iter()
            .map(|field| walk.column(field.data_type(), rows as usize, trust))
            .collect::<Result<Vec<_>, _>>()?;
        walk.at_end()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows as usize));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            .map_err(|error| FormatError::malformed(error.to_string()))
    }
}

/// Checks that a frame is whole and, unless it never left this process, that its bytes are those that were written under that
/// seal. What is in it is not looked at.
///
/// # Errors
/// When they are not.
pub(crate) fn check_frame(
    frame: &[u8],
    trust: Trust,
    seal: u64,
    summed: Option<Summed>,
) -> Result<(), FormatError> {
    checked_prefix(frame, trust, seal, summed).map(drop)
}

fn checked_prefix(
    frame: &[u8],
    trust: Trust,
    seal: u64,
    summed: Option<Summed>,
) -> Result<Prefix, FormatError> {
    let prefix = Prefix::read(frame)?;
    if prefix.frame_bytes() != frame.len() as u64 {
        return Err(FormatError::Length { expected: prefix.frame_bytes(), found: frame.len() as u64 });
    }
    if trust != Trust::Resident {
        verify(frame, &prefix, seal, summed)?;
    }
    Ok(prefix)
}

/// Goes through nodes and buffers in the order in which the schema names them.
struct Walk<'a> {
    frame: &'a Bytes,
    header: &'a ArchivedHeader,
    /// Where in the frame the buffers start.
    payload: usize,
    node: usize,
    span: usize,
    /// Where, from the first buffer's start, the next buffer must lie.
    next: u64,
    /// What all buffers without a byte are: each of its own would take more memory than the frame that names them.
    empty: Buffer,
}

/// The most rows that an array in a frame may have.
const ARRAY_ROWS_MAX: u64 = i32::MAX as u64;

impl<'a> Walk<'a> {
    fn column(&mut self, data_type: &DataType, rows: usize, trust: Trust) -> Result<ArrayRef, FormatError> {
        let data = self.array(data_type)?;
        expect_rows(data_type, data.len(), rows)?;
        let checked = if trust == Trust::Outside { data.validate_full() } else { data.validate() };
        checked.map_err(|error| FormatError::malformed(error.to_string()))?;
        Ok(make_array(data))
    }

    fn array(&mut self, data_type: &DataType) -> Result<ArrayData, FormatError> {
        let node = self.next_node()?;
        let rows = node.rows.to_native();
        check_limit("rows of an array", rows, ARRAY_ROWS_MAX)?;
        let rows = rows as usize;
        let views = matches!(data_type, DataType::Utf8View | DataType::BinaryView);
        if node.variadic != 0 && !views {
            return Err(FormatError::malformed(format!("data buffers in a column of type {data_type}")));
        }
        let nulls = self.nulls(data_type, rows, node.nulls.to_native())?;
        let mut buffers = self.fixed_buffers(data_type, rows)?;
        if views {
            let left = self.header.spans.len() - self.span;
            let variadic = usize::try_from(node.variadic.to_native()).ok().filter(|count| *count <= left);
            let variadic = variadic.ok_or_else(|| FormatError::malformed("too few data buffers"))?;
            buffers.reserve_exact(variadic);
            for _ in 0..variadic {
                buffers.push(self.next_buffer()?);
            }
        }
        let children = self.children(data_type, rows)?;
        let data = ArrayData::builder(data_type.clone())
            .len(rows)
            .nulls(nulls)
            .buffers(buffers)
            .child_data(children);
        // SAFETY: every buffer has the length and alignment that its type and the number of rows demand, the bitmap has
        // the number of nulls that is claimed, and children have the lengths that their parents demand; `column` has
        // Arrow check that once more, offsets' ends included. The values themselves are checked in full
        // (`Trust::Outside`) or are, by checksum or by never having left the process, those that the encoder copied
        // from valid arrays.
        Ok(unsafe { data.build_unchecked() })
    }

    fn nulls(
        &mut self,
        data_type: &DataType,
        rows: usize,
        claimed: u64,
    ) -> Result<Option<NullBuffer>, FormatError> {
        let none =
            matches!(data_type, DataType::Null | DataType::Union(_, _) | DataType::RunEndEncoded(_, _));
        let bits = if none { None } else { Some(self.next_buffer()?).filter(|bits| !bits.is_empty()) };
        let Some(bits) = bits else {
            return if claimed == 0 {
                Ok(None)
            } else {
                Err(FormatError::malformed("nulls without a bitmap"))
            };
        };
        expect_bytes(data_type, &bits, rows.div_ceil(8))?;
        let nulls = NullBuffer::new(BooleanBuffer::new(bits, 0, rows));
        if nulls.null_count() as u64 != claimed {
            return Err(FormatError::malformed(format!(
                "{claimed} nulls claimed, {} found",
                nulls.null_count()
            )));
        }
        Ok(Some(nulls))
    }

    /// The buffers that the type fixes, the bitmap excepted.
    fn fixed_buffers(&mut self, data_type: &DataType, rows: usize) -> Result<Vec<Buffer>, FormatError> {
        use DataType as T;
        Ok(match data_type {
            T::Null | T::Struct(_) | T::FixedSizeList(_, _) | T::RunEndEncoded(_, _) => vec![],
            T::Boolean => vec![self.exact(data_type, rows.div_ceil(8))?],
            T::Utf8 | T::Binary => vec![self.exact(data_type, (rows + 1) * 4)?, self.next_buffer()?],
            T::LargeUtf8 | T::LargeBinary => {
                vec![self.exact(data_type, (rows + 1) * 8)?, self.next_buffer()?]
            }
            T::List(_) | T::Map(_, _) => vec![self.exact(data_type, (rows + 1) * 4)?],
            T::LargeList(_) => vec![self.exact(data_type, (rows + 1) * 8)?],
            T::ListView(_) => vec![self.exact(data_type, rows * 4)?, self.exact(data_type, rows * 4)?],
            T::LargeListView(_) => vec![self.exact(data_type, rows * 8)?, self.exact(data_type, rows * 8)?],
            T::Union(_, UnionMode::Sparse) => vec![self.exact(data_type, rows)?],
            T::Union(_, UnionMode::Dense) => {
                vec![self.exact(data_type, rows)?, self.exact(data_type, rows * 4)?]
            }
            T::Dictionary(keys, _) => self.fixed_buffers(keys, rows)?,
            _ => vec![self.exact(data_type, rows * width(data_type)?)?],
        })
    }

    fn children(&mut self, data_type: &DataType, rows: usize) -> Result<Vec<ArrayData>, FormatError> {
        use DataType as T;
        match data_type {
            T::List(item)
            | T::LargeList(item)
            | T::ListView(item)
            | T::LargeListView(item)
            | T::Map(item, _) => Ok(vec![self.array(item.data_type())?]),
            T::FixedSizeList(item, size) => {
                let size =
                    usize::try_from(*size).map_err(|_| FormatError::Unsupported(data_type.to_string()))?;
                let items =
                    rows.checked_mul(size).ok_or_else(|| FormatError::malformed("too many list items"))?;
                Ok(vec![self.child(item.data_type(), items)?])
            }
            T::Struct(fields) => fields.iter().map(|field| self.child(field.data_type(), rows)).collect(),
            T::Union(fields, UnionMode::Sparse) => {
                fields.iter().map(|(_, field)| self.child(field.data_type(), rows)).collect()
            }
            T::Union(fields, UnionMode::Dense) => {
                fields.iter().map(|(_, field)| self.array(field.data_type())).collect()
            }
            T::Dictionary(_, values) => Ok(vec![self.array(values)?]),
            T::RunEndEncoded(ends, values) => {
                let ends = self.array(ends.data_type())?;
                let values = self.child(values.data_type(), ends.len())?;
                Ok(vec![ends, values])
            }
            _ => Ok(vec![]),
        }
    }

    /// A child of known length.
    fn child(&mut self, data_type: &DataType, rows: usize) -> Result<ArrayData, FormatError> {
        let data = self.array(data_type)?;
        expect_rows(data_type, data.len(), rows)?;
        Ok(data)
    }

    /// The next buffer, which must have that many bytes.
    fn exact(&mut self, data_type: &DataType, bytes: usize) -> Result<Buffer, FormatError> {
        let buffer = self.next_buffer()?;
        expect_bytes(data_type, &buffer, bytes)?;
        Ok(buffer)
    }

    fn next_node(&mut self) -> Result<&'a ArchivedNode, FormatError> {
        let header: &'a ArchivedHeader = self.header;
        let node = header.nodes.get(self.node).ok_or_else(|| FormatError::malformed("too few arrays"))?;
        self.node += 1;
        Ok(node)
    }

    fn next_buffer(&mut self) -> Result<Buffer, FormatError> {
        let span =
            self.header.spans.get(self.span).ok_or_else(|| FormatError::malformed("too few buffers"))?;
        self.span += 1;
        let (offset, bytes) = (span.offset.to_native(), span.bytes.to_native());
        let payload = (self.frame.len() - self.payload) as u64;
        if offset != self.next || bytes > payload - offset {
            return Err(FormatError::malformed(format!(
                "a buffer of {bytes} bytes at {offset} of {payload}, where one at {} was expected",
                self.next
            )));
        }
        if bytes == 0 {
            return Ok(self.empty.clone());
        }
        self.next = (offset + bytes).next_multiple_of(ALIGNMENT as u64);
        if self.next > payload {
            return Err(FormatError::malformed("the last buffer is not padded"));
        }
        let start = self.payload + offset as usize;
        // Each buffer gets an owner of its own size, so that memory accounting by array sees no frame twice.
        Ok(Buffer::from(self.frame.slice(start..start + bytes as usize)))
    }

    fn at_end(&self) -> Result<(), FormatError> {
        let payload = (self.frame.len() - self.payload) as u64;
        if self.node == self.header.nodes.len()
            && self.span == self.header.spans.len()
            && self.next == payload
        {
            Ok(())
        } else {
            Err(FormatError::malformed("the frame holds more than its schema names"))
        }
    }
}

fn expect_rows(data_type: &DataType, found: usize, expected: usize) -> Result<(), FormatError> {
    if found == expected {
        return Ok(());
    }
    Err(FormatError::malformed(format!(
        "an array of type {data_type} has {found} rows instead of {expected}"
    )))
}

fn expect_bytes(data_type: &DataType, buffer: &Buffer, expected: usize) -> Result<(), FormatError> {
    if buffer.len() == expected {
        return Ok(());
    }
    let found = buffer.len();
    Err(FormatError::malformed(format!(
        "a buffer of type {data_type} has {found} bytes instead of {expected}"
    )))
}

/// Bytes of a value of a type of fixed width.
fn width(data_type: &DataType) -> Result<usize, FormatError> {
    let unsupported = || FormatError::Unsupported(data_type.to_string());
    match data_type {
        DataType::FixedSizeBinary(width) => usize::try_from(*width).map_err(|_| unsupported()),
        DataType::Utf8View | DataType::BinaryView => Ok(16),
        other => other.primitive_width().ok_or_else(unsupported),
    }
}
