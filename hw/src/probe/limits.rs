//! What surrounds the process: control group, limits, RDMA devices.

use firesteel_base::ByteSize;

use super::Finding;
use crate::cgroup::{Cgroup, CgroupVersion};
use crate::topology::{Device, DeviceKind, Limits, Topology};

const AREA: &str = "limits";

/// Connections, scratch files and tables of a large host together stay below this.
const OPEN_FILES_WANTED: u64 = 65_536;

pub(super) fn examine(topology: &Topology) -> Vec<Finding> {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    vec![
        judge_cgroup(Cgroup::of_this_process().version),
        judge_memory(topology.limits, topology.memory_bytes()),
        judge_cpu(topology.limits, topology.cores.len()),
        judge_open_files(files),
        judge_rdma(&topology.devices),
    ]
}

pub(super) fn judge_cgroup(version: CgroupVersion) -> Finding {
    let name = "control groups";
    let advice =
        "boot with systemd.unified_cgroup_hierarchy=1: version 2 limits memory and tells of pressure";
    match version {
        CgroupVersion::V2 => Finding::ok(AREA, name, "version 2"),
        CgroupVersion::V1 => Finding::warn(AREA, name, "version 1", advice),
        CgroupVersion::None => Finding::missing(AREA, name, "none at /sys/fs/cgroup", advice),
    }
}

pub(super) fn judge_memory(limits: Limits, machine_bytes: u64) -> Finding {
    let name = "memory";
    match limits.memory_bytes {
        Some(limit) if limit < machine_bytes => {
            let (limit, machine) = (ByteSize(limit), ByteSize(machine_bytes));
            Finding::ok(AREA, name, format!("the cgroup allows {limit} of {machine}; layouts keep to it"))
        }
        _ => Finding::ok(AREA, name, "not limited"),
    }
}

pub(super) fn judge_cpu(limits: Limits, cores: usize) -> Finding {
    let name = "processor time";
    match limits.cpu_milli {
        Some(milli) if milli < cores as u64 * 1000 => Finding::warn(
            AREA,
            name,
            format!("the cgroup allows {:.2} CPUs of {cores} cores", milli as f64 / 1000.0),
            "a quota halts all threads of a process at once: give whole CPUs by a cpuset (AllowedCPUs=) instead of CPUQuota=",
        ),
        _ => Finding::ok(AREA, name, "not limited"),
    }
}

/// `limit` is none when there is none.
pub(super) fn judge_open_files(limit: Option<u64>) -> Finding {
    let name = "open files";
    match limit {
        None => Finding::ok(AREA, name, "not limited"),
        Some(limit) if limit >= OPEN_FILES_WANTED => Finding::ok(AREA, name, format!("limit {limit}")),
        Some(limit) => Finding::warn(
            AREA,
            name,
            format!("limit {limit}"),
            format!("LimitNOFILE={OPEN_FILES_WANTED} in the unit, or ulimit -n {OPEN_FILES_WANTED}"),
        ),
    }
}

pub(super) fn judge_rdma(devices: &[Device]) -> Finding {
    let (area, name) = ("network", "RDMA");
    let rdma: Vec<&Device> = devices.iter().filter(|device| device.kind == DeviceKind::Rdma).collect();
    let names = |devices: &[&Device]| devices.iter().map(|d| d.name.as_str()).collect::<Vec<_>>().join(", ");
    let down: Vec<&Device> = rdma.iter().copied().filter(|device| device.link_up == Some(false)).collect();
    if rdma.is_empty() {
        let advice = "blocks go over TCP; for RDMA add an adapter, rdma-core and its driver";
        Finding::missing(area, name, "no devices", advice)
    } else if down.is_empty() {
        Finding::ok(area, name, names(&rdma))
    } else {
        Finding::warn(
            area,
            name,
            format!("link down: {}", names(&down)),
            "check cable, switch port and subnet manager",
        )
    }
}
