//! Huge pages, NUMA, locked memory.

use firesteel_base::ByteSize;

use super::{Finding, read};
use crate::topology::Topology;

const AREA: &str = "memory";

/// Registered buffers and rings lock about this much in an executor that does much I/O.
const MEMLOCK_WANTED_BYTES: u64 = 1 << 30;
/// The bit of `CAP_IPC_LOCK` in a capability mask.
const CAP_IPC_LOCK: u32 = 14;

pub(super) fn examine(topology: &Topology) -> Vec<Finding> {
    let thp = read("/sys/kernel/mm/transparent_hugepage/enabled");
    let shared = read("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
    let status = read("/proc/self/status").unwrap_or_default();
    let balancing = read("/proc/sys/kernel/numa_balancing");
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    vec![
        judge_huge_pages(topology),
        judge_transparent_huge_pages(thp.as_deref()),
        judge_shared_huge_pages(shared.as_deref()),
        judge_memlock(limit, &status),
        judge_nodes(topology),
        judge_balancing(topology.numa_nodes.len(), balancing.as_deref()),
    ]
}

pub(super) fn judge_huge_pages(topology: &Topology) -> Finding {
    let name = "huge pages";
    let mut sizes: Vec<(u64, u64)> = Vec::new();
    for pages in topology.numa_nodes.iter().flat_map(|node| &node.huge_pages) {
        match sizes.iter_mut().find(|(size, _)| *size == pages.page_bytes) {
            Some((_, reserved)) => *reserved += pages.reserved,
            None => sizes.push((pages.page_bytes, pages.reserved)),
        }
    }
    let told: Vec<String> =
        sizes.iter().map(|&(size, reserved)| format!("{reserved} of {} reserved", ByteSize(size))).collect();
    let advice = "reserve some for buffers, such as 512 of 2MiB: sysctl -w vm.nr_hugepages=512";
    match sizes.as_slice() {
        [] => {
            Finding::missing(AREA, name, "none known to the kernel", "build the kernel with CONFIG_HUGETLBFS")
        }
        sizes if sizes.iter().all(|&(_, reserved)| reserved == 0) => {
            Finding::warn(AREA, name, told.join(", "), advice)
        }
        _ => Finding::ok(AREA, name, told.join(", ")),
    }
}

/// `text` is such as `always [madvise] never`.
pub(super) fn judge_transparent_huge_pages(text: Option<&str>) -> Finding {
    let name = "transparent huge pages";
    let selected = text.and_then(|text| Some(text.split_once('[')?.1.split_once(']')?.0));
    let advice = "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled";
    match selected {
        Some(mode @ ("always" | "madvise")) => Finding::ok(AREA, name, mode),
        Some(mode) => Finding::warn(AREA, name, mode, advice),
        None => Finding::missing(
            AREA,
            name,
            "this kernel has none",
            "use a kernel with CONFIG_TRANSPARENT_HUGEPAGE",
        ),
    }
}

/// Of the memory that executors of one host share; `text` is such as `always within_size advise [never] deny force`.
pub(super) fn judge_shared_huge_pages(text: Option<&str>) -> Finding {
    let name = "huge pages in shared memory";
    let selected = text.and_then(|text| Some(text.split_once('[')?.1.split_once(']')?.0));
    let advice = "echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled";
    match selected {
        Some(mode @ ("always" | "within_size" | "advise" | "force")) => Finding::ok(AREA, name, mode),
        Some(mode) => Finding::warn(AREA, name, mode, advice),
        None => Finding::missing(
            AREA,
            name,
            "this kernel has none",
            "use a kernel with CONFIG_TRANSPARENT_HUGEPAGE",
        ),
    }
}

/// `limit` in bytes, none when there is none; `status` is `/proc/self/status`.
pub(super) fn judge_memlock(limit: Option<u64>, status: &str) -> Finding {
    let name = "locked memory";
    let Some(limit) = limit else { return Finding::ok(AREA, name, "no limit") };
    let told = ByteSize(limit);
    if has_capability(status, CAP_IPC_LOCK) {
        return Finding::ok(AREA, name, format!("limit {told}, to which CAP_IPC_LOCK is not held"));
    }
    if limit >= MEMLOCK_WANTED_BYTES {
        return Finding::ok(AREA, name, format!("limit {told}"));
    }
    Finding::warn(
        AREA,
        name,
        format!("limit {told}, no CAP_IPC_LOCK"),
        "registered buffers need more: LimitMEMLOCK=infinity or AmbientCapabilities=CAP_IPC_LOCK in the unit, or ulimit -l",
    )
}

fn has_capability(status: &str, bit: u32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << bit) != 0)
}

pub(super) fn judge_nodes(topology: &Topology) -> Finding {
    let name = "NUMA nodes";
    let empty: Vec<u32> =
        topology.numa_nodes.iter().filter(|node| node.memory_bytes == 0).map(|node| node.index).collect();
    if !empty.is_empty() {
        let nodes = crate::cpu_list::display(&empty);
        return Finding::warn(
            AREA,
            name,
            format!("no memory on node {nodes}"),
            "put memory modules into the slots of every socket: its cores must fetch from afar",
        );
    }
    match topology.numa_nodes.len() {
        1 => Finding::ok(AREA, name, "1, so there is nothing to bind memory to"),
        n => Finding::ok(AREA, name, n.to_string()),
    }
}

pub(super) fn judge_balancing(nodes: usize, setting: Option<&str>) -> Finding {
    let name = "NUMA balancing";
    match setting {
        _ if nodes < 2 => Finding::ok(AREA, name, "does not matter with one node"),
        None | Some("0") => Finding::ok(AREA, name, "off"),
        Some(_) => Finding::warn(
            AREA,
            name,
            "on",
            "memory is bound already, so its page faults only cost: sysctl -w kernel.numa_balancing=0",
        ),
    }
}
