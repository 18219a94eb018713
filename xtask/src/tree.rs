//! What a package holds: files by their path, in memory, in one order.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// The mode of what is read.
pub const READ: u32 = 0o644;
/// The mode of what is run.
pub const RUN: u32 = 0o755;

/// A file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its permissions.
    pub mode: u32,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// Files by their path below the root, which begins with no slash.
#[derive(Debug, Default)]
pub struct Tree(BTreeMap<String, File>);

impl Tree {
    /// Adds a file.
    pub fn put(&mut self, path: &str, mode: u32, bytes: impl Into<Vec<u8>>) -> Result<()> {
        let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        ensure!(path.split('/').all(is_plain), "'{path}' is no path below the root of a package");
        let bytes = bytes.into();
        ensure!(!bytes.is_empty(), "{path} would be empty");
        let before = self.0.insert(path.to_owned(), File { mode, bytes });
        ensure!(before.is_none(), "{path} would be in the package twice");
        Ok(())
    }

    /// Adds a copy of a file of the disk.
    pub fn copy(&mut self, path: &str, mode: u32, from: &Path) -> Result<()> {
        let bytes = std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.put(path, mode, bytes)
    }

    /// The files, sorted.
    pub fn files(&self) -> impl Iterator<Item = (&str, &File)> {
        self.0.iter().map(|(path, file)| (path.as_str(), file))
    }

    /// The folders that they lie in, sorted, each after the one that it lies in.
    pub fn folders(&self) -> BTreeSet<&str> {
        self.0.keys().flat_map(|path| path.match_indices('/').map(|(at, _)| &path[..at])).collect()
    }

    /// How many bytes they have together.
    pub fn bytes(&self) -> usize {
        self.0.values().map(|file| file.bytes.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_follow_from_files() {
        let mut tree = Tree::default();
        tree.put("usr/share/a/b", READ, "b").unwrap();
        tree.put("usr/bin/a", RUN, "a").unwrap();
        assert_eq!(
            tree.folders().into_iter().collect::<Vec<_>>(),
            ["usr", "usr/bin", "usr/share", "usr/share/a"]
        );
    }

    #[test]
    fn what_is_no_path_or_there_already_or_empty_is_refused() {
        let mut tree = Tree::default();
        tree.put("usr/a", READ, "a").unwrap();
        for (path, text) in
            [("/usr/b", "b"), ("usr/../b", "b"), ("usr//b", "b"), ("usr/a", "b"), ("usr/b", "")]
        {
            assert!(tree.put(path, READ, text).unwrap_err().to_string().contains(path));
        }
    }
}
