//! The service thread.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::str::FromStr;

use futures::channel::{mpsc, oneshot};
use futures::future::{FutureExt, LocalBoxFuture};
use futures::stream::{FuturesUnordered, StreamExt};
use rustix::fs::{FallocateFlags, fallocate};
use serde::{Deserialize, Serialize};
use tokio::runtime::LocalOptions;

use super::{Engine, Pages, ScratchError, ScratchFile, blocking, glommio, ring, tokio_uring};
use crate::pages::PagePool;
use crate::pin;

/// Requests that one service works on at a time; more wait in its queue.
const IN_FLIGHT_MAX: usize = 64;
/// Buffers of a service for what is to be written: who appends waits for one. Segments that are larger than such a buffer
/// get one of the heap.
const BUFFERS: usize = 8;
const BUFFER_BYTES: usize = 2 << 20;

/// Which engine does the input and output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineKind {
    /// System calls, one request after another.
    Blocking,
    /// A ring in a current-thread tokio; requests overlap.
    TokioUring,
    /// glommio's rings; requests overlap.
    Glommio,
    /// A ring of our own, with registered buffers and files; requests overlap.
    Ring,
}

impl EngineKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Blocking, Self::TokioUring, Self::Glommio, Self::Ring];

    /// The name as in configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Blocking => "blocking",
            Self::TokioUring => "tokio-uring",
            Self::Glommio => "glommio",
            Self::Ring => "ring",
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no scratch engine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no scratch engine: there are 'blocking', 'tokio-uring', 'glommio' and 'ring'")]
pub struct ParseEngineKindError {
    text: String,
}

impl FromStr for EngineKind {
    type Err = ParseEngineKindError;

    fn from_str(text: &str) -> Result<Self, ParseEngineKindError> {
        let named = |kind: &Self| kind.name() == text;
        Self::ALL.into_iter().find(named).ok_or_else(|| ParseEngineKindError { text: text.to_owned() })
    }
}

/// What a scratch service shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScratchConfig {
    /// The name of its thread.
    pub name: String,
    /// Its engine.
    pub engine: EngineKind,
    /// Whether files bypass the page cache. A file system that cannot refuses the file.
    pub direct: bool,
    /// The CPU its thread is pinned to; none leaves it to the scheduler.
    pub cpu: Option<u32>,
}

/// A running scratch service. Clones share it; its thread ends when the last clone and the last file are dropped.
#[derive(Clone)]
pub struct Scratch {
    engine: EngineKind,
    direct: bool,
    pool: PagePool,
    requests: mpsc::UnboundedSender<Request>,
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scratch({}{})", self.engine, if self.direct { ", direct" } else { "" })
    }
}

pub(super) type Reply<T> = oneshot::Sender<io::Result<T>>;

/// A file goes into the reply whole, with what removes it: who stops waiting leaves nothing behind.
pub(super) enum Request {
    Create { path: PathBuf, scratch: Scratch, reply: Reply<ScratchFile> },
    Write { file: u64, pages: Pages, at: u64, reply: Reply<()> },
    Read { file: u64, pages: Pages, at: u64, reply: Reply<Pages> },
    Discard { path: PathBuf, at: u64, len: u64 },
    Close { file: u64, reply: Option<Reply<()>> },
}

impl Scratch {
    /// Starts the service thread and returns when its engine runs.
    ///
    /// # Errors
    /// When the thread, its binding or its engine cannot be had.
    pub fn start(config: &ScratchConfig) -> Result<Self, ScratchError> {
        let ScratchConfig { name, engine, direct, cpu } = config.clone();
        let fault = |source| ScratchError::Start { name: name.clone(), engine: engine.name(), source };
        let (requests, receiver) = mpsc::unbounded();
        let pool = PagePool::new(BUFFERS, BUFFER_BYTES).map_err(|none| fault(io::Error::other(none)))?;
        let registered = pool.clone();
        let (ready, started) = std::sync::mpsc::sync_channel(1);
        let body = move || {
            let pinned = cpu.map_or(Ok(()), |cpu| pin::pin_thread(cpu).map(drop).map_err(io::Error::other));
            if let Err(fault) = pinned.and_then(|()| run(engine, &registered, receiver, &ready)) {
                // It waits for this in `start`, unless the engine ran already.
                let _ = ready.send(Err(fault));
            }
        };
        std::thread::Builder::new().name(name.clone()).spawn(body).map_err(fault)?;
        let ended = |_| fault(io::Error::other("the thread ended at its start"));
        started.recv().map_err(ended)?.map_err(fault)?;
        Ok(Self { engine, direct, pool, requests })
    }

    /// Makes a new file at `path`, where none may be.
    ///
    /// # Errors
    /// When the file cannot be made, or the service has ended.
    pub async fn create(&self, path: &Path) -> Result<ScratchFile, ScratchError> {
        self.ask("create", path, |reply| Request::Create {
            path: path.to_owned(),
            scratch: self.clone(),
            reply,
        })
        .await
    }

    /// A buffer for `len` bytes that are to be appended: one of those that the ring knows; none while all of them are in
    /// use; one of the heap when it is for more than these have room for.
    #[must_use]
    pub fn buffer(&self, len: usize) -> Option<Pages> {
        self.pool.try_take(len)
    }

    pub(super) fn pool(&self) -> &PagePool {
        &self.pool
    }

    /// Says what needs no answer. The queue has no bound of its own: who writes or reads waits for the answer, and the rest is
    /// said once of a file or of a part of it. A service that has ended has closed all its files.
    pub(super) fn tell(&self, request: Request) {
        let _ = self.requests.unbounded_send(request);
    }

    pub(super) async fn ask<T>(
        &self,
        operation: &'static str,
        path: &Path,
        request: impl FnOnce(Reply<T>) -> Request,
    ) -> Result<T, ScratchError> {
        let ended = || ScratchError::Ended { path: path.to_owned() };
        let (reply, answer) = oneshot::channel();
        self.requests.unbounded_send(request(reply)).map_err(|_| ended())?;
        let done = answer.await.map_err(|_| ended())?;
        done.map_err(|source| ScratchError::Io { operation, path: path.to_owned(), source })
    }
}

/// Runs the engine until all senders are gone. Says when it is ready.
fn run(
    kind: EngineKind,
    pool: &PagePool,
    requests: mpsc::UnboundedReceiver<Request>,
    ready: &std::sync::mpsc::SyncSender<io::Result<()>>,
) -> io::Result<()> {
    // It waits for this in `start`.
    let tell = || drop(ready.send(Ok(())));
    match kind {
        EngineKind::Blocking => {
            tell();
            futures::executor::block_on(serve(blocking::BlockingEngine, requests));
        }
        EngineKind::TokioUring => {
            let runtime = ::tokio_uring::Runtime::new(&::tokio_uring::builder())?;
            tell();
            runtime.block_on(serve(tokio_uring::TokioUringEngine, requests));
        }
        EngineKind::Glommio => {
            let executor = glommio::executor()?;
            tell();
            executor.run(serve(glommio::GlommioEngine::default(), requests));
        }
        EngineKind::Ring => {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = builder.enable_io().build_local(LocalOptions::default())?;
            runtime.block_on(async {
                let engine = ring::RingEngine::start(IN_FLIGHT_MAX, pool)?;
                tell();
                serve(engine, requests).await;
                Ok::<_, io::Error>(())
            })?;
        }
    }
    Ok(())
}

/// What a request has come to. Only creating changes which files there are, and that is done here, in one place.
enum Done<F> {
    Created { file: io::Result<F>, path: PathBuf, scratch: Scratch, reply: Reply<ScratchFile> },
    Other,
}

struct Files<F> {
    open: BTreeMap<u64, Rc<F>>,
    next: u64,
}

async fn serve<E: Engine>(engine: E, mut requests: mpsc::UnboundedReceiver<Request>) {
    let engine = Rc::new(engine);
    let mut files = Files { open: BTreeMap::new(), next: 0 };
    let mut running = FuturesUnordered::new();
    let mut accepting = true;
    while accepting || !running.is_empty() {
        let may_take = accepting && running.len() < IN_FLIGHT_MAX;
        let mut next =
            if may_take { requests.next().left_future() } else { futures::future::pending().right_future() };
        futures::select_biased! {
            done = running.select_next_some() => files.note(done),
            request = next => match request {
                Some(request) => running.extend(files.begin(&engine, request)),
                None => accepting = false,
            },
        }
    }
    drop((running, files));
    engine.finish().await;
}

/// Gives room in the middle of a file back. By a system call of its own on a descriptor of its own: it is rare, and no
/// engine need know of it.
fn discard(path: &Path, at: u64, len: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    Ok(fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, at, len)?)
}

fn unknown() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the file has been removed")
}

impl<F: 'static> Files<F> {
    /// Starts the work that a request asks for; none is left when it is done at once.
    fn begin<E: Engine<File = F>>(
        &mut self,
        engine: &Rc<E>,
        request: Request,
    ) -> Option<LocalBoxFuture<'static, Done<F>>> {
        let engine = Rc::clone(engine);
        let file = |id: u64| self.open.get(&id).map(Rc::clone).ok_or_else(unknown);
        // Who has stopped waiting for a reply does not need it.
        match request {
            Request::Create { path, scratch, reply } => Some(Box::pin(async move {
                let file = engine.create(&path, scratch.direct).await;
                Done::Created { file, path, scratch, reply }
            })),
            Request::Write { file: id, pages, at, reply } => {
                let file = file(id);
                Some(Box::pin(async move {
                    let done = async { engine.write(&*file?, pages, at).await }.await;
                    drop(reply.send(done));
                    Done::Other
                }))
            }
            Request::Read { file: id, pages, at, reply } => {
                let file = file(id);
                Some(Box::pin(async move {
                    let done = async { engine.read(&*file?, pages, at).await }.await;
                    drop(reply.send(done));
                    Done::Other
                }))
            }
            Request::Discard { path, at, len } => {
                if let Err(fault) = discard(&path, at, len) {
                    tracing::debug!(path = %path.display(), %fault, "room of a scratch file is kept");
                }
                None
            }
            Request::Close { file: id, reply } => {
                self.open.remove(&id);
                if let Some(reply) = reply {
                    drop(reply.send(Ok(())));
                }
                None
            }
        }
    }

    fn note(&mut self, done: Done<F>) {
        let Done::Created { file, path, scratch, reply } = done else { return };
        let id = self.next;
        self.next += 1;
        let created = file.map(|file| {
            self.open.insert(id, Rc::new(file));
            ScratchFile::new(id, path, scratch)
        });
        // Unless it is awaited, it is dropped, and removed by that.
        drop(reply.send(created));
    }
}
