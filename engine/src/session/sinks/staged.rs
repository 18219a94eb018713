//! The executor's side of staging: one attempt's files in a folder of its own.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use firesteel_base::UserError;
use futures::{StreamExt, TryStreamExt};

use super::store::StagedRegistry;
use crate::ops::plan_boilerplate;
use crate::session::statements::external;

/// The folder in a staging folder that holds the files of the attempt that ended well.
pub(super) const DONE: &str = "done";
/// In an attempt's folder: the file, when the target is one.
pub(super) const FILE: &str = "file";
/// In an attempt's folder: the folder of files, when the target is one.
pub(super) const FILES: &str = "files";

/// Runs the file writing below it so that what it writes at or under `target` lands in `staging`.
///
/// Every execution writes into a folder of its own, and renames it to `done` at its end: an attempt that failed half-way,
/// or lost to another, leaves nothing among the files of the one that counts.
#[derive(Debug)]
pub struct StagedWriteExec {
    sink: Arc<dyn ExecutionPlan>,
    target: PathBuf,
    staging: PathBuf,
    properties: Arc<PlanProperties>,
}

impl StagedWriteExec {
    /// Stages what `sink` writes at `target`.
    #[must_use]
    pub fn new(sink: Arc<dyn ExecutionPlan>, target: PathBuf, staging: PathBuf) -> Self {
        let properties = Arc::clone(sink.properties());
        Self { sink, target, staging, properties }
    }

    /// The file or folder that is written in the end.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// The folder that files wait in.
    #[must_use]
    pub fn staging(&self) -> &Path {
        &self.staging
    }
}

impl DisplayAs for StagedWriteExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The staging folder has another name each time; plans print the same.
        write!(f, "StagedWriteExec: target={}", self.target.display())
    }
}

impl ExecutionPlan for StagedWriteExec {
    plan_boilerplate!(StagedWriteExec, |staged, mut children| Ok(Arc::new(Self::new(
        children.swap_remove(0),
        staged.target.clone(),
        staged.staging.clone()
    ))));

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.sink]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let attempt = AttemptFolder::create(&self.staging)?;
        let runtime = context.runtime_env();
        let registry = StagedRegistry::new(
            Arc::clone(&runtime.object_store_registry),
            &self.target,
            attempt.path.clone(),
        )?;
        let runtime = RuntimeEnv { object_store_registry: Arc::new(registry), ..runtime.as_ref().clone() };
        let rows = self.sink.execute(partition, Arc::new(with_runtime(&context, runtime)))?;
        let schema = rows.schema();
        let all = futures::stream::try_unfold((rows, attempt), |(mut rows, attempt)| async move {
            match rows.try_next().await? {
                Some(batch) => Ok(Some((batch, (rows, attempt)))),
                None => attempt.finish().map(|()| None),
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, all.boxed())))
    }
}

/// `context` in another runtime environment.
fn with_runtime(context: &TaskContext, runtime: RuntimeEnv) -> TaskContext {
    TaskContext::new(
        context.task_id(),
        context.session_id(),
        context.session_config().clone(),
        context.scalar_functions().clone(),
        context.higher_order_functions().clone(),
        context.aggregate_functions().clone(),
        context.window_functions().clone(),
        Arc::new(runtime),
    )
}

/// An attempt's folder; removed with what is in it unless the attempt has ended well.
struct AttemptFolder {
    path: PathBuf,
    staging: PathBuf,
    finished: bool,
}

impl AttemptFolder {
    fn create(staging: &Path) -> Result<Self> {
        let path = staging.join(uuid::Uuid::new_v4().simple().to_string());
        // Not with its parents: without the staging folder there is nobody to publish what is written.
        fs::create_dir(&path).map_err(|fault| cannot_write(staging, &fault))?;
        Ok(Self { path, staging: staging.to_owned(), finished: false })
    }

    fn finish(mut self) -> Result<()> {
        let done = self.staging.join(DONE);
        // An earlier attempt may have finished here without being able to report it: its rows are the same, not more.
        let replaced = match fs::remove_dir_all(&done) {
            Err(fault) if fault.kind() != io::ErrorKind::NotFound => Err(fault),
            _ => fs::rename(&self.path, &done),
        };
        replaced.map_err(|fault| cannot_write(&self.staging, &fault))?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for AttemptFolder {
    fn drop(&mut self) {
        if !self.finished {
            // Whoever owns the staging folder removes it as well; a fault here is theirs to meet.
            drop(fs::remove_dir_all(&self.path));
        }
    }
}

fn cannot_write(staging: &Path, fault: &io::Error) -> datafusion::error::DataFusionError {
    let folder = staging.parent().unwrap_or(staging).display();
    let error = UserError::new(format!("the folder '{folder}' cannot be written: {fault}"));
    external(match fault.kind() {
        io::ErrorKind::NotFound => {
            error.hint("every executor must reach the folder under the same path as the driver does")
        }
        _ => error,
    })
}
