//! Buffers that direct input and output takes: whole pages, on page boundaries.
#![allow(unsafe_code)]

/// Bytes of a page, and the alignment of every offset in a scratch file. No disk in use asks for more.
pub const PAGE_BYTES: usize = 4096;

#[derive(Clone)]
#[repr(C, align(4096))]
struct Page([u8; PAGE_BYTES]);

/// A buffer of whole pages.
#[derive(Clone)]
pub struct Pages {
    pages: Vec<Page>,
}

impl Pages {
    /// A buffer of zeros, with room for `bytes`.
    #[must_use]
    pub fn zeroed(bytes: usize) -> Self {
        Self { pages: vec![Page([0; PAGE_BYTES]); bytes.div_ceil(PAGE_BYTES)] }
    }

    /// The parts, one after another, and zeros up to the next page boundary.
    #[must_use]
    pub fn gather(parts: &[&[u8]]) -> Self {
        let mut pages = Self::zeroed(parts.iter().map(|part| part.len()).sum());
        let mut rest = pages.as_bytes_mut();
        for part in parts {
            let (place, after) = rest.split_at_mut(part.len());
            place.copy_from_slice(part);
            rest = after;
        }
        pages
    }

    /// How many bytes, a multiple of [`PAGE_BYTES`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.pages.len() * PAGE_BYTES
    }

    /// Whether there is no page.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: the vector's pages lie one after another and are initialized bytes without padding.
        unsafe { std::slice::from_raw_parts(self.pages.as_ptr().cast(), self.len()) }
    }

    /// Its bytes, to be written.
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the exclusive borrow of the vector is held by the slice.
        unsafe { std::slice::from_raw_parts_mut(self.pages.as_mut_ptr().cast(), self.len()) }
    }
}

// SAFETY: the bytes are on the heap, so they stay where they are while the buffer is moved, and all are initialized.
unsafe impl tokio_uring::buf::IoBuf for Pages {
    fn stable_ptr(&self) -> *const u8 {
        self.pages.as_ptr().cast()
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
        self.pages.as_mut_ptr().cast()
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
