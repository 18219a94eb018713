//! The log and the vote, as the consensus library asks for them.

use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};

use openraft::storage::{LogFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{OptionalSend, StorageError, StorageIOError};
use redb::{Durability, ReadableTable};

use super::record::{Entry, LogId, Records, Vote};
use super::store::{self, LOG, Store};

/// Entries that are sent in one call end at so many bytes, the first excepted.
const BATCH_BYTES_MAX: usize = 8 << 20;

type Stored<T> = Result<T, StorageError<u64>>;

/// The log of a member.
#[derive(Debug, Clone)]
pub(super) struct Log(pub Store);

impl Log {
    fn entries(&self, range: impl RangeBounds<u64>, bytes_max: usize) -> Stored<Vec<Entry>> {
        let range: (Bound<u64>, Bound<u64>) = (range.start_bound().cloned(), range.end_bound().cloned());
        let read = self.0.read(|reading| {
            let (mut entries, mut bytes) = (Vec::new(), 0);
            for entry in reading.open_table(LOG)?.range::<u64>(range)? {
                let (_, json) = entry?;
                bytes += json.value().len();
                if bytes > bytes_max && !entries.is_empty() {
                    break;
                }
                entries.push(store::from_json(json.value())?);
            }
            Ok(entries)
        });
        read.map_err(|fault| StorageIOError::read_logs(store::fault(&fault)).into())
    }
}

impl RaftLogReader<Records> for Log {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Stored<Vec<Entry>> {
        self.entries(range, usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Stored<Vec<Entry>> {
        self.entries(start..end, BATCH_BYTES_MAX)
    }
}

impl RaftLogStorage<Records> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Stored<LogState<Records>> {
        let read = self.0.read(|reading| {
            let purged: Option<LogId> = store::get_read(reading, "purged")?;
            let table = reading.open_table(LOG)?;
            let last = table.last()?.map(|(_, json)| store::from_json::<Entry>(json.value())).transpose()?;
            Ok((purged, last.map(|entry| entry.log_id)))
        });
        let (purged, last) = read.map_err(|fault| StorageIOError::read_logs(store::fault(&fault)))?;
        Ok(LogState { last_purged_log_id: purged, last_log_id: last.or(purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Stored<()> {
        let vote = *vote;
        let written = self.0.write(Durability::Immediate, move |writing| store::put(writing, "vote", &vote));
        written.await.map_err(|fault| StorageIOError::write_vote(store::fault(&fault)).into())
    }

    async fn read_vote(&mut self) -> Stored<Option<Vote>> {
        let read = self.0.read(|reading| store::get_read(reading, "vote"));
        read.map_err(|fault| StorageIOError::read_vote(store::fault(&fault)).into())
    }

    async fn append<I>(&mut self, entries: I, flushed: LogFlushed<Records>) -> Stored<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let rows: Vec<_> =
            entries.into_iter().map(|entry| (entry.log_id.index, store::to_json(&entry))).collect();
        let written = self.0.write(Durability::Immediate, move |writing| {
            let mut log = writing.open_table(LOG)?;
            for (index, json) in &rows {
                log.insert(index, json.as_slice())?;
            }
            Ok(())
        });
        written.await.map_err(|fault| StorageIOError::write_logs(store::fault(&fault)))?;
        flushed.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, since: LogId) -> Stored<()> {
        let written = self.0.write(Durability::Immediate, move |writing| {
            Ok(writing.open_table(LOG)?.retain_in(since.index.., |_, _| false)?)
        });
        written.await.map_err(|fault| StorageIOError::write_logs(store::fault(&fault)).into())
    }

    async fn purge(&mut self, upto: LogId) -> Stored<()> {
        let written = self.0.write(Durability::Immediate, move |writing| {
            store::put(writing, "purged", &upto)?;
            Ok(writing.open_table(LOG)?.retain_in(..=upto.index, |_, _| false)?)
        });
        written.await.map_err(|fault| StorageIOError::write_logs(store::fault(&fault)).into())
    }
}
