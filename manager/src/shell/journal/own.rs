//! The journal of a manager that is alone: a database of one file.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use firesteel_base::UserError;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable};

use super::records::{self, Change, NUMBERS, Numbers, Row};
use crate::config::unix_ms;

pub(in crate::shell) const FILE: &str = "manager.redb";
/// The form of what is kept.
pub(super) const FORMAT: u64 = 1;

/// The file, which no other manager has open.
#[derive(Debug)]
pub(super) struct OwnFile {
    pub database: Database,
    file: PathBuf,
}

impl OwnFile {
    /// Opens it and begins a run.
    pub fn open(folder: &Path) -> Result<(Self, Numbers, Vec<Row>), UserError> {
        let (database, file) = open_database(folder, FILE)?;
        let own = Self { database, file };
        let (format, numbers, rows) = own.begin_run().map_err(|fault| own.cannot("read", &fault))?;
        if format != FORMAT {
            let found = format!("it has form {format}, this release knows form {FORMAT}");
            return Err(own.cannot("read", &found).hint("run the release that made it"));
        }
        Ok((own, numbers, rows))
    }

    fn begin_run(&self) -> Result<(u64, Numbers, Vec<Row>), redb::Error> {
        let writing = self.database.begin_write()?;
        let format = writing.open_table(NUMBERS)?.get("format")?.map_or(FORMAT, |format| format.value());
        let numbers = records::begin_run(&writing, unix_ms())?;
        if format == FORMAT {
            writing.open_table(NUMBERS)?.insert("format", format)?;
            writing.commit()?;
        } else {
            // Another release knows what it means.
            writing.abort()?;
            return Ok((format, numbers, Vec::new()));
        }
        Ok((format, numbers, records::rows(&self.database.begin_read()?)?))
    }

    /// Writes a change: it is on the disk when this returns.
    pub fn write(&self, change: &Change) -> Result<(), UserError> {
        let written = || -> Result<(), redb::Error> {
            let writing = self.database.begin_write()?;
            records::put(&writing, change)?;
            Ok(writing.commit()?)
        };
        written().map_err(|fault| {
            self.cannot("write", &fault).hint("is its disk full? What runs goes on; start the manager again")
        })
    }

    pub fn cannot(&self, what: &str, fault: &dyn std::fmt::Display) -> UserError {
        cannot(what, &self.file, fault)
    }
}

/// Opens a database in a folder, which is made when there is none.
///
/// # Errors
/// When another manager has it open, or it cannot be read or written.
pub(in crate::shell) fn open_database(folder: &Path, name: &str) -> Result<(Database, PathBuf), UserError> {
    let file = folder.join(name);
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
    Ok((database, file))
}

pub(in crate::shell) fn cannot(what: &str, file: &Path, fault: &dyn std::fmt::Display) -> UserError {
    UserError::new(format!("cannot {what} the manager's journal {}", file.display()))
        .detail(fault.to_string())
}
