//! Leases: slots lent by the manager for one stage on one executor.
//!
//! ```text
//!               launch                    attempt ended
//!   idle slot ----------> running slot ------------------> idle slot --> released
//! ```
//!
//! An idle slot does not outlive the step that made it: it runs the next task or goes back.

use std::collections::{BTreeMap, BTreeSet};

use firesteel_base::{AttemptKey, LeaseId, StageId};

use super::Life;

#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub stage: StageId,
    pub life: Life,
    /// Slots not yet given back.
    pub slots: u32,
    /// Slots that the manager wants back.
    pub revoked: u32,
    pub running: BTreeSet<AttemptKey>,
}

impl Lease {
    pub fn idle(&self) -> u32 {
        self.slots - u32::try_from(self.running.len()).expect("no more attempts than slots")
    }
}

#[derive(Debug, Default)]
pub(super) struct Leases {
    active: BTreeMap<LeaseId, Lease>,
    /// Those of them with a slot that nothing runs in.
    idle: BTreeSet<LeaseId>,
    /// Every lease ever taken: a grant that comes twice lends nothing.
    seen: BTreeSet<LeaseId>,
}

impl Leases {
    /// Takes a loan; `false` when it was taken before.
    pub fn take(&mut self, id: LeaseId, stage: StageId, life: Life, slots: u32) -> bool {
        if !self.seen.insert(id) {
            return false;
        }
        self.active.insert(id, Lease { stage, life, slots, revoked: 0, running: BTreeSet::new() });
        self.find_idle(id);
        true
    }

    fn find_idle(&mut self, id: LeaseId) {
        if self.active.get(&id).is_some_and(|lease| lease.idle() > 0) {
            self.idle.insert(id);
        } else {
            self.idle.remove(&id);
        }
    }

    pub fn revoke(&mut self, id: LeaseId, slots: u32) {
        if let Some(lease) = self.active.get_mut(&id) {
            lease.revoked = lease.revoked.saturating_add(slots).min(lease.slots);
        }
    }

    /// Leases with a slot that nothing runs in.
    pub fn idle(&self) -> Vec<LeaseId> {
        self.idle.iter().copied().collect()
    }

    pub fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.active.get(&id)
    }

    pub fn occupy(&mut self, id: LeaseId, attempt: AttemptKey) {
        let lease = self.active.get_mut(&id).expect("an attempt is launched in a slot of a lease");
        assert!(lease.idle() > 0, "slot used twice: {attempt} in {id}");
        lease.running.insert(attempt);
        self.find_idle(id);
    }

    /// The attempt has ended; its slot, if the lease is still there, is idle.
    pub fn vacate(&mut self, id: LeaseId, attempt: AttemptKey) {
        if let Some(lease) = self.active.get_mut(&id) {
            lease.running.remove(&attempt);
        }
        self.find_idle(id);
    }

    /// Gives `slots` idle slots back.
    pub fn shrink(&mut self, id: LeaseId, slots: u32) {
        let lease = self.active.get_mut(&id).expect("slots of an active lease are released");
        assert!(slots <= lease.idle(), "a busy slot of {id} is released");
        lease.slots -= slots;
        lease.revoked = lease.revoked.saturating_sub(slots);
        if lease.slots == 0 {
            self.active.remove(&id);
        }
        self.find_idle(id);
    }

    /// All leases.
    pub fn iter(&self) -> impl Iterator<Item = (LeaseId, &Lease)> {
        self.active.iter().map(|(id, lease)| (*id, lease))
    }

    /// Forgets all leases but these, whatever runs in them. What was asked back of these is not any more.
    pub fn keep_only(&mut self, kept: &BTreeSet<LeaseId>) {
        self.active.retain(|id, _| kept.contains(id));
        self.idle.retain(|id| kept.contains(id));
        self.active.values_mut().for_each(|lease| lease.revoked = 0);
    }

    /// Forgets the leases on `life`, whatever runs in them, and says which they were and with how many slots.
    pub fn drop_life(&mut self, life: &Life) -> Vec<(LeaseId, u32)> {
        self.drop_where(|lease| lease.life == *life)
    }

    /// Forgets all leases, whatever runs in them, and says which they were and with how many slots.
    pub fn drop_all(&mut self) -> Vec<(LeaseId, u32)> {
        self.drop_where(|_| true)
    }

    fn drop_where(&mut self, doomed: impl Fn(&Lease) -> bool) -> Vec<(LeaseId, u32)> {
        let dropped: Vec<_> = self
            .active
            .iter()
            .filter(|(_, lease)| doomed(lease))
            .map(|(id, lease)| (*id, lease.slots))
            .collect();
        for (id, _) in &dropped {
            self.active.remove(id);
            self.idle.remove(id);
        }
        dropped
    }
}
