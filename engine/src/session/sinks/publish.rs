//! The session's side of staging: a folder made before the job, its files moved to their places after it.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use firesteel_base::UserError;
use futures::{StreamExt, TryStreamExt};

use super::Target;
use super::staged::{DONE, FILE, FILES};
use crate::ops::plan_boilerplate;
use crate::session::statements::external;

/// Runs a job that writes files, and publishes them when it has ended well.
#[derive(Debug)]
pub(super) struct PublishExec {
    job: Arc<dyn ExecutionPlan>,
    target: Target,
    properties: Arc<PlanProperties>,
}

impl PublishExec {
    pub(super) fn new(job: Arc<dyn ExecutionPlan>, target: Target) -> Self {
        let properties = Arc::clone(job.properties());
        Self { job, target, properties }
    }
}

impl DisplayAs for PublishExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublishExec: target={}", self.target.path.display())
    }
}

impl ExecutionPlan for PublishExec {
    plan_boilerplate!(PublishExec, |publish, mut children| Ok(Arc::new(Self::new(
        children.swap_remove(0),
        publish.target.clone()
    ))));

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.job]
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let staging = Staging::create(self.target.clone())?;
        let rows = self.job.execute(partition, context)?;
        let schema = rows.schema();
        // The number of rows is the answer, and it is given when the files are there: not before.
        let answer = async move {
            let batches: Vec<RecordBatch> = rows.try_collect().await?;
            staging.publish()?;
            Ok::<_, DataFusionError>(futures::stream::iter(batches.into_iter().map(Ok)))
        };
        let answer = futures::stream::once(answer).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, answer.boxed())))
    }
}

/// The staging folder of a running job. Goes away with everything in it when dropped.
struct Staging {
    target: Target,
    /// Folders that were missing above it, outermost first.
    made: Vec<PathBuf>,
    published: bool,
}

impl Staging {
    fn create(target: Target) -> Result<Self> {
        let parent = target.staging.parent().unwrap_or(Path::new("/")).to_owned();
        let missing = parent.ancestors().take_while(|folder| !folder.exists()).map(Path::to_owned);
        let mut made: Vec<_> = missing.collect();
        made.reverse();
        let staging = Self { target, made, published: false };
        fs::create_dir_all(&parent)
            .and_then(|()| fs::create_dir(&staging.target.staging))
            .map_err(|fault| cannot_write(&staging.target.path, &fault))?;
        Ok(staging)
    }

    fn publish(mut self) -> Result<()> {
        let done = self.target.staging.join(DONE);
        if !done.is_dir() {
            return Err(external(
                UserError::new(format!(
                    "what was written for '{}' is not to be seen here",
                    self.target.path.display()
                ))
                .hint("every executor must reach the folder under the same path as the driver does"),
            ));
        }
        self.move_out(&done).map_err(|fault| cannot_write(&self.target.path, &fault))?;
        self.published = true;
        Ok(())
    }

    fn move_out(&self, done: &Path) -> io::Result<()> {
        let path = &self.target.path;
        let file = done.join(FILE);
        if file.is_file() {
            return fs::rename(file, path);
        }
        fs::create_dir_all(path)?;
        let files = done.join(FILES);
        let mut names = Vec::new();
        if files.is_dir() {
            names_under(&files, Path::new(""), &mut names)?;
        }
        let mut moved = Moved::default();
        for name in names {
            moved.rename(&files.join(&name), path.join(&name))?;
        }
        moved.keep();
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(fault) = fs::remove_dir_all(&self.target.staging)
            && fault.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(folder = %self.target.staging.display(), %fault, "a staging folder could not be removed");
        }
        if !self.published {
            // Those with something in them stay: it is not ours.
            self.made.iter().rev().for_each(|folder| drop(fs::remove_dir(folder)));
        }
    }
}

/// Files moved so far; moved away again unless all could be.
#[derive(Default)]
struct Moved {
    files: Vec<PathBuf>,
}

impl Moved {
    fn rename(&mut self, from: &Path, to: PathBuf) -> io::Result<()> {
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::rename(from, &to)?;
        self.files.push(to);
        Ok(())
    }

    fn keep(mut self) {
        self.files.clear();
    }
}

impl Drop for Moved {
    fn drop(&mut self) {
        for file in &self.files {
            if let Err(fault) = fs::remove_file(file) {
                tracing::warn!(file = %file.display(), %fault, "a file of a failed write could not be removed");
            }
        }
    }
}

/// The names of all files under `folder`, relative to it.
fn names_under(folder: &Path, name: &Path, names: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder.join(name))? {
        let entry = entry?;
        let inner = name.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            names_under(folder, &inner, names)?;
        } else {
            names.push(inner);
        }
    }
    Ok(())
}

fn cannot_write(path: &Path, fault: &io::Error) -> DataFusionError {
    let error = UserError::new(format!("'{}' cannot be written: {fault}", path.display()));
    external(match fault.kind() {
        // Making a folder beneath a file is refused in either way.
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            error.hint("a part of the path is a file")
        }
        io::ErrorKind::IsADirectory => error.hint("it is a folder; end the path with '/' to add files to it"),
        _ => error,
    })
}
