//! What this host lets a run do, and what earlier runs that were killed have left on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::network;
use crate::proc;
use crate::schedule::Family;

/// What folders and namespaces of runs are named after; the number of the run's process follows.
pub const PREFIX: &str = "firesteel-chaos-";

/// What can be done here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// Hosts of their own: network namespaces, joined by links that can be cut.
    pub network: bool,
    /// Disks of their own: small file systems in memory.
    pub disks: bool,
}

impl Abilities {
    /// Finds out by trying.
    #[must_use]
    pub fn probe() -> Self {
        let is_root = rustix::process::geteuid().is_root();
        Self { network: is_root && network::is_possible(), disks: is_root && disks_are_possible() }
    }

    /// Why a kind of fault cannot be had here, if it cannot.
    #[must_use]
    pub fn refusal(self, family: Family) -> Option<&'static str> {
        match family {
            Family::Cut | Family::Loss if !self.network => Some(
                "it needs root, network namespaces, the programs ip, tc and nsenter, and BPF classifiers in the kernel",
            ),
            Family::DiskFull if !self.disks => Some("it needs root, to mount small disks"),
            Family::Kill
            | Family::Stop
            | Family::Cut
            | Family::Loss
            | Family::DiskFull
            | Family::Corrupt
            | Family::Manager => None,
        }
    }
}

/// Runs a program to its end.
///
/// # Errors
/// When it fails, with what it said.
pub fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output =
        Command::new(program).args(arguments).output().with_context(|| format!("cannot start {program}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    bail!("{program} {} ended with {}: {}", arguments.join(" "), output.status, said.trim())
}

/// A small file system in memory; unmounted when dropped.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// Mounts one of so many bytes on `folder`, which it makes.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn mount(folder: &Path, bytes: u64) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let size = format!("size={bytes}");
        let path = folder.display().to_string();
        run("mount", &["-t", "tmpfs", "-o", &size, "firesteel-chaos", &path])?;
        Ok(Self { folder: folder.to_owned() })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = run("umount", &["--lazy", &self.folder.display().to_string()]) {
            eprintln!("warning: {error}");
        }
    }
}

fn disks_are_possible() -> bool {
    let Ok(folder) = tempfile::tempdir() else { return false };
    Disk::mount(&folder.path().join("disk"), 1 << 20).is_ok()
}

/// Removes what runs that were killed could not remove themselves.
pub fn sweep() {
    let is_left = |name: &str| {
        let number =
            name.split_once(PREFIX).and_then(|(_, rest)| rest.split(['-', '/']).next()?.parse().ok());
        number.is_some_and(|pid: u32| !proc::is_alive(pid))
    };
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    for folder in mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|folder| is_left(folder)) {
        drop(Disk { folder: PathBuf::from(folder) });
    }
    network::sweep(is_left);
}
