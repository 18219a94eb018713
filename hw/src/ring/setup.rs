//! Building a ring with all that the kernel gives, and telling what it does not.
#![allow(unsafe_code)]

use std::fmt;
use std::io;

use io_uring::{Builder, IoUring};

use super::{Feature, RingError};
use crate::pages::PagePool;

/// The most operations that a ring may have in flight.
pub const DEPTH_MAX: u32 = 4096;

/// What a ring shall be.
#[derive(Debug, Clone)]
pub struct RingConfig {
    /// Operations in flight at most, from 1 to [`DEPTH_MAX`]; more wait.
    pub depth: u32,
    /// Operations that are queued before they are submitted without waiting for more.
    pub batch: u32,
    /// Files registered at most; others are named by descriptor. 0 registers none.
    pub files: u32,
    /// Buffers to register; others are mapped for each operation anew.
    pub pool: Option<PagePool>,
    /// Whether to have completions worked off when this thread asks for them.
    pub deferred: bool,
}

impl Default for RingConfig {
    fn default() -> Self {
        Self { depth: 64, batch: 32, files: 64, pool: None, deferred: true }
    }
}

/// Which features a ring has, and why not the others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RingReport {
    /// In use.
    pub has: Vec<Feature>,
    /// Asked for in vain, with what the kernel says.
    pub lacks: Vec<(Feature, String)>,
}

impl RingReport {
    fn note<T>(&mut self, feature: Feature, tried: io::Result<T>) -> Option<T> {
        match tried {
            Ok(done) => {
                self.has.push(feature);
                Some(done)
            }
            Err(fault) => {
                self.lacks.push((feature, fault.to_string()));
                None
            }
        }
    }
}

impl fmt::Display for RingReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has: Vec<_> = self.has.iter().map(|feature| feature.name()).collect();
        write!(f, "with {}", has.join(", "))?;
        self.lacks.iter().try_for_each(|(feature, fault)| write!(f, "; no {} ({fault})", feature.name()))
    }
}

/// A ring as it came to be.
pub(super) struct Built {
    pub ring: IoUring,
    pub report: RingReport,
    /// Places in its table of files.
    pub files: u32,
    /// The pool that is registered with it.
    pub pool: Option<PagePool>,
}

pub(super) fn build(config: &RingConfig) -> Result<Built, RingError> {
    if !(1..=DEPTH_MAX).contains(&config.depth) || config.batch == 0 {
        return Err(RingError::Refused(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a ring has 1 to {DEPTH_MAX} operations in flight, and batches of one or more"),
        )));
    }
    let mut report = RingReport::default();
    let ring = build_ring(config, &mut report)?;
    let files = register_files(&ring, config.files, &mut report);
    let pool = config.pool.clone().filter(|pool| register_buffers(&ring, pool, &mut report));
    Ok(Built { ring, report, files, pool })
}

/// Each operation in flight may be one submission and one cancelling, and so two completions.
fn builder(depth: u32) -> Builder {
    let mut builder = IoUring::builder();
    builder.setup_clamp().setup_cqsize(4 * depth).dontfork();
    builder
}

fn build_ring(config: &RingConfig, report: &mut RingReport) -> Result<IoUring, RingError> {
    let entries = 2 * config.depth;
    if config.deferred {
        let mut deferred = builder(config.depth);
        deferred.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
        if let Some(ring) = report.note(Feature::DeferredTaskWork, deferred.build(entries)) {
            report.has.push(Feature::SingleIssuer);
            return Ok(ring);
        }
    }
    let mut cooperative = builder(config.depth);
    cooperative.setup_coop_taskrun().setup_taskrun_flag();
    if let Some(ring) = report.note(Feature::CooperativeTaskWork, cooperative.build(entries)) {
        return Ok(ring);
    }
    Ok(builder(config.depth).build(entries)?)
}

fn register_files(ring: &IoUring, files: u32, report: &mut RingReport) -> u32 {
    if files == 0 {
        return 0;
    }
    let done = ring.submitter().register_files_sparse(files);
    report.note(Feature::RegisteredFiles, done).map_or(0, |()| files)
}

fn register_buffers(ring: &IoUring, pool: &PagePool, report: &mut RingReport) -> bool {
    let (start, bytes) = pool.memory();
    let place = libc::iovec { iov_base: start, iov_len: bytes };
    // SAFETY: the pool's memory stays mapped while the ring is, for who gets the ring keeps the pool beside it and drops it
    // after the ring.
    let done = unsafe { ring.submitter().register_buffers(&[place]) };
    report.note(Feature::RegisteredBuffers, done).is_some()
}
