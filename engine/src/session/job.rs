//! A planned job as an operator: executing it hands the job to the runner.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::{StreamExt, TryStreamExt};

use super::diagnose::name_the_file;
use crate::ops::plan_boilerplate;
use crate::{JobRunner, JobSpec};

/// The text that a query came from, on its way from the session to the planner.
#[derive(Debug)]
pub(super) struct QueryText(pub String);

/// The rows of a job, as one partition in the driver.
pub(super) struct JobExec {
    runner: Arc<dyn JobRunner>,
    job: JobSpec,
    properties: Arc<PlanProperties>,
}

impl JobExec {
    pub(super) fn new(runner: Arc<dyn JobRunner>, job: JobSpec) -> Self {
        let properties = one_partition(job.graph.result().plan.schema());
        Self { runner, job, properties }
    }
}

/// Properties of an operator in the driver with one partition and no order.
pub(super) fn one_partition(schema: SchemaRef) -> Arc<PlanProperties> {
    Arc::new(PlanProperties::new(
        EquivalenceProperties::new(schema),
        Partitioning::UnknownPartitioning(1),
        EmissionType::Incremental,
        Boundedness::Bounded,
    ))
}

impl fmt::Debug for JobExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_as(DisplayFormatType::Default, f)
    }
}

impl DisplayAs for JobExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobExec: stages={}", self.job.graph.stages.len())
    }
}

impl ExecutionPlan for JobExec {
    plan_boilerplate!(JobExec, |job, _children| Ok(Arc::new(Self::new(
        Arc::clone(&job.runner),
        job.job.clone()
    ))));

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn execute(&self, _partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = self.runner.run(self.job.clone())?;
        let schema = rows.schema();
        let graph = Arc::clone(&self.job.graph);
        let rows = rows.or_else(move |fault| {
            let graph = Arc::clone(&graph);
            async move { Err(name_the_file(graph, fault).await) }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows.boxed())))
    }
}
