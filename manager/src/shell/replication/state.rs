//! The journal as the log makes it, and its snapshots.

use std::collections::BTreeMap;
use std::io::Cursor;

use openraft::storage::{RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use openraft::{EntryPayload, OptionalSend, StorageError, StorageIOError};
use redb::{Durability, ReadTransaction, ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::record::{Entry, LogId, Membership, Outcome, Record, Records, SnapshotMeta};
use super::store::{self, SNAPSHOT, Store};
use crate::shell::journal::KeptJob;
use crate::shell::journal::records::{self, JOBS, NUMBERS};

type Stored<T> = Result<T, StorageError<u64>>;

/// The state of a member.
#[derive(Debug, Clone)]
pub(super) struct State(pub Store);

/// A snapshot: all that the journal holds.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Image {
    numbers: BTreeMap<String, u64>,
    jobs: BTreeMap<u64, KeptJob>,
}

impl Image {
    fn take(reading: &ReadTransaction) -> Result<Self, redb::Error> {
        let mut numbers = BTreeMap::new();
        for number in reading.open_table(NUMBERS)?.iter()? {
            let (name, number) = number?;
            numbers.insert(name.value().to_owned(), number.value());
        }
        let mut jobs = BTreeMap::new();
        for (number, json) in records::rows(reading)? {
            jobs.insert(number, KeptJob::from_json(&json).map_err(|fault| store::corrupted(&fault))?);
        }
        Ok(Self { numbers, jobs })
    }

    fn install(&self, writing: &WriteTransaction) -> Result<(), redb::Error> {
        let mut numbers = writing.open_table(NUMBERS)?;
        numbers.retain(|_, _| false)?;
        for (name, number) in &self.numbers {
            numbers.insert(name.as_str(), number)?;
        }
        let mut jobs = writing.open_table(JOBS)?;
        jobs.retain(|_, _| false)?;
        for (number, job) in &self.jobs {
            jobs.insert(number, job.to_json().as_slice())?;
        }
        Ok(())
    }
}

fn apply(writing: &WriteTransaction, entry: &Entry) -> Result<Outcome, redb::Error> {
    store::put(writing, "applied", &entry.log_id)?;
    Ok(match &entry.payload {
        EntryPayload::Blank => Outcome::Nothing,
        EntryPayload::Membership(members) => {
            store::put(writing, "membership", &Membership::new(Some(entry.log_id), members.clone()))?;
            Outcome::Nothing
        }
        EntryPayload::Normal(Record::RunBegins { unix_ms }) => {
            Outcome::Begun(records::begin_run(writing, *unix_ms)?)
        }
        EntryPayload::Normal(Record::Changes(change)) => {
            if records::latest_run(writing)? == Some(change.run) {
                records::put(writing, change)?;
                Outcome::Changed
            } else {
                Outcome::Superseded
            }
        }
    })
}

fn applied(reading: &ReadTransaction) -> Result<(Option<LogId>, Membership), redb::Error> {
    Ok((store::get_read(reading, "applied")?, store::get_read(reading, "membership")?.unwrap_or_default()))
}

impl RaftStateMachine<Records> for State {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Stored<(Option<LogId>, Membership)> {
        self.0.read(applied).map_err(|fault| StorageIOError::read_state_machine(store::fault(&fault)).into())
    }

    async fn apply<I>(&mut self, entries: I) -> Stored<Vec<Outcome>>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries.into_iter().collect();
        let applied = self.0.write(Durability::None, move |writing| {
            entries.iter().map(|entry| apply(writing, entry)).collect()
        });
        applied.await.map_err(|fault| StorageIOError::write_state_machine(store::fault(&fault)).into())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { store: self.0.clone(), reading: Some(self.0.begin_read()) }
    }

    async fn begin_receiving_snapshot(&mut self) -> Stored<Box<Cursor<Vec<u8>>>> {
        Ok(Box::default())
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Box<Cursor<Vec<u8>>>) -> Stored<()> {
        let (meta, data) = (meta.clone(), snapshot.into_inner());
        let signature = meta.signature();
        let installed = self.0.write(Durability::Immediate, move |writing| {
            store::from_json::<Image>(&data)?.install(writing)?;
            match &meta.last_log_id {
                Some(applied) => store::put(writing, "applied", applied)?,
                None => return Err(store::corrupted(&"a snapshot of nothing")),
            }
            store::put(writing, "membership", &meta.last_membership)?;
            keep(writing, &meta, &data)
        });
        installed
            .await
            .map_err(|fault| StorageIOError::write_snapshot(Some(signature), store::fault(&fault)).into())
    }

    async fn get_current_snapshot(&mut self) -> Stored<Option<Snapshot<Records>>> {
        let read = self.0.read(|reading| {
            let table = reading.open_table(SNAPSHOT)?;
            let (Some(meta), Some(data)) = (table.get("meta")?, table.get("data")?) else { return Ok(None) };
            let meta = store::from_json(meta.value())?;
            Ok(Some(Snapshot { meta, snapshot: Box::new(Cursor::new(data.value().to_vec())) }))
        });
        read.map_err(|fault| StorageIOError::read_snapshot(None, store::fault(&fault)).into())
    }
}

fn keep(writing: &WriteTransaction, meta: &SnapshotMeta, data: &[u8]) -> Result<(), redb::Error> {
    let mut table = writing.open_table(SNAPSHOT)?;
    table.insert("meta", store::to_json(meta).as_slice())?;
    table.insert("data", data)?;
    Ok(())
}

/// Builds a snapshot of the state as it was when this was made.
pub(super) struct Builder {
    store: Store,
    reading: Option<Result<ReadTransaction, redb::Error>>,
}

impl RaftSnapshotBuilder<Records> for Builder {
    async fn build_snapshot(&mut self) -> Stored<Snapshot<Records>> {
        let reading = self.reading.take().unwrap_or_else(|| self.store.begin_read());
        let built = self.store.write(Durability::Immediate, move |writing| {
            let reading = reading?;
            let (last_log_id, last_membership) = applied(&reading)?;
            let snapshot_id = last_log_id.map_or_else(String::new, |last| last.to_string());
            let meta = SnapshotMeta { last_log_id, last_membership, snapshot_id };
            let data = store::to_json(&Image::take(&reading)?);
            keep(writing, &meta, &data)?;
            Ok(Snapshot { meta, snapshot: Box::new(Cursor::new(data)) })
        });
        built.await.map_err(|fault| StorageIOError::write_snapshot(None, store::fault(&fault)).into())
    }
}
