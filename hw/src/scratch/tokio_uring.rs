//! Scratch files by the ring of tokio-uring.

use std::io;
use std::path::Path;

use ::tokio_uring::fs::File;

use super::{Engine, Pages, blocking};

/// The ring of the tokio-uring loop it runs in.
pub(super) struct TokioUringEngine;

impl Engine for TokioUringEngine {
    type File = File;

    /// By a system call: opening is rare, and tokio-uring 0.5 has no way to make `O_DIRECT` files.
    async fn create(&self, path: &Path, direct: bool) -> io::Result<File> {
        blocking::create_new(path, direct).map(File::from_std)
    }

    async fn write(&self, file: &File, pages: Pages, at: u64) -> io::Result<()> {
        file.write_all_at(pages, at).await.0
    }

    async fn read(&self, file: &File, pages: Pages, at: u64) -> io::Result<Pages> {
        let (done, pages) = file.read_exact_at(pages, at).await;
        done.map(|()| pages)
    }
}
