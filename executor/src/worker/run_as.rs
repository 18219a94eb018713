//! The user that a worker's children run as.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use firesteel_base::UserError;

/// A user and its group, by number. Only root can start processes of another user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunAs {
    /// The user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

impl RunAs {
    /// Makes folders, where they are not there yet, that are this user's alone.
    pub(crate) fn give(self, folders: impl IntoIterator<Item = PathBuf>) -> Result<(), UserError> {
        folders.into_iter().try_for_each(|folder| {
            self.give_one(&folder).map_err(|fault| {
                UserError::new(format!("cannot give {} to the user {}", folder.display(), self.uid))
                    .detail(fault.to_string())
                    .hint("worker.run_as is for workers that root runs")
            })
        })
    }

    fn give_one(self, folder: &Path) -> std::io::Result<()> {
        fs::create_dir_all(folder)?;
        chown(folder, Some(self.uid), Some(self.gid))?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
    }
}
