//! A pool of equal buffers in one piece of memory, on huge pages where the system gives them.
//!
//! The memory is mapped once and returned when the pool and its last buffer are gone, so a ring may register it as a
//! whole. What was in a buffer before stays in it: who takes one writes it first.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::mm::{Advice, MapFlags, ProtFlags};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Memory, PAGE_BYTES, Pages};
use crate::sync::Mutex;

/// Bytes of a huge page, and what the memory of a pool is a multiple of.
const HUGE_PAGE_BYTES: usize = 2 << 20;
/// The most that a pool may have: what one registration with a ring takes.
pub const POOL_BYTES_MAX: usize = 1 << 30;

/// What the memory of a pool lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backing {
    /// Huge pages that were reserved for such use.
    Reserved,
    /// Usual pages, which the kernel was asked to make huge ones of.
    Transparent,
    /// Usual pages: the kernel makes no huge ones.
    Usual,
}

/// Why there is no pool.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// It would be too large, or hold nothing.
    #[error("a pool of {buffers} buffers of {bytes} bytes cannot be: it has 1 to {POOL_BYTES_MAX} bytes")]
    Size {
        /// Buffers asked for.
        buffers: usize,
        /// Bytes of each.
        bytes: usize,
    },
    /// The kernel gives no memory.
    #[error("cannot map {bytes} bytes for buffers: {source}")]
    Map {
        /// Bytes asked for.
        bytes: usize,
        /// What the kernel says.
        source: io::Error,
    },
}

/// A pool of buffers; clones share it.
#[derive(Clone)]
pub struct PagePool {
    shared: Arc<Shared>,
}

struct Shared {
    region: Region,
    buffer_bytes: usize,
    buffers: usize,
    /// Places that nobody has; never fewer than there are permits.
    free: Mutex<Vec<usize>>,
    permits: Arc<Semaphore>,
}

impl fmt::Debug for PagePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { region, buffer_bytes, buffers, .. } = &*self.shared;
        write!(f, "PagePool({buffers} of {buffer_bytes} bytes, {:?}, {} free)", region.backing, self.free())
    }
}

impl PagePool {
    /// A pool of so many buffers, each with room for `buffer_bytes`, rounded up to whole pages.
    ///
    /// # Errors
    /// When it would have no byte or more than 1 GiB, or the kernel gives no memory.
    pub fn new(buffers: usize, buffer_bytes: usize) -> Result<Self, PoolError> {
        let wrong = PoolError::Size { buffers, bytes: buffer_bytes };
        let Some(rounded) = buffer_bytes.checked_next_multiple_of(PAGE_BYTES) else { return Err(wrong) };
        let bytes = match buffers.checked_mul(rounded) {
            Some(bytes) if (1..=POOL_BYTES_MAX).contains(&bytes) => bytes,
            _ => return Err(wrong),
        };
        let shared = Shared {
            region: Region::map(bytes)?,
            buffer_bytes: rounded,
            buffers,
            free: Mutex::new((0..buffers).rev().collect()),
            permits: Arc::new(Semaphore::new(buffers)),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// A buffer with room for `bytes`: of the pool, once one is free, or of the heap when the pool's are too small.
    pub async fn take(&self, bytes: usize) -> Pages {
        if bytes > self.shared.buffer_bytes {
            return Pages::zeroed(bytes);
        }
        let permit = Arc::clone(&self.shared.permits).acquire_owned().await;
        self.give(bytes, permit.expect("the pool never closes it"))
    }

    /// The same without waiting; none when all buffers of the pool are in use.
    #[must_use]
    pub fn try_take(&self, bytes: usize) -> Option<Pages> {
        if bytes > self.shared.buffer_bytes {
            return Some(Pages::zeroed(bytes));
        }
        let permit = Arc::clone(&self.shared.permits).try_acquire_owned().ok()?;
        Some(self.give(bytes, permit))
    }

    fn give(&self, bytes: usize, permit: OwnedSemaphorePermit) -> Pages {
        let place = self.shared.free.lock().pop();
        let place = place.expect("a place is put back before its permit");
        let len = bytes.next_multiple_of(PAGE_BYTES);
        Pages { memory: Memory::Pooled(Slot { pool: self.clone(), place, len, _permit: permit }) }
    }

    /// Buffers that nobody has.
    #[must_use]
    pub fn free(&self) -> usize {
        self.shared.permits.available_permits()
    }

    /// Bytes of a buffer.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        self.shared.buffer_bytes
    }

    /// What its memory lies on.
    #[must_use]
    pub fn backing(&self) -> Backing {
        self.shared.region.backing
    }

    /// All its memory, for a ring to register.
    pub(crate) fn memory(&self) -> (*mut c_void, usize) {
        (self.shared.region.start.as_ptr(), self.shared.buffers * self.shared.buffer_bytes)
    }
}

/// A buffer of a pool; its place returns to the pool when it is dropped.
pub(super) struct Slot {
    pool: PagePool,
    place: usize,
    len: usize,
    // Dropped after the place was put back.
    _permit: OwnedSemaphorePermit,
}

impl Slot {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_of(&self, pool: &PagePool) -> bool {
        Arc::ptr_eq(&self.pool.shared, &pool.shared)
    }

    pub(super) fn start(&self) -> *mut u8 {
        let shared = &self.pool.shared;
        // SAFETY: places are below the number of buffers, and the region has that many buffers of `buffer_bytes`.
        unsafe { shared.region.start.cast::<u8>().as_ptr().add(self.place * shared.buffer_bytes) }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.pool.shared.free.lock().push(self.place);
    }
}

/// Mapped memory of zeros; unmapped when dropped.
struct Region {
    start: NonNull<c_void>,
    mapped: usize,
    backing: Backing,
}

// SAFETY: the mapping belongs to no thread, and who may touch which part of it is settled by the slots.
unsafe impl Send for Region {}
// SAFETY: as above; the region itself is only read.
unsafe impl Sync for Region {}

impl Region {
    fn map(bytes: usize) -> Result<Self, PoolError> {
        let mapped = bytes.next_multiple_of(HUGE_PAGE_BYTES);
        if let Ok(start) = map_anonymous(mapped, MapFlags::HUGETLB) {
            return Ok(Self { start, mapped, backing: Backing::Reserved });
        }
        let start = map_anonymous(mapped, MapFlags::empty())
            .map_err(|fault| PoolError::Map { bytes: mapped, source: fault.into() })?;
        // SAFETY: the range was just mapped, nobody has a reference into it, and the advice changes no content.
        let advised = unsafe { rustix::mm::madvise(start.as_ptr(), mapped, Advice::LinuxHugepage) };
        let backing = if advised.is_ok() { Backing::Transparent } else { Backing::Usual };
        Ok(Self { start, mapped, backing })
    }
}

/// Linux aligns large mappings to huge pages by itself since 6.7, and a huge page is never needed for being right.
fn map_anonymous(bytes: usize, flags: MapFlags) -> rustix::io::Result<NonNull<c_void>> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at a place of the kernel's choice touches no memory that is in use.
    let start = unsafe {
        rustix::mm::mmap_anonymous(std::ptr::null_mut(), bytes, protection, MapFlags::PRIVATE | flags)
    }?;
    Ok(NonNull::new(start).expect("the kernel never maps the first page unasked"))
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `map` as a whole; slots hold the pool, so none is left.
        let done = unsafe { rustix::mm::munmap(self.start.as_ptr(), self.mapped) };
        if let Err(fault) = done {
            tracing::error!(%fault, bytes = self.mapped, "cannot unmap the memory of a pool of buffers");
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn buffers_are_apart_and_come_back() {
        let pool = PagePool::new(3, 10_000).unwrap();
        assert_eq!((pool.buffer_bytes(), pool.free()), (12_288, 3));
        let mut taken: Vec<Pages> = (0..3).map(|_| pool.try_take(10_000).unwrap()).collect();
        for (value, pages) in taken.iter_mut().enumerate() {
            assert_eq!(pages.as_bytes().as_ptr().align_offset(PAGE_BYTES), 0);
            pages.as_bytes_mut().fill(value as u8);
        }
        for (value, pages) in taken.iter().enumerate() {
            assert!(pages.as_bytes().iter().all(|&byte| byte == value as u8) && pages.is_of(&pool));
        }
        assert!(pool.try_take(1).is_none());
        let mut waiting = Box::pin(pool.take(1));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(taken.pop());
        assert_eq!(waiting.now_or_never().unwrap().len(), PAGE_BYTES);
        drop(taken);
        assert_eq!(pool.free(), 3);
    }

    #[test]
    fn what_is_too_large_for_a_buffer_is_of_the_heap() {
        let pool = PagePool::new(1, 4096).unwrap();
        let large = pool.try_take(4097).unwrap();
        assert!(!large.is_pooled() && large.len() == 8192 && pool.free() == 1);
    }

    #[test]
    fn a_buffer_outlives_the_pool_that_gave_it() {
        let mut pages = PagePool::new(1, 4096).unwrap().try_take(4096).unwrap();
        pages.fill(&[b"spark"]);
        assert_eq!(&pages.as_bytes()[..6], b"spark\0");
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        for (buffers, bytes) in [(0, 4096), (1, 0), (2, POOL_BYTES_MAX), (usize::MAX, 4096), (1, usize::MAX)]
        {
            assert!(
                matches!(PagePool::new(buffers, bytes), Err(PoolError::Size { .. })),
                "{buffers} {bytes}"
            );
        }
    }
}
