//! The executor: its parts, its life.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use firesteel_base::{Class, Epoch, ExecutorId, JobId, MemoryBudget, StageKey, UserError};
use firesteel_engine::run::{StageSource, TaskEnv};
use firesteel_engine::{Settings, Stage};
use firesteel_hw::core_loop::{CoreHandle, CoreThread, CoreThreadConfig, stop_all};
use firesteel_shuffle::keep::Reporter;
use firesteel_shuffle::store::{BlockStore, StoreConfig, StoreUsage};
use firesteel_shuffle::{BlockServer, Fetcher, Holder, ServeConfig};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{ExecutorConfig, Limits};
use crate::cores::CorePool;
use crate::memory_guard;
use crate::registry::{Digest, Registry, StageEntry};
use crate::scratch::ScratchFolder;

/// Map outputs that are taken over from executors of drained workers at a time; others wait.
const TAKES_MAX: usize = 4;

/// An executor: core threads, one memory budget, a block store, and the attempts of whoever attaches.
pub struct Executor {
    id: ExecutorId,
    limits: Limits,
    control: Handle,
    control_address: String,
    shuffle_address: String,
    epoch: watch::Sender<Option<Epoch>>,
    memory: MemoryBudget,
    store: Arc<BlockStore>,
    fetcher: Arc<Fetcher>,
    env: Arc<TaskEnv>,
    pub(crate) pool: CorePool,
    pub(crate) registry: Registry,
    handles: Vec<CoreHandle>,
    pub(crate) stopping: CancellationToken,
    pub(crate) attempts: TaskTracker,
    pub(crate) sessions: TaskTracker,
    /// Bounds the map outputs that are taken over at a time.
    pub(crate) takes: Semaphore,
    life: Mutex<Option<Life>>,
}

/// What ends with the executor, in this order.
struct Life {
    threads: Vec<CoreThread>,
    server: Option<BlockServer>,
    // Held to be removed.
    _scratch: Vec<ScratchFolder>,
}

/// How an executor is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutorStatus {
    /// Its epoch, once it was told.
    pub epoch: Option<Epoch>,
    /// Attempts that wait for cores or run.
    pub running_attempts: usize,
    /// Bytes of its memory in use.
    pub memory_used: u64,
    /// All its memory in bytes.
    pub memory_limit: u64,
    /// What its block store holds.
    pub blocks: StoreUsage,
}

impl Executor {
    /// Starts an executor. Its control plane runs on the current tokio runtime, its attempts on core threads of its
    /// own. It takes no driver before [`set_epoch`](Self::set_epoch).
    ///
    /// # Errors
    /// When the configuration cannot work, a scratch folder cannot be used, or a core thread cannot be had as asked.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(config: ExecutorConfig) -> Result<Arc<Self>, UserError> {
        config.check()?;
        let control = Handle::current();
        let scratch: Vec<_> =
            config.scratch.iter().map(|root| ScratchFolder::create(root)).collect::<Result<_, _>>()?;
        let folders: Vec<_> = scratch.iter().map(|folder| folder.path().to_owned()).collect();
        let memory = MemoryBudget::new(config.memory);
        let memory_max = (config.memory.0 as f64 * config.blocks.memory_fraction) as u64;
        let store = StoreConfig { budget: memory.clone(), memory_max, scratch: folders.clone() };
        let store = BlockStore::with_files(store, config.blocks.files())
            .map_err(|fault| cannot_start(&config.id, &fault))?;
        if let Some(keeper) = &config.keeper {
            report_blocks(&config.id, keeper, &store);
        }
        let fetcher = Fetcher::new(config.blocks.fetches(memory.clone(), &config.security));
        let env = TaskEnv::new(Arc::clone(&store), Arc::clone(&fetcher), memory.clone(), folders)?;
        let threads = start_cores(&config)?;
        let serve = config.blocks.serves(&config.security);
        let (server, shuffle_address) =
            serve_blocks(&config.id, config.block_listener, &store, &config.advertise_host, serve)?;
        Ok(Arc::new(Self {
            pool: CorePool::new(threads.len(), config.limits.attempts_waiting_max),
            handles: threads.iter().map(CoreThread::handle).collect(),
            life: Mutex::new(Some(Life { threads, server, _scratch: scratch })),
            id: config.id,
            limits: config.limits,
            control,
            control_address: config.control_address,
            shuffle_address,
            epoch: watch::Sender::new(None),
            memory,
            store,
            fetcher,
            env: Arc::new(env),
            registry: Registry::default(),
            stopping: CancellationToken::new(),
            attempts: TaskTracker::new(),
            sessions: TaskTracker::new(),
            takes: Semaphore::new(TAKES_MAX),
        }))
    }

    /// Tells the executor the epoch of its life. A later one fences all that was before: its drivers' streams end, its
    /// attempts are cancelled and its blocks freed. An earlier one is refused.
    ///
    /// # Errors
    /// When the executor has a later epoch already.
    pub fn set_epoch(&self, epoch: Epoch) -> Result<(), UserError> {
        let mut refused = None;
        let changed = self.epoch.send_if_modified(|known| match *known {
            Some(later) if later > epoch => {
                refused = Some(later);
                false
            }
            Some(same) if same == epoch => false,
            _ => {
                *known = Some(epoch);
                true
            }
        });
        if let Some(later) = refused {
            return Err(UserError::new(format!("executor {} is in epoch {later}, past {epoch}", self.id)));
        }
        if changed {
            self.free_all();
            self.store.begin_life(&self.id, epoch);
            self.fetcher.set_local(self.id.clone(), epoch, Arc::clone(&self.store));
            if let Some(server) = self.life.lock().as_ref().and_then(|life| life.server.as_ref()) {
                server.set_identity(self.id.clone(), epoch);
            }
        }
        Ok(())
    }

    /// Keeps a stage's plan by pointer, for attempts that a driver in this process launches. The same stage again
    /// replaces it when the digest differs.
    pub fn put_stage_shared(&self, key: StageKey, digest: Digest, stage: Arc<Stage>, settings: Settings) {
        let entry = StageEntry { digest, source: StageSource::Shared(stage), settings: Arc::new(settings) };
        self.registry.put_stage(key, entry);
    }

    /// Who it is.
    #[must_use]
    pub fn id(&self) -> &ExecutorId {
        &self.id
    }

    /// Its epoch, once it was told.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        *self.epoch.borrow()
    }

    /// It as the holder of blocks, once it has an epoch. The address is empty when it serves none to other processes.
    #[must_use]
    pub fn holder(&self) -> Option<Holder> {
        let epoch = self.epoch()?;
        let (executor, address) = (self.id.clone(), self.shuffle_address.clone());
        Some(Holder { executor, epoch, address, keeper: String::new() })
    }

    /// `host:port` of its gRPC service, empty when it has none.
    #[must_use]
    pub fn control_address(&self) -> &str {
        &self.control_address
    }

    /// `host:port` of its block server, empty when it has none.
    #[must_use]
    pub fn shuffle_address(&self) -> &str {
        &self.shuffle_address
    }

    /// What reads blocks here; the ones of this executor by pointer.
    #[must_use]
    pub fn fetcher(&self) -> &Arc<Fetcher> {
        &self.fetcher
    }

    /// Its memory.
    #[must_use]
    pub fn memory(&self) -> &MemoryBudget {
        &self.memory
    }

    /// Its core threads, in the order of the configuration.
    #[must_use]
    pub fn cores(&self) -> &[CoreHandle] {
        &self.handles
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> ExecutorStatus {
        ExecutorStatus {
            epoch: self.epoch(),
            running_attempts: self.registry.running(),
            memory_used: self.memory.used(),
            memory_limit: self.memory.limit(),
            blocks: self.store.usage(),
        }
    }

    /// Gives freed memory of this process, which is to be the executor's alone, back to the kernel while it is above the executor's
    /// limit, until the executor stops.
    ///
    /// # Errors
    /// When no thread can be started for that.
    pub fn guard_process_memory(&self) -> Result<(), UserError> {
        memory_guard::start(self.memory.limit(), Arc::clone(&self.store), self.stopping.clone())
    }

    /// Ends the executor: cancels attempts, ends drivers' streams, stops the block server and the core threads, and
    /// removes its scratch folders. Each step gets at most `deadline`. A second call does nothing.
    pub async fn shutdown(&self, deadline: Duration) {
        self.stopping.cancel();
        self.registry.cancel_all(Class::Transient, "its executor stops");
        self.attempts.close();
        self.within(deadline, "attempts did not end in time", self.attempts.wait()).await;
        self.free_all();
        self.sessions.close();
        self.within(deadline, "drivers did not take their last reports in time", self.sessions.wait()).await;
        let Some(life) = self.life.lock().take() else { return };
        if let Some(server) = life.server {
            self.within(deadline, "the block server did not stop in time", server.shutdown()).await;
        }
        stop_cores(life.threads, deadline).await;
    }

    async fn within(&self, deadline: Duration, otherwise: &str, work: impl Future<Output = ()>) {
        if tokio::time::timeout(deadline, work).await.is_err() {
            tracing::warn!(executor = %self.id, "{otherwise}");
        }
    }

    /// Frees a job: its attempts, plans and blocks.
    pub(crate) fn free_job(&self, job: JobId) {
        self.registry.free_job(job);
        self.free_blocks(job);
    }

    /// Frees what is here of a job's blocks, and what is known of where others are.
    pub(crate) fn free_blocks(&self, job: JobId) {
        self.store.free_job(job);
        self.fetcher.forget_job(job);
    }

    fn free_all(&self) {
        self.registry.jobs().into_iter().for_each(|job| self.free_job(job));
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn control(&self) -> &Handle {
        &self.control
    }

    pub(crate) fn env(&self) -> &Arc<TaskEnv> {
        &self.env
    }

    pub(crate) fn watch_epoch(&self) -> watch::Receiver<Option<Epoch>> {
        self.epoch.subscribe()
    }

    pub(crate) fn core_handles(&self, cores: &[usize]) -> Vec<CoreHandle> {
        cores.iter().map(|&core| self.handles[core].clone()).collect()
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Executor({}, {} cores)", self.id, self.handles.len())
    }
}

/// Has the blocks of a store kept when this process is gone. Without that it works all the same.
fn report_blocks(id: &ExecutorId, keeper: &str, store: &BlockStore) {
    match Reporter::connect(keeper) {
        Ok(reporter) => store.report_to(reporter),
        Err(fault) => {
            tracing::warn!(executor = %id, %fault, "the worker's keeper cannot be reached: blocks end with this process");
        }
    }
}

fn start_cores(config: &ExecutorConfig) -> Result<Vec<CoreThread>, UserError> {
    let start = |(core, &cpu): (usize, &Option<u32>)| {
        let thread = CoreThreadConfig {
            name: format!("core-{core}"),
            cpu,
            numa_node: config.numa_node,
            kind: config.loop_kind,
        };
        CoreThread::start(thread).map_err(UserError::from)
    };
    config.cores.iter().enumerate().map(start).collect()
}

fn serve_blocks(
    id: &ExecutorId,
    listener: Option<std::net::TcpListener>,
    store: &Arc<BlockStore>,
    host: &str,
    config: ServeConfig,
) -> Result<(Option<BlockServer>, String), UserError> {
    let Some(listener) = listener else { return Ok((None, String::new())) };
    let server =
        BlockServer::start(listener, Arc::clone(store), config).map_err(|fault| cannot_start(id, &fault))?;
    let address = host_port(host, server.local_addr().port());
    Ok((Some(server), address))
}

/// `host:port`, with the brackets that an IPv6 address needs.
pub(crate) fn host_port(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

async fn stop_cores(threads: Vec<CoreThread>, deadline: Duration) {
    let stopped = tokio::task::spawn_blocking(move || stop_all(threads, deadline)).await;
    for fault in stopped.into_iter().flatten().filter_map(Result::err) {
        tracing::warn!(%fault, "a core thread did not stop as it should");
    }
}

fn cannot_start(id: &ExecutorId, fault: &dyn std::error::Error) -> UserError {
    UserError::new(format!("executor {id} cannot be started")).detail(fault.to_string())
}
