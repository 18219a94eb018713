//! What the manager says of its nodes.

use anyhow::Context;
use serde::Deserialize;

/// A node as `firesteel nodes --json` tells of it, as far as it matters here.
#[derive(Debug, Clone, Deserialize)]
pub struct Node {
    /// The worker's name.
    pub worker: String,
    /// Whether it is heard.
    pub state: String,
    /// Its executors.
    pub executors: Vec<Executor>,
}

/// An executor of a node.
#[derive(Debug, Clone, Deserialize)]
pub struct Executor {
    /// Whether it runs.
    pub up: bool,
    /// How many attempts it may run at a time.
    pub slots: u32,
    /// Slots on loan.
    pub slots_leased: u32,
    /// Attempts that run.
    pub running_attempts: u32,
    /// Bytes of blocks that it holds.
    pub block_bytes: u64,
}

impl Node {
    /// Whether it is there with an executor that runs.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.state == "alive" && !self.executors.is_empty() && self.executors.iter().all(|one| one.up)
    }

    /// What is in use on it, in words; nothing when it is idle.
    #[must_use]
    pub fn in_use(&self) -> Option<String> {
        let is_idle =
            |one: &&Executor| (one.slots_leased, one.running_attempts, one.block_bytes) == (0, 0, 0);
        let busy = self.executors.iter().find(|one| !is_idle(one))?;
        let Executor { slots, slots_leased, running_attempts, block_bytes, .. } = busy;
        Some(format!(
            "{}: {slots_leased} of {slots} slots on loan, {running_attempts} attempts running, {block_bytes} bytes of blocks",
            self.worker
        ))
    }
}

/// Reads the command's output.
pub fn parse(text: &str) -> anyhow::Result<Vec<Node>> {
    #[derive(Deserialize)]
    struct Answer {
        nodes: Vec<Node>,
    }
    Ok(serde_json::from_str::<Answer>(text).context("`nodes --json` printed something else")?.nodes)
}
