//! Buffers that direct input and output takes: whole pages, on page boundaries.
#![allow(unsafe_code)]

#[cfg(test)]
mod interleavings;
mod pool;

use std::fmt;

use pool::Slot;
pub use pool::{Backing, PagePool, PoolError};

/// Bytes of a page, and the alignment of every offset in a scratch file. No disk in use asks for more.
pub const PAGE_BYTES: usize = 4096;

#[repr(C, align(4096))]
struct Page([u8; PAGE_BYTES]);

/// A buffer of whole pages, from the heap or from a [`PagePool`].
pub struct Pages {
    memory: Memory,
}

enum Memory {
    Heap(Vec<Page>),
    Pooled(Slot),
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = if self.is_pooled() { "pool" } else { "heap" };
        write!(f, "Pages({} bytes, {from})", self.len())
    }
}

impl Pages {
    /// A buffer of zeros from the heap, with room for `bytes`.
    #[must_use]
    pub fn zeroed(bytes: usize) -> Self {
        // The system's new memory is zero already: it is not written once more.
        let pages = Box::<[Page]>::new_zeroed_slice(bytes.div_ceil(PAGE_BYTES));
        // SAFETY: a page is an array of bytes, and zeros are bytes.
        let pages = unsafe { pages.assume_init() };
        Self { memory: Memory::Heap(pages.into_vec()) }
    }

    /// Writes the parts, one after another, and zeros behind them.
    ///
    /// # Panics
    /// When there is no room for them.
    pub fn fill(&mut self, parts: &[&[u8]]) {
        let mut rest = self.as_bytes_mut();
        for part in parts {
            let (place, after) = rest.split_at_mut(part.len());
            place.copy_from_slice(part);
            rest = after;
        }
        rest.fill(0);
    }

    /// The parts, one after another, and zeros up to the next page boundary.
    #[must_use]
    pub fn gather(parts: &[&[u8]]) -> Self {
        let mut pages = Self::zeroed(parts.iter().map(|part| part.len()).sum());
        pages.fill(parts);
        pages
    }

    /// How many bytes, a multiple of [`PAGE_BYTES`].
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.memory {
            Memory::Heap(pages) => pages.len() * PAGE_BYTES,
            Memory::Pooled(slot) => slot.len(),
        }
    }

    /// Whether there is no page.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it came from a pool.
    #[must_use]
    pub fn is_pooled(&self) -> bool {
        matches!(self.memory, Memory::Pooled(_))
    }

    /// Whether it came from this pool, so that a ring with which the pool is registered may name it.
    pub(crate) fn is_of(&self, pool: &PagePool) -> bool {
        matches!(&self.memory, Memory::Pooled(slot) if slot.is_of(pool))
    }

    /// Where it starts; it stays there while it is moved.
    pub(crate) fn start(&self) -> *const u8 {
        match &self.memory {
            Memory::Heap(pages) => pages.as_ptr().cast(),
            Memory::Pooled(slot) => slot.start(),
        }
    }

    /// The same, to be written to.
    pub(crate) fn start_mut(&mut self) -> *mut u8 {
        match &mut self.memory {
            Memory::Heap(pages) => pages.as_mut_ptr().cast(),
            Memory::Pooled(slot) => slot.start(),
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: `len` bytes from the start are initialized and belong to this buffer alone, on the heap or in a pool.
        unsafe { std::slice::from_raw_parts(self.start(), self.len()) }
    }

    /// Its bytes, to be written.
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        let len = self.len();
        // SAFETY: as above, and the exclusive borrow of the buffer is held by the slice.
        unsafe { std::slice::from_raw_parts_mut(self.start_mut(), len) }
    }
}

impl AsRef<[u8]> for Pages {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

// SAFETY: the bytes are on the heap or in a pool, so they stay where they are while the buffer is moved, and all are initialized.
unsafe impl tokio_uring::buf::IoBuf for Pages {
    fn stable_ptr(&self) -> *const u8 {
        self.start()
    }

    fn bytes_init(&self) -> usize {
        self.len()
    }

    fn bytes_total(&self) -> usize {
        self.len()
    }
}

// SAFETY: as above; nothing is lost when the kernel writes into initialized bytes.
unsafe impl tokio_uring::buf::IoBufMut for Pages {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.start_mut()
    }

    // SAFETY: pages are zeroed when they are made, so that all of them are initialized whatever the caller claims.
    unsafe fn set_init(&mut self, _len: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_gathered_on_page_boundaries() {
        let pages = Pages::gather(&[b"spark", &[7; PAGE_BYTES]]);
        assert_eq!(pages.len(), 2 * PAGE_BYTES);
        assert_eq!(pages.as_bytes().as_ptr().align_offset(PAGE_BYTES), 0);
        assert_eq!((&pages.as_bytes()[..6], pages.as_bytes()[5 + PAGE_BYTES]), (&b"spark\x07"[..], 0));
        assert!(Pages::gather(&[]).is_empty());
    }
}
