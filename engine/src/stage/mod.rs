//! Stages: the graph, the cut that makes it, narrowing to a task's partitions, and the codec.

pub mod adapt;
pub mod codec;
pub mod cut;
pub mod graph;
pub mod localize;
pub mod narrow;
pub mod series;
pub mod yielding;

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;

use self::cut::CutOptions;
use crate::session::SessionSettings;
use crate::{ClusterShape, Place, StageGraph};

/// The longest reason for staying in the driver that is shown.
const REASON_CHARS_MAX: usize = 200;

/// The stages that run `plan` on a cluster of that shape. A plan that cannot travel runs in the driver.
///
/// # Errors
/// When an operator does not accept its new inputs.
pub fn plan_stages(
    plan: Arc<dyn ExecutionPlan>,
    shape: &ClusterShape,
    context: &TaskContext,
) -> Result<StageGraph> {
    if shape.local {
        return localize::localize(plan);
    }
    let settings = SessionSettings::of(context.session_config().options());
    let options = CutOptions {
        adapts: settings.adapt_limits(shape.cores),
        ranges: if settings.range_sorts { context.session_config().target_partitions() } else { 1 },
    };
    let mut graph = cut::cut(Arc::clone(&plan), options)?;
    if let Err(fault) = encode_all(&mut graph) {
        let mut graph = localize::localize(plan)?;
        graph.place = Place::Driver(reason(&fault.strip_backtrace()));
        return Ok(graph);
    }
    if cfg!(debug_assertions) {
        for stage in &graph.stages {
            let encoded = stage.encoded.as_ref().expect("every stage was encoded");
            codec::check_round_trip(stage, encoded, context)?;
            if let Some(broadcast) = stage.adapts.broadcast {
                let absorbed = adapt::absorb(stage, &graph.stages[broadcast.probe.0 as usize])?;
                codec::check_round_trip(&absorbed, &codec::encode(&absorbed)?, context)?;
            }
        }
    }
    Ok(graph)
}

/// Why a plan cannot travel: the sentence of ours in what DataFusion's encoder makes of it, which has the whole plan in it.
fn reason(fault: &str) -> String {
    let ours = fault.split_once("[Execution error: ").and_then(|(_, rest)| rest.split_once(']'));
    let first_line = || fault.lines().next().unwrap_or_default().chars().take(REASON_CHARS_MAX).collect();
    ours.map_or_else(first_line, |(text, _)| text.to_owned())
}

fn encode_all(graph: &mut StageGraph) -> Result<()> {
    for stage in &mut graph.stages {
        let encoded = codec::encode(stage)?;
        Arc::make_mut(stage).encoded = Some(encoded);
    }
    Ok(())
}
