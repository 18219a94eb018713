//! Demands that nothing could meet: they are refused, with the reason, rather than left to wait for ever.

use std::collections::BTreeSet;

use firesteel_base::{JobId, StageKey};

use super::Machine;
use super::message::{Demand, Effect, ToDriver};
use super::node::Node;
use crate::placement::fitting;

impl Demand {
    fn excludes(&self, node: &Node, index: u32) -> bool {
        self.excluded.iter().any(|executor| executor.index == index && executor.worker == node.id)
    }
}

impl Machine {
    /// Drops demands that no executor of the cluster, up or not, could hold even if nothing else ran.
    /// Others than these were looked at, if the cluster is still `the_same`.
    pub(super) fn refuse_impossible(
        &mut self,
        changed: &BTreeSet<JobId>,
        the_same: bool,
        fx: &mut Vec<Effect>,
    ) {
        if self.nodes.present().all(|node| node.executors.is_empty()) {
            return;
        }
        let mut refused = Vec::new();
        let jobs = self.jobs.iter_wanting().filter(|job| !the_same || changed.contains(&job.id));
        for job in jobs {
            for demand in job.demands.values() {
                if let Some(reason) = self.impossible(demand) {
                    refused.push((job.driver(), demand.key(), reason));
                }
            }
        }
        for (driver, StageKey { job, stage }, reason) in refused {
            if let Some(job) = self.jobs.live_mut(job) {
                job.demands.remove(&stage);
            }
            if let Some(driver) = driver {
                fx.push(Effect::ToDriver(driver, ToDriver::DemandRefused { job, stage, reason }));
            }
        }
    }

    fn impossible(&self, demand: &Demand) -> Option<String> {
        let (mut room, mut possible) = (0, 0);
        for node in self.nodes.present() {
            for executor in node.executors.values() {
                let (cores, memory) = (u64::from(executor.spec.slots), executor.spec.memory_bytes);
                let tasks = fitting(cores, memory, demand.cores_per_task, demand.memory_per_task);
                possible += tasks;
                if !demand.excludes(node, executor.spec.index) {
                    room += tasks;
                }
            }
            if room >= demand.least() {
                return None;
            }
        }
        Some(self.why_impossible(demand, room, possible))
    }

    fn why_impossible(&self, demand: &Demand, room: u64, possible: u64) -> String {
        let (cores, memory) = (demand.cores_per_task, demand.memory_per_task);
        let size = format!("{cores} cores and {} of memory", firesteel_base::ByteSize(memory));
        if possible < demand.least() && demand.gang && possible > 0 {
            let tasks = demand.tasks;
            return format!(
                "{tasks} tasks of {size} each must run at once, but the cluster has room for {possible}"
            );
        }
        if room < possible {
            return format!("every executor that could hold a task of {size} is excluded for this stage");
        }
        let specs = || self.nodes.present().flat_map(|node| node.executors.values()).map(|e| &e.spec);
        let most_cores = specs().map(|spec| spec.slots).max().unwrap_or(0);
        let most_memory = firesteel_base::ByteSize(specs().map(|spec| spec.memory_bytes).max().unwrap_or(0));
        format!(
            "a task takes {size}, but no executor has both: the largest ones have {most_cores} cores, {most_memory}"
        )
    }
}
