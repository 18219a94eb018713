//! The folder that is written to: whether it is complete, somebody else's, or ours to fill.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

use firesteel_base::UserError;

use super::fault;
use super::manifest::{Manifest, Recipe};

const MANIFEST: &str = "manifest.json";
/// Holds the recipe while the folder is being filled, and is locked by the process that fills it.
const IN_WORK: &str = ".in-work.json";

/// A folder that this process alone may fill.
pub(super) struct Folder {
    path: PathBuf,
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
        Ok(match complete(path, recipe)? {
            Some(manifest) => {
                remove_marker(path);
                Claim::Complete(manifest)
            }
            None => Claim::ToDo(Self { path: path.to_owned(), _in_work: in_work }),
        })
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
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
    match read(path)? {
        Some(manifest) => Ok(manifest),
        None if !path.is_dir() => Err(made(UserError::new(format!("there is no folder {}", path.display())))),
        None if path.join(IN_WORK).exists() => {
            Err(UserError::new(format!("{} is not complete", path.display()))
                .detail("its tables are being made, or that was interrupted")
                .hint("wait for `firesteel bench gen` to end, or run it again"))
        }
        None => Err(made(UserError::new(format!("{} holds no benchmark data", path.display())))),
    }
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
            return Err(UserError::new(format!("{} is being filled by another process", path.display()))
                .hint("wait for it to end, or give another folder"));
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
        .detail(format!(
            "{} scale {}, {} files a table, {} rows a row group, {}, {}",
            found.benchmark,
            found.scale,
            found.files,
            found.row_group_rows,
            found.compression,
            found.generator
        ))
        .hint("give another folder, or remove this one")
}
