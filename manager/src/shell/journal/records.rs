//! What a journal holds, and how it changes: in the file of a manager that is alone, and in that of each of several.

use std::collections::BTreeMap;
use std::io;

use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::kept::KeptJob;

pub(in crate::shell) const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("numbers");
pub(in crate::shell) const JOBS: TableDefinition<u64, &[u8]> = TableDefinition::new("jobs");

/// Epochs that a run is taken to give out, should the host's clock have gone back since. So little that a manager which is started
/// again and again stays near the clock, and so below the last number that a lease may have.
pub(super) const EPOCHS_OF_A_RUN: u64 = 1_000_000;

/// A job's number, and the job as JSON.
pub(in crate::shell) type Row = (u64, Vec<u8>);

/// What changes at a time. A job that is nothing is forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::shell) struct Change {
    /// Where the epochs of the run begin that writes it.
    pub run: u64,
    /// What jobs may be numbered up to before the journal is written anew.
    pub numbered: u64,
    pub jobs: BTreeMap<u64, Option<KeptJob>>,
}

impl Change {
    /// The bytes of its jobs as they are kept.
    pub fn bytes(&self) -> u64 {
        let mut counted = Counted(0);
        let kept = self.jobs.values().flatten().try_for_each(|job| serde_json::to_writer(&mut counted, job));
        kept.expect("plain data becomes JSON");
        counted.0
    }
}

/// Counts what is written to it.
struct Counted(u64);

impl io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a run begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::shell) struct Numbers {
    /// The unix clock at the journal's time 0: when the first run began it.
    pub origin_unix_ms: u64,
    /// Past all epochs that earlier runs gave out.
    pub epoch_seed: u64,
    /// What earlier runs may have numbered jobs up to.
    pub numbered: u64,
}

/// Notes that a run begins, at a time of the unix clock in milliseconds.
pub(in crate::shell) fn begin_run(writing: &WriteTransaction, now: u64) -> Result<Numbers, redb::Error> {
    let mut numbers = writing.open_table(NUMBERS)?;
    let number = |name: &str| Ok::<_, redb::Error>(numbers.get(name)?.map(|number| number.value()));
    let before = number("epoch_seed")?.map_or(0, |seed| seed.saturating_add(EPOCHS_OF_A_RUN));
    let begun = Numbers {
        origin_unix_ms: number("origin")?.unwrap_or(now),
        epoch_seed: now.max(before),
        numbered: number("numbered")?.unwrap_or(0),
    };
    numbers.insert("origin", begun.origin_unix_ms)?;
    numbers.insert("epoch_seed", begun.epoch_seed)?;
    drop(numbers);
    writing.open_table(JOBS)?;
    Ok(begun)
}

/// The run that began last.
pub(in crate::shell) fn latest_run(writing: &WriteTransaction) -> Result<Option<u64>, redb::Error> {
    Ok(writing.open_table(NUMBERS)?.get("epoch_seed")?.map(|seed| seed.value()))
}

/// Takes a change up.
pub(in crate::shell) fn put(writing: &WriteTransaction, change: &Change) -> Result<(), redb::Error> {
    let mut jobs = writing.open_table(JOBS)?;
    for (number, job) in &change.jobs {
        match job {
            Some(job) => jobs.insert(number, job.to_json().as_slice())?,
            None => jobs.remove(number)?,
        };
    }
    writing.open_table(NUMBERS)?.insert("numbered", change.numbered)?;
    Ok(())
}

/// All jobs, by number.
pub(in crate::shell) fn rows(reading: &ReadTransaction) -> Result<Vec<Row>, redb::Error> {
    let mut rows = Vec::new();
    for job in reading.open_table(JOBS)?.iter()? {
        let (number, json) = job?;
        rows.push((number.value(), json.value().to_vec()));
    }
    Ok(rows)
}
