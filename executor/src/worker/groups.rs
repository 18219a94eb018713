//! The control groups of a worker's children: each child has one of its own, which holds it to its CPUs, its node and its memory, so
//! that a child that takes too much is the one that the kernel ends, and its worker can tell why.

use std::sync::Arc;

use firesteel_base::{ByteSize, UserError, WorkerId};
use firesteel_hw::cgroup::{Group, GroupLimits, Groups, GroupsError, Place};
use tokio::process::Command;

use crate::process::ExecutorProcessConfig;

/// Whether children get control groups of their own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CgroupMode {
    /// Where they can be had; where not, that is said.
    Auto,
    /// Else the worker does not start.
    On,
    /// None.
    #[default]
    Off,
}

/// Whether and where children get control groups of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CgroupSettings {
    /// Whether they do.
    pub mode: CgroupMode,
    /// Where in the hierarchy; `None`: where this process is.
    pub place: Option<Place>,
}

/// What a process may hold beside what it counts, whatever its limit: its program, its threads, sockets, page tables.
const HEADROOM: u64 = 512 << 20;
/// And the part of its limit: for moments operators hold what they have not been granted (decision 0019).
const HEADROOM_PART: u64 = 4;

/// How much above its own limit the kernel's limit of a process is.
fn headroom(memory: u64) -> u64 {
    HEADROOM + memory / HEADROOM_PART
}

impl CgroupSettings {
    /// Makes this process's place its own.
    pub(crate) fn claim(&self, worker: &WorkerId) -> Result<Option<Arc<Groups>>, UserError> {
        if self.mode == CgroupMode::Off {
            return Ok(None);
        }
        let place = self.place.clone().unwrap_or_else(Place::of_this_process);
        match Groups::claim(&place, worker.as_str()) {
            Ok(groups) => {
                tracing::info!(%worker, folder = %groups.folder().display(), "children get control groups of their own");
                Ok(Some(Arc::new(groups)))
            }
            Err(fault) if self.mode == CgroupMode::Auto => {
                let advice = fault.advice();
                tracing::warn!(%worker, %fault, advice, "executors and drivers have no control groups of their own: no kernel limit holds them");
                Ok(None)
            }
            Err(fault) => Err(refused(&fault)),
        }
    }
}

fn refused(fault: &GroupsError) -> UserError {
    UserError::new("worker.cgroups = 'on', but children cannot get control groups of their own")
        .detail(fault.to_string())
        .hint(fault.advice())
}

/// A child's group, where it gets one, and the memory that the child is told to keep to.
pub(crate) struct ChildGroup {
    group: Option<Group>,
    memory: u64,
}

impl ChildGroup {
    /// Of an executor in one life.
    pub(crate) fn of_executor(
        groups: Option<&Groups>,
        config: &ExecutorProcessConfig,
    ) -> Result<Self, UserError> {
        // Where core threads may move, the kernel is not told where to.
        let pinned: Option<Vec<u32>> = config.cores.iter().copied().collect();
        let cpus = pinned.map(|cores| cores.into_iter().chain(config.control_cpus.iter().copied()).collect());
        Self::make(groups, &format!("executor-{}", config.id.index), config.memory.0, |memory_bytes| {
            GroupLimits { cpus: cpus.unwrap_or_default(), node: config.numa_node, memory_bytes }
        })
    }

    /// Of a driver.
    pub(crate) fn of_driver(groups: Option<&Groups>, name: &str, memory: u64) -> Result<Self, UserError> {
        let limits = |memory_bytes| GroupLimits { memory_bytes, ..GroupLimits::default() };
        Self::make(groups, &format!("driver-{name}"), memory, limits)
    }

    fn make(
        groups: Option<&Groups>,
        name: &str,
        memory: u64,
        limits: impl FnOnce(u64) -> GroupLimits,
    ) -> Result<Self, UserError> {
        let limits = limits(memory.saturating_add(headroom(memory)));
        let group = groups.map(|groups| groups.make(name, &limits)).transpose()?;
        Ok(Self { group, memory })
    }

    /// Has the process that `command` starts be in it.
    pub(crate) fn join(&self, command: &mut Command) -> Result<(), UserError> {
        self.group.as_ref().map_or(Ok(()), |group| Ok(group.join_on_start(command.as_std_mut())?))
    }

    /// Why the kernel killed the child, if it did so for memory.
    pub(crate) fn killed_for_memory(&self) -> Option<String> {
        let group = self.group.as_ref()?;
        let events = group.memory_events();
        if events.oom_kill == 0 {
            return None;
        }
        let whose = if events.oom > 0 {
            ""
        } else {
            "not for its own limit, but that of a group above or of the host; its own "
        };
        let most =
            group.memory_peak().map(|peak| format!(", at most {} held", ByteSize(peak))).unwrap_or_default();
        Some(format!(
            "killed by the kernel for memory: {whose}limit {} ({}/memory.max), asked to keep to {}{most}",
            ByteSize(group.limit()),
            group.folder().display(),
            ByteSize(self.memory)
        ))
    }

    /// The child has ended, for this reason: adds what the kernel had to do with it, and removes the group.
    pub(crate) async fn end(self, reason: String) -> String {
        let reason = match self.killed_for_memory() {
            Some(killed) => {
                tracing::error!(killed, "a child process took more memory than it may");
                format!("{reason}, {killed}")
            }
            None => reason,
        };
        let Some(group) = self.group else { return reason };
        // What the child left in it may take a moment to end; the kernel says so by a system call alone.
        let removed = tokio::task::spawn_blocking(move || group.remove()).await;
        if let Ok(Err(fault)) = removed {
            tracing::warn!(%fault, "a control group stays");
        }
        reason
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_limits_have_the_larger_headroom() {
        // What was measured of executors of 384 MiB was 918 MiB, of one of 1.5 GiB less than 2 GiB with all else.
        let limit = |mib: u64| ((mib << 20) + headroom(mib << 20)) >> 20;
        assert_eq!((limit(384), limit(1536), limit(96 << 10)), (992, 2432, 123_392));
    }
}
