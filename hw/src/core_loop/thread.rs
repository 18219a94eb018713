//! The life of a core thread.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::mpsc as sync_mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures::FutureExt;
use tokio::runtime::{LocalOptions, LocalRuntime};
use tokio::task::JoinSet;

use super::queue::{Counts, Orders, Work};
use super::{CoreError, CoreHandle, LoopKind};
use crate::memory::{self, MemoryBinding};
use crate::pin;

/// After its futures were aborted a thread gets so long to end before it counts as stuck.
const END_GRACE: Duration = Duration::from_secs(1);

/// What a core thread shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoreThreadConfig {
    /// Its name in logs and in `top`, where Linux shows the first 15 bytes.
    pub name: String,
    /// The CPU it is pinned to; none leaves it to the scheduler.
    pub cpu: Option<u32>,
    /// The NUMA node its memory comes from; none leaves it to the kernel.
    pub numa_node: Option<u32>,
    /// Its loop.
    pub kind: LoopKind,
}

/// A running core thread. Dropping it aborts its futures and lets the thread end by itself; [`CoreThread::stop`]
/// lets them finish and waits.
#[derive(Debug)]
pub struct CoreThread {
    handle: CoreHandle,
    kind: LoopKind,
    bound: Bound,
    ended: sync_mpsc::Receiver<Stopped>,
    thread: Option<JoinHandle<()>>,
}

/// How a core thread ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Futures that had not ended when the time to drain was over, and were aborted.
    pub aborted: u64,
}

/// What the thread was bound to, as read back.
#[derive(Debug, Clone)]
struct Bound {
    cpus: Vec<u32>,
    memory: MemoryBinding,
}

impl CoreThread {
    /// Starts the thread, binds it, and returns when its loop runs.
    ///
    /// # Errors
    /// When the thread, its binding or its loop cannot be had.
    pub fn start(config: CoreThreadConfig) -> Result<Self, CoreError> {
        let (handle, orders) = CoreHandle::new(&config.name);
        let (ready, started) = sync_mpsc::sync_channel(1);
        let (end, ended) = sync_mpsc::sync_channel(1);
        let counts = handle.counts();
        let (name, kind) = (config.name.clone(), config.kind);
        let body = move || {
            if let Some(stopped) = live(&config, orders, counts, &ready) {
                // Nobody waits when the CoreThread was dropped.
                let _ = end.send(stopped);
            }
        };
        let spawned = std::thread::Builder::new().name(name.clone()).spawn(body);
        let thread =
            spawned.map_err(|fault| CoreError::Spawn { name: name.clone(), fault: fault.to_string() })?;
        let lost = |_| CoreError::Loop { name, fault: "the thread ended at its start".to_owned() };
        let bound = started.recv().map_err(lost)??;
        Ok(Self { handle, kind, bound, ended, thread: Some(thread) })
    }

    /// Where futures are put on its run queue.
    #[must_use]
    pub fn handle(&self) -> CoreHandle {
        self.handle.clone()
    }

    /// The loop it runs.
    #[must_use]
    pub fn kind(&self) -> LoopKind {
        self.kind
    }

    /// The CPUs it is bound to, as read back.
    #[must_use]
    pub fn pinned_to(&self) -> &[u32] {
        &self.bound.cpus
    }

    /// Where its memory comes from, as read back, or why that was not bound.
    #[must_use]
    pub fn memory(&self) -> &MemoryBinding {
        &self.bound.memory
    }

    /// Takes no more futures, lets those on its queue and those that run go on until the deadline, aborts the rest,
    /// and waits for the thread. It blocks the calling thread.
    ///
    /// # Errors
    /// When a future does not yield, so that the thread does not end soon after the deadline.
    pub fn stop(mut self, deadline: Duration) -> Result<Stopped, CoreError> {
        self.handle.order_stop(deadline);
        self.await_end(Instant::now() + deadline + END_GRACE)
    }

    fn await_end(&mut self, until: Instant) -> Result<Stopped, CoreError> {
        match self.ended.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(stopped) => {
                self.join();
                Ok(stopped)
            }
            Err(sync_mpsc::RecvTimeoutError::Timeout) => Err(CoreError::Stuck {
                name: self.handle.name().to_owned(),
                running: self.handle.usage().running,
            }),
            Err(sync_mpsc::RecvTimeoutError::Disconnected) => {
                self.join();
                Err(CoreError::Loop {
                    name: self.handle.name().to_owned(),
                    fault: "it ended by a panic of its own".to_owned(),
                })
            }
        }
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take()
            && let Err(panic) = thread.join()
        {
            tracing::error!(core = self.handle.name(), panic = panic_text(&*panic), "core thread panicked");
        }
    }
}

impl Drop for CoreThread {
    fn drop(&mut self) {
        self.handle.order_stop(Duration::ZERO);
    }
}

/// Stops many core threads with one deadline for all; results in their order.
pub fn stop_all(threads: Vec<CoreThread>, deadline: Duration) -> Vec<Result<Stopped, CoreError>> {
    for thread in &threads {
        thread.handle.order_stop(deadline);
    }
    let until = Instant::now() + deadline + END_GRACE;
    threads.into_iter().map(|mut thread| thread.await_end(until)).collect()
}

/// What the thread does from its start to its end; none when it could not start.
fn live(
    config: &CoreThreadConfig,
    orders: Orders,
    counts: Arc<Counts>,
    ready: &sync_mpsc::SyncSender<Result<Bound, CoreError>>,
) -> Option<Stopped> {
    let prepared = bind(config).and_then(|bound| Ok((bound, build_loop(config)?)));
    match prepared {
        Ok((bound, core_loop)) => {
            ready.send(Ok(bound)).ok()?;
            Some(core_loop.block_on(serve(config.name.as_str().into(), orders, counts)))
        }
        Err(fault) => {
            // It waits for this in `start`.
            let _ = ready.send(Err(fault));
            None
        }
    }
}

fn bind(config: &CoreThreadConfig) -> Result<Bound, CoreError> {
    let pinned = config.cpu.map_or_else(|| Ok(pin::allowed_cpus()), pin::pin_thread);
    let cpus = pinned.map_err(|fault| CoreError::Pin { name: config.name.clone(), fault })?;
    let unasked = || Ok(MemoryBinding::Skipped { reason: "no NUMA node was asked for".to_owned() });
    let bound = config.numa_node.map_or_else(unasked, memory::bind_thread);
    let memory = bound.map_err(|fault| CoreError::Memory { name: config.name.clone(), fault })?;
    Ok(Bound { cpus, memory })
}

enum Loop {
    Tokio(LocalRuntime),
    TokioUring(tokio_uring::Runtime),
}

fn build_loop(config: &CoreThreadConfig) -> Result<Loop, CoreError> {
    let built = match config.kind {
        LoopKind::Tokio => {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_all().build_local(LocalOptions::default()).map(Loop::Tokio)
        }
        LoopKind::TokioUring => tokio_uring::Runtime::new(&tokio_uring::builder()).map(Loop::TokioUring),
    };
    built.map_err(|fault| CoreError::Loop { name: config.name.clone(), fault: fault.to_string() })
}

impl Loop {
    /// Dropping the runtime afterwards drops whatever futures have spawned besides.
    fn block_on<T>(self, work: impl Future<Output = T>) -> T {
        match self {
            Self::Tokio(runtime) => {
                let out = runtime.block_on(work);
                // Blocking calls that still run (file reads) must not hold up the end of the core.
                runtime.shutdown_background();
                out
            }
            Self::TokioUring(runtime) => runtime.block_on(work),
        }
    }
}

/// What a core runs, and what it counts.
struct Core {
    name: Arc<str>,
    counts: Arc<Counts>,
    running: JoinSet<()>,
}

async fn serve(name: Arc<str>, mut orders: Orders, counts: Arc<Counts>) -> Stopped {
    let mut core = Core { name, counts, running: JoinSet::new() };
    loop {
        tokio::select! {
            work = orders.next() => match work {
                Some(work) => core.take_up(work),
                None => break,
            },
            Some(_) = core.running.join_next() => {}
        }
    }
    core.finish(orders.drain()).await
}

impl Core {
    fn take_up(&mut self, work: Work) {
        match work {
            Work::Run(work) => drop(self.running.spawn(self.contained(work))),
            Work::Make(make) => drop(self.running.spawn_local(self.contained(async { make().await }))),
        }
    }

    /// Runs a future to its end or to its panic, which is told and goes no further.
    fn contained<F: Future<Output = ()>>(&self, work: F) -> impl Future<Output = ()> + use<F> {
        let (name, running) = (Arc::clone(&self.name), self.counts.taken());
        async move {
            if let Err(panic) = AssertUnwindSafe(work).catch_unwind().await {
                running.panicked();
                tracing::error!(
                    core = &*name,
                    panic = panic_text(&*panic),
                    "a future panicked; its core goes on"
                );
            }
        }
    }

    async fn finish(mut self, drain: Duration) -> Stopped {
        let drained = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(drain, drained).await.is_ok() {
            return Stopped::default();
        }
        let aborted = self.running.len() as u64;
        self.running.shutdown().await;
        Stopped { aborted }
    }
}

/// What a panic said, where it is text.
#[must_use]
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}
