//! Naming the file that made a job fail.
//!
//! A reader that meets damaged data says what is wrong, but not where: it sees a range of bytes. When a job has failed so,
//! the session reads the job's local files once more, from their beginnings, until it meets the one.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::csv;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::json;
use datafusion::datasource::physical_plan::{CsvSource, FileScanConfig, JsonSource, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result};
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::physical_plan::ExecutionPlan;
use firesteel_base::{Class, UserError};

use super::classify;
use super::errors::{DAMAGED_CSV, DAMAGED_JSON, DAMAGED_PARQUET, UNREADABLE_VALUE};
use super::statements::external;
use crate::StageGraph;

/// `fault`, with the name of the file that caused it when one can be found.
pub(super) async fn name_the_file(graph: Arc<StageGraph>, fault: DataFusionError) -> DataFusionError {
    let (class, error) = classify(&fault);
    let about_a_file = [DAMAGED_PARQUET, DAMAGED_CSV, DAMAGED_JSON, UNREADABLE_VALUE];
    if class != Class::User || !about_a_file.iter().any(|lead| error.message.starts_with(lead)) {
        return fault;
    }
    match tokio::task::spawn_blocking(move || find_culprit(&graph)).await {
        Ok(Some(named)) => external(named),
        _ => fault,
    }
}

fn find_culprit(graph: &StageGraph) -> Option<UserError> {
    let mut scans = Vec::new();
    graph.stages.iter().for_each(|stage| collect_scans(&stage.plan, &mut scans));
    scans.into_iter().find_map(|scan| {
        scan.files.iter().find_map(|path| {
            let fault = scan.reader.read(path, &scan.schema).err()?;
            let (_, error) = classify(&fault);
            let why =
                error.message.split_once(": ").map_or(error.message.as_str(), |(_, why)| why).to_owned();
            let kind = scan.reader.kind();
            Some(UserError::new(format!("the {kind} file '{}' is damaged", path.display())).detail(why))
        })
    })
}

/// The local files of one scan.
struct Scan {
    files: Vec<PathBuf>,
    schema: SchemaRef,
    reader: Reader,
}

/// How the scan reads them.
enum Reader {
    Parquet,
    Csv { format: csv::reader::Format, scan: Box<FileScanConfig> },
    Json { scan: Box<FileScanConfig> },
}

fn collect_scans(plan: &Arc<dyn ExecutionPlan>, scans: &mut Vec<Scan>) {
    scans.extend(plan.downcast_ref::<DataSourceExec>().and_then(scan_of));
    plan.children().into_iter().for_each(|child| collect_scans(child, scans));
}

fn scan_of(source: &DataSourceExec) -> Option<Scan> {
    let (config, reader) = if let Some((config, _)) = source.downcast_to_file_source::<ParquetSource>() {
        (config, Reader::Parquet)
    } else if let Some((config, csv)) = source.downcast_to_file_source::<CsvSource>() {
        (config, Reader::Csv { format: csv_format(csv), scan: Box::new(config.clone()) })
    } else {
        let (config, _) = source.downcast_to_file_source::<JsonSource>()?;
        (config, Reader::Json { scan: Box::new(config.clone()) })
    };
    if config.object_store_url.as_str() != "file:///" {
        return None;
    }
    let files = config.file_groups.iter().flat_map(|group| group.iter());
    let mut files: Vec<_> =
        files.map(|file| PathBuf::from(format!("/{}", file.object_meta.location))).collect();
    files.sort();
    files.dedup();
    Some(Scan { files, schema: Arc::clone(config.file_schema()), reader })
}

fn csv_format(source: &CsvSource) -> csv::reader::Format {
    let mut format = csv::reader::Format::default()
        .with_header(source.has_header())
        .with_delimiter(source.delimiter())
        .with_quote(source.quote())
        .with_truncated_rows(source.truncate_rows());
    if let Some(escape) = source.escape() {
        format = format.with_escape(escape);
    }
    if let Some(comment) = source.comment() {
        format = format.with_comment(comment);
    }
    if let Some(terminator) = source.terminator() {
        format = format.with_terminator(terminator);
    }
    format
}

impl Reader {
    fn kind(&self) -> &'static str {
        match self {
            Self::Parquet => "Parquet",
            Self::Csv { .. } => "CSV",
            Self::Json { .. } => "JSON",
        }
    }

    /// Reads the whole file.
    fn read(&self, path: &Path, schema: &SchemaRef) -> Result<()> {
        let file = File::open(path)?;
        match self {
            Self::Parquet => {
                for batch in ParquetRecordBatchReaderBuilder::try_new(file)?.build()? {
                    batch?;
                }
            }
            Self::Csv { format, scan } => {
                let bytes = scan.file_compression_type.convert_read(file)?;
                let reader =
                    csv::ReaderBuilder::new(Arc::clone(schema)).with_format(format.clone()).build(bytes)?;
                for batch in reader {
                    batch?;
                }
            }
            Self::Json { scan } => {
                let bytes = scan.file_compression_type.convert_read(file)?;
                let reader =
                    json::ReaderBuilder::new(Arc::clone(schema)).build(std::io::BufReader::new(bytes))?;
                for batch in reader {
                    batch?;
                }
            }
        }
        Ok(())
    }
}
