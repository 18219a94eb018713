//! The logs of the daemons, as they grow.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::cluster::files_below;

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The name of the log, without its ending.
    pub log: String,
    /// What it says.
    pub text: String,
}

impl Line {
    /// Whether it is of a log whose name begins so, and says that.
    #[must_use]
    pub fn is(&self, log: &str, says: &str) -> bool {
        self.log.starts_with(log) && self.text.contains(says)
    }
}

/// All logs of a folder.
#[derive(Debug)]
pub struct Logs(Vec<Log>);

#[derive(Debug)]
struct Log {
    name: String,
    path: PathBuf,
    read: u64,
    /// A line whose end is still to come.
    begun: Vec<u8>,
}

impl Logs {
    /// What comes from now on, of the daemons' own logs.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn from_now(folder: &Path) -> anyhow::Result<Self> {
        let of_daemon = |path: &PathBuf| path.parent() == Some(folder);
        let log = |path: PathBuf| Log {
            name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            read: path.metadata().map_or(0, |meta| meta.len()),
            path,
            begun: Vec::new(),
        };
        Ok(Self(files_below(folder)?.into_iter().filter(of_daemon).map(log).collect()))
    }

    /// Lines that have come since.
    pub fn more(&mut self) -> Vec<Line> {
        self.0.iter_mut().flat_map(Log::more).collect()
    }
}

impl Log {
    fn more(&mut self) -> Vec<Line> {
        let mut new = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.read))?;
            file.read_to_end(&mut new)
        });
        // A log that cannot be read now is read the next time.
        self.read += read.unwrap_or(0) as u64;
        self.begun.extend(new);
        let Some(end) = self.begun.iter().rposition(|&byte| byte == b'\n') else { return Vec::new() };
        let whole: Vec<u8> = self.begun.drain(..=end).collect();
        let line = |text: &str| Line { log: self.name.clone(), text: text.to_owned() };
        String::from_utf8_lossy(&whole).lines().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    #[test]
    fn only_whole_lines_that_are_new_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w0.log");
        fs::write(&path, "old\n").unwrap();
        fs::create_dir(folder.path().join("w0")).unwrap();
        fs::write(folder.path().join("w0/executor.log"), "another's\n").unwrap();
        let mut logs = Logs::from_now(folder.path()).unwrap();
        assert!(logs.more().is_empty());
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"no manager\nregis").unwrap();
        let lines = logs.more();
        assert_eq!(lines.len(), 1);
        assert!(lines[0].is("w", "no manager") && !lines[0].is("manager", "no manager"));
        file.write_all(b"tered\n").unwrap();
        assert_eq!(logs.more()[0].text, "registered");
    }
}
