//! What a generated folder holds, written down beside the files.

use std::collections::BTreeMap;
use std::path::Path;

use firesteel_base::UserError;
use serde::{Deserialize, Serialize};

use super::folder;

use super::options::Compression;
use super::tables::{Benchmark, Table};

/// Everything that decides what the files of a folder hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The benchmark.
    pub benchmark: Benchmark,
    /// The scale factor.
    pub scale: f64,
    /// Files a table at most.
    pub files: u32,
    /// Rows a row group at most.
    pub row_group_rows: u64,
    /// How pages are compressed.
    pub compression: Compression,
    /// The generator of the rows and its version.
    pub generator: String,
}

/// `manifest.json`: the recipe, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// What was asked for.
    pub recipe: Recipe,
    /// The release of Firesteel that wrote the files.
    pub release: String,
    /// The tables by name.
    pub tables: BTreeMap<String, TableEntry>,
}

/// A table of a [`Manifest`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableEntry {
    /// Rows in all its files.
    pub rows: u64,
    /// Bytes of all its files.
    pub bytes: u64,
    /// Its files, in the order of their rows.
    pub files: Vec<FileEntry>,
}

/// A file of a [`TableEntry`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its path relative to the folder.
    pub path: String,
    /// Its rows.
    pub rows: u64,
    /// Its bytes.
    pub bytes: u64,
    /// xxh3-64 of its bytes, in hexadecimal; older folders have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
}

impl Manifest {
    pub(super) fn new(recipe: Recipe, files: Vec<(Table, FileEntry)>) -> Self {
        let mut tables = BTreeMap::<String, TableEntry>::new();
        for (table, file) in files {
            let entry = tables.entry(table.name().to_owned()).or_default();
            entry.rows += file.rows;
            entry.bytes += file.bytes;
            entry.files.push(file);
        }
        for entry in tables.values_mut() {
            entry.files.sort_by(|a, b| a.path.cmp(&b.path));
        }
        Self { recipe, release: firesteel_base::version::RELEASE.to_owned(), tables }
    }

    /// That of a complete folder.
    ///
    /// # Errors
    /// When the folder is no complete data of ours.
    pub fn load(folder: &Path) -> Result<Self, UserError> {
        folder::load(folder)
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.tables.values().map(|table| table.bytes).sum()
    }

    /// All files.
    pub fn files(&self) -> impl Iterator<Item = &FileEntry> {
        self.tables.values().flat_map(|table| &table.files)
    }
}
