//! A disk, by a scratch file that is written and read as executors do it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;
use tokio::time::timeout;

use super::{Latency, MeasureError, Progress, Watcher, incompressible, per_second};
use crate::scratch::{
    EngineKind, PAGE_BYTES, Scratch, ScratchConfig, ScratchError, ScratchFile, takes_direct,
};

/// Bytes of a piece that throughput is measured with; blocks are written in pieces of about that size.
const PIECE_BYTES: u64 = 1 << 20;
/// Pieces at a time: as many as a service has buffers for.
const DEPTH: usize = 8;
/// The smallest file: one piece each at a time.
pub const SIZE_MIN: u64 = DEPTH as u64 * PIECE_BYTES;
/// What stays free for others.
const ROOM_KEPT: u64 = 64 << 20;
/// How many single operations latency is measured with, and for how long at most.
const SINGLE_MAX: u64 = 1000;
const SINGLE_TIME: Duration = Duration::from_secs(2);
/// How long one operation may take: a disk that needs longer is of no use.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// What to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskRequest {
    /// Where the file is made.
    pub folder: PathBuf,
    /// Its bytes, rounded down to whole pieces of 1 MiB.
    pub bytes: u64,
    /// What writes and reads it.
    pub engine: EngineKind,
    /// Whether it bypasses the page cache.
    pub direct: bool,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DiskFigures {
    /// Where.
    pub folder: PathBuf,
    /// What wrote and read.
    pub engine: EngineKind,
    /// Whether past the page cache.
    pub direct: bool,
    /// Bytes of the file.
    pub bytes: u64,
    /// Written one after another, in pieces of 1 MiB, 8 at a time.
    pub write_bytes_per_second: f64,
    /// Read the same way.
    pub read_bytes_per_second: f64,
    /// Single writes of 4 KiB at the end of the file.
    pub write_latency: Latency,
    /// Single reads of 4 KiB, all over the file.
    pub read_latency: Latency,
}

/// Measures until `stop` comes true; none then. Its file is gone when this returns: a process may end at once.
///
/// # Errors
/// When there is no room, the folder cannot be written to as asked, or the disk fails.
pub async fn measure(
    request: &DiskRequest,
    watch: Watcher<'_>,
    stop: impl Future<Output = ()>,
) -> Result<Option<DiskFigures>, MeasureError> {
    let DiskRequest { folder, engine, direct, .. } = request;
    let pieces = request.bytes.max(SIZE_MIN) / PIECE_BYTES;
    check_room(folder, pieces * PIECE_BYTES)?;
    if *direct {
        takes_direct(folder).map_err(|source| MeasureError::NotDirect { folder: folder.clone(), source })?;
    }
    let config = ScratchConfig { name: "probe".to_owned(), engine: *engine, direct: *direct, cpu: None };
    let scratch = Scratch::start(&config)?;
    let path = folder.join(format!(".firesteel-probe-{}", std::process::id()));
    // Not given up half-way: the file would be made behind the back of who has gone.
    let file = answered(folder, scratch.create(&path)).await?;
    let disk = Disk { file, request, pieces, watch };
    let figures = tokio::select! {
        figures = disk.figures() => figures.map(Some),
        () = stop => Ok(None),
    };
    let removed = answered(folder, disk.file.remove()).await;
    let figures = figures?;
    removed.map(|()| figures)
}

fn check_room(folder: &Path, asked: u64) -> Result<(), MeasureError> {
    let stat = rustix::fs::statvfs(folder)
        .map_err(|fault| MeasureError::Folder { folder: folder.to_owned(), source: fault.into() })?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if asked.saturating_add(ROOM_KEPT) > free {
        return Err(MeasureError::Room { folder: folder.to_owned(), asked, free, kept: ROOM_KEPT });
    }
    Ok(())
}

async fn answered<T>(
    folder: &Path,
    operation: impl Future<Output = Result<T, ScratchError>>,
) -> Result<T, MeasureError> {
    match timeout(ANSWER_MAX, operation).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(MeasureError::DiskStalled { folder: folder.to_owned(), limit: ANSWER_MAX }),
    }
}

struct Disk<'a> {
    file: ScratchFile,
    request: &'a DiskRequest,
    pieces: u64,
    watch: Watcher<'a>,
}

impl Disk<'_> {
    async fn figures(&self) -> Result<DiskFigures, MeasureError> {
        let DiskRequest { folder, engine, direct, .. } = self.request;
        let bytes = self.pieces * PIECE_BYTES;
        let wrote = self.write().await?;
        let read = self.read().await?;
        Ok(DiskFigures {
            folder: folder.clone(),
            engine: *engine,
            direct: *direct,
            bytes,
            write_bytes_per_second: per_second(bytes, wrote),
            read_bytes_per_second: per_second(bytes, read),
            read_latency: self.single_reads().await?,
            write_latency: self.single_writes().await?,
        })
    }

    async fn write(&self) -> Result<Duration, MeasureError> {
        let mut content = vec![0; usize::try_from(PIECE_BYTES).expect("it is small")];
        incompressible(&mut content);
        let content = &content;
        let write = |piece: u64| async move {
            // No two pieces are the same, for a disk may store what is the same once.
            let (number, rest) = (piece.to_le_bytes(), &content[size_of::<u64>()..]);
            answered(&self.request.folder, self.file.append(&[&number, rest])).await.map(drop)
        };
        self.pass("writing", write).await
    }

    async fn read(&self) -> Result<Duration, MeasureError> {
        let read = |piece: u64| async move {
            let at = piece * PIECE_BYTES;
            answered(&self.request.folder, self.file.read(at..at + PIECE_BYTES)).await.map(drop)
        };
        self.pass("reading", read).await
    }

    /// All pieces one after another, as many at a time as there are buffers.
    async fn pass<F: Future<Output = Result<(), MeasureError>>>(
        &self,
        step: &'static str,
        operation: impl Fn(u64) -> F,
    ) -> Result<Duration, MeasureError> {
        let start = Instant::now();
        let mut running = stream::iter(0..self.pieces).map(operation).buffer_unordered(DEPTH);
        let mut done = 0;
        while running.try_next().await?.is_some() {
            done += 1;
            (self.watch)(Progress { step, done: done as f64 / self.pieces as f64 });
        }
        Ok(start.elapsed())
    }

    async fn single_reads(&self) -> Result<Latency, MeasureError> {
        let (page, pages) = (PAGE_BYTES as u64, self.pieces * PIECE_BYTES / PAGE_BYTES as u64);
        // Steps of about the golden ratio: all over the file, no two beside each other, each time the same.
        let step = (pages as f64 * 0.618) as u64 | 1;
        let read = |number: u64| async move {
            let at = number * step % pages * page;
            answered(&self.request.folder, self.file.read(at..at + page)).await.map(drop)
        };
        self.single("single reads", read).await
    }

    async fn single_writes(&self) -> Result<Latency, MeasureError> {
        let mut content = [0; PAGE_BYTES];
        incompressible(&mut content);
        let content = &content;
        let write =
            |_| async move { answered(&self.request.folder, self.file.append(&[content])).await.map(drop) };
        self.single("single writes", write).await
    }

    async fn single<F: Future<Output = Result<(), MeasureError>>>(
        &self,
        step: &'static str,
        operation: impl Fn(u64) -> F,
    ) -> Result<Latency, MeasureError> {
        let start = Instant::now();
        let mut times = Vec::new();
        for number in 0..SINGLE_MAX {
            let begun = Instant::now();
            operation(number).await?;
            times.push(begun.elapsed());
            (self.watch)(Progress { step, done: number as f64 / SINGLE_MAX as f64 });
            if start.elapsed() > SINGLE_TIME {
                break;
            }
        }
        Ok(Latency::of(times).expect("at least one was made"))
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    fn request(folder: &Path, bytes: u64) -> DiskRequest {
        DiskRequest { folder: folder.to_owned(), bytes, engine: EngineKind::Blocking, direct: false }
    }

    #[tokio::test]
    async fn figures_are_there_and_the_file_is_gone() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let steps = std::sync::Mutex::new(Vec::new());
        let watch = |progress: Progress| steps.lock().unwrap().push(progress.step);
        let figures = measure(&request(folder.path(), SIZE_MIN), &watch, pending()).await.unwrap().unwrap();
        assert_eq!(figures.bytes, SIZE_MIN);
        assert!(figures.write_bytes_per_second > 0.0 && figures.read_bytes_per_second > 0.0, "{figures:?}");
        assert!(figures.read_latency.median_us > 0.0, "{figures:?}");
        assert!(figures.write_latency.p99_us >= figures.write_latency.median_us, "{figures:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let mut steps = steps.into_inner().unwrap();
        steps.dedup();
        assert_eq!(steps, ["writing", "reading", "single reads", "single writes"]);
    }

    #[tokio::test]
    async fn stopped_at_any_time_it_leaves_nothing() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let (seen, mut first) = tokio::sync::mpsc::unbounded_channel();
        let watch = |_: Progress| seen.send(()).unwrap_or_default();
        let request = request(folder.path(), 1 << 30);
        let left = || std::fs::read_dir(folder.path()).unwrap().count();
        // While it writes, and before it has begun.
        let begun = async { first.recv().await.unwrap_or_default() };
        assert_eq!(measure(&request, &watch, begun).await.unwrap(), None);
        assert_eq!(left(), 0);
        assert_eq!(measure(&request, &watch, std::future::ready(())).await.unwrap(), None);
        assert_eq!(left(), 0);
    }

    #[tokio::test]
    async fn more_than_there_is_room_for_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let fault = measure(&request(folder.path(), 1 << 60), &|_| (), pending()).await.unwrap_err();
        assert!(matches!(fault, MeasureError::Room { asked, .. } if asked == 1 << 60), "{fault}");
        let missing = request(Path::new("/no/such/folder"), SIZE_MIN);
        let missing = measure(&missing, &|_| (), pending()).await.unwrap_err();
        assert!(missing.to_string().contains("/no/such/folder"), "{missing}");
    }
}
