//! Groups of version 2 that a process makes for its children.
//!
//! ```text
//!   FOLDER                       cgroup.subtree_control: +cpuset +memory (+pids +cpu)
//!     daemon                     the process that makes the others: a group with children may hold no process itself
//!     executor-0, driver-job7    one child process each: cpuset.cpus, cpuset.mems, memory.max, memory.oom.group
//! ```
//!
//! Nobody else writes below the folder: whatever runs in a group there that this process did not make was left by one before it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::error::GroupsError;
use super::join;
use super::place::{DAEMON, NEEDED, Place, examine, is_root, processes};
use crate::cpu_list;

/// Controllers that are enabled where they are offered, for what they count.
const WELCOME: [&str; 2] = ["pids", "cpu"];
/// The names of groups of child processes begin so.
const OURS: [&str; 2] = ["executor-", "driver-"];
/// How long processes that are killed may take to be gone.
const END_MAX: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A folder of groups that is this process's.
#[derive(Debug)]
pub struct Groups {
    folder: PathBuf,
    /// Where this process was before, when it can go back.
    before: Option<PathBuf>,
}

/// What the processes of a group may use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupLimits {
    /// The CPUs; empty: those of the group above.
    pub cpus: Vec<u32>,
    /// The NUMA node whose memory is used; none: those of the group above.
    pub node: Option<u32>,
    /// Bytes of memory, the page cache and the kernel's memory for the group included.
    pub memory_bytes: u64,
}

/// A group for a child process.
#[derive(Debug)]
pub struct Group {
    folder: PathBuf,
    limit: u64,
}

/// What has happened to a group for memory, since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryEvents {
    /// How often its own limit was reached and nothing could be given back.
    pub oom: u64,
    /// How many of its processes the kernel has killed, for whichever limit.
    pub oom_kill: u64,
}

impl Groups {
    /// Makes a place this process's: moves it to a group `daemon`, enables controllers, and ends and removes what one before it left. `name`
    /// tells processes apart that do so at the root of the hierarchy.
    ///
    /// # Errors
    /// When that cannot be; this process is then where it was, or alone in `daemon`.
    pub fn claim(place: &Place, name: &str) -> Result<Self, GroupsError> {
        let folder = examine(place, name)?;
        let base = place.base();
        let groups = Self { before: is_root(&base).then(|| base.clone()), folder };
        groups.move_in(&base)?;
        groups.sweep()?;
        Ok(groups)
    }

    fn move_in(&self, base: &Path) -> Result<(), GroupsError> {
        make(&self.folder)?;
        if self.folder != base {
            enable(base)?;
        }
        let daemon = self.folder.join(DAEMON);
        make(&daemon)?;
        write(&daemon.join("cgroup.procs"), &std::process::id().to_string())?;
        enable(&self.folder)
    }

    /// What cannot be undone stays: an empty group costs nothing.
    fn move_back(&self, base: &Path) {
        let undone = write(&base.join("cgroup.procs"), &std::process::id().to_string())
            .and_then(|()| remove(&self.folder.join(DAEMON)))
            .and_then(|()| if self.folder == base { Ok(()) } else { remove(&self.folder) });
        if let Err(fault) = undone {
            tracing::debug!(%fault, "a control group stays");
        }
    }

    /// Where the groups are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Ends and removes what a process before this one left.
    fn sweep(&self) -> Result<(), GroupsError> {
        let file = |source| GroupsError::File { file: self.folder.clone(), source };
        for entry in fs::read_dir(&self.folder).map_err(file)? {
            let path = entry.map_err(file)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() && OURS.iter().any(|ours| name.starts_with(ours)) {
                let left = processes(&path)?.len();
                tracing::info!(group = %path.display(), processes = left, "removing a control group that was left behind");
                Group { folder: path, limit: 0 }.remove()?;
            }
        }
        Ok(())
    }

    /// Makes a group for a child process.
    ///
    /// # Errors
    /// When it cannot be made, or what is in force in it is not what was set.
    pub fn make(&self, name: &str, limits: &GroupLimits) -> Result<Group, GroupsError> {
        let group = Group { folder: self.folder.join(name), limit: limits.memory_bytes };
        make(&group.folder)?;
        if !limits.cpus.is_empty() {
            group.bind("cpuset.cpus", &limits.cpus)?;
        }
        if let Some(node) = limits.node {
            group.bind("cpuset.mems", &[node])?;
        }
        group.write("memory.max", &limits.memory_bytes.to_string())?;
        // Half an executor is of no use.
        group.write("memory.oom.group", "1")?;
        Ok(group)
    }
}

impl Drop for Groups {
    /// Goes back to where this process was, where that can be, and removes the folder. The children have ended.
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            self.move_back(before);
        }
    }
}

impl Group {
    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Bytes of memory that it may use: what is in force, which an operator may have changed.
    #[must_use]
    pub fn limit(&self) -> u64 {
        let found = fs::read_to_string(self.folder.join("memory.max")).ok();
        found.and_then(|text| text.trim().parse().ok()).unwrap_or(self.limit)
    }

    fn write(&self, file: &str, text: &str) -> Result<(), GroupsError> {
        write(&self.folder.join(file), text)
    }

    /// Sets a list of numbers, and looks what became of it.
    fn bind(&self, file: &str, numbers: &[u32]) -> Result<(), GroupsError> {
        let mut asked = numbers.to_vec();
        asked.sort_unstable();
        asked.dedup();
        let text = cpu_list::display(&asked);
        self.write(file, &text)?;
        // A kernel that has the controller has this file.
        let Ok(found) = fs::read_to_string(self.folder.join(format!("{file}.effective"))) else {
            return Ok(());
        };
        if cpu_list::parse(&found).is_some_and(|found| found == asked) {
            return Ok(());
        }
        let (file, found) = (self.folder.join(file), format!("'{}'", found.trim()));
        Err(GroupsError::NotApplied { file, asked: text, found })
    }

    /// Has the process that `command` starts be in this group from its first instruction on.
    ///
    /// # Errors
    /// When the group is not there any more.
    pub fn join_on_start(&self, command: &mut Command) -> Result<(), GroupsError> {
        let file = self.folder.join("cgroup.procs");
        let opened: io::Result<File> =
            OpenOptions::new().write(true).create(true).truncate(false).open(&file);
        join::on_start(command, opened.map_err(|source| GroupsError::File { file, source })?);
        Ok(())
    }

    /// What has happened to it for memory; nothing when the kernel does not tell.
    #[must_use]
    pub fn memory_events(&self) -> MemoryEvents {
        parse_events(&fs::read_to_string(self.folder.join("memory.events")).unwrap_or_default())
    }

    /// The most memory that it has held; none where the kernel does not tell, before 5.19.
    #[must_use]
    pub fn memory_peak(&self) -> Option<u64> {
        fs::read_to_string(self.folder.join("memory.peak")).ok()?.trim().parse().ok()
    }

    /// Kills what is in it, and waits until that is gone.
    fn end(&self) -> Result<(), GroupsError> {
        let start = Instant::now();
        loop {
            let left = processes(&self.folder)?;
            if left.is_empty() {
                return Ok(());
            }
            if start.elapsed() > END_MAX {
                return Err(GroupsError::Leftover { group: self.folder.clone() });
            }
            self.kill(&left);
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// All at once where the kernel can, from 5.14 on, else one by one.
    fn kill(&self, pids: &[u32]) {
        if self.folder.join("cgroup.kill").exists() && self.write("cgroup.kill", "1").is_ok() {
            return;
        }
        for pid in pids {
            let pid = i32::try_from(*pid).ok().and_then(rustix::process::Pid::from_raw);
            // One that has ended meanwhile is what is wanted.
            let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
        }
    }

    /// Removes the group, after the end of its process. What this one had started is killed.
    ///
    /// # Errors
    /// When something in it does not end, or the kernel refuses.
    pub fn remove(&self) -> Result<(), GroupsError> {
        self.end()?;
        remove(&self.folder)
    }
}

fn make(group: &Path) -> Result<(), GroupsError> {
    match fs::create_dir(group) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(GroupsError::File { file: group.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// A group whose last process has just ended is busy for a moment.
fn remove(group: &Path) -> Result<(), GroupsError> {
    let start = Instant::now();
    loop {
        match fs::remove_dir(group) {
            Ok(()) => return Ok(()),
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(fault) if fault.kind() == io::ErrorKind::ResourceBusy && start.elapsed() < END_MAX => {
                std::thread::sleep(LOOK_EVERY);
            }
            Err(source) => return Err(GroupsError::File { file: group.to_owned(), source }),
        }
    }
}

fn write(file: &Path, text: &str) -> Result<(), GroupsError> {
    fs::write(file, text).map_err(|source| GroupsError::File { file: file.to_owned(), source })
}

/// Lets the groups below `group` have controllers of their own.
fn enable(group: &Path) -> Result<(), GroupsError> {
    let file = group.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&file).unwrap_or_default();
    let offered = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    let has = |text: &str, name: &str| text.split_whitespace().any(|word| word == name);
    for name in NEEDED.into_iter().filter(|name| !has(&enabled, name)) {
        write(&file, &format!("+{name}"))?;
    }
    for name in WELCOME.into_iter().filter(|name| has(&offered, name) && !has(&enabled, name)) {
        if let Err(fault) = write(&file, &format!("+{name}")) {
            tracing::info!(%fault, controller = name, "a controller that is not needed cannot be enabled");
        }
    }
    Ok(())
}

/// Lines such as `oom_kill 1`.
fn parse_events(text: &str) -> MemoryEvents {
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    };
    MemoryEvents { oom: of("oom"), oom_kill: of("oom_kill") }
}

#[cfg(test)]
mod tests;
