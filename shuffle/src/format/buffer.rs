//! The buffer that a frame is written or received into: aligned, of its final size, and written once.
//!
//! Unsafe is needed to fill memory that is not initialized first: setting a frame's bytes to zero before writing them
//! would be a second pass over memory.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;

use bytes::Bytes;
use bytes::buf::{BufMut, UninitSlice};
use firesteel_base::Grant;
use rkyv::util::AlignedVec;

use super::ALIGNMENT;
use crate::segment::{Home, Room};

/// A growing frame in memory whose size was fixed when it was made; aligned to 64 bytes.
#[derive(Debug)]
pub(crate) struct FrameBuffer {
    memory: Memory,
    written: usize,
    size: usize,
}

/// Where a frame's bytes lie.
#[derive(Debug)]
enum Memory {
    /// In this process's own memory.
    Own(AlignedVec<ALIGNMENT>),
    /// In a segment, which other processes can map.
    Segment(Room),
}

/// A finished frame in memory.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    /// Its bytes.
    pub bytes: Bytes,
    /// Where other processes find it, when it lies in a segment. It stays there as long as `bytes` live.
    pub home: Option<Home>,
}

/// A finished frame's memory, and the grant that counts it until the last array over it is gone.
#[derive(Debug)]
struct Owner {
    memory: Memory,
    _grant: Option<Grant>,
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        match &self.memory {
            Memory::Own(bytes) => bytes.as_slice(),
            Memory::Segment(room) => room.as_slice(),
        }
    }
}

impl FrameBuffer {
    /// An empty buffer that takes `size` bytes.
    pub fn new(size: usize) -> Self {
        Self { memory: Memory::Own(AlignedVec::with_capacity(size)), written: 0, size }
    }

    /// A buffer of `size` zeros, all of them written, to be overwritten.
    pub fn zeroed(size: usize) -> Self {
        let mut bytes = AlignedVec::with_capacity(size);
        bytes.resize(size, 0);
        Self { memory: Memory::Own(bytes), written: size, size }
    }

    /// An empty buffer that fills `room`.
    pub fn within(room: Room) -> Self {
        let size = room.as_slice().len();
        assert!(room.home().offset.is_multiple_of(ALIGNMENT as u64), "a frame is aligned");
        Self { memory: Memory::Segment(room), written: 0, size }
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.written
    }

    /// The bytes written from byte `from` on.
    pub fn written_from(&self, from: usize) -> &[u8] {
        let all = match &self.memory {
            Memory::Own(bytes) => bytes.as_ptr(),
            Memory::Segment(room) => room.as_slice().as_ptr(),
        };
        // SAFETY: the first `written` bytes from there on were written, and `&self` excludes that they are changed.
        let written = unsafe { std::slice::from_raw_parts(all, self.written) };
        &written[from..]
    }

    /// The bytes written so far, to be patched.
    pub fn written_mut(&mut self) -> &mut [u8] {
        // SAFETY: the first `written` bytes were written, and `&mut self` excludes other references.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.written) }
    }

    /// Bytes that are still to be written.
    pub fn missing(&self) -> usize {
        self.size - self.written
    }

    /// Appends `bytes`.
    pub fn put(&mut self, bytes: &[u8]) {
        self.spare(bytes.len()).write_copy_of_slice(bytes);
        self.written += bytes.len();
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
        self.written += added;
    }

    /// Fills what is missing from byte `offset` of a file on; returns the bytes copied. Blocks the thread.
    ///
    /// # Errors
    /// When the file ends before, or cannot be read.
    pub fn read_from(&mut self, file: &File, offset: u64) -> io::Result<usize> {
        let mut copied = 0;
        while self.missing() > 0 {
            let missing = self.missing();
            let read = match rustix::io::pread(file, self.spare(missing), offset + copied as u64) {
                Ok((read, _)) => read.len(),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.written += read;
            copied += read;
        }
        Ok(copied)
    }

    /// The finished frame.
    pub fn freeze(mut self, grant: Option<Grant>) -> Frame {
        assert!(self.missing() == 0, "a frame is written as it was planned");
        let home = match &mut self.memory {
            Memory::Own(bytes) => {
                // SAFETY: the capacity is at least `size`, and so many bytes were written.
                unsafe { bytes.set_len(self.size) };
                None
            }
            Memory::Segment(room) => Some(room.home().clone()),
        };
        Frame { bytes: Bytes::from_owner(Owner { memory: self.memory, _grant: grant }), home }
    }

    /// Where the first byte lies: `size` bytes from there on belong to this buffer.
    fn start(&mut self) -> *mut u8 {
        match &mut self.memory {
            Memory::Own(bytes) => bytes.as_mut_ptr(),
            Memory::Segment(room) => room.as_mut_ptr(),
        }
    }

    /// The next `count` bytes to be written.
    fn spare(&mut self, count: usize) -> &mut [MaybeUninit<u8>] {
        assert!(count <= self.missing(), "a frame is written as it was planned");
        let written = self.written;
        // SAFETY: the memory has `size` bytes from its start on, and `written + count <= size` was just checked.
        let next = unsafe { self.start().add(written) };
        // SAFETY: as above the range lies in one allocation; `MaybeUninit<u8>` needs no initialization, and `&mut self`
        // excludes other references.
        unsafe { std::slice::from_raw_parts_mut(next.cast::<MaybeUninit<u8>>(), count) }
    }
}

// SAFETY: `chunk_mut` gives exactly the bytes between the written length and the fixed size, within the allocation, and
// `advance_mut` refuses to pass that size.
unsafe impl BufMut for FrameBuffer {
    fn remaining_mut(&self) -> usize {
        self.missing()
    }

    // SAFETY: whoever calls it has filled these bytes, as the trait demands.
    unsafe fn advance_mut(&mut self, count: usize) {
        assert!(count <= self.missing(), "a frame is received in its announced size");
        self.written += count;
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
        let frame = buffer.freeze(None).bytes;
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
