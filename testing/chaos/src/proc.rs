//! What the system knows of the processes of a run. Each has the run's mark in its environment, which its children inherit, so
//! that none is missed, whoever started it.

use std::fs;
use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};

/// The variable whose value is the mark of a run.
pub const MARK: &str = "CHAOS_RUN";

/// What a process takes of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Memory that no file stands behind, in bytes.
    pub memory: u64,
    /// Open file descriptors.
    pub files: u64,
    /// Threads.
    pub threads: u64,
}

/// The processes with this mark that have not ended, in the order of their numbers.
#[must_use]
pub fn marked(mark: &str) -> Vec<u32> {
    let entry = format!("{MARK}={mark}");
    let is_marked = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == entry.as_bytes())
    };
    let mut pids: Vec<u32> = all().filter(is_marked).filter(|&pid| is_alive(pid)).collect();
    pids.sort_unstable();
    pids
}

fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The processes that `parent` started and that have not ended, in the order of their numbers.
#[must_use]
pub fn children(parent: u32) -> Vec<u32> {
    let of_parent = |pid: &u32| status(*pid).is_some_and(|(state, of)| of == parent && !has_ended(state));
    let mut pids: Vec<u32> = all().filter(of_parent).collect();
    pids.sort_unstable();
    pids
}

/// Whether there is such a process and it has not ended.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    status(pid).is_some_and(|(state, _)| !has_ended(state))
}

fn has_ended(state: char) -> bool {
    matches!(state, 'Z' | 'X')
}

/// The command line of a process; nothing when it has ended.
#[must_use]
pub fn arguments(pid: u32) -> Vec<String> {
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split('\0').map(str::to_owned).collect()
}

/// What it takes; nothing when it has ended.
#[must_use]
pub fn usage(pid: u32) -> Option<Usage> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let number = |key: &str| -> Option<u64> {
        text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
    };
    let memory = (number("RssAnon:")? + number("RssShmem:")?) << 10;
    let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    Some(Usage { memory, files, threads: number("Threads:")? })
}

/// Sends a signal. Returns whether there was somebody to get it.
pub fn send(pid: u32, signal: Signal) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| kill_process(pid, signal).is_ok())
}

/// What every thread of a process is at, as the system sees it: for the report on one that hangs.
#[must_use]
pub fn threads_at(pid: u32) -> String {
    let mut lines = vec![format!("--- {pid} {}", arguments(pid).join(" "))];
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for task in tasks.map(|task| task.path()) {
        let read = |name: &str| fs::read_to_string(task.join(name)).unwrap_or_default().trim().to_owned();
        lines.push(format!("{} in {}; system call {}", read("comm"), read("wchan"), read("syscall")));
        lines.extend(read("stack").lines().take(4).map(|frame| format!("    {frame}")));
    }
    lines.join("\n")
}

/// State and parent of a process. Its name stands before them in parentheses and may hold anything.
fn status(pid: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// The program of this name on the search path.
#[must_use]
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn who_has_the_mark_is_found_while_it_lives() {
        let mark = format!("test-{}", std::process::id());
        let mut command = Command::new("cat");
        let mut child = command.env(MARK, &mark).stdin(Stdio::piped()).spawn().unwrap();
        assert_eq!(marked(&mark), [child.id()]);
        assert!(children(std::process::id()).contains(&child.id()));
        assert!(usage(child.id()).unwrap().files >= 3);
        assert!(threads_at(child.id()).contains("cat"));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(marked(&mark).is_empty() && !is_alive(child.id()) && usage(child.id()).is_none());
    }
}
