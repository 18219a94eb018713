//! The formats of a result, and the writer of each.

use std::io::Write;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::csv::WriterBuilder;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::writer::{FileWriter, StreamWriter};
use arrow::json::writer::{JsonArray, JsonFormat, LineDelimited};
use clap::ValueEnum;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::table::TableWriter;

/// How a result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people
    Table,
    /// Comma-separated values with a header line
    Csv,
    /// One JSON array of objects
    Json,
    /// One JSON object a line
    Jsonl,
    /// Arrow IPC: the stream format on standard output, the file format in a file
    Arrow,
    /// Parquet, compressed with zstd
    Parquet,
}

impl Format {
    /// The format that a file's name asks for.
    pub fn of_file(path: &Path) -> Option<Self> {
        Some(match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "csv" => Self::Csv,
            "json" => Self::Json,
            "jsonl" | "ndjson" => Self::Jsonl,
            "arrow" | "arrows" | "ipc" | "feather" => Self::Arrow,
            "parquet" => Self::Parquet,
            "txt" => Self::Table,
            _ => return None,
        })
    }

    /// Whether it is for programs only.
    pub fn is_binary(self) -> bool {
        matches!(self, Self::Arrow | Self::Parquet)
    }
}

/// What went wrong in writing a result.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file system or the pipe refused.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The format cannot express the rows.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    /// The Parquet writer failed.
    #[error(transparent)]
    Parquet(#[from] ParquetError),
}

/// Writes one result, batch by batch.
pub trait ResultWriter: Send {
    /// Writes the rows of a batch.
    fn write(&mut self, batch: &RecordBatch) -> Result<(), WriteError>;
    /// Writes what belongs behind the last row, and flushes.
    fn finish(self: Box<Self>) -> Result<(), WriteError>;
}

/// A writer of `format` into `out`. `as_file` chooses the file format of Arrow IPC.
pub fn writer(
    format: Format,
    schema: &SchemaRef,
    out: Box<dyn Write + Send>,
    as_file: bool,
) -> Result<Box<dyn ResultWriter>, WriteError> {
    Ok(match format {
        Format::Table => Box::new(TableWriter::new(schema, out)),
        Format::Csv => Box::new(CsvWriter::new(schema, out)?),
        Format::Json => Box::new(JsonWriter::<JsonArray>::new(out, b"\n")),
        Format::Jsonl => Box::new(JsonWriter::<LineDelimited>::new(out, b"")),
        Format::Arrow if as_file => Box::new(FileWriter::try_new(out, schema)?),
        Format::Arrow => Box::new(StreamWriter::try_new(out, schema)?),
        Format::Parquet => Box::new(ParquetWriter::new(schema, out)?),
    })
}

struct CsvWriter(arrow::csv::Writer<Box<dyn Write + Send>>);

impl CsvWriter {
    fn new(schema: &SchemaRef, out: Box<dyn Write + Send>) -> Result<Self, WriteError> {
        let mut writer = WriterBuilder::new().with_header(true).build(out);
        // The header is written with the first batch: without one, a result of no rows would have none.
        writer.write(&RecordBatch::new_empty(SchemaRef::clone(schema)))?;
        Ok(Self(writer))
    }
}

impl ResultWriter for CsvWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        Ok(self.0.write(batch)?)
    }

    fn finish(self: Box<Self>) -> Result<(), WriteError> {
        Ok(self.0.into_inner().flush()?)
    }
}

struct JsonWriter<F: JsonFormat> {
    writer: arrow::json::Writer<Box<dyn Write + Send>, F>,
    // What the format itself leaves out at its end.
    tail: &'static [u8],
}

impl<F: JsonFormat> JsonWriter<F> {
    fn new(out: Box<dyn Write + Send>, tail: &'static [u8]) -> Self {
        // Every object has every key, so that a reader need not guess at what is not there.
        Self { writer: arrow::json::WriterBuilder::new().with_explicit_nulls(true).build(out), tail }
    }
}

impl<F: JsonFormat + Send> ResultWriter for JsonWriter<F> {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        Ok(self.writer.write(batch)?)
    }

    fn finish(mut self: Box<Self>) -> Result<(), WriteError> {
        self.writer.finish()?;
        let mut out = self.writer.into_inner();
        out.write_all(self.tail)?;
        Ok(out.flush()?)
    }
}

impl ResultWriter for FileWriter<Box<dyn Write + Send>> {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        Ok(self.write(batch)?)
    }

    fn finish(self: Box<Self>) -> Result<(), WriteError> {
        // Taking the file out of the writer finishes it.
        Ok((*self).into_inner()?.flush()?)
    }
}

impl ResultWriter for StreamWriter<Box<dyn Write + Send>> {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        Ok(self.write(batch)?)
    }

    fn finish(self: Box<Self>) -> Result<(), WriteError> {
        // Taking the file out of the writer finishes it.
        Ok((*self).into_inner()?.flush()?)
    }
}

struct ParquetWriter(ArrowWriter<Box<dyn Write + Send>>);

impl ParquetWriter {
    fn new(schema: &SchemaRef, out: Box<dyn Write + Send>) -> Result<Self, WriteError> {
        let compression = Compression::ZSTD(ZstdLevel::try_new(1)?);
        let properties = WriterProperties::builder().set_compression(compression).build();
        Ok(Self(ArrowWriter::try_new(out, SchemaRef::clone(schema), Some(properties))?))
    }
}

impl ResultWriter for ParquetWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        Ok(self.0.write(batch)?)
    }

    fn finish(self: Box<Self>) -> Result<(), WriteError> {
        Ok(self.0.into_inner()?.flush()?)
    }
}
