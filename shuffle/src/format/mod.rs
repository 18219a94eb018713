//! The block format: what a frame is, byte by byte. `FORMAT.md` is its text.
//!
//! A frame is `prefix | header | padding | buffers`: a fixed prefix with magic, version, checksum and lengths, an
//! rkyv-archived header, and Arrow's buffers, each at a multiple of 64 bytes. It is not Arrow IPC: nothing in it is
//! parsed on reading, and a frame is checked and wrapped as arrays where it lies.

mod buffer;
mod decode;
mod error;
mod fingerprint;
mod flat;
mod gather;
mod header;
mod nested;
mod order;
mod plan;
mod scratch;
mod views;

pub(crate) use buffer::{Frame, FrameBuffer};
pub(crate) use decode::check_frame;
pub use decode::{Decoder, Trust};
pub use error::FormatError;
pub use fingerprint::fingerprint;
pub(crate) use fingerprint::same_layout;
pub use gather::{Piece, Rows};
pub use header::PREFIX_BYTES;
pub(crate) use header::{Summed, Summing};
pub(crate) use order::{Places, Source, order};
pub use plan::{FramePlan, encode};
pub(crate) use scratch::Scratch;

/// The version of the format that this build writes and reads.
pub const VERSION: u16 = 2;
/// Every buffer of a frame starts at a multiple of this many bytes, and so does the frame in memory.
pub const ALIGNMENT: usize = 64;
/// The most bytes of a frame's buffers.
pub const FRAME_BYTES_MAX: u64 = 256 << 20;
/// The most bytes of a frame's header.
pub const HEADER_BYTES_MAX: u32 = 16 << 20;
/// The most bytes of a frame as a whole.
pub const FRAME_TOTAL_MAX: u64 = FRAME_BYTES_MAX + HEADER_BYTES_MAX as u64 + 2 * ALIGNMENT as u64;
/// The most rows of a frame.
pub const FRAME_ROWS_MAX: u64 = 1 << 24;
