//! Exchanges that a query asks for: `DISTRIBUTE BY` in SQL, `repartition` of a DataFrame.
//!
//! DataFusion 55.2 plans no `DISTRIBUTE BY`. It plans the repartition of a DataFrame, but its rule that ensures what operators
//! require first removes every exchange that no operator requires: the rows stay where they are, and nobody is told.

use std::fmt;
use std::sync::Arc;

use datafusion::common::Statistics;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{LogicalPlan, Partitioning, Repartition};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

use crate::ops::plan_boilerplate;
use crate::stage::narrow::replace_children;

type Plan = Arc<dyn ExecutionPlan>;
type Rule = Arc<dyn PhysicalOptimizerRule + Send + Sync>;

/// Makes each `DISTRIBUTE BY` an exchange by the hash of its expressions into so many partitions.
///
/// # Errors
/// When the plan cannot be put together again.
pub fn distribute(logical: LogicalPlan, partitions: usize) -> Result<LogicalPlan> {
    let by_hash = |node| match node {
        LogicalPlan::Repartition(Repartition {
            input,
            partitioning_scheme: Partitioning::DistributeBy(exprs),
        }) => {
            let partitioning_scheme = Partitioning::Hash(exprs, partitions);
            Ok(Transformed::yes(LogicalPlan::Repartition(Repartition { input, partitioning_scheme })))
        }
        node => Ok(Transformed::no(node)),
    };
    logical.transform_down_with_subqueries(by_hash).data()
}

/// DataFusion's rule that ensures what operators require, with the exchanges kept that are there before it runs: at that
/// point all of them are asked for by the query.
#[derive(Debug)]
pub struct KeepRepartitions(Rule);

impl KeepRepartitions {
    /// Puts this rule around DataFusion's.
    pub fn wrap_in(rules: &mut [Rule]) {
        for rule in rules.iter_mut().filter(|rule| rule.name() == "EnsureRequirements") {
            *rule = Arc::new(Self(Arc::clone(rule)));
        }
    }
}

impl PhysicalOptimizerRule for KeepRepartitions {
    fn optimize(&self, plan: Plan, config: &ConfigOptions) -> Result<Plan> {
        let plan = plan.transform_up(|node| Ok(hold(node))).data()?;
        self.0.optimize(plan, config)?.transform_up(let_go).data()
    }

    fn name(&self) -> &'static str {
        "keep_repartitions"
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}

fn hold(node: Plan) -> Transformed<Plan> {
    if !node.is::<RepartitionExec>() {
        return Transformed::no(node);
    }
    let properties = Arc::clone(node.properties());
    Transformed::yes(Arc::new(HeldExchangeExec { exchange: node, properties }))
}

fn let_go(node: Plan) -> Result<Transformed<Plan>> {
    Ok(match node.downcast_ref::<HeldExchangeExec>() {
        Some(held) => Transformed::yes(Arc::clone(&held.exchange)),
        None => Transformed::no(node),
    })
}

/// An exchange that the rule does not know for one. It is in no plan but during that rule.
#[derive(Debug)]
struct HeldExchangeExec {
    exchange: Plan,
    properties: Arc<PlanProperties>,
}

impl HeldExchangeExec {
    fn over(&self, children: Vec<Plan>) -> Result<Plan> {
        let exchange = replace_children(Arc::clone(&self.exchange), children)?;
        let properties = Arc::clone(exchange.properties());
        Ok(Arc::new(Self { exchange, properties }))
    }
}

impl DisplayAs for HeldExchangeExec {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeldExchangeExec: ")?;
        self.exchange.fmt_as(format, f)
    }
}

impl ExecutionPlan for HeldExchangeExec {
    plan_boilerplate!(HeldExchangeExec, |held, children| held.over(children));

    fn children(&self) -> Vec<&Plan> {
        self.exchange.children()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        self.exchange.maintains_input_order()
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        self.exchange.benefits_from_input_partitioning()
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.exchange.execute(partition, context)
    }

    fn statistics_from_inputs(
        &self,
        input_stats: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        self.exchange.statistics_from_inputs(input_stats, args)
    }
}
