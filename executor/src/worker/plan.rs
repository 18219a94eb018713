//! From the machine to the executors of this worker.

use std::path::{Path, PathBuf};

use firesteel_base::{ByteSize, ExecutorId, UserError};
use firesteel_hw::layout::{ExecutorLayout, plan_executors};
use firesteel_hw::topology::Topology;
use firesteel_protocol::v1;

use super::config::WorkerConfig;
use crate::process::ExecutorProcessConfig;

/// What this worker will run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) topology: Topology,
    pub(crate) layouts: Vec<ExecutorLayout>,
    /// Cluster-mode drivers at a time.
    pub(crate) driver_places: usize,
}

impl Plan {
    pub(crate) fn make(config: &WorkerConfig) -> Result<Self, UserError> {
        let topology = discover(config.topology.as_deref())?;
        let layouts = plan_executors(&topology, &config.layout)?;
        let executors = layouts.iter().map(|layout| layout.memory_bytes).sum();
        let driver_places = config.drivers.places_beside(topology.usable_memory_bytes(), executors);
        Ok(Self { topology, layouts, driver_places })
    }

    pub(crate) fn specs(&self) -> Vec<v1::ExecutorSpec> {
        self.layouts.iter().map(spec).collect()
    }
}

fn discover(xml: Option<&Path>) -> Result<Topology, UserError> {
    let topology = xml.map_or_else(Topology::discover, Topology::from_xml);
    topology.map_err(UserError::from)
}

fn spec(layout: &ExecutorLayout) -> v1::ExecutorSpec {
    v1::ExecutorSpec {
        index: layout.index,
        numa_node: layout.numa_node,
        cpus: layout.cores.clone(),
        slots: u32::try_from(layout.cores.len()).unwrap_or(u32::MAX),
        memory_bytes: layout.memory_bytes,
    }
}

/// What the executor process of `layout` is told.
pub(crate) fn process_config(
    config: &WorkerConfig,
    layout: &ExecutorLayout,
    keeper: Option<String>,
) -> ExecutorProcessConfig {
    ExecutorProcessConfig {
        id: ExecutorId { worker: config.id.clone(), index: layout.index },
        listen_host: config.listen.ip().to_string(),
        advertise_host: config.advertise_host.clone(),
        cores: layout.cores.iter().map(|&cpu| config.pin.then_some(cpu)).collect(),
        control_cpus: if config.pin { layout.control_cpus.clone() } else { Vec::new() },
        numa_node: layout.numa_node.filter(|_| config.pin),
        memory: ByteSize(layout.memory_bytes),
        scratch: executor_folders(config, layout.index).collect(),
        keeper,
        blocks: config.blocks,
        // Told anew at each start.
        security: config.security.handover(),
        shutdown_ms: u64::try_from(config.limits.stop_timeout.as_millis() / 2).unwrap_or(u64::MAX),
    }
}

/// The folders of an executor, one below each scratch root.
pub(crate) fn executor_folders(config: &WorkerConfig, index: u32) -> impl Iterator<Item = PathBuf> {
    config.scratch.iter().map(move |root| executor_scratch(root, index))
}

/// An executor's own folder below a scratch root, so that what a killed one left is found by its next life.
fn executor_scratch(root: &Path, index: u32) -> PathBuf {
    root.join(format!("executor-{index}"))
}
