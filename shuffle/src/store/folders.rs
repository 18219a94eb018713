//! The folders that a store writes to: one of its own in each scratch folder, removed with it, or later when its
//! process died.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::StoreError;

/// How the folder of a store is named: `firesteel-blocks-<pid>-<start time>-<number>`.
const PREFIX: &str = "firesteel-blocks-";
/// A file in it that its process holds a lock on: tells the living across PID namespaces too.
const LOCK: &str = "lock";

/// A store's folders; removed when dropped.
#[derive(Debug)]
pub(super) struct Folders {
    folders: Vec<Folder>,
}

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folders {
    pub fn new(parents: &[PathBuf]) -> Result<Self, StoreError> {
        let folders = parents.iter().map(|parent| {
            Folder::new(parent)
                .map_err(|error| StoreError::Scratch { path: parent.clone(), reason: error.to_string() })
        });
        Ok(Self { folders: folders.collect::<Result<_, _>>()? })
    }

    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.folders.iter().map(|folder| folder.path.as_path())
    }
}

impl Folder {
    fn new(parent: &Path) -> io::Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        fs::create_dir_all(parent)?;
        remove_leftovers(parent)?;
        let pid = std::process::id();
        let start = start_time(pid).unwrap_or(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("{PREFIX}{pid}-{start}-{number}"));
        fs::create_dir(&path)?;
        let lock = File::create(path.join(LOCK))?;
        lock.lock()?;
        Ok(Self { path, _lock: lock })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "a scratch folder could not be removed");
        }
    }
}

/// Removes the folders of stores whose process is gone.
fn remove_leftovers(parent: &Path) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let path = entry?.path();
        let Some(owner) = path.file_name().and_then(|name| name.to_str()).and_then(owner_of) else {
            continue;
        };
        if is_alive(owner, &path) {
            continue;
        }
        match fs::remove_dir_all(&path) {
            Ok(()) => tracing::info!(path = %path.display(), "removed the shuffle files of a dead process"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "shuffle files of a dead process stay behind");
            }
        }
    }
    Ok(())
}

/// Process id and start time from a folder's name.
fn owner_of(name: &str) -> Option<(u32, u64)> {
    let mut parts = name.strip_prefix(PREFIX)?.split('-');
    let owner = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let _number: u64 = parts.next()?.parse().ok()?;
    parts.next().is_none().then_some(owner)
}

fn is_alive((pid, start): (u32, u64), folder: &Path) -> bool {
    if start_time(pid) == Some(start) {
        return true;
    }
    // Not here; but it may live in another container that shares the folder.
    File::open(folder.join(LOCK))
        .is_ok_and(|lock| matches!(lock.try_lock(), Err(fs::TryLockError::WouldBlock)))
}

/// When a process was started, in ticks since boot; `None` when there is none of that id.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, the program's name, is in parentheses and may hold anything; start time is the 22nd.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}
