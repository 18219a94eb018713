//! Where output goes: standard output, or a file that appears whole or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use firesteel_base::UserError;

/// A file being written under a temporary name beside its own; it gets its own when [`commit`](Self::commit)ted and is
/// removed otherwise.
#[derive(Debug)]
pub struct PendingFile {
    path: PathBuf,
    // None: the path is a device or a pipe, which is written as it is.
    temporary: Option<PathBuf>,
}

impl PendingFile {
    /// Opens a file that is to become `path`.
    pub fn create(path: &Path) -> Result<(Self, Box<dyn Write + Send>), UserError> {
        let special = fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir());
        if fs::metadata(path).is_ok_and(|found| found.is_dir()) {
            return Err(UserError::new(format!("cannot write {}: it is a folder", path.display()))
                .hint("give the name of a file"));
        }
        let temporary = (!special).then(|| temporary_name(path));
        let target = temporary.as_deref().unwrap_or(path);
        let opened = if special { File::options().write(true).open(target) } else { File::create(target) };
        let file = opened.map_err(|fault| refused(path, &fault))?;
        Ok((Self { path: path.to_owned(), temporary }, Box::new(BufWriter::new(file))))
    }

    /// Gives the file its name.
    pub fn commit(mut self) -> Result<(), UserError> {
        match self.temporary.take() {
            None => Ok(()),
            Some(temporary) => fs::rename(&temporary, &self.path).map_err(|fault| {
                self.temporary = Some(temporary);
                refused(&self.path, &fault)
            }),
        }
    }
}

impl Drop for PendingFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // It may never have come to be; there is nothing else to do about a file that cannot be removed.
            let _ = fs::remove_file(temporary);
        }
    }
}

/// Output that remembers the operating system's first refusal: writers of formats tell of it as text only.
pub struct Watched {
    out: Box<dyn Write + Send>,
    refusal: Refusal,
}

/// The first refusal of an output, when there was one. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Refusal(Arc<Mutex<Option<io::Error>>>);

impl Refusal {
    /// Takes it out.
    pub fn take(&self) -> Option<io::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn remember<T>(&self, outcome: io::Result<T>) -> io::Result<T> {
        if let Err(fault) = &outcome
            && fault.kind() != io::ErrorKind::Interrupted
        {
            let copy = fault.raw_os_error().map_or_else(|| fault.kind().into(), io::Error::from_raw_os_error);
            self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(copy);
        }
        outcome
    }
}

impl Watched {
    /// Watches `out`.
    pub fn new(out: Box<dyn Write + Send>) -> (Self, Refusal) {
        let refusal = Refusal::default();
        (Self { out, refusal: refusal.clone() }, refusal)
    }
}

impl Write for Watched {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.refusal.remember(self.out.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.refusal.remember(self.out.flush())
    }
}

fn temporary_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

/// What the operating system's refusal to write `path` tells a person.
pub fn refused(path: &Path, fault: &io::Error) -> UserError {
    let error = UserError::new(format!("cannot write {}", path.display())).detail(fault.to_string());
    match fault.kind() {
        io::ErrorKind::NotFound => error.hint("does its folder exist?"),
        io::ErrorKind::PermissionDenied => error.hint("give a file in a folder that you may write to"),
        io::ErrorKind::StorageFull => error.hint("make room on that disk, or write to another one"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_appears_when_it_is_committed_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        let (pending, mut out) = PendingFile::create(&path).unwrap();
        out.write_all(b"1\n").unwrap();
        drop(out);
        assert!(!path.exists());
        pending.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"1\n");
        assert_eq!(names(folder.path()), ["out.csv"]);
    }

    #[test]
    fn a_file_that_is_given_up_leaves_nothing_and_the_old_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        fs::write(&path, b"old").unwrap();
        let (pending, mut out) = PendingFile::create(&path).unwrap();
        out.write_all(b"half").unwrap();
        drop((pending, out));
        assert_eq!(names(folder.path()), ["out.csv"]);
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = PendingFile::create(folder.path()).map(drop).unwrap_err();
        assert!(error.message.contains("it is a folder"), "{error}");
        let error = PendingFile::create(&folder.path().join("no/such/file")).map(drop).unwrap_err();
        assert!(error.message.contains("no/such/file") && error.hint.is_some(), "{error}");
        PendingFile::create(Path::new("/dev/null")).unwrap().0.commit().unwrap();
    }
}
