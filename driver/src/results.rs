//! Reading a job's result: the blocks of the result stage, in the order of its tasks and their lanes, as batches.
//!
//! The reader is the last consumer of the job. It runs on its caller's runtime, one block at a time; how far ahead
//! frames are fetched is bounded by the fetcher. What was read to the end is freed on the executors while the rest is read.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use firesteel_base::{AttemptKey, Class, UserError};
use firesteel_engine::datafusion;
use firesteel_engine::run::TaskError;
use firesteel_shuffle::{BlockKey, FetchError, Fetcher, MapOutput};
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::watch;

use crate::in_process::HomeCluster;
use crate::machine::Outcome;
use crate::shell::{Command, Commands, JobView, RunId};

/// The rows of a job as they are read. Dropping it before its end cancels the job.
pub(crate) fn stream(
    run: RunId,
    view: watch::Receiver<JobView>,
    commands: Commands,
    fetcher: Arc<Fetcher>,
    schema: SchemaRef,
    keeps: Option<Arc<HomeCluster>>,
) -> SendableRecordBatchStream {
    let ticket = Ticket { run, commands, is_done: false, _keeps: keeps };
    let reader =
        Reader { ticket, view, fetcher, schema: Arc::clone(&schema), at: Position::default(), block: None };
    let batches = stream::try_unfold(reader, |mut reader| async move {
        Ok::<_, DataFusionError>(reader.next().await?.map(|batch| (batch, reader)))
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}

/// The right to a result, and the duty to say when it is not wanted any more.
struct Ticket {
    run: RunId,
    commands: Commands,
    is_done: bool,
    /// What must live until the rows are read.
    _keeps: Option<Arc<HomeCluster>>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.is_done {
            self.commands.send(Command::Cancel(self.run, "its result is not wanted any more".to_owned()));
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Position {
    task: u32,
    lane: u32,
    /// Rows of this task were handed out.
    is_begun: bool,
}

/// A block that is being read.
struct Block {
    producer: AttemptKey,
    batches: BoxStream<'static, std::result::Result<RecordBatch, FetchError>>,
}

struct Reader {
    ticket: Ticket,
    view: watch::Receiver<JobView>,
    fetcher: Arc<Fetcher>,
    schema: SchemaRef,
    at: Position,
    block: Option<Block>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader({:?} at {:?})", self.ticket.run, self.at)
    }
}

/// What comes next of a block, or instead of it.
enum Next {
    Batch(RecordBatch),
    EndOfBlock,
    Unreadable(FetchError),
    Decided(Outcome),
}

impl Reader {
    /// The next batch; none at the end.
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if self.block.is_none() && !self.open_block().await? {
                self.ticket.commands.send(Command::ResultRead(self.ticket.run));
                self.ticket.is_done = true;
                return Ok(None);
            }
            match self.advance().await {
                Next::Batch(batch) => {
                    self.note_begun(self.block.as_ref().expect("a block is open").producer);
                    return Ok(Some(batch));
                }
                Next::EndOfBlock => {
                    self.block = None;
                    self.at.lane += 1;
                }
                Next::Unreadable(fault) => self.retry(fault).await?,
                Next::Decided(outcome) => return Err(self.ended(outcome)),
            }
        }
    }

    /// The next of the open block, unless the job comes to an end before.
    async fn advance(&mut self) -> Next {
        let block = self.block.as_mut().expect("a block is open");
        let decided = self.view.wait_for(|view| view.outcome.is_some());
        tokio::select! {
            biased;
            view = decided => Next::Decided(outcome_of(view.ok().and_then(|view| view.outcome.clone()))),
            batch = block.batches.next() => match batch {
                Some(Ok(batch)) => Next::Batch(batch),
                Some(Err(fault)) => Next::Unreadable(fault),
                None => Next::EndOfBlock,
            }
        }
    }

    /// Opens the next block that has rows; `false` when there is none left.
    async fn open_block(&mut self) -> Result<bool> {
        loop {
            let Some(output) = self.output(None).await? else { return Ok(false) };
            let lanes = u32::try_from(output.lanes.len()).expect("lanes are counted in 32 bits");
            if self.at.lane >= lanes {
                self.finish_task(output.producer);
                continue;
            }
            let rows = output.lanes[self.at.lane as usize].rows();
            if rows == 0 {
                self.at.lane += 1;
                continue;
            }
            let key = BlockKey { producer: output.producer, lane: self.at.lane, partition: 0 };
            let batches = self.fetcher.fetch(output.holder, key, Arc::clone(&self.schema));
            self.block = Some(Block { producer: output.producer, batches });
            return Ok(true);
        }
    }

    fn finish_task(&mut self, producer: AttemptKey) {
        self.ticket.commands.send(Command::ResultTaskRead(self.ticket.run, producer));
        self.at = Position { task: self.at.task + 1, ..Position::default() };
    }

    fn note_begun(&mut self, producer: AttemptKey) {
        if !self.at.is_begun {
            self.at.is_begun = true;
            self.ticket.commands.send(Command::ResultBegun(self.ticket.run, producer));
        }
    }

    /// A block could not be read: the driver has it made again if nothing of its task was handed out, or gives up.
    async fn retry(&mut self, fault: FetchError) -> Result<()> {
        let block = self.block.take().expect("a block was read");
        let error = UserError::new(fault.to_string());
        self.ticket.commands.send(Command::ResultFetchFailed(self.ticket.run, block.producer, error));
        self.output(Some(block.producer)).await?;
        self.at.lane = 0;
        Ok(())
    }

    /// What the present task wrote, by the latest word that is not of `unreadable`; none when all tasks are read.
    async fn output(&mut self, unreadable: Option<AttemptKey>) -> Result<Option<MapOutput>> {
        let task = self.at.task;
        let usable =
            |output: &&MapOutput| output.producer.task.task == task && Some(output.producer) != unreadable;
        let known = |view: &JobView| match &view.outputs {
            Some(outputs) => task >= view.tasks || outputs.iter().any(|output| usable(&output)),
            None => false,
        };
        let view = self.view.wait_for(|view| view.outcome.is_some() || known(view)).await;
        let view = view.map(|view| view.clone()).map_err(|_| failed(vanished()))?;
        match view.outcome {
            Some(outcome) => Err(self.ended(outcome)),
            None => Ok(view.outputs.iter().flat_map(|outputs| outputs.iter()).find(usable).cloned()),
        }
    }

    /// The job has ended without this reader: there is nothing left to cancel.
    fn ended(&mut self, outcome: Outcome) -> DataFusionError {
        self.ticket.is_done = true;
        match outcome {
            Outcome::Succeeded => failed(vanished()),
            Outcome::Failed(error) => failed(error),
            Outcome::Cancelled(reason) => {
                of_class(Class::Cancelled, UserError::new("the query was cancelled").detail(reason))
            }
        }
    }
}

fn outcome_of(outcome: Option<Outcome>) -> Outcome {
    outcome.unwrap_or_else(|| Outcome::Failed(vanished()))
}

fn vanished() -> UserError {
    UserError::new("the session ended before the result was read")
}

/// The error of a failed job. It was decided that no retry helps.
pub(crate) fn failed(error: UserError) -> DataFusionError {
    of_class(Class::User, error)
}

fn of_class(class: Class, error: UserError) -> DataFusionError {
    DataFusionError::External(Box::new(TaskError { class, error, fetch: None }))
}
