//! The database of a member: log, vote and state in one file (redb), each change whole or not at all.
//!
//! ```text
//!   DIR/member.redb   meta:     format, members, me, folder, founders, has_vote, vote, purged, applied, membership; as JSON
//!                     log:      index -> entry, as JSON
//!                     numbers, jobs: the journal, as far as the log was applied
//!                     snapshot: meta, data; the latest one
//! ```
//!
//! Votes and entries are on the disk before they are acknowledged. What is applied need not be: an entry that was is in the log,
//! which is on the disk, and is applied again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use firesteel_base::UserError;
use openraft::AnyError;
use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableError,
    WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{FILE, Peers};
use crate::shell::journal::{OWN_FILE, cannot, open_database};

pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
pub(super) const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
pub(super) const SNAPSHOT: TableDefinition<&str, &[u8]> = TableDefinition::new("snapshot");
/// Where the system gives out random names.
const RANDOM: &str = "/proc/sys/kernel/random/uuid";
/// The form of what is kept.
const FORMAT: u64 = 1;

/// A handle to it.
#[derive(Debug, Clone)]
pub(super) struct Store {
    database: Arc<Database>,
    file: Arc<PathBuf>,
    /// Names the folder: random, new when there was nothing in it.
    folder: Arc<str>,
}

impl Store {
    /// Opens it, or makes it for this member of that list.
    pub fn open(folder: &Path, peers: &Peers) -> Result<Self, UserError> {
        if folder.join(OWN_FILE).exists() {
            return Err(UserError::new(format!(
                "the folder {} holds the journal of a manager that was alone",
                folder.display()
            ))
            .detail("what it kept is not taken over by several managers")
            .hint("give this one a folder of its own with --state DIR (manager.state)"));
        }
        let (database, file) = open_database(folder, FILE)?;
        let new = std::fs::read_to_string(RANDOM).map_err(|fault| cannot("name", &file, &fault))?;
        let store = Self { database: Arc::new(database), file: Arc::new(file), folder: new.trim().into() };
        let found = store.claim(peers).map_err(|fault| store.cannot("read", &fault))?;
        found.check(peers).map_err(|(fault, hint)| store.cannot("use", &fault).hint(hint))?;
        Ok(Self { folder: found.folder.into(), ..store })
    }

    pub fn folder(&self) -> &str {
        &self.folder
    }

    pub fn cannot(&self, what: &str, fault: &dyn std::fmt::Display) -> UserError {
        cannot(what, &self.file, fault)
    }

    fn claim(&self, peers: &Peers) -> Result<Owner, redb::Error> {
        let writing = self.database.begin_write()?;
        let format = get(&writing, "format")?.unwrap_or(FORMAT);
        let members = get(&writing, "members")?.unwrap_or_else(|| peers.to_string());
        let me = get(&writing, "me")?.unwrap_or_else(|| peers.my_address().to_owned());
        let folder = get(&writing, "folder")?.unwrap_or_else(|| self.folder.to_string());
        let found = Owner { format, members, me, folder };
        if found.check(peers).is_err() {
            writing.abort()?;
            return Ok(found);
        }
        put(&writing, "format", &FORMAT)?;
        put(&writing, "members", &found.members)?;
        put(&writing, "me", &found.me)?;
        put(&writing, "folder", &found.folder)?;
        writing.open_table(LOG)?;
        writing.open_table(SNAPSHOT)?;
        writing.open_table(crate::shell::journal::records::JOBS)?;
        writing.open_table(crate::shell::journal::records::NUMBERS)?;
        writing.commit()?;
        Ok(found)
    }

    /// Whether this member has all that it ever acknowledged, and so a vote.
    pub fn has_vote(&self) -> Result<bool, redb::Error> {
        Ok(self.read(|reading| get_read(reading, "has_vote"))?.unwrap_or(false))
    }

    /// The folders of all members when the cluster was formed, as far as this one was told.
    pub fn founders(&self) -> Result<Vec<String>, redb::Error> {
        Ok(self.read(|reading| get_read(reading, "founders"))?.unwrap_or_default())
    }

    pub async fn gain_vote(&self, founders: Vec<String>) -> Result<(), redb::Error> {
        let written = self.write(Durability::Immediate, move |writing| {
            put(writing, "founders", &founders)?;
            put(writing, "has_vote", &true)
        });
        written.await
    }

    /// Writes, on a thread that may wait for a disk.
    pub async fn write<T: Send + 'static>(
        &self,
        durability: Durability,
        work: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, redb::Error> {
        let database = Arc::clone(&self.database);
        let writing = tokio::task::spawn_blocking(move || {
            let mut writing = database.begin_write()?;
            writing.set_durability(durability).map_err(|fault| corrupted(&fault))?;
            let done = work(&writing)?;
            writing.commit()?;
            Ok(done)
        });
        writing.await.unwrap_or_else(|fault| Err(corrupted(&fault)))
    }

    /// Reads, from memory for the most part.
    pub fn read<T>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        work(&self.database.begin_read()?)
    }

    pub fn begin_read(&self) -> Result<ReadTransaction, redb::Error> {
        Ok(self.database.begin_read()?)
    }
}

/// Whose database it is.
struct Owner {
    format: u64,
    members: String,
    me: String,
    folder: String,
}

impl Owner {
    fn check(&self, peers: &Peers) -> Result<(), (String, &'static str)> {
        let Self { format, members, me, folder: _ } = self;
        if *format != FORMAT {
            let fault = format!("it has form {format}, this release knows form {FORMAT}");
            return Err((fault, "run the release that made it"));
        }
        if *members != peers.to_string() {
            let fault = format!("it is of the managers {members}, and manager.peers names {peers}");
            let hint = "a cluster's list of managers does not change: give the same one, or a new folder to each manager";
            return Err((fault, hint));
        }
        if me != peers.my_address() {
            let fault = format!("it is that of the manager {me}, and this one is {}", peers.my_address());
            return Err((fault, "give each manager a folder of its own with --state DIR (manager.state)"));
        }
        Ok(())
    }
}

/// A value of the table of single things.
pub(super) fn get<T: DeserializeOwned>(
    writing: &WriteTransaction,
    name: &str,
) -> Result<Option<T>, redb::Error> {
    let table = writing.open_table(META)?;
    let value = table.get(name)?;
    value.map(|json| from_json(json.value())).transpose()
}

pub(super) fn get_read<T: DeserializeOwned>(
    reading: &ReadTransaction,
    name: &str,
) -> Result<Option<T>, redb::Error> {
    match reading.open_table(META) {
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        table => table?.get(name)?.map(|json| from_json(json.value())).transpose(),
    }
}

pub(super) fn put<T: Serialize>(
    writing: &WriteTransaction,
    name: &str,
    value: &T,
) -> Result<(), redb::Error> {
    writing.open_table(META)?.insert(name, to_json(value).as_slice())?;
    Ok(())
}

pub(super) fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data becomes JSON")
}

pub(super) fn from_json<T: DeserializeOwned>(json: &[u8]) -> Result<T, redb::Error> {
    serde_json::from_slice(json).map_err(|fault| corrupted(&fault))
}

pub(super) fn corrupted(fault: &dyn std::fmt::Display) -> redb::Error {
    redb::Error::Corrupted(fault.to_string())
}

/// A fault of the disk, as the consensus library carries it: it ends the member.
pub(super) fn fault(fault: &redb::Error) -> AnyError {
    AnyError::new(fault)
}
