//! Operators of our own: between stages, and between the cores of an executor.

mod arriving;
mod compact;
mod gate;
mod gather;
mod key_hashes;
mod local_exchange;
mod pad;
mod ranges;
mod runtime_filter;
mod series;
mod shuffle_read;
mod sides;
mod spilling_join;
mod subset;

pub use gather::GatherExec;
pub(crate) use key_hashes::KeyHashes;
pub use local_exchange::{LocalExchange, LocalExchangeExec};
pub use pad::PadExec;
pub(crate) use ranges::check as check_ranges;
pub use ranges::{LaneSamples, can_be_divided};
pub use runtime_filter::{
    LaneKeys, RuntimeFilterExec, TellKeysExec, Teller, ToldFilter, is_of_whole_numbers, runtime_filters,
};
pub use series::{Series, SeriesExec};
pub use shuffle_read::{ReadKind, SameValue, ShuffleReadExec};
pub(crate) use sides::{emits_unmatched_left, is_empty_without};
pub(crate) use spilling_join::spill_joins;
pub use subset::PartitionSubsetExec;

/// Implements the parts of `ExecutionPlan` that are the same for an operator without expressions of its own: `$children` maps
/// new children to the same operator over them.
macro_rules! plan_boilerplate {
    ($name:ident, $children:expr) => {
        fn name(&self) -> &'static str {
            stringify!($name)
        }

        fn properties(&self) -> &std::sync::Arc<datafusion::physical_plan::PlanProperties> {
            &self.properties
        }

        fn apply_expressions(
            &self,
            _f: &mut dyn FnMut(
                &std::sync::Arc<dyn datafusion::physical_expr::PhysicalExpr>,
            )
                -> datafusion::error::Result<datafusion::common::tree_node::TreeNodeRecursion>,
        ) -> datafusion::error::Result<datafusion::common::tree_node::TreeNodeRecursion> {
            Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
        }

        fn replace_children(
            self: std::sync::Arc<Self>,
            children: Vec<std::sync::Arc<dyn datafusion::physical_plan::ExecutionPlan>>,
            _options: datafusion::physical_plan::ReplaceChildrenOptions,
        ) -> datafusion::error::Result<std::sync::Arc<dyn datafusion::physical_plan::ExecutionPlan>> {
            let rebuild: fn(
                &Self,
                Vec<std::sync::Arc<dyn datafusion::physical_plan::ExecutionPlan>>,
            ) -> datafusion::error::Result<
                std::sync::Arc<dyn datafusion::physical_plan::ExecutionPlan>,
            > = $children;
            rebuild(&self, children)
        }

        fn with_new_children(
            self: std::sync::Arc<Self>,
            children: Vec<std::sync::Arc<dyn datafusion::physical_plan::ExecutionPlan>>,
        ) -> datafusion::error::Result<std::sync::Arc<dyn datafusion::physical_plan::ExecutionPlan>> {
            self.replace_children(
                children,
                datafusion::physical_plan::ReplaceChildrenOptions::new(
                    datafusion::physical_plan::ChildrenPropertiesMode::Recompute,
                ),
            )
        }
    };
}
pub(crate) use plan_boilerplate;
