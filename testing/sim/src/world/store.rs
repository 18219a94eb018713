//! Blocks: what is committed, and held by an executor or, when that is gone, by its worker's keeper.

use std::collections::BTreeMap;
use std::rc::Rc;

use firesteel_base::{AttemptKey, JobId, StageKey, Timestamp};

use crate::plan::Rows;

/// A committed map output.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its rows.
    pub rows: Rc<Rows>,
    /// When it was committed.
    pub committed: Timestamp,
    /// Whether its bytes are not those that were written.
    pub is_corrupt: bool,
}

/// Committed map outputs.
#[derive(Debug, Clone, Default)]
pub struct Store(BTreeMap<AttemptKey, Stored>);

impl Store {
    /// Makes what an attempt wrote readable.
    pub fn commit(&mut self, key: AttemptKey, rows: Rows, now: Timestamp) {
        self.0.insert(key, Stored { rows: Rc::new(rows), committed: now, is_corrupt: false });
    }

    /// What an attempt has committed.
    #[must_use]
    pub fn get(&self, key: &AttemptKey) -> Option<&Stored> {
        self.0.get(key)
    }

    /// As [`get`](Self::get), to be changed.
    pub fn get_mut(&mut self, key: &AttemptKey) -> Option<&mut Stored> {
        self.0.get_mut(key)
    }

    /// Forgets an attempt's.
    pub fn free_attempt(&mut self, key: &AttemptKey) {
        self.0.remove(key);
    }

    /// Forgets a stage's.
    pub fn free_stage(&mut self, stage: StageKey) {
        self.0.retain(|key, _| key.task.stage != stage);
    }

    /// Forgets a job's.
    pub fn free_job(&mut self, job: JobId) {
        self.0.retain(|key, _| key.job() != job);
    }

    /// Forgets what was committed later than `before`.
    pub fn forget_since(&mut self, before: Timestamp) {
        self.0.retain(|_, stored| stored.committed <= before);
    }

    /// Whose outputs are there.
    #[must_use]
    pub fn keys(&self) -> Vec<AttemptKey> {
        self.0.keys().copied().collect()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
