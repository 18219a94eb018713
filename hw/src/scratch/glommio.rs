//! Scratch files by glommio.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ::glommio::io::{BufferedFile, DmaFile, OpenOptions, ReadResult};
use ::glommio::{GlommioError, LocalExecutor, LocalExecutorBuilder, Placement};

use futures::lock::Mutex;

use super::{Engine, PAGE_BYTES, Pages};

/// The executor the engine runs in. It pins nothing: the service's thread is pinned already.
pub(super) fn executor() -> io::Result<LocalExecutor> {
    LocalExecutorBuilder::new(Placement::Unbound).make().map_err(plain)
}

fn plain(fault: GlommioError<()>) -> io::Error {
    fault.into()
}

/// glommio's rings.
#[derive(Default)]
pub(super) struct GlommioEngine {
    /// Devices that were probed with a file that is not empty.
    probed: Mutex<BTreeSet<u64>>,
    /// Every file that is not closed yet holds one of these.
    unclosed: Rc<()>,
}

/// A file, closed after its drop.
///
/// glommio closes a file that is dropped at the next turn of its loop. An executor that ends before that turn leaves the
/// file open for as long as the process lives, and its room taken. So the drop starts a close that can be waited for.
pub(super) struct GlommioFile {
    kind: Option<Kind>,
    unclosed: Rc<()>,
}

enum Kind {
    Direct(DmaFile),
    Buffered(BufferedFile),
}

impl GlommioFile {
    fn kind(&self) -> &Kind {
        self.kind.as_ref().expect("only the drop takes it")
    }
}

impl Drop for GlommioFile {
    fn drop(&mut self) {
        let Some(kind) = self.kind.take() else { return };
        let unclosed = Rc::clone(&self.unclosed);
        let close = async move {
            let closed = match kind {
                Kind::Direct(file) => file.close().await,
                Kind::Buffered(file) => file.close().await,
            };
            if let Err(fault) = closed {
                tracing::warn!(%fault, "cannot close a scratch file");
            }
            drop(unclosed);
        };
        ::glommio::spawn_local(close).detach();
    }
}

impl Engine for GlommioEngine {
    type File = GlommioFile;

    async fn create(&self, path: &Path, direct: bool) -> io::Result<GlommioFile> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        let kind = if direct {
            self.probe_device(path).await?;
            Kind::Direct(options.dma_open(path).await.map_err(plain)?)
        } else {
            Kind::Buffered(options.buffered_open(path).await.map_err(plain)?)
        };
        Ok(GlommioFile { kind: Some(kind), unclosed: Rc::clone(&self.unclosed) })
    }

    async fn write(&self, file: &GlommioFile, pages: Pages, at: u64) -> io::Result<()> {
        let mut done = 0;
        while done < pages.len() {
            let rest = &pages.as_bytes()[done..];
            let place = at + done as u64;
            done += match file.kind() {
                Kind::Direct(file) => {
                    let mut buffer = file.alloc_dma_buffer(rest.len());
                    buffer.as_bytes_mut().copy_from_slice(rest);
                    file.write_at(buffer, place).await.map_err(plain)?
                }
                Kind::Buffered(file) => file.write_at(rest.to_vec(), place).await.map_err(plain)?,
            };
        }
        Ok(())
    }

    async fn read(&self, file: &GlommioFile, mut pages: Pages, at: u64) -> io::Result<Pages> {
        let len = pages.len();
        let mut done = 0;
        while done < len {
            let place = at + done as u64;
            let read: ReadResult = match file.kind() {
                Kind::Direct(file) => file.read_at_aligned(place, len - done).await.map_err(plain)?,
                Kind::Buffered(file) => file.read_at(place, len - done).await.map_err(plain)?,
            };
            if read.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            pages.as_bytes_mut()[done..done + read.len()].copy_from_slice(&read);
            done += read.len();
        }
        Ok(pages)
    }

    async fn finish(&self) {
        while Rc::strong_count(&self.unclosed) > 1 {
            ::glommio::executor().yield_now().await;
        }
    }
}

impl GlommioEngine {
    /// glommio finds out whether a device can be polled by reading from the first file that it opens on it. From an empty
    /// one the read succeeds everywhere, and then every real read of a device that cannot be polled fails with
    /// EOPNOTSUPP (glommio issue 670). So the first file it opens on a device is one with content.
    async fn probe_device(&self, path: &Path) -> io::Result<()> {
        let device = fs::metadata(path.parent().unwrap_or(Path::new(".")))?.dev();
        // Held over the probe: whoever opens another file meanwhile must wait for what it finds.
        let mut probed = self.probed.lock().await;
        if probed.contains(&device) {
            return Ok(());
        }
        let mut name = path.as_os_str().to_owned();
        name.push(".probe");
        let probe = PathBuf::from(name);
        let opened = async {
            fs::write(&probe, [0; PAGE_BYTES])?;
            let file = DmaFile::open(&probe).await.map_err(plain)?;
            file.close().await.map_err(plain)
        };
        let outcome: io::Result<()> = opened.await;
        fs::remove_file(&probe)?;
        outcome?;
        probed.insert(device);
        Ok(())
    }
}
