//! Writing files, all or nothing.
//!
//! COPY TO and INSERT INTO write local files into a staging folder beside their target (see [`StagedWriteExec`]). When the
//! job has ended well, the session moves them to their places; when it has not, the folder goes away and nothing
//! remains. Object stores make one object visible at a time, when it is complete, and need no staging.

mod publish;
mod staged;
mod store;
mod target;

use std::sync::Arc;

use datafusion::datasource::listing::ListingTable;
use datafusion::datasource::sink::DataSinkExec;
use datafusion::datasource::source_as_provider;
use datafusion::error::Result;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::dml::{CopyTo, WriteOp};
use datafusion::logical_expr::{DmlStatement, LogicalPlan};
use datafusion::physical_plan::{ChildrenPropertiesMode, ExecutionPlan, ReplaceChildrenOptions};

pub use staged::StagedWriteExec;
pub use target::Target;

use self::publish::PublishExec;
use super::statements::external;
use super::stores::{AWS, Stores};
use super::tables::Location;

/// Makes a plan that writes ready to be planned: opens the store it writes to, and takes what is meant for the store out
/// of its options.
pub(super) fn prepare(logical: LogicalPlan, state: &SessionState, stores: &Stores) -> Result<LogicalPlan> {
    let LogicalPlan::Copy(copy) = logical else {
        return Ok(logical);
    };
    let (for_store, options) = copy.options.into_iter().partition(|(key, _)| key.starts_with(AWS));
    let for_store: std::collections::HashMap<String, String> = for_store;
    let location = Location::parse(&copy.output_url).map_err(external)?;
    stores
        .open(state.runtime_env(), location.url.get_url(), for_store.into_iter().collect())
        .map_err(external)?;
    Ok(LogicalPlan::Copy(CopyTo { options, ..copy }))
}

/// Puts the file writing at the root of `plan` behind a staging folder, when it has a local target.
pub(super) fn stage(
    plan: Arc<dyn ExecutionPlan>,
    target: Option<Target>,
) -> (Arc<dyn ExecutionPlan>, Option<Target>) {
    match target.filter(|_| plan.is::<DataSinkExec>()) {
        Some(target) => {
            let staged = StagedWriteExec::new(plan, target.path.clone(), target.staging.clone());
            (Arc::new(staged), Some(target))
        }
        None => (plan, None),
    }
}

/// The rows that a plan writes, when writing them is all that its root does.
pub(super) fn written_rows(plan: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    if let Some(staged) = plan.downcast_ref::<StagedWriteExec>() {
        return written_rows(staged.children()[0]);
    }
    plan.downcast_ref::<DataSinkExec>().map(|sink| Arc::clone(sink.input()))
}

/// `plan`, which writes rows, writing those of `rows` instead.
pub(super) fn write_instead(
    plan: Arc<dyn ExecutionPlan>,
    rows: Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let input = if plan.is::<StagedWriteExec>() {
        write_instead(Arc::clone(plan.children()[0]), rows)?
    } else {
        rows
    };
    plan.replace_children(vec![input], ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
}

/// `job`, its files moved to their places when it has ended well.
pub(super) fn publish(job: Arc<dyn ExecutionPlan>, target: Target) -> Arc<dyn ExecutionPlan> {
    Arc::new(PublishExec::new(job, target))
}

/// Where a plan that writes puts its files, when that is a local place.
pub(super) fn target_of(logical: &LogicalPlan) -> Result<Option<Target>> {
    match logical {
        LogicalPlan::Copy(copy) => Target::new(&Location::parse(&copy.output_url).map_err(external)?),
        LogicalPlan::Dml(DmlStatement { target, op: WriteOp::Insert(_), table_name, .. }) => {
            let provider = source_as_provider(target)?;
            match provider.downcast_ref::<ListingTable>() {
                Some(table) => Target::of_table(table, table_name),
                None => Ok(None),
            }
        }
        _ => Ok(None),
    }
}
