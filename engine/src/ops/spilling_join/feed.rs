//! What a join reads, kept until it has made its table.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use datafusion::arrow::array::{Array, RecordBatch};
use datafusion::common::{exec_err, internal_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, EmptyRecordBatchStream, ExecutionPlan, PlanProperties,
};
use futures::StreamExt;
use futures::stream::poll_fn;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::super::plan_boilerplate;
use super::divide::Part;

/// The build side that one table is made of.
pub(super) struct BuildFeed {
    state: Mutex<Build>,
    /// Its rows in files, once there was no room for the table. Lanes that share the table share them.
    pub divided: OnceCell<Vec<Part>>,
}

struct Build {
    rows: SendableRecordBatchStream,
    /// What was read, until the table is made of it.
    kept: Vec<RecordBatch>,
    /// Counts the copy that the join makes of all rows in one piece, which its own count leaves out.
    copy: MemoryReservation,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The table is being made.
    Building,
    /// It is made, and rows are looked up in it.
    Probing,
    /// The rows could not be read.
    Failed,
    /// There was no room for the table, and another way has the rows.
    Taken,
}

/// What is left of a build side that found no room.
pub(super) struct Unjoined {
    /// Rows that were read.
    pub kept: Vec<RecordBatch>,
    /// Those that were not.
    pub unread: SendableRecordBatchStream,
    /// Counts what is held of them.
    pub held: MemoryReservation,
}

impl BuildFeed {
    fn new(rows: SendableRecordBatchStream, copy: MemoryReservation) -> Self {
        let state = Mutex::new(Build { rows, kept: Vec::new(), copy, state: State::Building });
        Self { state, divided: OnceCell::new() }
    }

    /// Whether that error of the join is that it finds no room for its table, so that no row has been joined yet.
    pub(super) fn can_spill(&self, fault: &DataFusionError) -> bool {
        let is_full = matches!(fault.find_root(), DataFusionError::ResourcesExhausted(_));
        // A lane that shares the table may have taken the rows before.
        is_full && matches!(self.state.lock().state, State::Building | State::Taken)
    }

    /// All rows, for another way to join them.
    ///
    /// # Errors
    /// When they have been taken: whoever did has given up half-way, and nobody has them all any more.
    pub(super) fn take(&self) -> Result<Unjoined> {
        let mut build = self.state.lock();
        if std::mem::replace(&mut build.state, State::Taken) == State::Taken {
            return exec_err!("the rows of a join were given up while they were divided into files");
        }
        let held = build.copy.take();
        // They are in memory, whether there is room for them or not.
        held.resize(build.kept.iter().map(RecordBatch::get_array_memory_size).sum());
        let nothing = Box::pin(EmptyRecordBatchStream::new(build.rows.schema()));
        let unread = std::mem::replace(&mut build.rows, nothing);
        Ok(Unjoined { kept: std::mem::take(&mut build.kept), unread, held })
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Result<RecordBatch>>> {
        let mut build = self.state.lock();
        match ready!(build.rows.poll_next_unpin(cx)) {
            Some(Ok(batch)) => Poll::Ready(Some(build.keep(batch))),
            Some(Err(fault)) => {
                build.state = State::Failed;
                Poll::Ready(Some(Err(fault)))
            }
            None => Poll::Ready(None),
        }
    }

    /// The table is made: what it was made of is not needed any more.
    fn begin_to_probe(&self) {
        let mut build = self.state.lock();
        if build.state == State::Building {
            build.state = State::Probing;
            build.rows = Box::pin(EmptyRecordBatchStream::new(build.rows.schema()));
            build.kept = Vec::new();
            build.copy.free();
        }
    }
}

impl Build {
    fn keep(&mut self, batch: RecordBatch) -> Result<RecordBatch> {
        self.kept.push(batch.clone());
        self.copy.try_grow(copied_bytes(&batch)?)?;
        Ok(batch)
    }
}

/// What one partition of a join reads.
pub(super) struct Feed {
    /// Of the build side, alone or as one of several that share a table.
    pub build: Arc<BuildFeed>,
    probe: Mutex<SendableRecordBatchStream>,
}

impl Feed {
    /// The probe rows, for another way to join them. Nothing has been read of them.
    pub(super) fn take_probe(&self) -> SendableRecordBatchStream {
        let mut probe = self.probe.lock();
        let nothing = Box::pin(EmptyRecordBatchStream::new(probe.schema()));
        std::mem::replace(&mut probe, nothing)
    }
}

/// Bytes that a copy of the rows takes; strings of a view column are not copied.
fn copied_bytes(batch: &RecordBatch) -> Result<usize> {
    let columns = batch.columns().iter();
    let sizes = columns.map(|column| column.to_data().get_slice_memory_size());
    Ok(sizes.sum::<std::result::Result<usize, _>>()?)
}

/// The feeds of a join.
#[derive(Default)]
pub(super) struct Feeds {
    builds: Mutex<BTreeMap<usize, Arc<BuildFeed>>>,
    feeds: Mutex<BTreeMap<usize, Arc<Feed>>>,
}

impl Feeds {
    /// Lays the feed of a partition ready for the join. The first that comes for a partition of the build side opens it.
    pub(super) fn open(
        &self,
        partition: usize,
        probe: SendableRecordBatchStream,
        build_partition: usize,
        build: impl FnOnce() -> Result<(SendableRecordBatchStream, MemoryReservation)>,
    ) -> Result<Arc<Feed>> {
        let build = match self.builds.lock().entry(build_partition) {
            Entry::Occupied(opened) => Arc::clone(opened.get()),
            Entry::Vacant(vacant) => {
                let (rows, copy) = build()?;
                Arc::clone(vacant.insert(Arc::new(BuildFeed::new(rows, copy))))
            }
        };
        let feed = Arc::new(Feed { build, probe: Mutex::new(probe) });
        self.feeds.lock().insert(partition, Arc::clone(&feed));
        Ok(feed)
    }
}

impl fmt::Debug for Feeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Feeds")
    }
}

/// An input of a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The one that becomes the table.
    Build,
    /// The one that is looked up.
    Probe,
}

/// An input of the join, by way of the feeds.
#[derive(Debug)]
pub(super) struct FedExec {
    side: Side,
    input: Arc<dyn ExecutionPlan>,
    feeds: Arc<Feeds>,
    properties: Arc<PlanProperties>,
}

impl FedExec {
    /// That side, which `input` makes.
    pub(super) fn new(side: Side, input: Arc<dyn ExecutionPlan>, feeds: Arc<Feeds>) -> Self {
        let properties = Arc::clone(input.properties());
        Self { side, input, feeds, properties }
    }
}

impl DisplayAs for FedExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FedExec")
    }
}

impl ExecutionPlan for FedExec {
    plan_boilerplate!(FedExec, |fed, mut children| {
        Ok(Arc::new(Self::new(fed.side, children.swap_remove(0), Arc::clone(&fed.feeds))))
    });

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn execute(&self, partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let schema = self.schema();
        let build = self.feeds.builds.lock().get(&partition).cloned();
        let feed = self.feeds.feeds.lock().get(&partition).cloned();
        match (self.side, build, feed) {
            (Side::Build, Some(build), _) => {
                let rows = poll_fn(move |cx| build.poll(cx));
                Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
            }
            (Side::Probe, _, Some(feed)) => {
                let rows = poll_fn(move |cx| {
                    feed.build.begin_to_probe();
                    feed.probe.lock().poll_next_unpin(cx)
                });
                Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
            }
            _ => internal_err!("partition {partition} of a join has nothing to read"),
        }
    }
}
