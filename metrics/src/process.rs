//! What the kernel tells of a process.

use std::fs;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::page::Page;
use crate::table;

/// When this was first looked at, which daemons do as they start.
static STARTED: LazyLock<Duration> =
    LazyLock::new(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());

/// Bytes that a process had read from and written to disks, the page cache's hits not among them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Storage {
    /// Read.
    pub read_bytes: u64,
    /// Written.
    pub written_bytes: u64,
}

/// What the kernel has counted of a process of the same user, or of any to root; `None` when it does not say.
#[must_use]
pub fn storage_of(pid: u32) -> Option<Storage> {
    parse_storage(&fs::read_to_string(format!("/proc/{pid}/io")).ok()?)
}

fn parse_storage(text: &str) -> Option<Storage> {
    let number = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))?;
        line.trim().parse().ok()
    };
    Some(Storage { read_bytes: number("read_bytes")?, written_bytes: number("write_bytes")? })
}

/// Notes when this process began.
pub(crate) fn begins() {
    LazyLock::force(&STARTED);
}

/// Puts what is told of every daemon: its build, and what its own process uses.
pub fn put_process(page: &mut Page, role: &str) {
    let wire = firesteel_base::version::WIRE.to_string();
    page.put_with(&table::BUILD_INFO, [role, firesteel_base::version::build(), &wire], true);
    page.put(&table::PROCESS_START, *STARTED);
    if let Some((cpu, resident)) = own_use() {
        page.put(&table::PROCESS_CPU, cpu);
        page.put(&table::PROCESS_RESIDENT, resident);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        page.put(&table::PROCESS_FDS, open.count());
    }
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    page.put(&table::PROCESS_FDS_MAX, most.map_or(f64::INFINITY, |most| most as f64));
}

/// Seconds of processor time, and bytes of resident memory.
fn own_use() -> Option<(f64, u64)> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let ticks = parse_ticks(&stat)?;
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let per_second = rustix::param::clock_ticks_per_second();
    Some((ticks as f64 / per_second as f64, pages * rustix::param::page_size() as u64))
}

/// Clock ticks in user mode and in the kernel. The name in parentheses may hold anything.
fn parse_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(ticks()? + ticks()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_tells_is_read() {
        let io = "rchar: 9\nwchar: 8\nsyscr: 1\nsyscw: 1\nread_bytes: 4096\nwrite_bytes: 512\ncancelled_write_bytes: 1\n";
        assert_eq!(parse_storage(io), Some(Storage { read_bytes: 4096, written_bytes: 512 }));
        assert_eq!(parse_storage("read_bytes: x\nwrite_bytes: 1\n"), None);
        assert_eq!(parse_storage(""), None);
        let stat = "7 (a) b) R 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0";
        assert_eq!(parse_ticks(stat), Some(300));
        assert_eq!(parse_ticks("7 (a"), None);
    }

    #[test]
    fn this_process_is_told_of() {
        let mut page = Page::default();
        put_process(&mut page, "worker");
        let text = page.text();
        for name in [
            "process_cpu_seconds_total ",
            "process_resident_memory_bytes ",
            "process_open_fds ",
            "process_max_fds ",
        ] {
            assert!(text.contains(&format!("\n{name}")), "{name} {text}");
        }
        assert!(text.contains("firesteel_build_info{role=\"worker\",version=\""), "{text}");
        assert!(storage_of(std::process::id()).is_some());
    }
}
