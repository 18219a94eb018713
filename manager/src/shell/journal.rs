//! The journal: what of jobs must outlive the manager, in a database of one file (redb).
//!
//! ```text
//!   DIR/manager.redb    numbers: format, origin (unix ms at time 0), epoch_seed (of the run that has it open),
//!                                numbered (jobs get numbers up to it before it is written anew)
//!                       jobs:    number -> the job as JSON, live or ended, as long as the manager remembers it
//! ```
//!
//! Nothing of leases, workers or executors is kept: drivers and workers know better, and tell when they come back. One
//! manager has the file open; another one that is started on it by mistake is refused. Several managers keep the same in
//! files of their own, and a change is written once a majority of them has it ([`replication`](super::replication)).

mod kept;
mod own;
pub(super) mod records;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use firesteel_base::{JobId, Timestamp, UserError};
use tonic::Status;

use super::replication::{self, Office};
use super::stopping;
use crate::config::unix_ms;
use crate::machine::Machine;
use crate::machine::job::Job;
pub(super) use kept::KeptJob;
use own::OwnFile;
pub(super) use own::{FILE as OWN_FILE, cannot, open_database};
use records::{Change, Numbers, Row};

/// Numbers that jobs may be given before the journal is written anew.
const NUMBERS_AHEAD: u64 = 1000;

/// Bytes of SQL texts from which on a change takes no further job: it must be a call between managers.
const CHANGE_TEXT_MAX: usize = 16 << 20;

/// What a manager keeps for the one after it.
#[derive(Debug)]
pub struct Journal {
    store: Store,
    numbers: Numbers,
    now: Timestamp,
    /// What the manager before has left, until it is taken.
    jobs: Vec<Job>,
    changed: BTreeSet<JobId>,
    urgent: bool,
}

/// Where it is kept.
#[derive(Debug)]
enum Store {
    Own(OwnFile),
    Members(Office),
}

impl Journal {
    /// Opens the journal in a folder, which is made when there is none, and begins another run.
    ///
    /// # Errors
    /// When another manager has it open, or it cannot be read or written, or is of another form, or the folder is that of one of
    /// several managers.
    pub fn open(folder: &Path) -> Result<Self, UserError> {
        if folder.join(replication::FILE).exists() {
            return Err(UserError::new(format!(
                "the folder {} is that of one of several managers",
                folder.display()
            ))
            .detail("a manager alone would not know what the others keep")
            .hint("name all of them with --peers (manager.peers), or give this one a folder of its own with --state DIR"));
        }
        let (own, numbers, rows) = OwnFile::open(folder)?;
        Self::begin(numbers, &rows)
            .map(|journal| journal(Store::Own(own)))
            .map_err(|fault| cannot("read", &folder.join(OWN_FILE), &fault))
    }

    /// The journal that several managers keep together, as it is when this one begins to lead.
    ///
    /// # Errors
    /// When it holds what this release does not know, in words.
    pub(super) fn of_members(office: Office, numbers: Numbers, rows: &[Row]) -> Result<Self, String> {
        Self::begin(numbers, rows).map(|journal| journal(Store::Members(office)))
    }

    fn begin(numbers: Numbers, rows: &[Row]) -> Result<impl FnOnce(Store) -> Self, String> {
        let read = |(id, json): &Row| {
            let job = KeptJob::from_json(json).and_then(|job| job.into_job(JobId(*id)));
            job.map_err(|fault| format!("{}: {fault}", JobId(*id)))
        };
        let jobs = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let last = jobs.iter().map(last_time).max().unwrap_or_default();
        let now = Timestamp(unix_ms().saturating_sub(numbers.origin_unix_ms)).max(last);
        Ok(move |store| Self { store, numbers, now, jobs, changed: BTreeSet::new(), urgent: false })
    }

    /// The unix clock at the journal's time 0: when the first manager began it.
    pub(super) fn origin_unix_ms(&self) -> u64 {
        self.numbers.origin_unix_ms
    }

    /// Past all epochs that earlier runs gave out.
    pub(super) fn epoch_seed(&self) -> u64 {
        self.numbers.epoch_seed
    }

    /// The journal's time when it was opened: past all that is kept.
    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    /// The jobs that the manager before has left.
    pub(super) fn take_jobs(&mut self) -> Vec<Job> {
        std::mem::take(&mut self.jobs)
    }

    /// A job has changed, or is forgotten. One that is urgent is to be written before anybody hears of the change.
    pub(super) fn note(&mut self, job: JobId, urgent: bool) {
        self.changed.insert(job);
        self.urgent |= urgent;
    }

    /// Whether something has changed that is not written.
    pub(super) fn has_unwritten(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Whether something urgent has changed, or numbers are about to be given that a later run might give again.
    pub(super) fn is_urgent(&self, machine: &Machine) -> bool {
        self.urgent || machine.numbered() >= self.numbers.numbered
    }

    /// What earlier runs may have numbered jobs up to, whether these were written or not.
    pub(super) fn numbered(&self) -> u64 {
        self.numbers.numbered
    }

    /// What is to be written of a machine next, if anything is: it is taken to be written from now on.
    pub(super) fn take_change(&mut self, machine: &Machine) -> Option<Change> {
        let needs_numbers = machine.numbered() + NUMBERS_AHEAD / 2 > self.numbers.numbered;
        if self.changed.is_empty() && !needs_numbers {
            return None;
        }
        if needs_numbers {
            self.numbers.numbered = machine.numbered() + NUMBERS_AHEAD;
        }
        let (mut jobs, mut text) = (BTreeMap::new(), 0);
        while text < CHANGE_TEXT_MAX
            && let Some(id) = self.changed.pop_first()
        {
            let job = machine.job(id);
            text += job.map_or(0, |job| job.sql.len());
            jobs.insert(id.0, job.map(KeptJob::of));
        }
        self.urgent &= !self.changed.is_empty();
        Some(Change { run: self.numbers.epoch_seed, numbered: self.numbers.numbered, jobs })
    }

    /// Writes a change: it is on the disk, or on those of a majority, when this returns.
    ///
    /// # Errors
    /// When it is not. The manager that writes it must end: it may or may not be kept.
    pub(super) async fn write(&self, change: Change) -> Result<(), UserError> {
        match &self.store {
            Store::Own(own) => own.write(&change),
            Store::Members(office) => office.write(change).await,
        }
    }

    /// Whether no other manager can have begun in the place of this one.
    pub(super) fn is_in_office(&self) -> bool {
        match &self.store {
            Store::Own(_) => true,
            Store::Members(office) => office.is_held(),
        }
    }

    /// What everybody is told who is connected to the manager when it ends.
    pub(super) fn farewell(&self) -> Status {
        match &self.store {
            Store::Own(_) => stopping(),
            Store::Members(office) => office.farewell(),
        }
    }
}

fn last_time(job: &Job) -> Timestamp {
    let cancelled = job.cancelled.as_ref().map(|(at, _)| *at);
    job.submitted.max(job.ended.max(job.started).max(cancelled).unwrap_or_default())
}

#[cfg(test)]
mod tests;
