//! Folders for scratch files that leave nothing behind: each is locked while its process lives, removed at its end,
//! and swept by the next process when its owner was killed.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use firesteel_base::UserError;

const LOCK_FILE: &str = ".lock";
const PREFIX: &str = "firesteel-scratch-";

/// One locked folder below a scratch root; removed with all it holds when dropped.
#[derive(Debug)]
pub struct ScratchFolder {
    path: PathBuf,
    // Held for its lock.
    _lock: File,
}

impl ScratchFolder {
    /// Makes a new folder below `root`, after sweeping those whose owner is gone.
    ///
    /// # Errors
    /// When `root` cannot be made or written to.
    pub fn create(root: &Path) -> Result<Self, UserError> {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        fs::create_dir_all(root).map_err(|fault| unusable(root, &fault))?;
        sweep(root);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let path = root.join(format!("{PREFIX}{}-{serial}", std::process::id()));
        fs::create_dir_all(&path).map_err(|fault| unusable(root, &fault))?;
        let lock = File::create(path.join(LOCK_FILE)).map_err(|fault| unusable(root, &fault))?;
        lock.try_lock().map_err(|fault| unusable(root, &fault))?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        if let Err(fault) = fs::remove_dir_all(&self.path) {
            tracing::warn!(folder = %self.path.display(), %fault, "cannot remove a scratch folder");
        }
    }
}

/// Removes the scratch folders below `root` whose owners are gone. One without a lock file is left alone: its owner
/// may be about to make it.
pub(crate) fn sweep(root: &Path) {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    for folder in ours.map(|entry| entry.path()) {
        let abandoned = File::open(folder.join(LOCK_FILE)).is_ok_and(|lock| lock.try_lock().is_ok());
        if abandoned && fs::remove_dir_all(&folder).is_ok() {
            tracing::info!(folder = %folder.display(), "removed the scratch folder of a process that is gone");
        }
    }
}

fn unusable(root: &Path, fault: &dyn std::fmt::Display) -> UserError {
    UserError::new(format!("cannot use {} for scratch files", root.display()))
        .detail(fault.to_string())
        .hint("name a folder that exists or can be made, and that this user may write to")
}

/// The right to use a folder as the only one.
#[derive(Debug)]
pub struct FolderLock {
    // Held for its lock.
    _file: File,
}

impl FolderLock {
    /// Locks `folder` for a `role`, making it if needed.
    ///
    /// # Errors
    /// When another process has it, or it cannot be written to.
    pub fn acquire(role: &str, folder: &Path) -> Result<Self, UserError> {
        fs::create_dir_all(folder).map_err(|fault| unusable(folder, &fault))?;
        let path = folder.join(format!("{role}.lock"));
        let file = File::create(&path).map_err(|fault| unusable(folder, &fault))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => {
                Err(UserError::new(format!("another {role} uses the scratch folder {}", folder.display()))
                    .detail(format!("{} is locked", path.display()))
                    .hint(format!("give each {role} of this host a scratch folder of its own")))
            }
            Err(TryLockError::Error(fault)) => Err(unusable(folder, &fault)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_with_its_owner() {
        let root = tempfile::tempdir().unwrap();
        let folder = ScratchFolder::create(root.path()).unwrap();
        fs::write(folder.path().join("spill"), "rows").unwrap();
        let path = folder.path().to_owned();
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn an_abandoned_folder_is_swept_and_a_live_one_kept() {
        let root = tempfile::tempdir().unwrap();
        let abandoned = root.path().join(format!("{PREFIX}0-0"));
        fs::create_dir(&abandoned).unwrap();
        File::create(abandoned.join(LOCK_FILE)).unwrap();
        let live = ScratchFolder::create(root.path()).unwrap();
        let other = ScratchFolder::create(root.path()).unwrap();
        assert!(!abandoned.exists());
        assert!(live.path().exists() && other.path().exists());
    }

    #[test]
    fn an_unusable_root_is_named() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        let fault = ScratchFolder::create(&file).unwrap_err();
        assert!(fault.message.contains(&file.display().to_string()), "{fault}");
    }

    #[test]
    fn a_folder_is_locked_for_one() {
        let root = tempfile::tempdir().unwrap();
        let lock = FolderLock::acquire("worker", root.path()).unwrap();
        let fault = FolderLock::acquire("worker", root.path()).unwrap_err();
        assert!(fault.message.contains("another worker uses the scratch folder"), "{fault}");
        drop(lock);
        FolderLock::acquire("worker", root.path()).unwrap();
    }
}
