//! Scratch files by system calls.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::{Engine, Pages};

/// System calls on the service's thread.
pub(super) struct BlockingEngine;

impl Engine for BlockingEngine {
    type File = File;

    async fn create(&self, path: &Path, direct: bool) -> io::Result<File> {
        create_new(path, direct)
    }

    async fn write(&self, file: &File, pages: Pages, at: u64) -> io::Result<()> {
        file.write_all_at(pages.as_bytes(), at)
    }

    async fn read(&self, file: &File, mut pages: Pages, at: u64) -> io::Result<Pages> {
        file.read_exact_at(pages.as_bytes_mut(), at)?;
        Ok(pages)
    }
}

/// Opens a file that is not there yet.
pub(super) fn create_new(path: &Path, direct: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    if direct {
        options.custom_flags(libc::O_DIRECT);
    }
    options.open(path)
}
