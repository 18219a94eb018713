//! Rows that a join will drop are dropped near where they are read.
//!
//! ```text
//!   mod.rs        the operator above a scan
//!   handed.rs     the filters that a scan was handed by joins
//!   tell.rs       keys that a stage tells, for joins across an exchange
//!   key_set.rs    a set of keys, and how it travels
//!   memo.rs       what a filter says of a value, remembered
//!   table.rs      bits for each number of a range, for both
//!   filtering.rs  rows on their way through filters; watched.rs: whether a filter is worth its time
//! ```

mod filtering;
mod handed;
mod key_set;
mod memo;
mod table;
mod tell;
mod watched;

use std::fmt;
use std::sync::Arc;

use datafusion::common::{Statistics, exec_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use firesteel_base::StageId;
use futures::{TryStreamExt, stream};
use tokio::sync::OnceCell;

pub use self::handed::runtime_filters;
pub use self::table::is_of_whole_numbers;
pub use self::tell::{LaneKeys, TellKeysExec};

use self::filtering::Filtering;
use self::key_set::KeySet;
use self::tell::told_keys;
use self::watched::Watched;
use super::plan_boilerplate;
use crate::run::ShuffleInputs;

type Plan = Arc<dyn ExecutionPlan>;
type Expr = Arc<dyn PhysicalExpr>;

/// Who tells the keys of a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Teller {
    /// Before the plan is cut: the stage that the build side of the join with that runtime filter will end.
    Join(u64),
    /// That stage.
    Stage(StageId),
}

/// A filter whose keys another stage tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToldFilter {
    /// The column of the rows that must hold one of the keys.
    pub column: usize,
    /// Who tells them.
    pub teller: Teller,
    /// Which of the columns that are told.
    pub number: usize,
    /// How many are.
    pub of: usize,
}

/// Applies filters that joins make while they run to the rows of the scan that they were handed to.
///
/// A scan by itself only skips row groups and pages by them. What lies between the scan and the join, an exchange or an
/// aggregation, is spared the rows. Each filter is dropped for a while where it turns out to let most rows pass.
///
/// A filter of a join in another stage is made of the keys that the stage of its build side tells; they are fetched, once for
/// all lanes of a task, before the scan begins.
#[derive(Debug)]
pub struct RuntimeFilterExec {
    input: Plan,
    picks: Vec<usize>,
    filters: Vec<Expr>,
    told: Vec<ToldFilter>,
    /// The keys of `told`; none where they are not known.
    keys: Arc<OnceCell<Vec<Option<Arc<KeySet>>>>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl RuntimeFilterExec {
    /// Applies those filters to `input` that stand at the places `picks` among [`runtime_filters`] of it, and those that
    /// others tell.
    ///
    /// # Errors
    /// When one of them is not there.
    pub fn over(input: Plan, picks: Vec<usize>, told: Vec<ToldFilter>) -> Result<Self> {
        let known = runtime_filters(&input)?;
        let filters = picks.iter().map(|&pick| match known.get(pick) {
            Some(Some(filter)) => Ok(Arc::clone(filter)),
            _ => exec_err!("the scan has no runtime filter {pick}"),
        });
        let filters = filters.collect::<Result<_>>()?;
        for filter in &told {
            check_told(filter, &input)?;
        }
        Ok(Self::with(input, picks, filters, told))
    }

    fn with(input: Plan, picks: Vec<usize>, filters: Vec<Expr>, told: Vec<ToldFilter>) -> Self {
        let properties = Arc::clone(input.properties());
        let (keys, metrics) = (Arc::default(), ExecutionPlanMetricsSet::new());
        Self { input, picks, filters, told, keys, properties, metrics }
    }

    /// The places of its filters among those of the scan.
    #[must_use]
    pub fn picks(&self) -> &[usize] {
        &self.picks
    }

    /// The filters whose keys others tell.
    #[must_use]
    pub fn told(&self) -> &[ToldFilter] {
        &self.told
    }

    /// The same with other filters whose keys others tell.
    #[must_use]
    pub fn with_told(&self, told: Vec<ToldFilter>) -> Self {
        Self::with(Arc::clone(&self.input), self.picks.clone(), self.filters.clone(), told)
    }

    /// The same over another input with the same columns.
    fn with_input(&self, input: Plan) -> Plan {
        Arc::new(Self::with(input, self.picks.clone(), self.filters.clone(), self.told.clone()))
    }
}

/// Refuses what a plan from elsewhere may say of told keys, and cannot be.
fn check_told(filter: &ToldFilter, input: &Plan) -> Result<()> {
    let schema = input.schema();
    let fits = filter.number < filter.of
        && filter.column < schema.fields().len()
        && is_of_whole_numbers(schema.field(filter.column).data_type());
    if fits { Ok(()) } else { exec_err!("the scan has no keys in column {}", filter.column) }
}

impl DisplayAs for RuntimeFilterExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = self.filters.iter().map(|filter| {
            let columns: Vec<_> = filter.children().into_iter().map(ToString::to_string).collect();
            columns.join(" and ")
        });
        let schema = self.schema();
        let told = self.told.iter().map(|filter| {
            let column = format!("{}@{}", schema.field(filter.column).name(), filter.column);
            match filter.teller {
                Teller::Join(_) => column,
                Teller::Stage(stage) => format!("{column} told by {stage}"),
            }
        });
        let on: Vec<_> = told.chain(asked).collect();
        write!(f, "RuntimeFilterExec: on=[{}]", on.join(", "))
    }
}

impl ExecutionPlan for RuntimeFilterExec {
    plan_boilerplate!(RuntimeFilterExec, |filter, mut children| Ok(
        filter.with_input(children.swap_remove(0))
    ));

    fn children(&self) -> Vec<&Plan> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let asked = self.filters.iter();
        let asked = asked.map(|filter| Watched::asked(filter, &self.schema(), context.memory_pool()));
        let asked = asked.collect::<Result<Vec<_>>>()?;
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let batch_rows = context.session_config().batch_size();
        let (input, told, keys) = (Arc::clone(&self.input), self.told.clone(), Arc::clone(&self.keys));
        let filtering = async move {
            let keys = keys.get_or_try_init(|| keys_of(&told, &context)).await?;
            let told = told.iter().zip(keys);
            let told = told
                .filter_map(|(filter, keys)| Some(Watched::told(filter.column, Arc::clone(keys.as_ref()?))));
            let filters = told.chain(asked).collect();
            let rows = Filtering::new(input.execute(partition, context)?, filters, batch_rows, metrics);
            Ok::<_, DataFusionError>(rows.into_stream())
        };
        let batches = stream::once(filtering).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(
        &self,
        input_stats: &[Arc<Statistics>],
        _args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        Ok(Arc::new(input_stats[0].as_ref().clone().to_inexact()))
    }
}

/// The keys of each of the filters. Before a plan is cut, and where it is not, nobody tells them.
async fn keys_of(told: &[ToldFilter], context: &TaskContext) -> Result<Vec<Option<Arc<KeySet>>>> {
    let mut keys = Vec::with_capacity(told.len());
    for same in told.chunk_by(|a, b| a.teller == b.teller) {
        let Teller::Stage(stage) = same[0].teller else {
            keys.extend(same.iter().map(|_| None));
            continue;
        };
        let inputs = context.session_config().get_extension::<ShuffleInputs>();
        let Some(inputs) = inputs else { return exec_err!("told keys were read outside a task") };
        let of_stage = told_keys(&inputs, stage, same[0].of, context.memory_pool()).await?;
        keys.extend(same.iter().map(|filter| of_stage.get(filter.number).cloned().flatten()));
    }
    Ok(keys)
}
