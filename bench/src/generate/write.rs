//! One file: written under a temporary name, renamed when it is whole.

use std::fs::{self, File};
use std::path::Path;

use arrow::record_batch::RecordBatchReader;
use firesteel_base::UserError;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression as Codec, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};

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
    if let Some((rows, bytes)) = whole_file(&path) {
        progress.advance(rows);
        return Ok(Some(FileEntry { path: part.path(), rows, bytes }));
    }
    let table = path.parent().expect("a part lies in its table's folder");
    fs::create_dir_all(table).map_err(|error| fault::io("make the folder", table, &error))?;
    let temporary = path.with_extension("parquet.tmp");
    let file = File::create(&temporary).map_err(|error| fault::io("write", &temporary, &error))?;
    let reader = part.read(recipe.scale)?;
    let written = write_rows(file, reader, recipe, progress, stop)
        .map_err(|error| fault::parquet("write", &temporary, error))
        .and_then(|rows| rows.map(|rows| publish(&temporary, &path, rows)).transpose());
    if !matches!(written, Ok(Some(_))) {
        // The fault that led here is the one to tell; a left-over temporary file is ignored and overwritten anyway.
        let _ = fs::remove_file(&temporary);
    }
    Ok(written?.map(|(rows, bytes)| FileEntry { path: part.path(), rows, bytes }))
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

fn publish(temporary: &Path, path: &Path, rows: u64) -> Result<(u64, u64), UserError> {
    fs::rename(temporary, path).map_err(|error| fault::io("rename to", path, &error))?;
    let bytes = fs::metadata(path).map_err(|error| fault::io("look at", path, &error))?.len();
    Ok((rows, bytes))
}

/// Rows and bytes of a file that is there and ends in a sound footer.
fn whole_file(path: &Path) -> Option<(u64, u64)> {
    let file = File::open(path).ok()?;
    let bytes = file.metadata().ok()?.len();
    let reader = SerializedFileReader::new(file).ok()?;
    let rows = u64::try_from(reader.metadata().file_metadata().num_rows()).ok()?;
    Some((rows, bytes))
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
