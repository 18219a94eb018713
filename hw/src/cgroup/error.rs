//! Why a process cannot make control groups of its own.

use std::io;
use std::path::PathBuf;

use firesteel_base::UserError;

/// Why a process cannot make control groups of its own.
#[derive(Debug, thiserror::Error)]
pub enum GroupsError {
    /// There is no hierarchy of version 2, or it is not where it is expected.
    #[error("control groups of version 2 are not mounted at {}", mount.display())]
    NotMounted {
        /// Where they are expected.
        mount: PathBuf,
    },
    /// The group that the process is in cannot be seen, as in some containers.
    #[error("the control group of this process, {}, is not there", group.display())]
    NotVisible {
        /// The group.
        group: PathBuf,
    },
    /// The group does not belong to this user.
    #[error("the control group {} is not delegated to this process: {source}", group.display())]
    NotDelegated {
        /// The group.
        group: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// What is needed is not offered there.
    #[error("the control group {} has no controller {}", group.display(), missing.join(" and no "))]
    Controllers {
        /// The group.
        group: PathBuf,
        /// Those that are not there.
        missing: Vec<&'static str>,
    },
    /// Others are in the group: a group with children must be empty itself.
    #[error("other processes are in the control group {} (pid {pid})", group.display())]
    Shared {
        /// The group.
        group: PathBuf,
        /// One of them.
        pid: u32,
    },
    /// What a process before this one left there does not end.
    #[error("processes of a worker before this one do not end in the control group {}", group.display())]
    Leftover {
        /// The group.
        group: PathBuf,
    },
    /// A file of a group cannot be written or read.
    #[error("cannot set {}: {source}", file.display())]
    File {
        /// The file, or the folder of a group.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The kernel took a setting, but another one is in force.
    #[error("{} was set to {asked}, but {found} is in force", file.display())]
    NotApplied {
        /// The file.
        file: PathBuf,
        /// What was written.
        asked: String,
        /// What was read back.
        found: String,
    },
}

impl GroupsError {
    /// What to change.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::NotMounted { .. } => "boot with systemd.unified_cgroup_hierarchy=1",
            Self::NotVisible { .. } => "start the container with a control group namespace of its own",
            Self::NotDelegated { .. } => "run the worker as a systemd unit with Delegate=yes",
            Self::Controllers { .. } => {
                "run the worker as a systemd unit with Delegate=yes, or Delegate=cpuset memory pids cpu"
            }
            Self::Shared { .. } => {
                "run the worker as a systemd unit with Delegate=yes, which has a group of its own"
            }
            Self::Leftover { .. } => {
                "look for a disk that does not answer (dmesg): such processes end when it does"
            }
            Self::File { .. } => "look at the kernel's log (dmesg), and at what else manages this group",
            Self::NotApplied { .. } => {
                "a group above allows less: look at AllowedCPUs= and AllowedMemoryNodes= of the unit and its slices"
            }
        }
    }
}

impl From<GroupsError> for UserError {
    fn from(fault: GroupsError) -> Self {
        Self::new(fault.to_string()).hint(fault.advice())
    }
}
