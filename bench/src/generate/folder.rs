//! The folder that is written to: whether it is complete, somebody else's, or ours to fill.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

use firesteel_base::UserError;

use super::fault;
use super::manifest::{FileEntry, Manifest, Recipe};

const MANIFEST: &str = "manifest.json";
/// Holds the recipe while the folder is being filled, and is locked by the process that fills it.
const IN_WORK: &str = ".in-work.json";
/// Holds what is written on the way to sorted files.
const SCRATCH: &str = ".sort";

/// A folder that this process alone may fill.
pub(super) struct Folder {
    path: PathBuf,
    /// What an earlier manifest says of files, by their paths: one that is not so was changed since.
    known: HashMap<String, FileEntry>,
    /// Its lock ends with it.
    _in_work: File,
}

/// What became of the claim on a folder.
pub(super) enum Claim {
    /// All that was asked for is there already.
    Complete(Manifest),
    /// It is to be filled, or to be completed.
    ToDo(Folder),
}

impl Folder {
    /// Claims `path` for `recipe`.
    pub fn claim(path: &Path, recipe: &Recipe) -> Result<Claim, UserError> {
        fs::create_dir_all(path).map_err(|error| fault::io("make the folder", path, &error))?;
        if let Some(manifest) = complete(path, recipe)? {
            return Ok(Claim::Complete(manifest));
        }
        refuse_foreign(path)?;
        let in_work = lock(path, recipe)?;
        // Between the look above and the lock another process may have finished.
        if let Some(manifest) = complete(path, recipe)? {
            remove_marker(path);
            return Ok(Claim::Complete(manifest));
        }
        let folder = Self { path: path.to_owned(), known: known(path)?, _in_work: in_work };
        folder.remove_scratch()?;
        Ok(Claim::ToDo(folder))
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether nothing that is known of a file says that it is not this one.
    pub fn agrees(&self, file: &FileEntry) -> bool {
        self.known.get(&file.path).is_none_or(|known| {
            (known.rows, known.bytes) == (file.rows, file.bytes)
                && (known.checksum.is_none() || known.checksum == file.checksum)
        })
    }

    /// A new folder for what is written on the way to the sorted files of `table`.
    pub fn scratch(&self, table: &str) -> Result<PathBuf, UserError> {
        let path = self.path.join(SCRATCH).join(table);
        fs::create_dir_all(&path).map_err(|error| fault::io("make the folder", &path, &error))?;
        Ok(path)
    }

    /// Removes what was written on the way, by this run or by one that was stopped.
    pub fn remove_scratch(&self) -> Result<(), UserError> {
        let path = self.path.join(SCRATCH);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(fault::io("remove the folder", &path, &error))
            }
            _ => Ok(()),
        }
    }

    /// Writes the manifest, which makes the folder complete.
    pub fn complete(self, manifest: &Manifest) -> Result<(), UserError> {
        let path = self.path.join(MANIFEST);
        let temporary = self.path.join("manifest.json.tmp");
        let text = serde_json::to_string_pretty(manifest).expect("a manifest is plain data");
        fs::write(&temporary, text + "\n").map_err(|error| fault::io("write", &temporary, &error))?;
        fs::rename(&temporary, &path).map_err(|error| fault::io("rename to", &path, &error))?;
        remove_marker(&self.path);
        Ok(())
    }
}

/// A marker that stays behind does no harm beside a manifest.
fn remove_marker(path: &Path) {
    let _ = fs::remove_file(path.join(IN_WORK));
}

/// The manifest of a complete folder.
pub(super) fn load(path: &Path) -> Result<Manifest, UserError> {
    let made = |error: UserError| error.hint("make it with `firesteel bench gen`");
    if is_being_filled(path) {
        return Err(busy(path, "wait for it to end"));
    }
    match read(path)? {
        Some(manifest) => Ok(manifest),
        None if !path.is_dir() => Err(made(UserError::new(format!("there is no folder {}", path.display())))),
        None if path.join(IN_WORK).exists() => {
            Err(UserError::new(format!("{} is not complete", path.display()))
                .detail("making its tables was interrupted")
                .hint("run the same `firesteel bench gen` again: it makes what is missing"))
        }
        None => Err(made(UserError::new(format!("{} holds no benchmark data", path.display())))),
    }
}

/// Whether a process is filling the folder now.
fn is_being_filled(path: &Path) -> bool {
    let marker = File::open(path.join(IN_WORK));
    marker.is_ok_and(|marker| matches!(marker.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn busy(path: &Path, hint: &str) -> UserError {
    UserError::new(format!("{} is being filled by another process", path.display())).hint(hint)
}

/// What the manifest in a folder says of files, when there is one.
fn known(path: &Path) -> Result<HashMap<String, FileEntry>, UserError> {
    let manifest = read(path)?;
    let files = manifest.iter().flat_map(Manifest::files);
    Ok(files.map(|file| (file.path.clone(), file.clone())).collect())
}

/// The manifest in a folder, when there is one.
fn read(path: &Path) -> Result<Option<Manifest>, UserError> {
    let file = path.join(MANIFEST);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(fault::io("read", &file, &error)),
    };
    let manifest = serde_json::from_str(&text).map_err(|error| {
        holds_something_else(path).detail(format!("{} is no manifest of ours: {error}", file.display()))
    })?;
    Ok(Some(manifest))
}

/// The manifest of a folder that holds all that `recipe` makes.
fn complete(path: &Path, recipe: &Recipe) -> Result<Option<Manifest>, UserError> {
    let Some(manifest) = read(path)? else { return Ok(None) };
    if manifest.recipe != *recipe {
        return Err(made_otherwise(path, "holds data", &manifest.recipe));
    }
    let all_there =
        manifest.files().all(|file| fs::metadata(path.join(&file.path)).is_ok_and(|m| m.len() == file.bytes));
    Ok(all_there.then_some(manifest))
}

/// Refuses a folder with anything in it that no run of ours began.
fn refuse_foreign(path: &Path) -> Result<(), UserError> {
    if path.join(IN_WORK).exists() || path.join(MANIFEST).exists() {
        return Ok(());
    }
    let mut entries = fs::read_dir(path).map_err(|error| fault::io("read the folder", path, &error))?;
    match entries.next() {
        None => Ok(()),
        Some(entry) => {
            let name = entry.map_or_else(|_| "something".into(), |entry| entry.file_name());
            Err(holds_something_else(path).detail(format!("{} is in it", name.display())))
        }
    }
}

fn lock(path: &Path, recipe: &Recipe) -> Result<File, UserError> {
    let marker = path.join(IN_WORK);
    let refused = |error| fault::io("write", &marker, &error);
    let mut file =
        File::options().read(true).write(true).create(true).truncate(false).open(&marker).map_err(refused)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(busy(path, "wait for it to end, or give another folder"));
        }
        Err(TryLockError::Error(error)) => return Err(fault::io("lock", &marker, &error)),
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(refused)?;
    // A marker that is cut short was left by a run that had written nothing else yet.
    if let Ok(begun) = serde_json::from_str::<Recipe>(&text)
        && begun != *recipe
    {
        return Err(made_otherwise(path, "holds unfinished data", &begun));
    }
    file.set_len(0).map_err(refused)?;
    file.rewind().map_err(refused)?;
    file.write_all(&serde_json::to_vec(recipe).expect("a recipe is plain data")).map_err(refused)?;
    Ok(file)
}

fn holds_something_else(path: &Path) -> UserError {
    UserError::new(format!("{} holds something else", path.display())).hint("give a new or an empty folder")
}

fn made_otherwise(path: &Path, holds: &str, found: &Recipe) -> UserError {
    UserError::new(format!("{} {holds} made with other options", path.display()))
        .detail(found.to_string())
        .hint("give another folder, or remove this one")
}
