//! Whether this kernel gives rings, and which features they have. Each is tried on a real ring.
#![allow(unsafe_code)]

use io_uring::types::CancelBuilder;
use io_uring::{IoUring, Probe, opcode};

use super::RingError;

/// Entries of a ring that is only asked for to see whether there is one.
const PROBE_ENTRIES: u32 = 8;
/// Bytes of a buffer that is only registered to see whether it can be.
const PROBE_BUFFER_BYTES: usize = 64 << 10;

/// Whether a ring can be had that does what a core loop's files need.
///
/// # Errors
/// When it cannot; the error says why.
pub fn usable() -> Result<(), RingError> {
    let probe = operations()?;
    let needed = [
        ("read", opcode::Read::CODE),
        ("write", opcode::Write::CODE),
        ("open files", opcode::OpenAt::CODE),
        ("close files", opcode::Close::CODE),
        ("cancel operations", opcode::AsyncCancel::CODE),
    ];
    match needed.into_iter().find(|&(_, code)| !probe.is_supported(code)) {
        Some((what, _)) => Err(RingError::Lacks(what)),
        None => Ok(()),
    }
}

/// Something that rings of newer kernels can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// One thread submits, so that the kernel need not lock.
    SingleIssuer,
    /// Completions are worked off when the thread asks for them, not when they come.
    DeferredTaskWork,
    /// Completions are worked off when the thread next enters the kernel, without interrupting it.
    CooperativeTaskWork,
    /// Buffers that the kernel maps once.
    RegisteredBuffers,
    /// Files that the kernel looks up once.
    RegisteredFiles,
    /// Operations that wait for the one before them.
    LinkedOperations,
    /// Cancelling all that is in flight at once.
    CancelAll,
    /// Sending from the buffer itself.
    ZeroCopySend,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::SingleIssuer,
        Self::DeferredTaskWork,
        Self::CooperativeTaskWork,
        Self::RegisteredBuffers,
        Self::RegisteredFiles,
        Self::LinkedOperations,
        Self::CancelAll,
        Self::ZeroCopySend,
    ];

    /// Its name in words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SingleIssuer => "single issuer",
            Self::DeferredTaskWork => "deferred task work",
            Self::CooperativeTaskWork => "cooperative task work",
            Self::RegisteredBuffers => "registered buffers",
            Self::RegisteredFiles => "registered files",
            Self::LinkedOperations => "linked operations",
            Self::CancelAll => "cancelling all at once",
            Self::ZeroCopySend => "zero-copy send",
        }
    }

    /// Asks the kernel for it, by building a ring that has it.
    ///
    /// # Errors
    /// When the kernel has it not.
    pub fn try_out(self) -> Result<(), RingError> {
        match self {
            Self::SingleIssuer => built(IoUring::builder().setup_single_issuer()),
            Self::DeferredTaskWork => built(IoUring::builder().setup_single_issuer().setup_defer_taskrun()),
            Self::CooperativeTaskWork => built(IoUring::builder().setup_coop_taskrun()),
            Self::RegisteredBuffers => register_a_buffer(),
            Self::RegisteredFiles => Ok(IoUring::new(PROBE_ENTRIES)?.submitter().register_files_sparse(1)?),
            Self::LinkedOperations => link_two(),
            Self::CancelAll => cancel_all(),
            Self::ZeroCopySend if operations()?.is_supported(opcode::SendZc::CODE) => Ok(()),
            Self::ZeroCopySend => Err(RingError::Lacks("send without a copy")),
        }
    }
}

fn built(builder: &io_uring::Builder) -> Result<(), RingError> {
    builder.build(PROBE_ENTRIES)?;
    Ok(())
}

/// Which operations the kernel's rings know.
fn operations() -> Result<Probe, RingError> {
    let mut probe = Probe::new();
    IoUring::new(PROBE_ENTRIES)?.submitter().register_probe(&mut probe)?;
    Ok(probe)
}

fn register_a_buffer() -> Result<(), RingError> {
    let mut buffer = vec![0_u8; PROBE_BUFFER_BYTES];
    let place = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let ring: IoUring = IoUring::new(PROBE_ENTRIES)?;
    // SAFETY: the buffer outlives its registration, which ends two lines below, and nothing is submitted to the ring.
    unsafe { ring.submitter().register_buffers(&[place]) }?;
    ring.submitter().unregister_buffers()?;
    Ok(())
}

/// Two operations, the second of which waits for the first; both must succeed.
fn link_two() -> Result<(), RingError> {
    let mut ring: IoUring = IoUring::new(PROBE_ENTRIES)?;
    let first = opcode::Nop::new().build().flags(io_uring::squeue::Flags::IO_LINK);
    for entry in [first, opcode::Nop::new().build()] {
        // SAFETY: an operation that does nothing refers to no memory.
        unsafe { ring.submission().push(&entry) }.expect("the ring was made for more");
    }
    ring.submit_and_wait(2)?;
    let results: Vec<i32> = ring.completion().map(|done| done.result()).collect();
    if results == [0, 0] { Ok(()) } else { Err(RingError::Lacks("link operations")) }
}

/// Cancels all of a ring that has nothing in flight, which the kernel says by not finding any.
fn cancel_all() -> Result<(), RingError> {
    let ring: IoUring = IoUring::new(PROBE_ENTRIES)?;
    match ring.submitter().register_sync_cancel(None, CancelBuilder::any()) {
        Ok(()) => Ok(()),
        Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(fault) => Err(fault.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_is_tried_on_a_real_ring() {
        // What one ring after another says must be the same, or something was left behind.
        for feature in Feature::ALL {
            assert_eq!(feature.try_out().is_ok(), feature.try_out().is_ok(), "{feature:?}");
        }
        if usable().is_err() {
            assert!(Feature::ALL.iter().all(|feature| feature.try_out().is_err()), "features without rings");
        }
    }
}
