//! Subqueries in the place of a value: at most one row, or an error.
//!
//! On a cluster such a subquery becomes a join, which would give as many rows as the subquery has; and in one process
//! DataFusion 55 takes its value for never NULL when its column is, though there may be no row. An aggregate over the
//! subquery settles both: it gives one row always, NULL for no rows, and fails for several. The column gets a name of its
//! own besides: as a side of a join, one that the other side has too would be ambiguous.

use std::mem::size_of_val;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::logical_plan::Subquery;
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Expr, LogicalPlan, LogicalPlanBuilder, Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;
use firesteel_base::UserError;

use crate::session::statements::external;

const NAME: &str = "single_value";
/// The column of such a subquery.
const COLUMN: &str = "__value";

/// Puts [`single_value_udaf`] over the subqueries that stand for a value.
#[derive(Debug)]
pub(super) struct OneValueOfSubqueries;

impl AnalyzerRule for OneValueOfSubqueries {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| {
            let names = NamePreserver::new(&node);
            node.map_expressions(|expr| {
                let name = names.save(&expr);
                let changed = expr.transform_up(|expr| match expr {
                    // A correlated one must be an aggregate already: DataFusion refuses others.
                    Expr::ScalarSubquery(query)
                        if query.outer_ref_columns.is_empty() && !is_done(&query.subquery) =>
                    {
                        Ok(Transformed::yes(Expr::ScalarSubquery(with_one_row(query)?)))
                    }
                    other => Ok(Transformed::no(other)),
                });
                Ok(changed?.update_data(|expr| name.restore(expr)))
            })
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "one_value_of_subqueries"
    }
}

/// Whether the plan gives exactly one row whatever its tables hold.
fn gives_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => gives_one_row(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => gives_one_row(&alias.input),
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::EmptyRelation(empty) => empty.produce_one_row,
        _ => false,
    }
}

fn is_done(plan: &LogicalPlan) -> bool {
    plan.schema().fields().first().is_some_and(|field| field.name() == COLUMN)
}

/// The subquery with one row, its column under a name that no column of the query beside it has.
fn with_one_row(query: Subquery) -> Result<Subquery> {
    let (qualifier, field) = query.subquery.schema().qualified_field(0);
    let column = Expr::Column(Column::from((qualifier, field)));
    let builder = LogicalPlanBuilder::new_from_arc(Arc::clone(&query.subquery));
    let plan = if gives_one_row(&query.subquery) {
        builder.project(vec![column.alias(COLUMN)])?
    } else {
        let value = single_value_udaf().call(vec![column]);
        let result = Expr::Column(Column::from_name(value.schema_name().to_string()));
        builder.aggregate(Vec::<Expr>::new(), vec![value])?.project(vec![result.alias(COLUMN)])?
    };
    Ok(Subquery { subquery: Arc::new(plan.build()?), ..query })
}

/// The aggregate that gives the value of the only row, NULL when there is none, and an error when there are several.
pub fn single_value_udaf() -> Arc<AggregateUDF> {
    static UDAF: LazyLock<Arc<AggregateUDF>> = LazyLock::new(|| {
        Arc::new(AggregateUDF::from(SingleValue { signature: Signature::any(1, Volatility::Immutable) }))
    });
    Arc::clone(&UDAF)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SingleValue {
    signature: Signature,
}

impl AggregateUDFImpl for SingleValue {
    fn name(&self) -> &'static str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments[0].clone())
    }

    fn accumulator(&self, arguments: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let none = ScalarValue::try_from(arguments.return_field.data_type())?;
        Ok(Box::new(Only { value: none, seen: false }))
    }

    fn state_fields(&self, arguments: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let value =
            Field::new(format_state_name(arguments.name, "value"), arguments.return_type().clone(), true);
        let seen = Field::new(format_state_name(arguments.name, "rows"), DataType::Int64, false);
        Ok(vec![Arc::new(value), Arc::new(seen)])
    }
}

/// The value of the only row so far.
#[derive(Debug)]
struct Only {
    value: ScalarValue,
    seen: bool,
}

impl Only {
    fn take(&mut self, values: &dyn Array, row: usize) -> Result<()> {
        if self.seen {
            return Err(external(
                UserError::new("a subquery used as a value gives more than one row")
                    .hint("make it give one, with an aggregate or LIMIT 1"),
            ));
        }
        self.seen = true;
        self.value = ScalarValue::try_from_array(values, row)?;
        Ok(())
    }
}

impl Accumulator for Only {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        // The second row is the last one that is looked at.
        (0..values[0].len().min(2)).try_for_each(|row| self.take(&values[0], row))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let rows = states[1].as_primitive::<Int64Type>();
        (0..rows.len()).filter(|row| rows.value(*row) > 0).try_for_each(|row| self.take(&states[0], row))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.value.clone(), ScalarValue::Int64(Some(i64::from(self.seen)))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.value.clone())
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.value.size() - size_of_val(&self.value)
    }
}
