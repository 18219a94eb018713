//! One file: written under a temporary name, renamed when it is whole.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use arrow::record_batch::RecordBatchReader;
use firesteel_base::UserError;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression as Codec, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use xxhash_rust::xxh3::Xxh3;

use super::fault;
use super::folder::Folder;
use super::manifest::{FileEntry, Recipe};
use super::options::Compression;
use super::tables::Part;
use crate::progress::Progress;

/// Writes the file of `part`, unless an earlier run did; nothing when `stop` says so before it is whole.
pub(super) fn ensure_part(
    folder: &Folder,
    recipe: &Recipe,
    part: &Part,
    progress: &dyn Progress,
    stop: &dyn Fn() -> bool,
) -> Result<Option<FileEntry>, UserError> {
    let path = folder.path().join(part.path());
    if let Some(rows) = whole_file(&path) {
        progress.advance(rows);
        return entry(&path, part, rows).map(Some);
    }
    let table = path.parent().expect("a part lies in its table's folder");
    fs::create_dir_all(table).map_err(|error| fault::io("make the folder", table, &error))?;
    let temporary = path.with_extension("parquet.tmp");
    let file = File::create(&temporary).map_err(|error| fault::io("write", &temporary, &error))?;
    let reader = part.read(recipe.scale)?;
    let written = write_rows(file, reader, recipe, progress, stop)
        .map_err(|error| fault::parquet("write", &temporary, error))
        .and_then(|rows| rows.map(|rows| publish(&temporary, &path, part, rows)).transpose());
    if !matches!(written, Ok(Some(_))) {
        // The fault that led here is the one to tell; a left-over temporary file is ignored and overwritten anyway.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_rows(
    file: File,
    reader: Box<dyn RecordBatchReader>,
    recipe: &Recipe,
    progress: &dyn Progress,
    stop: &dyn Fn() -> bool,
) -> Result<Option<u64>, ParquetError> {
    let mut writer = ArrowWriter::try_new(file, reader.schema(), Some(properties(recipe)))?;
    let mut rows = 0;
    for batch in reader {
        if stop() {
            return Ok(None);
        }
        let batch = batch?;
        writer.write(&batch)?;
        rows += batch.num_rows() as u64;
        progress.advance(batch.num_rows() as u64);
    }
    writer.finish()?;
    // The rename must not reach the disk before the bytes do.
    writer.inner().sync_all()?;
    Ok(Some(rows))
}

fn publish(temporary: &Path, path: &Path, part: &Part, rows: u64) -> Result<FileEntry, UserError> {
    fs::rename(temporary, path).map_err(|error| fault::io("rename to", path, &error))?;
    entry(path, part, rows)
}

/// What the manifest says of a whole file. It is read back, so that the checksum is of what the disk gives.
fn entry(path: &Path, part: &Part, rows: u64) -> Result<FileEntry, UserError> {
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
    Ok(FileEntry { path: part.path(), rows, bytes, checksum: Some(format!("{:016x}", hash.digest())) })
}

/// Rows of a file that is there and ends in a sound footer.
fn whole_file(path: &Path) -> Option<u64> {
    let reader = SerializedFileReader::new(File::open(path).ok()?).ok()?;
    u64::try_from(reader.metadata().file_metadata().num_rows()).ok()
}

fn properties(recipe: &Recipe) -> WriterProperties {
    let codec = match recipe.compression {
        Compression::Snappy => Codec::SNAPPY,
        Compression::Zstd => Codec::ZSTD(ZstdLevel::default()),
        Compression::Lz4 => Codec::LZ4_RAW,
        Compression::None => Codec::UNCOMPRESSED,
    };
    WriterProperties::builder()
        .set_compression(codec)
        .set_max_row_group_row_count(usize::try_from(recipe.row_group_rows).ok())
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::{Benchmark, GenerateOptions};
    use crate::progress::Silent;

    #[test]
    fn a_full_disk_is_told_as_such() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let recipe = GenerateOptions::new(Benchmark::Tpch, 0.001, "/nowhere").recipe().unwrap();
        let part = *crate::generate::tables::parts(&recipe).last().unwrap();
        let reader = part.read(recipe.scale).unwrap();
        let error = write_rows(full, reader, &recipe, &Silent, &|| false).unwrap_err();
        let told = fault::parquet("write", Path::new("/data/region/part-000.parquet.tmp"), error);
        assert!(told.message.contains("/data/region"), "{told}");
        assert!(told.hint.as_ref().is_some_and(|hint| hint.contains("space")), "{told}");
    }
}
