//! A frame as bytes to be tampered with: where what lies, by `FORMAT.md` and not by the code that is tested.

use arrow_buffer::{Buffer, MutableBuffer};
use bytes::Bytes;

pub const PREFIX_BYTES: usize = 32;
const ROOT_BYTES: usize = 40;
const NODE_BYTES: usize = 24;
const SPAN_BYTES: usize = 16;
const ALIGNMENT: usize = 64;

/// The bytes at a multiple of 64, as a reader demands it, and not one byte more, so that a look behind the end is found out.
pub fn aligned(bytes: &[u8]) -> Bytes {
    struct Owner(Buffer);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    let mut buffer = MutableBuffer::new(bytes.len());
    buffer.extend_from_slice(bytes);
    Bytes::from_owner(Owner(buffer.into()))
}

/// Makes lengths, fingerprint and checksum right.
pub fn mend(frame: &mut Vec<u8>, fingerprint: u64) {
    if frame.len() < PREFIX_BYTES + ROOT_BYTES {
        frame.resize(PREFIX_BYTES + ROOT_BYTES, 0);
    }
    let header = header_bytes(frame).clamp(ROOT_BYTES, frame.len() - PREFIX_BYTES);
    let payload = (PREFIX_BYTES + header).next_multiple_of(ALIGNMENT);
    let whole = frame.len().max(payload).next_multiple_of(ALIGNMENT);
    frame.resize(whole, 0);
    frame[..8].copy_from_slice(b"FSF1\x02\0\0\0");
    put_u64(frame, 16, header as u64);
    put_u64(frame, 24, (whole - payload) as u64);
    put_u64(frame, PREFIX_BYTES + header - ROOT_BYTES, fingerprint);
    let checksum = xxhash_rust::xxh3::xxh3_64(&frame[16..]);
    put_u64(frame, 8, checksum);
}

pub fn put_u64(frame: &mut [u8], at: usize, number: u64) {
    if let Some(place) = frame.get_mut(at..at + 8) {
        place.copy_from_slice(&number.to_le_bytes());
    }
}

pub fn u64_at(frame: &[u8], at: usize) -> u64 {
    frame.get(at..at + 8).map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes")))
}

pub fn u32_at(frame: &[u8], at: usize) -> u32 {
    frame.get(at..at + 4).map_or(0, |bytes| u32::from_le_bytes(bytes.try_into().expect("four bytes")))
}

fn header_bytes(frame: &[u8]) -> usize {
    u32_at(frame, 16) as usize
}

/// Where in a frame its parts lie.
pub struct Parts {
    /// Where the header ends.
    pub header_end: usize,
    /// Where the buffers start.
    pub payload: usize,
    /// Where each node lies.
    pub nodes: Vec<usize>,
    /// Where each span lies.
    pub spans: Vec<usize>,
}

impl Parts {
    /// The parts of bytes that look like a frame.
    pub fn of(frame: &[u8]) -> Option<Self> {
        let header_end = PREFIX_BYTES + header_bytes(frame);
        if header_bytes(frame) < ROOT_BYTES || header_end > frame.len() {
            return None;
        }
        let list = |at: usize, element: usize| {
            let first = at.checked_add_signed(u32_at(frame, at) as i32 as isize)?;
            let count = u32_at(frame, at + 4) as usize;
            let end = first.checked_add(count.checked_mul(element)?)?;
            (end <= frame.len()).then(|| (0..count).map(|number| first + number * element).collect())
        };
        Some(Self {
            header_end,
            payload: header_end.next_multiple_of(ALIGNMENT),
            nodes: list(header_end - 16, NODE_BYTES)?,
            spans: list(header_end - 8, SPAN_BYTES)?,
        })
    }

    /// Where the root lies.
    pub fn root(&self) -> usize {
        self.header_end - ROOT_BYTES
    }
}

/// Gives a span another length; what lies behind it moves, so that all spans still follow each other.
pub fn resize_span(frame: &mut Vec<u8>, parts: &Parts, span: usize, bytes: usize) {
    let at = parts.spans[span];
    let (offset, old) = (u64_at(frame, at) as usize, u64_at(frame, at + 8) as usize);
    if offset > frame.len() || old > frame.len() {
        return;
    }
    let (from, to) = (old.next_multiple_of(ALIGNMENT), bytes.next_multiple_of(ALIGNMENT));
    let end = parts.payload + offset + from;
    if end > frame.len() {
        return;
    }
    put_u64(frame, at + 8, bytes as u64);
    for &later in &parts.spans[span + 1..] {
        let moved = u64_at(frame, later).wrapping_sub(from as u64).wrapping_add(to as u64);
        put_u64(frame, later, moved);
    }
    if to > from {
        frame.splice(end..end, vec![0; to - from]);
    } else {
        frame.drain(end - (from - to)..end);
    }
}
