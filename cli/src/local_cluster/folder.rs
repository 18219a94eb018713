//! The folder of a local cluster.

use std::fs;
use std::path::{Path, PathBuf};

use firesteel_base::UserError;

use crate::exit::Failure;

/// A folder for logs and scratch files; removed when dropped, unless it was asked for or is to be kept.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    remove: bool,
}

impl Folder {
    /// Makes the folder, or a temporary one.
    pub fn open(asked: Option<&Path>) -> Result<Self, Failure> {
        let temporary = || std::env::temp_dir().join(format!("firesteel-local-{}", std::process::id()));
        let path = asked.map_or_else(temporary, Path::to_owned);
        fs::create_dir_all(&path).map_err(|fault| {
            UserError::new(format!("cannot make the folder {}", path.display()))
                .detail(fault.to_string())
                .hint("give another one with --dir DIR")
        })?;
        Ok(Self { path, remove: asked.is_none() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves it there for a person to look at.
    pub fn keep(mut self) {
        self.remove = false;
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.remove
            && let Err(fault) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!(folder = %self.path.display(), %fault, "cannot remove a temporary folder");
        }
    }
}
