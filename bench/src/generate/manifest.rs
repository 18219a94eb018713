//! What a generated folder holds, written down beside the files.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use firesteel_base::UserError;
use serde::{Deserialize, Serialize};

use super::folder;
use super::format::{Compression, Format};
use super::skew::Skew;
use super::tables::{Benchmark, Table};
use super::write::checksum;

/// The generators draw by the seeds that the specifications fix, one for each column.
pub(super) const FIXED_SEED: &str = "fixed by the generator";

/// Everything that decides what the files of a folder hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The benchmark.
    pub benchmark: Benchmark,
    /// The scale factor.
    pub scale: f64,
    /// The format of the files; older folders, which do not say it, are of Parquet.
    #[serde(default)]
    pub format: Format,
    /// Files a table at most.
    pub files: u32,
    /// Rows a row group at most, where the format has row groups.
    #[serde(default)]
    pub row_group_rows: Option<u64>,
    /// How the files are compressed.
    pub compression: Compression,
    /// Whether the rows of each table are sorted.
    #[serde(default)]
    pub sorted: bool,
    /// How foreign keys of fact tables are spread, when not as the specification says.
    #[serde(default)]
    pub skew: Option<Skew>,
    /// The generator of the rows and its version.
    pub generator: String,
    /// What the generator's draws begin with; those of the skew have a seed of their own.
    #[serde(default = "fixed_seed")]
    pub seed: String,
}

fn fixed_seed() -> String {
    FIXED_SEED.to_owned()
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { benchmark, scale, format, files, compression, generator, .. } = self;
        write!(f, "{benchmark} scale {scale}, {format}, {files} files a table")?;
        if let Some(rows) = self.row_group_rows {
            write!(f, ", {rows} rows a row group")?;
        }
        write!(
            f,
            ", {}, {}",
            compression_told(*compression),
            if self.sorted { "sorted" } else { "not sorted" }
        )?;
        match self.skew {
            Some(skew) => write!(f, ", skew {skew}")?,
            None => f.write_str(", no skew")?,
        }
        write!(f, ", {generator}")
    }
}

fn compression_told(compression: Compression) -> String {
    match compression {
        Compression::None => "not compressed".to_owned(),
        other => other.to_string(),
    }
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

    /// Reads all files of the folder and holds them against their checksums, where there are any.
    ///
    /// # Errors
    /// Names the first file that holds something else, or cannot be read.
    pub fn check_content(&self, folder: &Path) -> Result<(), UserError> {
        for file in self.files() {
            let path = folder.join(&file.path);
            let (_, found) = checksum(&path)?;
            if file.checksum.as_ref().is_some_and(|wanted| *wanted != found) {
                return Err(UserError::new(format!("{} is not what its manifest says", folder.display()))
                    .detail(format!("{} was changed since it was written", path.display()))
                    .hint("remove that file and run the same `firesteel bench gen` again: it makes what is missing"));
            }
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::GenerateOptions;

    #[test]
    fn a_manifest_of_an_older_release_is_that_of_plain_parquet_files() {
        let text = r#"{
            "recipe": {
                "benchmark": "tpch", "scale": 0.1, "files": 8, "row_group_rows": 262144, "compression": "snappy",
                "generator": "tpchgen 4.0.0"
            },
            "release": "0.1.0",
            "tables": { "region": { "rows": 5, "bytes": 1, "files": [{ "path": "region/part-000.parquet", "rows": 5, "bytes": 1 }] } }
        }"#;
        let manifest: Manifest = serde_json::from_str(text).unwrap();
        let recipe = GenerateOptions::new(Benchmark::Tpch, 0.1, "data").recipe().unwrap();
        assert_eq!(manifest.recipe, recipe);
        assert_eq!(manifest.tables["region"].files[0].checksum, None);
    }

    #[test]
    fn a_recipe_says_all_that_tells_it_from_others() {
        let options = GenerateOptions::new(Benchmark::Tpch, 0.1, "data");
        let told = |options: &GenerateOptions| options.recipe().unwrap().to_string();
        assert_eq!(
            told(&options),
            "tpch scale 0.1, parquet, 8 files a table, 262144 rows a row group, snappy, not sorted, no skew, tpchgen 4.0.0"
        );
        let other = GenerateOptions {
            format: Format::Csv,
            sorted: true,
            skew: Some("zipf:1.5".parse().unwrap()),
            ..options
        };
        assert_eq!(
            told(&other),
            "tpch scale 0.1, csv, 8 files a table, not compressed, sorted, skew zipf:1.5, tpchgen 4.0.0"
        );
    }
}
