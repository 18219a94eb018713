//! What the text and the page say in the same words.

use super::{Against, Cost, Scaling};
use crate::record::counted;

/// What is said of an amount that is not known or not claimed.
const NONE: &str = "-";

/// Seconds with no more digits than are measured well.
pub(super) fn seconds(seconds: f64) -> String {
    if seconds < 100.0 { format!("{seconds:.3}") } else { format!("{seconds:.1}") }
}

/// [`seconds`], which may be unknown.
pub(super) fn maybe_seconds(value: Option<f64>) -> String {
    value.map_or_else(|| NONE.to_owned(), seconds)
}

pub(super) fn times(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| NONE.to_owned(), |ratio| format!("{ratio:.2}"))
}

pub(super) fn percent(part: Option<f64>) -> String {
    part.map_or_else(|| NONE.to_owned(), |part| format!("{:.0}%", part * 100.0))
}

/// A cost as a cell of a table has it.
pub(super) fn cost(cost: Option<Cost>) -> String {
    match cost {
        Some(Cost::Cores { cores, .. }) => counted(cores as usize, "core"),
        Some(Cost::NotWithin { cores }) => format!("not within {}", counted(cores as usize, "core")),
        None => NONE.to_owned(),
    }
}

impl Scaling {
    /// What was measured, on what.
    pub(super) fn subject(&self) -> String {
        format!(
            "{} at scale {}, {}, on {} of {}",
            self.benchmark,
            self.scale,
            self.engine,
            counted(self.machine_cores as usize, "core"),
            self.processor
        )
    }

    /// What the numbers are over.
    pub(super) fn basis(&self) -> String {
        format!(
            "Medians of {} after {} for warm-up, over the {} that passed at every size; speed-up and efficiency are relative to \
             {}",
            counted(self.iterations as usize, "run"),
            self.warmup,
            counted(self.queries.len(), "query"),
            counted(self.sizes[0].executors as usize, "executor")
        )
    }

    /// What Amdahl's law makes of the sizes, named as the estimate that it is.
    pub(super) fn law(&self) -> Option<String> {
        let estimate = self.estimate?;
        Some(format!(
            "Estimate: by Amdahl's law through {}, {} of the time on one core is not shortened by more cores",
            counted(estimate.sizes, "size"),
            percent(Some(estimate.serial_share))
        ))
    }

    /// How many executors beat the engine, and over which queries.
    pub(super) fn verdict(&self, against: &Against) -> String {
        let beaten =
            format!("{} ({}, {})", against.engine, against.mode, counted(against.cores as usize, "core"));
        let over = format!("over the {} that passed in both", counted(against.queries.len(), "query"));
        let taken = |place: Option<usize>| maybe_seconds(place.map(|place| against.cluster_seconds[place]));
        match against.cost {
            Some(Cost::Cores { cores, executors }) => format!(
                "COST: {} ({}) of the cluster beat {beaten}: {} s against {} s, {over}",
                counted(cores as usize, "core"),
                counted(executors as usize, "executor"),
                taken(self.sizes.iter().position(|size| size.executors == executors)),
                seconds(against.seconds)
            ),
            Some(Cost::NotWithin { cores }) => format!(
                "COST: {beaten} is not beaten within {} of the cluster: {} s there against {} s, {over}",
                counted(cores as usize, "core"),
                taken(self.judged()),
                seconds(against.seconds)
            ),
            None => format!(
                "COST: not told, as every size is oversubscribed; {beaten} took {} s",
                seconds(against.seconds)
            ),
        }
    }
}

impl Against {
    /// What the law says of an engine that no measured size beats.
    pub(super) fn guess(&self) -> Option<String> {
        let (Some(Cost::NotWithin { .. }), Some(estimate)) = (self.cost, self.estimate) else { return None };
        let by = format!(
            "Estimate, not a measurement: by Amdahl's law through {}",
            counted(estimate.sizes, "size")
        );
        Some(match self.estimated_cores {
            Some(cores) => format!("{by} it would take {}", counted(cores as usize, "core")),
            None => format!("{by} no number of cores would beat it"),
        })
    }
}
