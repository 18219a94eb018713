//! The processes of a cluster, by their numbers.

use super::{ProcessCluster, proc};

impl ProcessCluster {
    /// A worker's process.
    #[must_use]
    pub fn worker_pid(&self, worker: usize) -> u32 {
        self.workers[worker].pid()
    }

    /// The processes of a worker's executors.
    ///
    /// # Errors
    /// When the processes cannot be listed.
    pub fn executor_pids(&self, worker: usize) -> anyhow::Result<Vec<u32>> {
        self.children_of(worker, "executor")
    }

    /// The processes of the drivers that a worker runs.
    ///
    /// # Errors
    /// When the processes cannot be listed.
    pub fn driver_pids(&self, worker: usize) -> anyhow::Result<Vec<u32>> {
        self.children_of(worker, "driver")
    }

    fn children_of(&self, worker: usize, command: &str) -> anyhow::Result<Vec<u32>> {
        let children = proc::children(self.workers[worker].pid())?;
        Ok(children.into_iter().filter(|&pid| proc::arguments(pid).iter().any(|a| a == command)).collect())
    }
}
