//! Writing the rows of a query to the screen or to a file.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use clap::Args;
use firesteel_base::UserError;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};

use super::destination::{PendingFile, Watched, refused};
use super::format::{Format, ResultWriter, WriteError, writer};
use super::text;
use crate::exit::{Exit, Failure};

/// Rows shown on a terminal unless told otherwise.
const TERMINAL_ROWS: u64 = 1000;

/// Flags about results.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// How to write the result [default: by the name of the output file, else table]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Write the result to FILE instead of standard output; FILE appears when it is whole
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Show at most N rows of a result on standard output, 0 for all [default: 1000 on a terminal, else all]
    #[arg(long, value_name = "N", conflicts_with = "output")]
    pub max_rows: Option<u64>,
}

/// How and where results are written.
#[derive(Debug, Clone)]
pub struct Output {
    format: Format,
    file: Option<PathBuf>,
    // Of Arrow IPC, which has two formats.
    stream_in_file: bool,
    rows_max: Option<u64>,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Rows.
    pub rows: u64,
    /// Whether there were more, which are not shown.
    pub more: bool,
}

impl Written {
    /// The line about it: how many rows, in what time.
    pub fn summary(&self, elapsed: Duration) -> String {
        let rows = text::count(self.rows, "row");
        let more = if self.more { " shown, there are more: --max-rows 0 shows all" } else { "" };
        format!("({rows}{more}, {:.3} s)", elapsed.as_secs_f64())
    }
}

/// The rows of a query.
pub struct Rows {
    /// Their columns.
    pub schema: SchemaRef,
    /// The rows; a stream that is dropped before its end cancels what makes it.
    pub batches: BoxStream<'static, Result<RecordBatch, Failure>>,
}

impl Rows {
    /// Rows of these columns.
    pub fn new(
        schema: SchemaRef,
        batches: impl Stream<Item = Result<RecordBatch, Failure>> + Send + 'static,
    ) -> Self {
        Self { schema, batches: batches.boxed() }
    }
}

impl Output {
    /// What the flags ask for.
    pub fn of(args: &OutputArgs) -> Result<Self, Failure> {
        let by_name = args.output.as_deref().and_then(Format::of_file);
        let format = args.format.or(by_name).unwrap_or(Format::Table);
        let on_terminal = args.output.is_none() && io::stdout().is_terminal();
        if on_terminal && format.is_binary() {
            return Err(Failure::usage(
                UserError::new("a binary result cannot be shown on a terminal")
                    .hint("write it to a file with --output FILE, or redirect standard output"),
            ));
        }
        let rows_max = match args.max_rows {
            Some(0) => None,
            None => (on_terminal && format == Format::Table).then_some(TERMINAL_ROWS),
            some => some,
        };
        Ok(Self { format, file: args.output.clone(), stream_in_file: false, rows_max })
    }

    /// A file of Arrow IPC in the stream format.
    pub fn arrow_stream(file: &Path) -> Self {
        Self { format: Format::Arrow, file: Some(file.to_owned()), stream_in_file: true, rows_max: None }
    }

    /// Whether it holds one result only: that of the last statement.
    pub fn holds_one(&self) -> bool {
        self.file.is_some() || self.format.is_binary()
    }

    /// Whether a result without columns, as that of a CREATE statement, is written as well.
    pub fn takes_no_columns(&self) -> bool {
        self.stream_in_file
    }

    /// Writes the rows.
    pub async fn write(&self, rows: Rows) -> Result<Written, Failure> {
        match &self.file {
            None => {
                let out = BufWriter::with_capacity(STDOUT_BUFFER, io::stdout());
                self.write_into(rows, Box::new(out), false, None).await
            }
            Some(path) => {
                let (pending, out) = PendingFile::create(path).map_err(Failure::output)?;
                let written = self.write_into(rows, out, !self.stream_in_file, Some(path)).await?;
                pending.commit().map_err(Failure::output)?;
                Ok(written)
            }
        }
    }

    /// Writes the rows into `out`, which is the file at `path` or standard output.
    async fn write_into(
        &self,
        rows: Rows,
        out: Box<dyn Write + Send>,
        as_file: bool,
        path: Option<&Path>,
    ) -> Result<Written, Failure> {
        let (out, refusal) = Watched::new(out);
        self.write_rows(rows, Box::new(out), as_file).await.map_err(|fault| match fault {
            Fault::Query(failure) => failure,
            Fault::Write(error) => write_failure(path, refusal.take(), &error),
        })
    }

    async fn write_rows(
        &self,
        mut rows: Rows,
        out: Box<dyn Write + Send>,
        as_file: bool,
    ) -> Result<Written, Fault> {
        // The output is touched only when there is something for it: a query that fails at once prints no header.
        let mut next = rows.batches.next().await.transpose()?;
        let mut writer = writer(self.format, &rows.schema, out, as_file)?;
        let mut written = Written { rows: 0, more: false };
        while let Some(batch) = next {
            if !self.write_batch(writer.as_mut(), &batch, &mut written)? {
                break;
            }
            next = rows.batches.next().await.transpose()?;
        }
        writer.finish()?;
        Ok(written)
    }

    /// Writes as much of the batch as may still be shown; false when no more may be.
    fn write_batch(
        &self,
        writer: &mut dyn ResultWriter,
        batch: &RecordBatch,
        written: &mut Written,
    ) -> Result<bool, WriteError> {
        let room = self.rows_max.map_or(u64::MAX, |max| max - written.rows);
        let rows = room.min(batch.num_rows() as u64);
        if rows > 0 {
            writer.write(&batch.slice(0, usize::try_from(rows).expect("at most the rows of a batch")))?;
        }
        written.rows += rows;
        written.more = rows < batch.num_rows() as u64;
        Ok(!written.more)
    }
}

const STDOUT_BUFFER: usize = 256 << 10;

enum Fault {
    /// The rows could not be made.
    Query(Failure),
    /// They could not be written.
    Write(WriteError),
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        Self::Query(failure)
    }
}

impl From<WriteError> for Fault {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

/// What a writer's error tells; `refusal` is what the operating system said, if that is what it was.
fn write_failure(path: Option<&Path>, refusal: Option<io::Error>, error: &WriteError) -> Failure {
    match (path, refusal) {
        (None, Some(refusal)) => stdout_failure(&refusal),
        (Some(path), Some(refusal)) => Failure::output(refused(path, &refusal)),
        (path, None) => {
            let place = path.unwrap_or_else(|| Path::new("standard output"));
            let message = format!("cannot write the result to {}", place.display());
            Failure::output(UserError::new(message).detail(error.to_string()))
        }
    }
}

/// Prints a text on standard output.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|fault| stdout_failure(&fault))
}

/// Whoever reads our standard output may stop reading: that is no failure.
fn stdout_failure(fault: &io::Error) -> Failure {
    match fault.kind() {
        io::ErrorKind::BrokenPipe => Failure::quiet(Exit::Done),
        _ => Failure::output(refused(Path::new("standard output"), fault)),
    }
}

/// Prints a value on standard output as JSON.
pub fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).expect("what the commands print has text keys only");
    print(&format!("{text}\n"))
}
