//! Rules of our own over plans: where DataFusion's answer is wrong, or would be once the plan has travelled, and where what it
//! plans takes longer than it need.

mod cheap_first;
mod merged_columns;
mod pushdown;
mod repartitions;
mod runtime_filters;
mod single_value;
mod window_filters;

use std::sync::Arc;

use datafusion::execution::session_state::SessionStateBuilder;

pub use cheap_first::cheap_conditions_first;
pub use pushdown::PushFiltersDown;
pub use repartitions::{KeepRepartitions, distribute};
pub use runtime_filters::ApplyRuntimeFilters;
pub use single_value::single_value_udaf;
pub use window_filters::has_window_filters;

/// Adds the rules that run before all others, over what a query says.
pub fn add_analyzer_rules(builder: SessionStateBuilder) -> SessionStateBuilder {
    builder
        .with_analyzer_rule(Arc::new(merged_columns::RefuseMergedColumns))
        .with_analyzer_rule(Arc::new(single_value::OneValueOfSubqueries))
        .with_analyzer_rule(Arc::new(window_filters::FilterWindowArguments))
}
