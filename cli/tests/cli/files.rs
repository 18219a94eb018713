//! The small files that the tests query.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A folder with `people.csv`: three rows, one of them with a NULL.
pub fn people() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("people.csv");
    std::fs::write(&file, "id,name\n1,Ada\n2,\n3,\"Grace, Hopper\"\n").unwrap();
    (folder, file)
}

/// A query over that file.
pub fn select_people(file: &Path) -> String {
    format!("select id, nullif(name, '') as name from '{}' order by id", file.display())
}
