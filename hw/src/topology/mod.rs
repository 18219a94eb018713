//! What a machine is made of, as plain data: packages, NUMA nodes, L3 groups, cores, hardware threads and the
//! devices near them.
//!
//! It comes from the machine itself, from an hwloc XML file (`lstopo --of xml`) or from a synthetic description, so
//! that a large host can be planned for on a small one. Only what this process may use is in it: CPUs and nodes that
//! its cgroup or its affinity mask exclude are left out.

mod devices;
mod draw;
mod error;
mod hwloc;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub use error::TopologyError;

/// A machine. Numbers of nodes and CPUs are the operating system's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// The host's name; for a file or a description what it says, or `synthetic`.
    pub machine: String,
    /// Where this comes from.
    pub origin: Origin,
    /// Sockets, in order.
    pub packages: Vec<Package>,
    /// NUMA nodes by ascending number; at least one.
    pub numa_nodes: Vec<NumaNode>,
    /// Groups of cores that share a last-level cache; empty where the machine tells of none.
    pub l3_groups: Vec<L3Group>,
    /// Cores, in machine order (package, node, L3 group, core); at least one.
    pub cores: Vec<Core>,
    /// Network, storage and RDMA devices, by kind and name.
    pub devices: Vec<Device>,
    /// What a cgroup leaves of the machine.
    pub limits: Limits,
}

/// Where a topology was read from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The machine this process runs on.
    Machine,
    /// An hwloc XML file.
    XmlFile(String),
    /// An hwloc synthetic description.
    Synthetic(String),
}

/// A socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Its number, from 0 in machine order.
    pub index: u32,
    /// The processor's name where it is known.
    pub model: Option<String>,
}

/// Memory and the cores that are near it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumaNode {
    /// The operating system's number.
    pub index: u32,
    /// Its package, where it belongs to one.
    pub package: Option<u32>,
    /// Bytes of memory; 0 when unknown.
    pub memory_bytes: u64,
    /// Pages larger than the usual, with how many are reserved.
    pub huge_pages: Vec<HugePages>,
}

/// Reserved huge pages of one size on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugePages {
    /// The size of one page.
    pub page_bytes: u64,
    /// How many are reserved.
    pub reserved: u64,
}

/// Cores that share a last-level cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct L3Group {
    /// Its number, from 0 in machine order.
    pub index: u32,
    /// Size of the cache; 0 when unknown.
    pub cache_bytes: u64,
}

/// A core and its hardware threads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Core {
    /// Its number, from 0 in machine order.
    pub index: u32,
    /// Its package, where the machine tells of packages.
    pub package: Option<u32>,
    /// The number of the NUMA node nearest to it.
    pub numa_node: u32,
    /// Its L3 group.
    pub l3: Option<u32>,
    /// The operating system's numbers of its hardware threads; more than one is SMT.
    pub cpus: Vec<u32>,
}

/// What a device is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// A network interface.
    Nic,
    /// An RDMA device.
    Rdma,
    /// An NVMe namespace.
    Nvme,
    /// Another disk.
    Disk,
}

/// A network, storage or RDMA device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// What it is for.
    pub kind: DeviceKind,
    /// The operating system's name, such as `eth0`, `nvme0n1` or `mlx5_0`.
    pub name: String,
    /// The NUMA node nearest to it, where it is known.
    pub numa_node: Option<u32>,
    /// Link speed in Mbit/s, where it is known.
    pub speed_mbit: Option<u64>,
    /// Size in bytes, for disks.
    pub size_bytes: Option<u64>,
    /// Whether its link is up, for network and RDMA devices of this machine.
    pub link_up: Option<bool>,
}

/// What the cgroup of this process leaves of the machine; nothing set when it comes from a file or a description.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Processor time per time, in thousandths of a CPU: 2500 is two and a half CPUs.
    pub cpu_milli: Option<u64>,
}

impl Topology {
    /// The machine this process runs on, as far as this process may use it.
    ///
    /// Call it before threads are pinned: the affinity masks of this process' threads bound what is seen.
    ///
    /// # Errors
    /// When hwloc cannot read the machine.
    pub fn discover() -> Result<Self, TopologyError> {
        let mut topology = hwloc::discover()?;
        topology.devices = devices::from_sys(Path::new("/sys"), &topology.node_numbers());
        topology.limits = crate::cgroup::Cgroup::of_this_process().limits();
        Ok(topology)
    }

    /// The machine that an hwloc XML file describes (`lstopo --of xml host.xml`).
    ///
    /// # Errors
    /// When the file cannot be read, or describes no machine.
    pub fn from_xml(path: &Path) -> Result<Self, TopologyError> {
        hwloc::from_xml(path)
    }

    /// The machine that an hwloc synthetic description tells of, such as
    /// `pack:2 [numa(memory=68719476736)] l3:4 core:8 pu:2`: two sockets, each with a node of 64 GiB and four L3
    /// groups of eight cores with two hardware threads.
    ///
    /// # Errors
    /// When it is no such description.
    pub fn from_synthetic(description: &str) -> Result<Self, TopologyError> {
        hwloc::from_synthetic(description)
    }

    /// This machine with only those `cpus`; cores, L3 groups and nodes without any are left out (nodes keep their
    /// memory).
    ///
    /// # Errors
    /// When none of them is a CPU of this machine.
    pub fn restricted_to(&self, cpus: &[u32]) -> Result<Self, TopologyError> {
        let mut kept = self.clone();
        for core in &mut kept.cores {
            core.cpus.retain(|cpu| cpus.contains(cpu));
        }
        kept.cores.retain(|core| !core.cpus.is_empty());
        if kept.cores.is_empty() {
            return Err(TopologyError::NoSuchCpus {
                asked: crate::cpu_list::display(cpus),
                has: crate::cpu_list::display(&self.cpus()),
            });
        }
        let nodes: Vec<u32> = kept.cores.iter().map(|core| core.numa_node).collect();
        kept.numa_nodes.retain(|node| nodes.contains(&node.index));
        let l3: Vec<u32> = kept.cores.iter().filter_map(|core| core.l3).collect();
        kept.l3_groups.retain(|group| l3.contains(&group.index));
        Ok(kept)
    }

    /// The numbers of its NUMA nodes.
    #[must_use]
    pub fn node_numbers(&self) -> Vec<u32> {
        self.numa_nodes.iter().map(|node| node.index).collect()
    }

    /// The cores nearest to a NUMA node.
    pub fn cores_of_node(&self, node: u32) -> impl Iterator<Item = &Core> {
        self.cores.iter().filter(move |core| core.numa_node == node)
    }

    /// All its hardware threads, ascending.
    #[must_use]
    pub fn cpus(&self) -> Vec<u32> {
        let mut cpus: Vec<u32> = self.cores.iter().flat_map(|core| core.cpus.iter().copied()).collect();
        cpus.sort_unstable();
        cpus
    }

    /// Bytes of memory of all its nodes.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.numa_nodes.iter().map(|node| node.memory_bytes).sum()
    }

    /// Bytes of memory that processes here may use: all, or what the cgroup leaves.
    #[must_use]
    pub fn usable_memory_bytes(&self) -> u64 {
        self.memory_bytes().min(self.limits.memory_bytes.unwrap_or(u64::MAX))
    }

    /// The topology as JSON, as it travels to the manager.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("plain data with text keys is always JSON")
    }

    /// Reads what [`Topology::to_json`] wrote.
    ///
    /// # Errors
    /// When the text is no topology.
    pub fn from_json(text: &str) -> Result<Self, TopologyError> {
        serde_json::from_str(text).map_err(|fault| TopologyError::Json { fault: fault.to_string() })
    }
}

#[cfg(test)]
mod tests;
