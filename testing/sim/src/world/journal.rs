//! The manager's journal: a model of `manager/src/shell/journal.rs`.

use std::collections::BTreeMap;

use firesteel_base::JobId;
use firesteel_manager::machine::job::Job;

/// What is on the disk, and what is about to be.
#[derive(Debug, Default)]
pub struct Journal {
    kept: BTreeMap<JobId, Job>,
    /// Changes that a manager which dies takes with it; `None` forgets.
    unwritten: BTreeMap<JobId, Option<Job>>,
    numbered: u64,
}

/// Numbers that jobs may be given before the journal is written anew.
const NUMBERS_AHEAD: u64 = 1000;

impl Journal {
    /// A job has changed.
    pub fn note(&mut self, id: JobId, job: Option<Job>) {
        self.unwritten.insert(id, job);
    }

    /// Whether something has changed that is not written.
    #[must_use]
    pub fn has_unwritten(&self) -> bool {
        !self.unwritten.is_empty()
    }

    /// What earlier managers may have numbered jobs up to.
    #[must_use]
    pub fn numbered(&self) -> u64 {
        self.numbered
    }

    /// Writes what has changed; jobs were numbered up to `numbered`.
    pub fn write(&mut self, numbered: u64) {
        self.numbered = self.numbered.max(numbered + NUMBERS_AHEAD);
        for (id, job) in std::mem::take(&mut self.unwritten) {
            match job {
                Some(job) => self.kept.insert(id, job),
                None => self.kept.remove(&id),
            };
        }
    }

    /// The manager has died: the next one finds what was written.
    pub fn reopen(&mut self) -> Vec<Job> {
        self.unwritten.clear();
        self.kept.values().cloned().collect()
    }
}
