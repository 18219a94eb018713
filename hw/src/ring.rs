//! Whether this kernel gives rings, and which features they have.
#![allow(unsafe_code)]

use std::io;

use io_uring::{IoUring, Probe, opcode};

/// Entries of a ring that is only asked for to see whether there is one.
const PROBE_ENTRIES: u32 = 8;
/// Bytes of a buffer that is only registered to see whether it can be.
const PROBE_BUFFER_BYTES: usize = 64 << 10;

/// Why there is no ring, or not such a one.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The kernel refused to build one.
    #[error("the kernel refuses it ({0})")]
    Refused(#[from] io::Error),
    /// The kernel's rings lack an operation.
    #[error("the kernel's rings cannot {0}")]
    Lacks(&'static str),
}

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
    /// Buffers that the kernel maps once.
    RegisteredBuffers,
    /// Files that the kernel looks up once.
    RegisteredFiles,
    /// Sending from the buffer itself.
    ZeroCopySend,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::SingleIssuer,
        Self::DeferredTaskWork,
        Self::RegisteredBuffers,
        Self::RegisteredFiles,
        Self::ZeroCopySend,
    ];

    /// Its name in words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SingleIssuer => "single issuer",
            Self::DeferredTaskWork => "deferred task work",
            Self::RegisteredBuffers => "registered buffers",
            Self::RegisteredFiles => "registered files",
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
            Self::RegisteredBuffers => register_a_buffer(),
            Self::RegisteredFiles => Ok(IoUring::new(PROBE_ENTRIES)?.submitter().register_files_sparse(1)?),
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
