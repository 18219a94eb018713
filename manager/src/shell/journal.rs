//! The journal: what of jobs must outlive the manager, in a database of one file (redb).
//!
//! ```text
//!   DIR/manager.redb    numbers: format, origin (unix ms at time 0), epoch_seed (of the run that has it open),
//!                                numbered (jobs get numbers up to it before it is written anew)
//!                       jobs:    number -> the job as JSON, live or ended, as long as the manager remembers it
//! ```
//!
//! Nothing of leases, workers or executors is kept: drivers and workers know better, and tell when they come back. One
//! manager has the file open; another one that is started on it by mistake is refused.

mod kept;

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use firesteel_base::{JobId, Timestamp, UserError};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};

use crate::config::unix_ms;
use crate::machine::Machine;
use crate::machine::job::Job;
use kept::KeptJob;

const FILE: &str = "manager.redb";
const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("numbers");
const JOBS: TableDefinition<u64, &[u8]> = TableDefinition::new("jobs");
/// The form of what is kept.
const FORMAT: u64 = 1;
/// Numbers that jobs may be given before the journal is written anew.
const NUMBERS_AHEAD: u64 = 1000;
/// Epochs that a run is taken to give out, should the host's clock have gone back since. So little that a manager which is started
/// again and again stays near the clock, and so below the last number that a lease may have.
const EPOCHS_OF_A_RUN: u64 = 1_000_000;

/// A job's number, and the job as JSON.
type Row = (u64, Vec<u8>);

/// What a manager keeps for the one after it.
#[derive(Debug)]
pub struct Journal {
    database: Database,
    file: PathBuf,
    origin_unix_ms: u64,
    epoch_seed: u64,
    numbered: u64,
    now: Timestamp,
    /// What the manager before has left, until it is taken.
    jobs: Vec<Job>,
    changed: BTreeSet<JobId>,
    urgent: bool,
}

impl Journal {
    /// Opens the journal in a folder, which is made when there is none, and begins another run.
    ///
    /// # Errors
    /// When another manager has it open, or it cannot be read or written, or is of another form.
    pub fn open(folder: &Path) -> Result<Self, UserError> {
        let file = folder.join(FILE);
        // SQL texts and settings are nobody else's.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|fault| cannot("make the folder of", &file, &fault))?;
        let database = Database::create(&file).map_err(|fault| match fault {
            DatabaseError::DatabaseAlreadyOpen => {
                UserError::new(format!("another manager has the journal {} open", file.display()))
                    .hint("stop it, or give this one a folder of its own with --state DIR (manager.state)")
            }
            fault => cannot("open", &file, &fault),
        })?;
        let mut journal = Self {
            database,
            file,
            origin_unix_ms: 0,
            epoch_seed: 0,
            numbered: 0,
            now: Timestamp(0),
            jobs: Vec::new(),
            changed: BTreeSet::new(),
            urgent: false,
        };
        journal.begin_run()?;
        Ok(journal)
    }

    /// The unix clock at the journal's time 0: when the first manager began it.
    pub(super) fn origin_unix_ms(&self) -> u64 {
        self.origin_unix_ms
    }

    /// Past all epochs that earlier runs gave out.
    pub(super) fn epoch_seed(&self) -> u64 {
        self.epoch_seed
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
        self.urgent || machine.numbered() >= self.numbered
    }

    /// What earlier runs may have numbered jobs up to, whether these were written or not.
    pub(super) fn numbered(&self) -> u64 {
        self.numbered
    }

    /// Writes what has changed: it is on the disk when this returns.
    ///
    /// # Errors
    /// When it is not.
    pub(super) fn write(&mut self, machine: &Machine) -> Result<(), UserError> {
        let needs_numbers = machine.numbered() + NUMBERS_AHEAD / 2 > self.numbered;
        if self.changed.is_empty() && !needs_numbers {
            return Ok(());
        }
        let changed = std::mem::take(&mut self.changed);
        self.urgent = false;
        if needs_numbers {
            self.numbered = machine.numbered() + NUMBERS_AHEAD;
        }
        self.write_jobs(machine, &changed).map_err(|fault| {
            cannot("write", &self.file, &fault)
                .hint("is its disk full? What runs goes on; start the manager again")
        })
    }

    fn write_jobs(&self, machine: &Machine, changed: &BTreeSet<JobId>) -> Result<(), redb::Error> {
        let writing = self.database.begin_write()?;
        {
            let mut jobs = writing.open_table(JOBS)?;
            for id in changed {
                match machine.job(*id) {
                    Some(job) => jobs.insert(id.0, KeptJob::of(job).to_json().as_slice())?,
                    None => jobs.remove(id.0)?,
                };
            }
        }
        writing.open_table(NUMBERS)?.insert("numbered", self.numbered)?;
        Ok(writing.commit()?)
    }

    fn begin_run(&mut self) -> Result<(), UserError> {
        let (format, jobs) = self.number_run().map_err(|fault| cannot("read", &self.file, &fault))?;
        if format != FORMAT {
            let found = format!("it has form {format}, this release knows form {FORMAT}");
            return Err(cannot("read", &self.file, &found).hint("run the release that made it"));
        }
        let read = |(id, json): Row| {
            let job = KeptJob::from_json(&json).and_then(|job| job.into_job(JobId(id)));
            job.map_err(|fault| format!("{}: {fault}", JobId(id)))
        };
        let jobs = jobs.into_iter().map(read).collect::<Result<Vec<_>, _>>();
        self.jobs = jobs.map_err(|fault| cannot("read", &self.file, &fault))?;
        let last = self.jobs.iter().map(last_time).max().unwrap_or_default();
        self.now = Timestamp(unix_ms().saturating_sub(self.origin_unix_ms)).max(last);
        Ok(())
    }

    /// Notes a run of its own; returns the form of what is kept, and the jobs.
    fn number_run(&mut self) -> Result<(u64, Vec<Row>), redb::Error> {
        let writing = self.database.begin_write()?;
        let format = {
            let mut numbers = writing.open_table(NUMBERS)?;
            let number = |name: &str| Ok::<_, redb::Error>(numbers.get(name)?.map(|number| number.value()));
            let now = unix_ms();
            let format = number("format")?.unwrap_or(FORMAT);
            self.origin_unix_ms = number("origin")?.unwrap_or(now);
            self.numbered = number("numbered")?.unwrap_or(0);
            let before = number("epoch_seed")?.map_or(0, |seed| seed.saturating_add(EPOCHS_OF_A_RUN));
            self.epoch_seed = now.max(before);
            if format == FORMAT {
                numbers.insert("format", format)?;
                numbers.insert("origin", self.origin_unix_ms)?;
                numbers.insert("epoch_seed", self.epoch_seed)?;
            }
            format
        };
        writing.open_table(JOBS)?;
        writing.commit()?;
        let reading = self.database.begin_read()?;
        let mut jobs = Vec::new();
        for job in reading.open_table(JOBS)?.iter()? {
            let (id, json) = job?;
            jobs.push((id.value(), json.value().to_vec()));
        }
        Ok((format, jobs))
    }
}

fn last_time(job: &Job) -> Timestamp {
    let cancelled = job.cancelled.as_ref().map(|(at, _)| *at);
    job.submitted.max(job.ended.max(job.started).max(cancelled).unwrap_or_default())
}

fn cannot(what: &str, file: &Path, fault: &dyn std::fmt::Display) -> UserError {
    UserError::new(format!("cannot {what} the manager's journal {}", file.display()))
        .detail(fault.to_string())
}

#[cfg(test)]
mod tests;
