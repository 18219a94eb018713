//! The data that a run queries: complete, as its manifest says, and of the benchmark that is run.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use firesteel_base::UserError;
use rustix::fs::{Advice, fadvise};
use xxhash_rust::xxh3::Xxh3;

use crate::record::DataInfo;
use crate::{Benchmark, Manifest};

/// The manifest of a folder that holds complete data of `benchmark`.
///
/// # Errors
/// When the folder is being written, is incomplete, was changed since, or holds the data of another benchmark.
pub fn checked_manifest(data: &Path, benchmark: Benchmark) -> Result<Manifest, UserError> {
    let manifest = Manifest::load(data)?;
    if manifest.recipe.benchmark != benchmark {
        return Err(UserError::new(format!(
            "{} holds the data of {}, not of {benchmark}",
            data.display(),
            manifest.recipe.benchmark
        ))
        .hint("give the folder that `firesteel bench gen` made for this benchmark"));
    }
    check_rows(data, &manifest)?;
    for file in manifest.files() {
        let path = data.join(&file.path);
        let bytes = fs::metadata(&path).map(|meta| meta.len()).ok();
        if bytes != Some(file.bytes) {
            let what = bytes.map_or_else(|| "is missing".to_owned(), |bytes| format!("has {bytes} bytes"));
            return Err(UserError::new(format!("{} is not what its manifest says", data.display()))
                .detail(format!("{} {what}, and should have {}", path.display(), file.bytes))
                .hint("run the same `firesteel bench gen` again: it makes what is missing"));
        }
    }
    Ok(manifest)
}

/// The manifest of such a folder, each file of which was read and has the checksum that was written down.
///
/// # Errors
/// As [`checked_manifest`], and when a file was changed or cannot be read.
pub fn checked_content(data: &Path, benchmark: Benchmark) -> Result<Manifest, UserError> {
    let manifest = checked_manifest(data, benchmark)?;
    manifest.check_content(data)?;
    Ok(manifest)
}

/// Whether the tables have as many rows as the scale gives them, where that is known without making them.
fn check_rows(data: &Path, manifest: &Manifest) -> Result<(), UserError> {
    let scale = manifest.recipe.scale;
    let mut tables = manifest.recipe.benchmark.table_names().into_iter();
    if let Some(missing) = tables.find(|table| !manifest.tables.contains_key(*table)) {
        return Err(UserError::new(format!("the manifest of {} names no table {missing}", data.display()))
            .hint("generate the data into another folder"));
    }
    for (table, rows) in manifest.recipe.benchmark.rows_known(scale) {
        let found = manifest.tables[table].rows;
        if found != rows {
            return Err(UserError::new(format!(
                "{} does not hold the data of scale {scale} that its manifest names",
                data.display()
            ))
            .detail(format!("at that scale {table} has {rows} rows; there are {found}"))
            .hint("generate the data into another folder"));
        }
    }
    Ok(())
}

/// The folder, so that processes elsewhere find it too.
pub(super) fn absolute(data: &Path) -> Result<PathBuf, UserError> {
    data.canonicalize()
        .map_err(|fault| UserError::new(format!("{} cannot be opened: {fault}", data.display())))
}

/// What a record says of the data.
pub(super) fn info(data: &Path, manifest: &Manifest) -> DataInfo {
    let files = manifest.files().count();
    DataInfo {
        path: data.display().to_string(),
        scale: manifest.recipe.scale,
        generator: manifest.recipe.generator.clone(),
        files: u32::try_from(files).unwrap_or(u32::MAX),
        format: manifest.recipe.format.to_string(),
        compression: manifest.recipe.compression.to_string(),
        sorted: manifest.recipe.sorted,
        skew: manifest.recipe.skew.map(|skew| skew.to_string()),
        rows: manifest.tables.values().map(|table| table.rows).sum(),
        bytes: manifest.bytes(),
        checksum: checksum(manifest),
    }
}

/// Stands for all files: their names, rows, sizes and checksums.
fn checksum(manifest: &Manifest) -> String {
    let mut hash = Xxh3::new();
    for file in manifest.files() {
        let of_file = file.checksum.as_deref().unwrap_or("");
        hash.update(format!("{} {} {} {of_file}\n", file.path, file.rows, file.bytes).as_bytes());
    }
    format!("{:016x}", hash.digest())
}

/// Drops the files from the page cache, so that the next read comes from the disk.
pub(super) fn drop_from_cache(data: &Path, benchmark: Benchmark) -> Result<(), UserError> {
    for file in checked_manifest(data, benchmark)?.files() {
        let path = data.join(&file.path);
        let dropped = File::open(&path).and_then(|file| Ok(fadvise(&file, 0, None, Advice::DontNeed)?));
        dropped.map_err(|fault| {
            UserError::new(format!("{} cannot be dropped from the page cache: {fault}", path.display()))
        })?;
    }
    Ok(())
}
