//! The machine that a run is made on, for its record.

use std::fs;
use std::path::Path;

use crate::record::Machine;

/// What can be told of this machine; `data` lies on the disk that is named.
pub(super) fn read(data: &Path) -> Machine {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    Machine {
        cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
        numa_nodes: numa_nodes(),
        memory_bytes: memory_bytes(),
        disk: disk(data).unwrap_or_else(|| "unknown".to_owned()),
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
    }
}

/// Memory that is installed.
pub(crate) fn memory_bytes() -> u64 {
    field("/proc/meminfo", "MemTotal").and_then(|text| kib(&text)).unwrap_or(0)
}

/// The first value of `key` in a file of `key: value` lines.
fn field(path: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned())
}

fn kib(text: &str) -> Option<u64> {
    text.trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

fn numa_nodes() -> u32 {
    let entries = fs::read_dir("/sys/devices/system/node").into_iter().flatten().flatten();
    let is_node = |name: &str| name.strip_prefix("node").is_some_and(|number| number.parse::<u32>().is_ok());
    let nodes = entries.filter(|entry| is_node(&entry.file_name().to_string_lossy())).count();
    u32::try_from(nodes).unwrap_or(1).max(1)
}

/// The device and file system that hold `path`: those of the longest mount point above it.
fn disk(path: &Path) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let lines = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        Some((words.next()?, words.next()?, words.next()?))
    });
    let above = lines.filter(|(_, point, _)| path.starts_with(point));
    above.max_by_key(|(_, point, _)| point.len()).map(|(device, _, kind)| format!("{device} ({kind})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_can_be_told() {
        let machine = read(Path::new("/proc"));
        assert!(machine.cpus > 0 && machine.memory_bytes > 0 && !machine.kernel.is_empty(), "{machine:?}");
        assert_eq!(machine.disk, "proc (proc)");
    }
}
