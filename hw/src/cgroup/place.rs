//! Where in the hierarchy a process is, and whether it may make groups there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::error::GroupsError;
use super::v2_path;

/// Controllers that groups cannot do without.
pub(super) const NEEDED: [&str; 2] = ["cpuset", "memory"];
/// The group of the process that makes the others.
pub(super) const DAEMON: &str = "daemon";

/// Where in the hierarchy of version 2 a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    mount: PathBuf,
    /// As in `/proc/self/cgroup`, without the slash at its begin.
    path: PathBuf,
}

impl Place {
    /// That of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::new("/sys/fs/cgroup", v2_path(&own))
    }

    /// A place below a mount point, which need not be the system's.
    #[must_use]
    pub fn new(mount: impl Into<PathBuf>, path: &str) -> Self {
        Self { mount: mount.into(), path: path.trim_start_matches('/').into() }
    }

    fn group(&self) -> PathBuf {
        self.mount.join(&self.path)
    }

    /// The group below which others are made: that of the process, or the one above when it has moved down already.
    pub(super) fn base(&self) -> PathBuf {
        let group = self.group();
        match group.parent() {
            Some(above) if group.ends_with(DAEMON) && above.starts_with(&self.mount) => above.to_owned(),
            _ => group,
        }
    }

    /// The folder of the groups of `name`. The root of the hierarchy is everybody's: there they get a group around them. Any other
    /// group that a process is alone in is its own.
    pub(super) fn folder(&self, name: &str) -> PathBuf {
        let base = self.base();
        if is_root(&base) { base.join(format!("firesteel-{name}")) } else { base }
    }
}

/// All groups but the root of the hierarchy have a type.
pub(super) fn is_root(group: &Path) -> bool {
    !group.join("cgroup.type").exists()
}

/// Whether a process may make groups for `name` at a place, and where these would be. Nothing is changed.
///
/// # Errors
/// When it may not; the error says what is missing.
pub fn examine(place: &Place, name: &str) -> Result<PathBuf, GroupsError> {
    if !place.mount.join("cgroup.controllers").exists() {
        return Err(GroupsError::NotMounted { mount: place.mount.clone() });
    }
    let base = place.base();
    let Ok(offered) = fs::read_to_string(base.join("cgroup.controllers")) else {
        return Err(GroupsError::NotVisible { group: base });
    };
    let missing: Vec<_> =
        NEEDED.into_iter().filter(|needed| !offered.split_whitespace().any(|word| word == *needed)).collect();
    if !missing.is_empty() {
        return Err(GroupsError::Controllers { group: base, missing });
    }
    for file in ["", "cgroup.procs", "cgroup.subtree_control"] {
        rustix::fs::access(base.join(file), Access::WRITE_OK)
            .map_err(|fault| GroupsError::NotDelegated { group: base.clone(), source: fault.into() })?;
    }
    let folder = place.folder(name);
    // The root of the hierarchy may have processes and children.
    if !is_root(&base) {
        alone_in(&base)?;
    }
    alone_in(&folder.join(DAEMON))?;
    Ok(folder)
}

fn alone_in(group: &Path) -> Result<(), GroupsError> {
    let others = processes(group)?.into_iter().find(|pid| *pid != std::process::id());
    others.map_or(Ok(()), |pid| Err(GroupsError::Shared { group: group.to_owned(), pid }))
}

/// The processes in a group; none when it is not there.
pub(super) fn processes(group: &Path) -> Result<Vec<u32>, GroupsError> {
    let file = group.join("cgroup.procs");
    match fs::read_to_string(&file) {
        // The kernel calls those that this process cannot name 0.
        Ok(text) => {
            Ok(text.lines().filter_map(|line| line.trim().parse().ok()).filter(|pid| *pid > 0).collect())
        }
        Err(fault) if matches!(fault.kind(), io::ErrorKind::NotFound) => Ok(Vec::new()),
        // It was removed after it was opened.
        Err(fault) if fault.raw_os_error() == Some(libc::ENODEV) => Ok(Vec::new()),
        Err(source) => Err(GroupsError::File { file, source }),
    }
}
