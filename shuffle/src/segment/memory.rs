//! Memory that processes of one host share: a memfd and its mappings.
//!
//! Unsafe is needed to map and unmap, and to look at mapped memory.
#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::{
    FallocateFlags, FileType, MemfdFlags, Mode, OFlags, SealFlags, fallocate, fchmod, fcntl_add_seals,
    fcntl_get_seals, fstat, ftruncate,
};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

use super::SEGMENT_BYTES_MAX;

/// What a reader insists on: without it the owner could shrink the memory, and looking at it would be a signal.
const NEEDED: SealFlags = SealFlags::SHRINK;
const PAGE_BYTES: usize = 4096;

/// A range of this process's address space that shows a file's memory; unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping belongs to no thread; what is read and written through it is up to the callers of `slice` and
// `at`, who answer for it.
unsafe impl Send for Mapping {}
// SAFETY: as above; the mapping itself is never changed while it is shared.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(file: BorrowedFd<'_>, bytes: usize, access: ProtFlags) -> io::Result<Self> {
        // SAFETY: the kernel chooses the place, so no memory that is in use is replaced.
        let start = unsafe { mmap(std::ptr::null_mut(), bytes, access, MapFlags::SHARED, file, 0) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, bytes })
    }

    /// Bytes of it.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Where byte `offset` lies.
    pub fn at(&self, offset: usize) -> NonNull<u8> {
        assert!(offset <= self.bytes, "an offset within the mapping");
        // SAFETY: the offset is within the mapping, which is one allocation.
        unsafe { self.start.add(offset) }
    }

    /// The bytes of a range.
    ///
    /// # Safety
    /// They are initialized by nature, but nobody may write to them while the slice lives.
    pub unsafe fn slice(&self, range: Range<usize>) -> &[u8] {
        assert!(range.start <= range.end && range.end <= self.bytes, "a range within the mapping");
        // SAFETY: the range lies within the mapping, whose file cannot shrink; that nobody writes is the caller's promise.
        unsafe { std::slice::from_raw_parts(self.at(range.start).as_ptr(), range.len()) }
    }

    /// Has the kernel put pages behind a range at once, instead of at the first touch of each.
    pub fn populate(&self, range: Range<usize>, advice: Advice) {
        let start = range.start / PAGE_BYTES * PAGE_BYTES;
        let end = range.end.next_multiple_of(PAGE_BYTES).min(self.bytes);
        // SAFETY: the pages lie within the mapping, and populating changes no contents.
        let done = unsafe { madvise(self.at(start).as_ptr().cast(), end - start, advice) };
        if let Err(error) = done {
            // Kernels before 5.14 do not know how; the pages come at their first touch then.
            tracing::trace!(%error, "pages were not populated");
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new` and is unmapped here only; slices of it borrow from `self`.
        let done = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
        if let Err(error) = done {
            tracing::error!(%error, "shared memory could not be unmapped");
        }
    }
}

/// Shared memory that this process owns and alone may write, or that one which is gone has left behind.
#[derive(Debug)]
pub(crate) struct Memory {
    /// By which its owner can write; nobody else gets it.
    own: Option<OwnedFd>,
    /// By which it can only be read.
    file: OwnedFd,
    mapping: Mapping,
}

impl Memory {
    /// New memory of `bytes`; none of it takes place before it is touched.
    pub fn create(bytes: u64) -> io::Result<Self> {
        let own = create_memfd()?;
        ftruncate(&own, bytes)?;
        let mapping = Mapping::new(own.as_fd(), bytes as usize, ProtFlags::READ | ProtFlags::WRITE)?;
        // SAFETY: the advice concerns the mapping just made and changes no contents.
        let huge = unsafe { madvise(mapping.at(0).as_ptr().cast(), mapping.len(), Advice::LinuxHugepage) };
        if let Err(error) = huge {
            tracing::trace!(%error, "no huge pages for shared memory");
        }
        fcntl_add_seals(&own, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let file = open_to_read(&own)?;
        Ok(Self { own: Some(own), file, mapping })
    }

    /// Memory that another process has made, mapped to be read.
    ///
    /// # Errors
    /// When the file is no such memory.
    pub fn of_other(file: OwnedFd) -> Result<Self, String> {
        let mapping = map_foreign(&file)?;
        Ok(Self { own: None, file, mapping })
    }

    /// Gives all pages back to the kernel, whoever has them mapped: they read as zeros from then on. Memory of others stays.
    pub fn give_back(&self) {
        let Some(own) = &self.own else { return };
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if let Err(error) = fallocate(own, punch, 0, self.mapping.len() as u64) {
            tracing::warn!(%error, "shared memory is given back only when no reader maps it any more");
        }
    }

    /// The file, to be passed to other processes: it can be read through this descriptor, and not be written.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Where it lies in this process.
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }
}

fn create_memfd() -> io::Result<OwnedFd> {
    let create = |flags| rustix::fs::memfd_create("firesteel-blocks", flags | MemfdFlags::CLOEXEC);
    // Kernels before 6.3 do not know the first form.
    Ok(create(MemfdFlags::NOEXEC_SEAL).or_else(|_| create(MemfdFlags::ALLOW_SEALING))?)
}

/// A descriptor that cannot write. A seal against all writers but one would forbid the owner to give pages back, too.
fn open_to_read(memory: &OwnedFd) -> io::Result<OwnedFd> {
    // Who would write to it has to be its user, and to mean it.
    fchmod(memory, Mode::RUSR)?;
    let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Maps memory that another process owns, to be read.
///
/// # Errors
/// Says what is wrong with the file.
pub(crate) fn map_foreign(file: &OwnedFd) -> Result<Mapping, String> {
    let seals = fcntl_get_seals(file).map_err(|error| format!("the file has no seals: {error}"))?;
    if !seals.contains(NEEDED) {
        return Err("the file may shrink".to_owned());
    }
    let status = fstat(file).map_err(|error| format!("the file cannot be looked at: {error}"))?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err("the file is no memory".to_owned());
    }
    match u64::try_from(status.st_size) {
        Ok(bytes @ 1..=SEGMENT_BYTES_MAX) => Mapping::new(file.as_fd(), bytes as usize, ProtFlags::READ)
            .map_err(|error| format!("it cannot be mapped: {error}")),
        _ => Err(format!("the file has {} bytes", status.st_size)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(mapping: &Mapping, range: Range<usize>) -> Vec<u8> {
        // SAFETY: nobody writes in these tests while the slice lives.
        unsafe { mapping.slice(range) }.to_vec()
    }

    #[test]
    fn what_the_owner_writes_others_read_and_cannot_write() {
        let memory = Memory::create(1 << 20).unwrap();
        memory.mapping().populate(100..5000, Advice::LinuxPopulateWrite);
        // SAFETY: the byte is within the mapping, and nobody else looks at it now.
        unsafe { memory.mapping().at(4097).write(7) };
        let file = memory.file().try_clone_to_owned().unwrap();
        let reader = map_foreign(&file).unwrap();
        assert_eq!((bytes_of(&reader, 4096..4099), reader.len()), (vec![0, 7, 0], 1 << 20));
        // SAFETY: the second byte written is the first one's place.
        unsafe { memory.mapping().at(4097).write(8) };
        assert_eq!(bytes_of(&reader, 4097..4098), [8]);
        assert!(Mapping::new(file.as_fd(), 1 << 20, ProtFlags::READ | ProtFlags::WRITE).is_err());
        assert!(rustix::io::write(&file, b"x").is_err());
        assert!(ftruncate(&file, 1).is_err() && ftruncate(&file, 2 << 20).is_err());
    }

    #[test]
    fn what_is_given_back_takes_no_memory_however_long_readers_map_it() {
        let memory = Memory::create(1 << 20).unwrap();
        memory.mapping().populate(0..1 << 20, Advice::LinuxPopulateWrite);
        // SAFETY: the byte is within the mapping, and nobody else looks at it now.
        unsafe { memory.mapping().at(5000).write(7) };
        let file = memory.file().try_clone_to_owned().unwrap();
        let reader = map_foreign(&file).unwrap();
        reader.populate(0..1 << 20, Advice::LinuxPopulateRead);
        let blocks = || fstat(&file).unwrap().st_blocks;
        assert_eq!((bytes_of(&reader, 5000..5001), blocks()), (vec![7], 2048));
        memory.give_back();
        assert_eq!(blocks(), 0);
        drop(memory);
        assert_eq!(bytes_of(&reader, 5000..5001), [0], "it is mapped still");
        // Who has only been passed it cannot do that.
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        assert!(fallocate(&file, punch, 0, 1 << 20).is_err());
        Memory::of_other(file).unwrap().give_back();
    }

    #[test]
    fn what_may_shrink_is_not_mapped() {
        let fault = |file: &OwnedFd| map_foreign(file).unwrap_err();
        let open = create_memfd().unwrap();
        ftruncate(&open, 4096).unwrap();
        assert!(fault(&open).contains("may shrink"));
        fcntl_add_seals(&open, SealFlags::SHRINK).unwrap();
        map_foreign(&open).unwrap();
        let empty = create_memfd().unwrap();
        fcntl_add_seals(&empty, SealFlags::SHRINK).unwrap();
        assert!(fault(&empty).contains("0 bytes"));
        ftruncate(&empty, SEGMENT_BYTES_MAX + 1).unwrap();
        assert!(fault(&empty).contains("bytes"));
        let (socket, _) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(fault(&socket.into()).contains("no seals"));
        assert!(fault(&tempfile::tempfile().unwrap().into()).contains("seals"));
    }
}
