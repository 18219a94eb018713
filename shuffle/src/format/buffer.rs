//! The buffer that a frame is written or received into: aligned, of its final size, and written once.
//!
//! Unsafe is needed to fill memory that is not initialized first: setting a frame's bytes to zero before writing them
//! would be a second pass over memory.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use bytes::Bytes;
use bytes::buf::{BufMut, UninitSlice};
use firesteel_base::Grant;
use rkyv::util::AlignedVec;

use super::ALIGNMENT;

/// A growing frame in memory whose size was fixed when it was made; aligned to 64 bytes.
#[derive(Debug)]
pub(crate) struct FrameBuffer {
    bytes: AlignedVec<ALIGNMENT>,
    size: usize,
}

/// A finished frame, and the grant that counts its memory until the last array over it is gone.
#[derive(Debug)]
struct Owner {
    bytes: AlignedVec<ALIGNMENT>,
    _grant: Option<Grant>,
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_slice()
    }
}

impl FrameBuffer {
    /// An empty buffer that takes `size` bytes.
    pub fn new(size: usize) -> Self {
        Self { bytes: AlignedVec::with_capacity(size), size }
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes written so far, to be patched.
    pub fn written_mut(&mut self) -> &mut [u8] {
        self.bytes.as_mut_slice()
    }

    /// Bytes that are still to be written.
    pub fn missing(&self) -> usize {
        self.size - self.bytes.len()
    }

    /// Appends `bytes`.
    pub fn put(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.missing(), "a frame is written as it was planned");
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends zeros up to the next multiple of the format's alignment.
    pub fn pad(&mut self) {
        let padding = self.len().next_multiple_of(ALIGNMENT) - self.len();
        self.put(&[0; ALIGNMENT][..padding]);
    }

    /// Appends `count` items of `W` bytes; `item` gives the one at each index, asked for once and in order.
    pub fn fill<const W: usize>(&mut self, count: usize, mut item: impl FnMut(usize) -> [u8; W]) {
        let added = count * W;
        let (items, rest) = self.spare(added).as_chunks_mut::<W>();
        debug_assert!(rest.is_empty());
        for (index, place) in items.iter_mut().enumerate() {
            place.write_copy_of_slice(&item(index));
        }
        // SAFETY: `spare` checked that `added` more bytes are within the capacity; the loop above wrote every chunk of
        // them, and chunks of `W` cover `count * W` bytes without a rest.
        unsafe { self.bytes.set_len(self.bytes.len() + added) };
    }

    /// The finished frame.
    pub fn freeze(self, grant: Option<Grant>) -> Bytes {
        assert!(self.missing() == 0, "a frame is written as it was planned");
        Bytes::from_owner(Owner { bytes: self.bytes, _grant: grant })
    }

    /// The next `count` bytes to be written.
    fn spare(&mut self, count: usize) -> &mut [MaybeUninit<u8>] {
        assert!(count <= self.missing(), "a frame is written as it was planned");
        let written = self.bytes.len();
        // SAFETY: the capacity is at least `size`, and `written + count <= size` was just checked, so the range lies in
        // one allocation; `MaybeUninit<u8>` needs no initialization, and `&mut self` excludes other references.
        unsafe {
            let start = self.bytes.as_mut_ptr().add(written).cast::<MaybeUninit<u8>>();
            std::slice::from_raw_parts_mut(start, count)
        }
    }
}

// SAFETY: `chunk_mut` gives exactly the bytes between the written length and the fixed size, within the allocation, and
// `advance_mut` refuses to pass that size.
unsafe impl BufMut for FrameBuffer {
    fn remaining_mut(&self) -> usize {
        self.missing()
    }

    unsafe fn advance_mut(&mut self, count: usize) {
        assert!(count <= self.missing(), "a frame is received in its announced size");
        // SAFETY: the caller promises that it initialized `count` bytes of `chunk_mut`; they are within the size.
        unsafe { self.bytes.set_len(self.bytes.len() + count) };
    }

    fn chunk_mut(&mut self) -> &mut UninitSlice {
        let missing = self.missing();
        UninitSlice::uninit(self.spare(missing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_aligned_and_holds_what_was_written() {
        let mut buffer = FrameBuffer::new(64 + 12);
        buffer.put(b"head");
        buffer.pad();
        buffer.fill(3, |i| (i as u32 * 7).to_le_bytes());
        let frame = buffer.freeze(None);
        assert_eq!(frame.as_ptr().align_offset(ALIGNMENT), 0);
        assert_eq!((&frame[..4], &frame[64..]), (&b"head"[..], &[0, 0, 0, 0, 7, 0, 0, 0, 14, 0, 0, 0][..]));
        assert!(frame[4..64].iter().all(|&byte| byte == 0));
    }

    #[test]
    #[should_panic(expected = "as it was planned")]
    fn a_frame_does_not_grow_past_its_plan() {
        FrameBuffer::new(4).fill(2, |_| [0; 4]);
    }

    #[test]
    #[should_panic(expected = "as it was planned")]
    fn an_unfinished_frame_is_not_frozen() {
        FrameBuffer::new(4).freeze(None);
    }
}
