//! Control groups: what that of this process leaves of the machine, and groups of its own that it makes for its children.

mod error;
mod groups;
mod join;
mod place;

pub use error::GroupsError;
pub use groups::{Group, GroupLimits, Groups, MemoryEvents};
pub use place::{Place, examine};

use std::fs;
use std::path::{Path, PathBuf};

use crate::topology::Limits;

/// A version 1 limit at or above this is no limit: the kernel writes the largest page-aligned number.
const NO_LIMIT_BYTES: u64 = 1 << 60;

/// Which control groups a process is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// The hierarchy that counts memory and processor time.
    pub version: CgroupVersion,
    memory: Vec<PathBuf>,
    cpu: Vec<PathBuf>,
}

/// The generation of the control group hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupVersion {
    /// None is mounted where it is expected.
    None,
    /// One hierarchy per controller.
    V1,
    /// One hierarchy for all.
    V2,
}

impl Cgroup {
    /// The control groups of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::read(&own, Path::new("/sys/fs/cgroup"))
    }

    /// The groups that `own` (what `/proc/self/cgroup` says) names below the mount point `root`.
    fn read(own: &str, root: &Path) -> Self {
        if root.join("cgroup.controllers").exists() {
            let groups = lineage(root, v2_path(own));
            return Self { version: CgroupVersion::V2, memory: groups.clone(), cpu: groups };
        }
        let groups = |controller| match controller_mount(root, controller) {
            Some(mount) => lineage(&mount, v1_path(own, controller)),
            None => Vec::new(),
        };
        let (memory, cpu) = (groups("memory"), groups("cpu"));
        let version =
            if memory.is_empty() && cpu.is_empty() { CgroupVersion::None } else { CgroupVersion::V1 };
        Self { version, memory, cpu }
    }

    /// The tightest limits of this group and those above it.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let memory = self.memory.iter().filter_map(|group| self.memory_of(group)).min();
        let cpu = self.cpu.iter().filter_map(|group| self.cpu_of(group)).min();
        Limits { memory_bytes: memory, cpu_milli: cpu }
    }

    fn memory_of(&self, group: &Path) -> Option<u64> {
        let file = if self.version == CgroupVersion::V2 { "memory.max" } else { "memory.limit_in_bytes" };
        let limit: u64 = fs::read_to_string(group.join(file)).ok()?.trim().parse().ok()?;
        (limit < NO_LIMIT_BYTES).then_some(limit)
    }

    fn cpu_of(&self, group: &Path) -> Option<u64> {
        let read = |file: &str| fs::read_to_string(group.join(file)).ok();
        match self.version {
            CgroupVersion::V2 => cpu_milli(&read("cpu.max")?),
            _ => cpu_milli(&format!("{} {}", read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?)),
        }
    }
}

/// `quota period` in microseconds; `max` or -1 is no limit.
fn cpu_milli(text: &str) -> Option<u64> {
    let mut words = text.split_whitespace();
    let quota: u64 = words.next()?.parse().ok()?;
    let period: u64 = words.next()?.parse().ok().filter(|&period| period > 0)?;
    Some(quota.checked_mul(1000)? / period)
}

/// The path in the line `0::/system.slice`.
fn v2_path(own: &str) -> &str {
    own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/")
}

/// The path in a line such as `5:cpu,cpuacct:/system.slice`.
fn v1_path<'a>(own: &'a str, controller: &str) -> &'a str {
    let path = |line: &'a str| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|name| name == controller).then_some(path)
    };
    own.lines().find_map(path).unwrap_or("/")
}

/// Controllers that are mounted together have a folder with both names, and mostly a link for each.
fn controller_mount(root: &Path, controller: &str) -> Option<PathBuf> {
    [root.join(controller), root.join("cpu,cpuacct")]
        .into_iter()
        .find(|mount| mount.is_dir() && mount.to_string_lossy().contains(controller))
}

/// The group's folder and those above it up to the mount point. In a container the path may be the host's and not
/// exist here; then the mount point itself is the group.
fn lineage(mount: &Path, path: &str) -> Vec<PathBuf> {
    let own = mount.join(path.trim_start_matches('/'));
    let within = |dir: &&Path| dir.starts_with(mount);
    own.ancestors().take_while(within).filter(|dir| dir.is_dir()).map(Path::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: PathBuf, content: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    #[test]
    fn version_two_takes_the_tightest_of_the_lineage() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        write(at("cgroup.controllers"), "cpu memory\n");
        write(at("system.slice/memory.max"), "8589934592\n");
        write(at("system.slice/cpu.max"), "max 100000\n");
        write(at("system.slice/firesteel.service/memory.max"), "max\n");
        write(at("system.slice/firesteel.service/cpu.max"), "250000 100000\n");
        let group = Cgroup::read("0::/system.slice/firesteel.service\n", root.path());
        assert_eq!(group.version, CgroupVersion::V2);
        assert_eq!(group.limits(), Limits { memory_bytes: Some(8 << 30), cpu_milli: Some(2500) });
    }

    #[test]
    fn version_one_reads_each_controller() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        write(at("memory/memory.limit_in_bytes"), "9223372036854771712\n");
        write(at("memory/box/memory.limit_in_bytes"), "1073741824\n");
        write(at("cpu,cpuacct/cpu.cfs_quota_us"), "-1\n");
        write(at("cpu,cpuacct/cpu.cfs_period_us"), "100000\n");
        let group = Cgroup::read("4:memory:/box\n1:cpu,cpuacct:/nowhere\n0::/\n", root.path());
        assert_eq!(group.version, CgroupVersion::V1);
        assert_eq!(group.limits(), Limits { memory_bytes: Some(1 << 30), cpu_milli: None });
    }

    #[test]
    fn without_any_there_is_no_limit() {
        let root = tempfile::tempdir().unwrap();
        let group = Cgroup::read("", root.path());
        assert_eq!((group.version, group.limits()), (CgroupVersion::None, Limits::default()));
    }
}
