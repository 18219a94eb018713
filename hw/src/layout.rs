//! Which executor of a host gets which cores and how much memory.
//!
//! One executor per NUMA node unless told otherwise, one core kept free for the control plane (daemon, heartbeats,
//! serving) where there are more than two, SMT siblings idle unless asked for.

use firesteel_base::{ByteSize, UserError};
use serde::{Deserialize, Serialize};

use crate::topology::{Core, Topology, TopologyError};

/// Of the memory of a machine executors get this share by default; the rest is for the system, the page cache and the
/// daemons.
const MEMORY_SHARE_PERCENT: u128 = 75;
const MIB: u64 = 1 << 20;

/// With so many cores or fewer none is kept free: the control plane shares.
const CORES_TO_SHARE_MAX: usize = 2;

/// What an operator may ask for; what is not set follows the hardware.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayoutRequest {
    /// How many executors on this host. Default: one per NUMA node that has cores.
    pub executors: Option<u32>,
    /// How many core threads on this host, over all executors. Default: all cores that the control plane leaves, or
    /// as many as the cgroup's CPU limit.
    pub cores: Option<u32>,
    /// How many cores are kept free for the control plane. Default: 1 where there are more than 2 and neither `cores`
    /// nor `executors` asks for all, else 0.
    pub control_cores: Option<u32>,
    /// Whether each hardware thread counts as a core. Default: one core thread per core.
    pub smt: bool,
    /// Bytes of memory for each executor. Default: its share of 75% of what the machine or the cgroup has.
    pub memory: Option<u64>,
    /// Only these CPUs are used. Default: all that this process may use.
    pub cpus: Option<Vec<u32>>,
}

/// One executor as planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutorLayout {
    /// Its number on its host, from 0.
    pub index: u32,
    /// The NUMA node its cores and its memory are of; none when it spans several.
    pub numa_node: Option<u32>,
    /// The CPU of each of its core threads.
    pub cores: Vec<u32>,
    /// The CPUs of its control plane: of the cores kept free, or its own where none are.
    pub control_cpus: Vec<u32>,
    /// Its one memory limit.
    pub memory_bytes: u64,
}

/// A request that this machine cannot meet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// More core threads than there are cores (or hardware threads, with SMT) beside those kept free.
    #[error("{asked} cores are asked for, but this machine has {}", Has { cores: *has, smt: *smt, control: *control })]
    TooManyCores {
        /// Core threads asked for.
        asked: u32,
        /// Cores, or hardware threads, that there are.
        has: u32,
        /// Of those kept free for the control plane by request.
        control: u32,
        /// Whether hardware threads were counted.
        smt: bool,
        /// Hardware threads that there are.
        cpus: u32,
    },
    /// The control plane would take all cores.
    #[error("{asked} cores for the control plane leave none of the {has} of this machine for executors")]
    NoCoresLeft {
        /// Cores asked for the control plane.
        asked: u32,
        /// Cores that there are.
        has: u32,
    },
    /// More executors than core threads.
    #[error("{executors} executors are asked for, but there are only {cores} cores for them")]
    TooManyExecutors {
        /// Executors asked for.
        executors: u32,
        /// Core threads that they would share.
        cores: u32,
    },
    /// A count that must be at least 1 is 0.
    #[error("{what} is 0")]
    Zero {
        /// Which one.
        what: &'static str,
    },
    /// More memory than there is.
    #[error("{executors} executor(s) of {} are asked for, but this machine has {}", ByteSize(*asked), ByteSize(*has))]
    TooMuchMemory {
        /// Bytes asked for each executor.
        asked: u64,
        /// How many executors.
        executors: u32,
        /// Bytes that the machine has or the cgroup leaves.
        has: u64,
    },
    /// The memory of the machine is unknown, so a default share cannot be had.
    #[error("the memory of machine '{machine}' is unknown")]
    UnknownMemory {
        /// Its name.
        machine: String,
    },
    /// The CPUs asked for are not there.
    #[error(transparent)]
    Cpus(#[from] TopologyError),
}

struct Has {
    cores: u32,
    smt: bool,
    control: u32,
}

impl std::fmt::Display for Has {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.cores, if self.smt { "hardware threads" } else { "cores" })?;
        if self.control > 0 {
            write!(f, ", of which {} stay free for the control plane", self.control)?;
        }
        Ok(())
    }
}

impl From<LayoutError> for UserError {
    fn from(fault: LayoutError) -> Self {
        let error = Self::new(fault.to_string());
        match fault {
            LayoutError::TooManyCores { has, control, smt, cpus, .. } => {
                let smt_helps = if !smt && cpus > has {
                    format!(", or count hardware threads (smt), of which there are {cpus}")
                } else {
                    String::new()
                };
                error.hint(format!("set cores to at most {}{smt_helps}", has.saturating_sub(control)))
            }
            LayoutError::NoCoresLeft { has, .. } => {
                error.hint(format!("set control_cores to at most {}", has.saturating_sub(1)))
            }
            LayoutError::TooManyExecutors { cores, .. } => {
                error.hint(format!("set executors to at most {cores}, or cores to more"))
            }
            LayoutError::Zero { what } => error.hint(format!("set {what} to at least 1, or leave it unset")),
            LayoutError::TooMuchMemory { has, executors, .. } => {
                let most = ByteSize(default_part(has / u64::from(executors.max(1))));
                error
                    .hint(format!("memory is per executor; up to about {most} each leaves the system enough"))
            }
            LayoutError::UnknownMemory { .. } => error.hint("set memory"),
            LayoutError::Cpus(fault) => fault.into(),
        }
    }
}

/// Plans the executors of a host.
///
/// # Errors
/// When the machine has less than what is asked for.
pub fn plan_executors(
    topology: &Topology,
    request: &LayoutRequest,
) -> Result<Vec<ExecutorLayout>, LayoutError> {
    refuse_zeros(request)?;
    let restricted = request.cpus.as_ref().map(|cpus| topology.restricted_to(cpus)).transpose()?;
    let topology = restricted.as_ref().unwrap_or(topology);
    let (control, units) = divide_cores(topology, request)?;
    let threads = thread_count(topology, request, units.len());
    let mut nodes = by_node(topology, units);
    let executors = executor_count(request, nodes.len(), threads)?;
    if request.executors.is_none() {
        // With fewer core threads than nodes the first nodes are used, and no executor spans two.
        nodes.truncate(executors);
    }
    let rooms = rooms(&nodes, executors);
    let cores = fill(&rooms, threads);
    let memory = memory_shares(topology, request, &rooms)?;
    let layouts =
        rooms.iter().zip(cores).zip(memory).enumerate().map(|(index, ((room, cores), memory_bytes))| {
            let control_cpus = if control.is_empty() { cores.clone() } else { control.clone() };
            let numa_node = if let [only] = room.nodes.as_slice() { Some(*only) } else { None };
            ExecutorLayout { index: small(index), numa_node, cores, control_cpus, memory_bytes }
        });
    Ok(layouts.collect())
}

fn refuse_zeros(request: &LayoutRequest) -> Result<(), LayoutError> {
    let zero = |what| Err(LayoutError::Zero { what });
    match request {
        LayoutRequest { executors: Some(0), .. } => zero("executors"),
        LayoutRequest { cores: Some(0), .. } => zero("cores"),
        LayoutRequest { memory: Some(0), .. } => zero("memory"),
        _ => Ok(()),
    }
}

/// A place for one core thread.
#[derive(Clone, Copy)]
struct Unit {
    node: u32,
    cpu: u32,
}

/// The CPUs of the control plane, and the places left for core threads. The control plane gets the first cores, where
/// interrupts go by default.
fn divide_cores(topology: &Topology, request: &LayoutRequest) -> Result<(Vec<u32>, Vec<Unit>), LayoutError> {
    let all = places(&topology.cores, request.smt);
    let cores = topology.cores.len();
    let wanted =
        request.control_cores.map_or(usize::from(cores > CORES_TO_SHARE_MAX), |cores| cores as usize);
    if wanted > 0 && wanted >= cores {
        return Err(LayoutError::NoCoresLeft { asked: small(wanted), has: small(cores) });
    }
    let (control, rest) = topology.cores.split_at(wanted);
    let left = places(rest, request.smt);
    let needed = request.cores.max(request.executors).map_or(0, |needed| needed as usize);
    if needed > left.len() && needed <= all.len() && request.control_cores.is_none() {
        return Ok((Vec::new(), all));
    }
    match request.cores {
        Some(asked) if asked as usize > left.len() => Err(LayoutError::TooManyCores {
            asked,
            has: small(all.len()),
            control: request.control_cores.unwrap_or(0),
            smt: request.smt,
            cpus: small(topology.cpus().len()),
        }),
        _ => Ok((control.iter().flat_map(|core| core.cpus.clone()).collect(), left)),
    }
}

fn places(cores: &[Core], smt: bool) -> Vec<Unit> {
    let threads = if smt { usize::MAX } else { 1 };
    let of = |core: &Core| {
        core.cpus.iter().take(threads).map(|&cpu| Unit { node: core.numa_node, cpu }).collect::<Vec<_>>()
    };
    cores.iter().flat_map(of).collect()
}

/// How many core threads there shall be. More than the cgroup's CPU limit would only be throttled, unless asked for.
fn thread_count(topology: &Topology, request: &LayoutRequest, places: usize) -> usize {
    let quota = topology.limits.cpu_milli.map_or(usize::MAX, |milli| (milli.div_ceil(1000) as usize).max(1));
    request.cores.map_or(places.min(quota), |cores| cores as usize)
}

struct Node {
    index: u32,
    units: Vec<Unit>,
}

/// The places of each NUMA node that has some.
fn by_node(topology: &Topology, units: Vec<Unit>) -> Vec<Node> {
    let of = |index| units.iter().copied().filter(|unit| unit.node == index).collect();
    let nodes = topology.numa_nodes.iter().map(|node| Node { index: node.index, units: of(node.index) });
    nodes.filter(|node| !node.units.is_empty()).collect()
}

fn executor_count(request: &LayoutRequest, nodes: usize, threads: usize) -> Result<usize, LayoutError> {
    match request.executors.map(|executors| executors as usize) {
        Some(executors) if executors > threads => {
            Err(LayoutError::TooManyExecutors { executors: small(executors), cores: small(threads) })
        }
        Some(executors) => Ok(executors),
        None => Ok(nodes.min(threads)),
    }
}

/// The places one executor may take, before the limit on cores.
struct Room {
    nodes: Vec<u32>,
    units: Vec<Unit>,
}

fn rooms(nodes: &[Node], executors: usize) -> Vec<Room> {
    if executors < nodes.len() {
        return spanning_rooms(nodes, executors);
    }
    let counts = executors_of_nodes(nodes, executors);
    nodes.iter().zip(counts).flat_map(|(node, count)| rooms_of_node(node, count)).collect()
}

/// Fewer executors than nodes: each spans a run of neighbouring nodes.
fn spanning_rooms(nodes: &[Node], executors: usize) -> Vec<Room> {
    let run = |i: usize| &nodes[i * nodes.len() / executors..(i + 1) * nodes.len() / executors];
    let room = |run: &[Node]| Room {
        nodes: run.iter().map(|node| node.index).collect(),
        units: run.iter().flat_map(|node| node.units.iter().copied()).collect(),
    };
    (0..executors).map(|i| room(run(i))).collect()
}

/// How many executors each node gets: one, and of the others each goes where it gets most cores.
fn executors_of_nodes(nodes: &[Node], executors: usize) -> Vec<usize> {
    let mut counts = vec![1; nodes.len()];
    for _ in nodes.len()..executors {
        let share = |i: usize| nodes[i].units.len() as f64 / (counts[i] + 1) as f64;
        let roomiest = (0..nodes.len()).max_by(|&a, &b| share(a).total_cmp(&share(b)).then(b.cmp(&a)));
        counts[roomiest.expect("a machine has a node with cores")] += 1;
    }
    counts
}

/// Neighbouring cores stay together, so that executors share as few L3 groups as may be.
fn rooms_of_node(node: &Node, executors: usize) -> Vec<Room> {
    let cut = |i: usize| i * node.units.len() / executors;
    (0..executors)
        .map(|i| Room { nodes: vec![node.index], units: node.units[cut(i)..cut(i + 1)].to_vec() })
        .collect()
}

/// Deals core threads out one by one, each to the executor that has fewest and has room.
fn fill(rooms: &[Room], threads: usize) -> Vec<Vec<u32>> {
    let mut taken = vec![0; rooms.len()];
    for _ in 0..threads {
        let open = (0..rooms.len()).filter(|&i| taken[i] < rooms[i].units.len());
        let Some(next) = open.min_by_key(|&i| taken[i]) else { break };
        taken[next] += 1;
    }
    let cpus = |(room, taken): (&Room, usize)| room.units[..taken].iter().map(|unit| unit.cpu).collect();
    rooms.iter().zip(taken).map(cpus).collect()
}

fn memory_shares(
    topology: &Topology,
    request: &LayoutRequest,
    rooms: &[Room],
) -> Result<Vec<u64>, LayoutError> {
    let has = topology.usable_memory_bytes();
    let executors = rooms.len() as u64;
    match request.memory {
        Some(asked) if has > 0 && asked.saturating_mul(executors) > has => {
            Err(LayoutError::TooMuchMemory { asked, executors: small(rooms.len()), has })
        }
        Some(asked) => Ok(vec![asked; rooms.len()]),
        None if has == 0 => Err(LayoutError::UnknownMemory { machine: topology.machine.clone() }),
        None => Ok(default_shares(topology, rooms)),
    }
}

/// Each executor's part of its nodes' memory, cut down where the cgroup leaves less than there is. A node without
/// memory (slots may be empty) makes all share evenly.
fn default_shares(topology: &Topology, rooms: &[Room]) -> Vec<u64> {
    let usable = topology.usable_memory_bytes();
    let scale = usable as f64 / topology.memory_bytes() as f64;
    let parts: Vec<u64> = rooms.iter().map(|room| part_of_nodes(topology, rooms, room)).collect();
    let even = parts.contains(&0);
    let bytes = |part: u64| if even { usable / rooms.len() as u64 } else { (part as f64 * scale) as u64 };
    parts.into_iter().map(|part| default_part(bytes(part))).collect()
}

/// The default share of so many bytes, in whole MiB where it is at least one.
fn default_part(bytes: u64) -> u64 {
    let part = u64::try_from(u128::from(bytes) * MEMORY_SHARE_PERCENT / 100).expect("a part is no larger");
    if part < MIB { part } else { part / MIB * MIB }
}

fn part_of_nodes(topology: &Topology, rooms: &[Room], room: &Room) -> u64 {
    let sharing = |node: u32| rooms.iter().filter(|other| other.nodes.contains(&node)).count() as u64;
    let nodes = topology.numa_nodes.iter().filter(|node| room.nodes.contains(&node.index));
    nodes.map(|node| node.memory_bytes / sharing(node.index)).sum()
}

fn small(n: usize) -> u32 {
    u32::try_from(n).expect("a machine has fewer than 2^32 cores")
}

#[cfg(test)]
mod tests;
