//! Rows as the bytes of a file.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use arrow::csv::WriterBuilder;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use csv::ByteRecord;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression as Codec, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::format::{Compression, Format};
use super::manifest::Recipe;
use super::tables::Table;

/// What may go wrong with rows: the generator's, the encoder's or the file system's faults.
pub(super) type RowsFault = Box<dyn Error + Send + Sync>;

/// Writes the rows of one file in the format that its recipe names.
pub(super) enum RowsWriter {
    Parquet(ArrowWriter<File>),
    Csv(CsvWriter),
}

impl RowsWriter {
    /// A writer to `file` of rows of `table`.
    pub fn new(file: File, table: Table, recipe: &Recipe) -> Result<Self, RowsFault> {
        Ok(match recipe.format {
            Format::Parquet => {
                Self::Parquet(ArrowWriter::try_new(file, table.schema(), Some(properties(table, recipe)))?)
            }
            Format::Csv => Self::Csv(CsvWriter::new(file, recipe.compression, &table.schema())?),
        })
    }

    /// Writes some rows.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<(), RowsFault> {
        match self {
            Self::Parquet(writer) => Ok(writer.write(rows)?),
            Self::Csv(writer) => writer.write(rows, false),
        }
    }

    /// Ends the file, which the disk then holds: a rename must not reach it before the bytes do.
    pub fn finish(self) -> Result<(), RowsFault> {
        match self {
            Self::Parquet(mut writer) => {
                writer.finish()?;
                writer.inner().sync_all()?;
            }
            Self::Csv(writer) => match writer.sink {
                Sink::Plain(file) => file.sync_all()?,
                Sink::Gzip(encoder) => encoder.finish()?.sync_all()?,
            },
        }
        Ok(())
    }
}

fn properties(table: Table, recipe: &Recipe) -> WriterProperties {
    let codec = match recipe.compression {
        Compression::Snappy => Codec::SNAPPY,
        Compression::Zstd => Codec::ZSTD(ZstdLevel::default()),
        Compression::Lz4 => Codec::LZ4_RAW,
        Compression::Gzip | Compression::None => Codec::UNCOMPRESSED,
    };
    let rows = recipe.row_group_rows.and_then(|rows| usize::try_from(rows).ok());
    WriterProperties::builder()
        .set_compression(codec)
        .set_max_row_group_row_count(rows)
        .set_sorting_columns(recipe.sorted.then(|| sorting_columns(table)))
        .build()
}

fn sorting_columns(table: Table) -> Vec<SortingColumn> {
    let positions = table.sort_key().positions(&table.schema());
    let ascending = |at: usize| SortingColumn {
        column_idx: i32::try_from(at).expect("a table has few columns"),
        descending: false,
        nulls_first: false,
    };
    positions.into_iter().map(ascending).collect()
}

/// Text, encoded batch by batch in memory, so that what the file system refuses is told as it told it.
pub(super) struct CsvWriter {
    sink: Sink,
    text: Vec<u8>,
}

enum Sink {
    Plain(File),
    Gzip(GzEncoder<File>),
}

impl CsvWriter {
    fn new(file: File, compression: Compression, schema: &SchemaRef) -> Result<Self, RowsFault> {
        let sink = match compression {
            Compression::Gzip => Sink::Gzip(GzEncoder::new(file, flate2::Compression::default())),
            _ => Sink::Plain(file),
        };
        let mut writer = Self { sink, text: Vec::new() };
        // A file without rows has a header too.
        writer.write(&RecordBatch::new_empty(Arc::clone(schema)), true)?;
        Ok(writer)
    }

    fn write(&mut self, rows: &RecordBatch, header: bool) -> Result<(), RowsFault> {
        self.text.clear();
        WriterBuilder::new().with_header(header).build(&mut self.text).write(rows)?;
        match &mut self.sink {
            Sink::Plain(file) => file.write_all(&self.text)?,
            Sink::Gzip(encoder) => encoder.write_all(&self.text)?,
        }
        Ok(())
    }
}

/// Rows of a file that is there and whole, as far as its own bytes tell: a sound footer of Parquet, or text in which every
/// line has all columns and an end.
pub(super) fn rows_of_whole(path: &Path, table: Table, recipe: &Recipe) -> Option<u64> {
    match recipe.format {
        Format::Parquet => {
            let reader = SerializedFileReader::new(File::open(path).ok()?).ok()?;
            u64::try_from(reader.metadata().file_metadata().num_rows()).ok()
        }
        Format::Csv => csv_rows(path, recipe.compression, table.schema().fields().len()).ok(),
    }
}

fn csv_rows(path: &Path, compression: Compression, columns: usize) -> Result<u64, RowsFault> {
    let mut file = File::open(path)?;
    let input: Box<dyn Read> = match compression {
        Compression::Gzip => Box::new(MultiGzDecoder::new(io::BufReader::new(file))),
        _ => {
            ends_a_line(&mut file)?;
            Box::new(file)
        }
    };
    let mut records = csv::ReaderBuilder::new().from_reader(input);
    if records.byte_headers()?.len() != columns {
        return Err(ArrowError::CsvError("columns are missing".to_owned()).into());
    }
    let (mut record, mut rows) = (ByteRecord::new(), 0);
    while records.read_byte_record(&mut record)? {
        rows += 1;
    }
    Ok(rows)
}

/// Whether the last line is whole; the reader stands at the first one afterwards.
fn ends_a_line(file: &mut File) -> io::Result<()> {
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    file.rewind()?;
    if last == *b"\n" { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::generate::{Benchmark, GenerateOptions, fault, tables};

    fn recipe(format: Format, compression: Option<Compression>) -> Recipe {
        GenerateOptions { format, compression, ..GenerateOptions::new(Benchmark::Tpch, 0.001, "/nowhere") }
            .recipe()
            .unwrap()
    }

    /// Writes the smallest table.
    fn write(file: File, recipe: &Recipe) -> Result<(), RowsFault> {
        let part = *tables::parts(recipe).last().unwrap();
        let mut writer = RowsWriter::new(file, part.table, recipe)?;
        for rows in part.read(recipe).unwrap() {
            writer.write(&rows?)?;
        }
        writer.finish()
    }

    #[test]
    fn a_full_disk_is_told_as_such() {
        for (format, compression) in
            [(Format::Parquet, None), (Format::Csv, None), (Format::Csv, Some(Compression::Gzip))]
        {
            let full = File::options().write(true).open("/dev/full").unwrap();
            let error = write(full, &recipe(format, compression)).unwrap_err();
            let told = fault::rows("write", Path::new("/data/region/part-000.tmp"), &*error);
            assert!(told.message.contains("/data/region"), "{told}");
            assert!(told.hint.as_ref().is_some_and(|hint| hint.contains("space")), "{told}");
        }
    }

    #[test]
    fn text_has_a_header_and_quotes_where_they_are_needed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        write(file.reopen().unwrap(), &recipe(Format::Csv, None)).unwrap();
        let text = fs::read_to_string(file.path()).unwrap();
        assert!(text.starts_with("r_regionkey,r_name,r_comment\n0,AFRICA,"), "{text}");
        assert!(text.lines().any(|line| line.contains(",\"")), "a comment has a comma in it: {text}");
    }

    #[test]
    fn text_that_was_cut_is_not_whole() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let region = tables::parts(&recipe(Format::Csv, None)).last().unwrap().table;
        for compression in [Compression::None, Compression::Gzip] {
            let recipe = recipe(Format::Csv, Some(compression));
            let rows = || rows_of_whole(file.path(), region, &recipe);
            fs::write(file.path(), "").unwrap();
            assert_eq!(rows(), None);
            write(file.reopen().unwrap(), &recipe).unwrap();
            assert_eq!(rows(), Some(5));
            let whole = fs::read(file.path()).unwrap();
            for cut in [1, whole.len() / 2, whole.len() - 1] {
                fs::write(file.path(), &whole[..cut]).unwrap();
                assert_eq!(rows(), None, "{compression} cut at {cut}");
            }
        }
    }
}
