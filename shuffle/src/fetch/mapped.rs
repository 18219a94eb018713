//! Segments of peers that are mapped here.
//!
//! A segment is passed once over each connection, and mapped once by all connections to its peer: what one has looked at, others
//! find mapped, with the pages behind it that are there. It takes address space and page tables, and no memory that its owner
//! does not count: an owner that is done with a segment gives its pages back, and be it mapped here. Where that cannot be, for
//! the owner has died or has lost sight of a reader, pages stay until nobody has the segment mapped; so it is kept for a short time only.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::segment::{Mapping, map_foreign};
use crate::transport::{SocketName, StepError};

/// Segments that a connection keeps mapped between replies, at most.
const KEPT_MAX: usize = 256;
/// What is mapped here by any connection, by the peer and the segment's number.
#[derive(Debug)]
pub(super) struct Mapped {
    /// How long a connection keeps a segment mapped that it does not look at.
    idle_max: Duration,
    known: Mutex<HashMap<(SocketName, u64), Weak<Mapping>>>,
}

impl Mapped {
    pub fn new(idle_max: Duration) -> Arc<Self> {
        Arc::new(Self { idle_max, known: Mutex::default() })
    }

    /// A segment that was passed, mapped now or before.
    fn map(&self, peer: SocketName, number: u64, passed: &OwnedFd) -> Result<Arc<Mapping>, StepError> {
        let mut mapped = self.known.lock();
        if let Some(known) = mapped.get(&(peer, number)).and_then(Weak::upgrade) {
            return Ok(known);
        }
        mapped.retain(|_, mapping| mapping.strong_count() > 0);
        let mapping = Arc::new(map_foreign(passed).map_err(StepError::NotShared)?);
        mapped.insert((peer, number), Arc::downgrade(&mapping));
        Ok(mapping)
    }
}

/// The segments that were passed over one connection.
#[derive(Debug)]
pub(super) struct Kept {
    peer: SocketName,
    mapped: Arc<Mapped>,
    segments: HashMap<u64, (Arc<Mapping>, Instant)>,
    /// When this reply was asked for.
    now: Instant,
}

impl Kept {
    /// None yet of that peer.
    pub fn new(peer: SocketName, mapped: Arc<Mapped>) -> Self {
        Self { peer, mapped, segments: HashMap::new(), now: Instant::now() }
    }

    /// Another reply begins.
    pub fn begin_reply(&mut self) {
        self.now = Instant::now();
    }

    /// The segment of that number, which is passed now or was before.
    ///
    /// # Errors
    /// When it was not, or cannot be mapped.
    pub fn segment(&mut self, number: u64, passed: Option<OwnedFd>) -> Result<Arc<Mapping>, StepError> {
        if let Some(passed) = passed
            && !self.segments.contains_key(&number)
        {
            let mapping = self.mapped.map(self.peer, number, &passed)?;
            self.segments.insert(number, (mapping, self.now));
        }
        let Some((mapping, used)) = self.segments.get_mut(&number) else {
            return Err(StepError::NotShared(format!("segment {number} was not passed")));
        };
        *used = self.now;
        Ok(Arc::clone(mapping))
    }

    /// How many are mapped.
    pub fn len(&self) -> usize {
        self.segments.len()
    }

    /// Whether they may stay mapped: else the connection ends, for its peer passes none a second time.
    pub fn may_stay(&self) -> bool {
        let is_recent = |used: &Instant| self.now.duration_since(*used) < self.mapped.idle_max;
        self.segments.len() <= KEPT_MAX && self.segments.values().all(|(_, used)| is_recent(used))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

    use super::*;

    const KEPT: Duration = Duration::from_secs(10);

    fn segment() -> OwnedFd {
        let file = memfd_create("segment", MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&file, 4096).unwrap();
        fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
        file
    }

    fn again(file: &OwnedFd) -> Option<OwnedFd> {
        Some(file.as_fd().try_clone_to_owned().unwrap())
    }

    #[test]
    fn a_segment_is_mapped_once_for_all_connections_to_its_peer() {
        let (mapped, peers) = (Mapped::new(KEPT), [SocketName([1; 16]), SocketName([2; 16])]);
        let kept = |peer: usize| Kept::new(peers[peer], Arc::clone(&mapped));
        let ([mut one, mut same, mut other], file) = ([kept(0), kept(0), kept(1)], segment());
        let first = one.segment(7, again(&file)).unwrap();
        assert!(Arc::ptr_eq(&first, &one.segment(7, None).unwrap()));
        assert!(Arc::ptr_eq(&first, &one.segment(7, Some(segment())).unwrap()), "it is known already");
        assert!(same.segment(7, None).is_err(), "it was not passed over that connection");
        assert!(Arc::ptr_eq(&first, &same.segment(7, again(&file)).unwrap()));
        assert!(!Arc::ptr_eq(&first, &other.segment(7, again(&file)).unwrap()), "another peer's");
        drop((first, one, same));
        assert_eq!(mapped.known.lock().values().filter(|mapping| mapping.strong_count() > 0).count(), 1);
        other.segment(8, again(&file)).unwrap();
        assert_eq!(mapped.known.lock().len(), 2, "what nobody has mapped is forgotten");
    }

    #[test]
    fn neither_many_nor_old_ones_are_kept() {
        let mut kept = Kept::new(SocketName([1; 16]), Mapped::new(KEPT));
        let file = segment();
        for number in 0..KEPT_MAX as u64 {
            kept.segment(number, again(&file)).unwrap();
        }
        assert!(kept.may_stay());
        kept.segment(KEPT_MAX as u64, again(&file)).unwrap();
        assert!(!kept.may_stay());
        let mut kept = Kept::new(SocketName([1; 16]), Mapped::new(KEPT));
        kept.segment(1, again(&file)).unwrap();
        kept.segment(2, again(&file)).unwrap();
        kept.now += KEPT / 2;
        kept.segment(1, None).unwrap();
        assert!(kept.may_stay());
        kept.now += KEPT / 2;
        assert!(!kept.may_stay(), "the second was not looked at");
    }
}
