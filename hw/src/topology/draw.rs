//! The topology as a tree that a person reads.

use std::fmt;

use firesteel_base::ByteSize;

use super::{Core, Device, DeviceKind, L3Group, NumaNode, Topology};
use crate::cpu_list;

/// A line and what hangs below it.
struct Branch {
    text: String,
    below: Vec<Branch>,
}

impl Branch {
    fn leaf(text: String) -> Self {
        Self { text, below: Vec::new() }
    }

    fn draw(&self, f: &mut fmt::Formatter<'_>, indent: &str) -> fmt::Result {
        for (i, branch) in self.below.iter().enumerate() {
            let last = i + 1 == self.below.len();
            let (joint, rest) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            write!(f, "\n{indent}{joint}{}", branch.text)?;
            branch.draw(f, &format!("{indent}{rest}"))?;
        }
        Ok(())
    }
}

impl fmt::Display for Topology {
    /// The tree, without a newline at its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = machine(self);
        f.write_str(&root.text)?;
        root.draw(f, "")
    }
}

fn machine(topology: &Topology) -> Branch {
    let packages = topology.packages.len();
    let text = format!(
        "{}: {}{}, {}, {}, {}{}",
        topology.machine,
        if packages == 0 { String::new() } else { count(packages, "package") + ", " },
        count(topology.numa_nodes.len(), "NUMA node"),
        count(topology.cores.len(), "core"),
        count(topology.cpus().len(), "CPU"),
        memory(topology.memory_bytes()),
        limits(topology),
    );
    let mut below: Vec<_> =
        topology.packages.iter().map(|package| self::package(topology, package.index)).collect();
    let homeless = topology.numa_nodes.iter().filter(|node| node.package.is_none());
    below.extend(homeless.map(|node| numa_node(topology, node)));
    let far: Vec<_> =
        topology.devices.iter().filter(|device| device.numa_node.is_none()).map(device).collect();
    if !far.is_empty() {
        below.push(Branch { text: "devices of no known NUMA node".to_owned(), below: far });
    }
    Branch { text, below }
}

fn limits(topology: &Topology) -> String {
    let mut text = String::new();
    if let Some(bytes) = topology.limits.memory_bytes {
        text += &format!(", cgroup memory limit {}", ByteSize(bytes));
    }
    if let Some(milli) = topology.limits.cpu_milli {
        text += &format!(", cgroup CPU limit {:.2}", milli as f64 / 1000.0);
    }
    text
}

fn package(topology: &Topology, index: u32) -> Branch {
    let model =
        topology.packages.iter().find(|package| package.index == index).and_then(|p| p.model.as_deref());
    let text = format!("package {index}{}", model.map_or_else(String::new, |model| format!(": {model}")));
    // A node may span packages, and then it stands by itself; the package says which of its cores are near it.
    let own = topology.numa_nodes.iter().filter(|node| node.package == Some(index));
    let mut below: Vec<_> = own.map(|node| numa_node(topology, node)).collect();
    if below.is_empty() {
        below = cores(topology, |core| core.package == Some(index));
    }
    Branch { text, below }
}

fn numa_node(topology: &Topology, node: &NumaNode) -> Branch {
    let huge = node.huge_pages.iter().filter(|pages| pages.reserved > 0);
    let huge: String = huge
        .map(|pages| format!(", {} x {} huge pages", pages.reserved, ByteSize(pages.page_bytes)))
        .collect();
    let text = format!("NUMA node {}: {}{huge}", node.index, memory(node.memory_bytes));
    // A node that belongs to no package, where there are packages, has its cores drawn below those.
    let draws_cores = node.package.is_some() || topology.packages.is_empty();
    let mut below = Vec::new();
    if draws_cores {
        below = cores(topology, |core| core.numa_node == node.index);
    }
    below.extend(topology.devices.iter().filter(|device| device.numa_node == Some(node.index)).map(device));
    Branch { text, below }
}

/// The chosen cores by L3 group, with those of no group last.
fn cores(topology: &Topology, chosen: impl Fn(&Core) -> bool) -> Vec<Branch> {
    let chosen: Vec<&Core> = topology.cores.iter().filter(|core| chosen(core)).collect();
    let of = |l3: Option<u32>| chosen.iter().copied().filter(|core| core.l3 == l3).collect::<Vec<_>>();
    let mut branches = Vec::new();
    for group in &topology.l3_groups {
        let cores = of(Some(group.index));
        if !cores.is_empty() {
            branches.push(l3_group(group, &cores));
        }
    }
    let ungrouped = of(None);
    if !ungrouped.is_empty() {
        branches.push(Branch::leaf(core_run(&ungrouped)));
    }
    branches
}

fn l3_group(group: &L3Group, cores: &[&Core]) -> Branch {
    let size =
        if group.cache_bytes == 0 { String::new() } else { format!(" ({})", ByteSize(group.cache_bytes)) };
    Branch::leaf(format!("L3 {}{size}: {}", group.index, core_run(cores)))
}

/// `8 cores 0-7, CPUs 0-15 (2 per core)`
fn core_run(cores: &[&Core]) -> String {
    let numbers: Vec<u32> = cores.iter().map(|core| core.index).collect();
    let mut cpus: Vec<u32> = cores.iter().flat_map(|core| core.cpus.iter().copied()).collect();
    cpus.sort_unstable();
    let threads = cores.iter().map(|core| core.cpus.len()).max().unwrap_or(0);
    let smt = if threads > 1 { format!(" ({threads} per core)") } else { String::new() };
    let noun = if cores.len() == 1 { "core" } else { "cores" };
    let cpu_noun = if cpus.len() == 1 { "CPU" } else { "CPUs" };
    format!(
        "{} {noun} {}, {cpu_noun} {}{smt}",
        cores.len(),
        cpu_list::display(&numbers),
        cpu_list::display(&cpus)
    )
}

fn device(device: &Device) -> Branch {
    let kind = match device.kind {
        DeviceKind::Nic => "NIC",
        DeviceKind::Rdma => "RDMA",
        DeviceKind::Nvme => "NVMe",
        DeviceKind::Disk => "disk",
    };
    let mut text = format!("{kind} {}", device.name);
    if let Some(mbit) = device.speed_mbit {
        text += &format!(", {}", speed(mbit));
    }
    if let Some(bytes) = device.size_bytes {
        text += &format!(", {}", ByteSize(bytes));
    }
    if device.link_up == Some(false) {
        text += ", link down";
    }
    Branch::leaf(text)
}

fn speed(mbit: u64) -> String {
    if mbit >= 1000 { format!("{} Gbit/s", mbit as f64 / 1000.0) } else { format!("{mbit} Mbit/s") }
}

fn memory(bytes: u64) -> String {
    if bytes == 0 { "memory unknown".to_owned() } else { ByteSize(bytes).to_string() }
}

fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}
