//! The managers' journal: a model of `manager/src/shell/journal.rs`, be it one manager's file or what several replicate.
//!
//! ```text
//!   changes ─► a write is begun ─► written: told to whoever waits for it
//!                    │ crash, another leader, a disk that fails: all of it is kept, or nothing
//! ```
//!
//! What was said to be written is kept; of the write that was under way all is kept or nothing (redb is transactional).

use std::collections::BTreeMap;
use std::time::Duration;

use firesteel_base::JobId;
use firesteel_manager::machine::job::Job;

use crate::chance::Chance;

/// Changes of jobs; `None` forgets.
type Changes = BTreeMap<JobId, Option<Job>>;

/// What is on the disk, and what is about to be.
#[derive(Debug, Default)]
pub struct Journal {
    kept: BTreeMap<JobId, Job>,
    numbered: u64,
    /// Changes that a manager which dies takes with it.
    changed: Changes,
    /// The write under way, and what jobs may be numbered up to once it is done.
    writing: Option<(Changes, u64)>,
    /// How long a write takes, in milliseconds, where it takes any time.
    pub takes: Option<(u64, u64)>,
    /// Whether the next write fails.
    pub fails: bool,
}

/// Numbers that jobs may be given before the journal is written anew.
const NUMBERS_AHEAD: u64 = 1000;

impl Journal {
    /// A job has changed.
    pub fn note(&mut self, id: JobId, job: Option<Job>) {
        self.changed.insert(id, job);
    }

    /// Whether something has changed that is not written.
    #[must_use]
    pub fn has_unwritten(&self) -> bool {
        !self.changed.is_empty() || self.writing.is_some()
    }

    /// What earlier managers may have numbered jobs up to.
    #[must_use]
    pub fn numbered(&self) -> u64 {
        self.numbered
    }

    /// Begins to write what has changed; jobs were numbered up to `numbered`. How long that takes, unless it is done at once.
    pub fn begin_write(&mut self, numbered: u64, chance: &mut Chance) -> Option<Duration> {
        self.writing = Some((std::mem::take(&mut self.changed), numbered + NUMBERS_AHEAD));
        // One that fails takes its time too.
        let Some((low, high)) = self.takes.or(self.fails.then_some((0, 1))) else {
            self.commit();
            return None;
        };
        Some(chance.millis(low, high))
    }

    /// The write under way is done.
    pub fn commit(&mut self) {
        let Some((changes, numbered)) = self.writing.take() else { return };
        self.numbered = self.numbered.max(numbered);
        for (id, job) in changes {
            match job {
                Some(job) => self.kept.insert(id, job),
                None => self.kept.remove(&id),
            };
        }
    }

    /// It is said to be done, and is not: a journal that lies.
    pub fn pretend(&mut self) {
        self.writing = None;
    }

    /// The manager has died: the next one finds what was written, and the last write or nothing of it.
    pub fn reopen(&mut self, chance: &mut Chance) -> Vec<Job> {
        self.changed.clear();
        if self.writing.is_some() && chance.percent(50) {
            self.commit();
        }
        self.writing = None;
        self.kept.values().cloned().map(as_kept).collect()
    }
}

/// What is kept of a job is without what its driver and its worker say again.
fn as_kept(mut job: Job) -> Job {
    job.stages.clear();
    if let Some(launch) = &mut job.launch {
        launch.driver_ended = None;
    }
    job
}
