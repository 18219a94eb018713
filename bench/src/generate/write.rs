//! One file: written under a temporary name, renamed when it is whole.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use arrow::record_batch::RecordBatchReader;
use firesteel_base::UserError;
use xxhash_rust::xxh3::Xxh3;

use super::fault;
use super::folder::Folder;
use super::manifest::{FileEntry, Recipe};
use super::parallel::Stop;
use super::tables::Part;
use super::writer::{RowsFault, RowsWriter, rows_of_whole};
use crate::progress::Progress;

/// A folder that is being filled, and for whom.
#[derive(Clone, Copy)]
pub(super) struct Filling<'a> {
    pub folder: &'a Folder,
    pub recipe: &'a Recipe,
    pub progress: &'a dyn Progress,
}

impl Filling<'_> {
    /// Writes the file of `part`, unless an earlier run did; nothing when `stop` says so before it is whole.
    pub fn ensure_part(&self, part: &Part, stop: Stop<'_>) -> Result<Option<FileEntry>, UserError> {
        if let Some(entry) = self.whole_part(part)? {
            self.progress.advance(entry.rows);
            return Ok(Some(entry));
        }
        self.write_part(part, part.read(self.recipe)?, stop)
    }

    /// The file of `part`, when an earlier run wrote it and nobody changed it.
    pub fn whole_part(&self, part: &Part) -> Result<Option<FileEntry>, UserError> {
        let path = self.path(part);
        let Some(rows) = rows_of_whole(&path, part.table, self.recipe) else { return Ok(None) };
        let entry = self.entry(part, rows)?;
        Ok(Some(entry).filter(|entry| self.folder.agrees(entry)))
    }

    /// Writes the file of `part`; nothing when `stop` says so before it is whole.
    pub fn write_part(
        &self,
        part: &Part,
        rows: Box<dyn RecordBatchReader + '_>,
        stop: Stop<'_>,
    ) -> Result<Option<FileEntry>, UserError> {
        let path = self.path(part);
        let table = path.parent().expect("a part lies in its table's folder");
        fs::create_dir_all(table).map_err(|error| fault::io("make the folder", table, &error))?;
        let mut temporary = path.clone().into_os_string();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        let file = File::create(&temporary).map_err(|error| fault::io("write", &temporary, &error))?;
        let written = self
            .write_rows(file, part, rows, stop)
            .map_err(|error| fault::rows("write", &temporary, &*error))
            .and_then(|rows| rows.map(|rows| self.publish(&temporary, part, rows)).transpose());
        if !matches!(written, Ok(Some(_))) {
            // The fault that led here is the one to tell; a left-over temporary file is ignored and overwritten anyway.
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    fn write_rows(
        &self,
        file: File,
        part: &Part,
        batches: Box<dyn RecordBatchReader + '_>,
        stop: Stop<'_>,
    ) -> Result<Option<u64>, RowsFault> {
        let mut writer = RowsWriter::new(file, part.table, self.recipe)?;
        let mut rows = 0;
        for batch in batches {
            if stop() {
                return Ok(None);
            }
            let batch = batch?;
            writer.write(&batch)?;
            rows += batch.num_rows() as u64;
            self.progress.advance(batch.num_rows() as u64);
        }
        writer.finish()?;
        Ok(Some(rows))
    }

    fn publish(&self, temporary: &Path, part: &Part, rows: u64) -> Result<FileEntry, UserError> {
        let path = self.path(part);
        fs::rename(temporary, &path).map_err(|error| fault::io("rename to", &path, &error))?;
        self.entry(part, rows)
    }

    /// What the manifest says of a whole file. It is read back, so that the checksum is of what the disk gives.
    fn entry(&self, part: &Part, rows: u64) -> Result<FileEntry, UserError> {
        let (bytes, checksum) = checksum(&self.path(part))?;
        Ok(FileEntry { path: part.path(self.recipe), rows, bytes, checksum: Some(checksum) })
    }

    fn path(&self, part: &Part) -> PathBuf {
        self.folder.path().join(part.path(self.recipe))
    }
}

/// The bytes of a file: how many, and xxh3-64 of them in hexadecimal.
pub(super) fn checksum(path: &Path) -> Result<(u64, String), UserError> {
    let mut file = File::open(path).map_err(|error| fault::io("read", path, &error))?;
    let mut hash = Xxh3::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut buffer).map_err(|error| fault::io("read", path, &error))?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        bytes += read as u64;
    }
    Ok((bytes, format!("{:016x}", hash.digest())))
}
