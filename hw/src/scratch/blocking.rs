//! Scratch files by system calls.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::{Engine, PAGE_BYTES, Pages};

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

/// Whether files of a folder can be written past the page cache: finds out with one of a page.
///
/// # Errors
/// When the file system cannot; what else may be wrong with the folder shows when it is used.
pub fn takes_direct(folder: &Path) -> io::Result<()> {
    let path = folder.join("direct-probe");
    let probed =
        create_new(&path, true).and_then(|file| file.write_all_at(Pages::zeroed(PAGE_BYTES).as_bytes(), 0));
    // It is not there when it could not be made.
    let _ = std::fs::remove_file(&path);
    match probed {
        Err(fault) if matches!(fault.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Err(fault)
        }
        _ => Ok(()),
    }
}
