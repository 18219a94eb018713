//! Whether this kernel gives rings, and which features they have.

use std::io;

use io_uring::{IoUring, Probe, opcode};

/// Entries of a ring that is only asked for to see whether there is one.
const PROBE_ENTRIES: u32 = 8;

/// Why there is no ring.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The kernel refused to build one.
    #[error("the kernel gives none ({0})")]
    Refused(io::Error),
    /// The kernel's rings lack an operation that the loop's files need.
    #[error("its rings cannot {0}")]
    Lacks(&'static str),
}

/// Whether a ring can be had that does what a core loop's files need.
///
/// # Errors
/// When it cannot; the error says why.
pub fn usable() -> Result<(), RingError> {
    let (_, probe) = open()?;
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

/// A ring, and which operations the kernel's rings know.
pub(crate) fn open() -> Result<(IoUring, Probe), RingError> {
    let ring = IoUring::new(PROBE_ENTRIES).map_err(RingError::Refused)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(RingError::Refused)?;
    Ok((ring, probe))
}
