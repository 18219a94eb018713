//! From a logical plan to a job.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::internal_datafusion_err;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};

use super::config::SessionSettings;
use super::job::{JobExec, QueryText};
use super::rules::{
    ApplyRuntimeFilters, KeepRepartitions, PushFiltersDown, cheap_conditions_first, distribute,
    has_window_filters,
};
use super::sinks::{self, Target};
use super::stores::Stores;
use super::{analyze, explain};
use crate::runner::MetricsSink;
use crate::stage::cut::MakeJoinsDistributable;
use crate::stage::series::DivideSeries;
use crate::stage::yielding::MakeJoinsYield;
use crate::stage::{localize, plan_stages};
use crate::{ClusterShape, JobRunner, JobSpec, Place, Settings, StageGraph};

/// On a cluster, the smaller side of a join is sent whole to every task when it has at most so many rows.
const BROADCAST_ROWS_MAX: usize = 1_000_000;

/// Plans queries for whoever runs this session's jobs.
#[derive(Debug)]
pub(super) struct JobPlanner {
    runner: Arc<dyn JobRunner>,
    stores: Arc<Stores>,
}

/// A query, planned for the cluster as it was.
pub(super) struct Planned {
    /// The session's state with the settings it was planned under.
    pub state: SessionState,
    /// The cluster's shape.
    pub shape: ClusterShape,
    /// The logical plan that the physical one was made from.
    pub logical: LogicalPlan,
    /// The stages.
    pub graph: StageGraph,
    /// Where its rows are written, when it writes files.
    pub target: Option<Target>,
    /// The writing of the rows, when it is of a kind that only this process can do.
    pub write_here: Option<Arc<dyn ExecutionPlan>>,
}

impl JobPlanner {
    pub(super) fn new(runner: Arc<dyn JobRunner>, stores: Arc<Stores>) -> Self {
        Self { runner, stores }
    }

    /// Plans `logical`, an optimized plan that is no EXPLAIN.
    pub(super) async fn plan(&self, logical: &LogicalPlan, session: &dyn Session) -> Result<Planned> {
        let own_state = session
            .as_any()
            .downcast_ref::<SessionState>()
            .ok_or_else(|| internal_datafusion_err!("a session of another kind"))?;
        let catalog_only = reads_only_the_catalog(logical);
        let shape = if catalog_only { HERE } else { self.runner.shape().await? };
        let mut state = tuned(own_state, &shape);
        let target = sinks::target_of(logical)?;
        let logical = sinks::prepare(logical.clone(), &state, &self.stores)?;
        let logical = distribute(logical, state.config_options().execution.target_partitions)?;
        let logical = join_subqueries(logical, &mut state, &shape)?;
        let logical = cheap_conditions_first(logical)?;
        let plan = DefaultPhysicalPlanner::default().create_physical_plan(&logical, &state).await?;
        let (plan, target) = sinks::stage(plan, target);
        let stays = if catalog_only {
            Some("it reads this session's catalog")
        } else if !shape.local && has_window_filters(&logical)? {
            Some("the filter of a window's aggregate cannot travel")
        } else {
            None
        };
        let graph = match stays {
            Some(why) => {
                StageGraph { place: Place::Driver(why.to_owned()), ..localize::localize(Arc::clone(&plan))? }
            }
            None => plan_stages(Arc::clone(&plan), &shape, &state.task_ctx())?,
        };
        let (graph, write_here) = write_here(plan, graph, &shape, &state)?;
        Ok(Planned { state, shape, logical, graph, target, write_here })
    }

    /// The operator that runs what was planned.
    pub(super) fn job(
        &self,
        planned: Planned,
        analyze: Option<Arc<MetricsSink>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Planned { state, logical, graph, target, write_here, .. } = planned;
        let sql = match state.config().get_extension::<QueryText>() {
            Some(text) => text.0.clone(),
            None => logical.display().to_string(),
        };
        let mut settings = Settings::differing_from_defaults(state.config_options());
        settings.0.extend(self.stores.settings());
        if analyze.is_some() {
            settings = settings.with_analyze();
        }
        let job = JobSpec { graph: Arc::new(graph), settings, sql, analyze };
        let mut job: Arc<dyn ExecutionPlan> = Arc::new(JobExec::new(Arc::clone(&self.runner), job));
        if let Some(write) = write_here {
            job = sinks::write_instead(write, job)?;
        }
        Ok(match target {
            Some(target) => sinks::publish(job, target),
            None => job,
        })
    }
}

#[async_trait]
impl QueryPlanner for JobPlanner {
    async fn create_physical_plan(
        &self,
        logical: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match logical {
            LogicalPlan::Explain(explain) => explain::explain(self, explain, session).await,
            LogicalPlan::Analyze(analyze) => analyze::analyze(self, analyze, session).await,
            // What a statement about tables or settings leaves, and a query that can have no rows: no job.
            LogicalPlan::EmptyRelation(empty) if !empty.produce_one_row => {
                Ok(Arc::new(EmptyExec::new(Arc::clone(empty.schema.inner()))))
            }
            query => self.job(self.plan(query, session).await?, None),
        }
    }
}

/// A plan whose writing cannot travel: its rows are computed on the cluster, and written here.
fn write_here(
    plan: Arc<dyn ExecutionPlan>,
    graph: StageGraph,
    shape: &ClusterShape,
    state: &SessionState,
) -> Result<(StageGraph, Option<Arc<dyn ExecutionPlan>>)> {
    let stuck = !shape.local && matches!(graph.place, Place::Driver(_));
    let Some(rows) = sinks::written_rows(&plan).filter(|_| stuck) else {
        return Ok((graph, None));
    };
    let of_rows = plan_stages(rows, shape, &state.task_ctx())?;
    Ok(match of_rows.place {
        Place::Cluster => (of_rows, Some(plan)),
        Place::Driver(_) => (graph, None),
    })
}

/// Plans for one thread of this process.
const HERE: ClusterShape = ClusterShape { executors: 1, cores_per_executor: 1, cores: 1, local: false };

/// Whether all rows come from what this session alone knows.
fn reads_only_the_catalog(plan: &LogicalPlan) -> bool {
    let (mut catalog, mut others) = (false, false);
    let walked = plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::TableScan(scan) if scan.table_name.schema() == Some("information_schema") => {
                catalog = true;
            }
            LogicalPlan::DescribeTable(_) => catalog = true,
            LogicalPlan::TableScan(_) => others = true,
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    });
    walked.is_ok() && catalog && !others
}

/// Plans what is nested in a query, such as a view over another: as a part of it, not as a job.
#[derive(Debug)]
struct PlainPlanner;

#[async_trait]
impl QueryPlanner for PlainPlanner {
    async fn create_physical_plan(
        &self,
        logical: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        DefaultPhysicalPlanner::default().create_physical_plan(logical, session).await
    }
}

/// The session's state with what planning for that cluster needs.
fn tuned(state: &SessionState, shape: &ClusterShape) -> SessionState {
    let mut rules = state.physical_optimizers().to_vec();
    PushFiltersDown::replace_in(&mut rules);
    KeepRepartitions::wrap_in(&mut rules);
    rules.insert(0, Arc::new(DivideSeries));
    rules.push(Arc::new(ApplyRuntimeFilters { local: shape.local }));
    rules.push(Arc::new(MakeJoinsYield));
    if !shape.local {
        let after = rules.iter().position(|rule| rule.name() == "join_selection").map_or(0, |at| at + 1);
        let rule: Arc<dyn PhysicalOptimizerRule + Send + Sync> = Arc::new(MakeJoinsDistributable);
        rules.insert(after, rule);
    }
    let mut state = SessionStateBuilder::from(state.clone())
        .with_query_planner(Arc::new(PlainPlanner))
        .with_physical_optimizer_rules(rules)
        .build();
    tune(state.config_mut().options_mut(), shape);
    state
}

fn tune(options: &mut ConfigOptions, shape: &ClusterShape) {
    let own = SessionSettings::of(options);
    let partitions = if own.partitions > 0 { own.partitions } else { shape.cores };
    options.execution.target_partitions = partitions.max(1);
    if shape.local {
        return;
    }
    let defaults = ConfigOptions::new().optimizer;
    let optimizer = &mut options.optimizer;
    // Between executors an exchange costs more than unevenness does.
    optimizer.enable_round_robin_repartition = false;
    // Its result lives in one process; as a join it can be sent to every task.
    optimizer.enable_physical_uncorrelated_scalar_subquery = false;
    if optimizer.hash_join_single_partition_threshold == defaults.hash_join_single_partition_threshold {
        let bytes = usize::try_from(own.broadcast_threshold.0).unwrap_or(usize::MAX);
        optimizer.hash_join_single_partition_threshold = bytes;
    }
    if optimizer.hash_join_single_partition_threshold_rows
        == defaults.hash_join_single_partition_threshold_rows
    {
        optimizer.hash_join_single_partition_threshold_rows = BROADCAST_ROWS_MAX;
    }
}

/// Makes joins of the scalar subqueries that the optimizer, not knowing of a cluster, has left for one process. Those
/// that stand where no join can be are left after all.
fn join_subqueries(
    logical: LogicalPlan,
    state: &mut SessionState,
    shape: &ClusterShape,
) -> Result<LogicalPlan> {
    if shape.local || !has_scalar_subqueries(&logical)? {
        return Ok(logical);
    }
    let logical = state.optimizer().optimize(logical, state, |_, _| {})?;
    if has_scalar_subqueries(&logical)? {
        let options = state.config_mut().options_mut();
        options.optimizer.enable_physical_uncorrelated_scalar_subquery = true;
    }
    Ok(logical)
}

fn has_scalar_subqueries(plan: &LogicalPlan) -> Result<bool> {
    plan.exists(|node| Ok(node.expressions().iter().any(Expr::contains_scalar_subquery)))
}
