//! A cluster inside this process: the same manager and executor as everywhere, joined by function calls.
//!
//! ```text
//!   Session::local ──► HomeCluster: manager ◄── InProcessWorker ──► one executor with all cores
//! ```

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use firesteel_base::{ByteSize, Epoch, ExecutorId, UserError, WorkerId, version};
use firesteel_certs::Security;
use firesteel_executor::{BlockSettings, Executor, ExecutorConfig, Limits};
use firesteel_hw::core_loop::LoopKind;
use firesteel_hw::layout::{ExecutorLayout, LayoutRequest, plan_executors};
use firesteel_hw::topology::Topology;
use firesteel_manager::{Manager, ManagerConfig, Messages};
use firesteel_protocol::v1;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use v1::manager_to_worker::Message as FromManager;
use v1::worker_to_manager::Message as ToManager;

use crate::machine::Policy;
use crate::options::LocalOptions;
use crate::runner::Runner;
use crate::shell::{Control, LoopConfig, ManagerAt, Peers, control_runtime, start};

/// How long the manager may take to register a worker of this process and its executors.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long each part of an executor's end may take.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
/// The part of the memory that blocks may fill before the coldest go to files.
const BLOCK_MEMORY_FRACTION: f64 = 0.5;
/// An executor beside a cluster session gets this share of what one of its own would have.
const BESIDE_MEMORY_SHARE: u64 = 4;

/// Stands for the worker of executors that live in this process: registers them, hands them their epochs, and sends
/// heartbeats until it leaves or is dropped.
#[derive(Debug)]
pub struct InProcessWorker {
    /// Without a bound: heartbeats, and a manager in this process takes them.
    outgoing: mpsc::UnboundedSender<v1::WorkerToManager>,
    task: tokio::task::JoinHandle<()>,
}

impl InProcessWorker {
    /// Joins executors to a manager in this process, under the worker's name that is in their ids. `topology` is this
    /// host's, when it is to be shown.
    ///
    /// # Errors
    /// When the manager does not take them.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn join(
        manager: &Manager,
        worker: &WorkerId,
        executors: Vec<Arc<Executor>>,
        topology: Option<&Topology>,
    ) -> Result<Self, UserError> {
        let (outgoing, messages) = mpsc::unbounded_channel();
        let say = |message| outgoing.send(v1::WorkerToManager { message: Some(message) });
        say(ToManager::Register(registration(worker, &executors, topology)))
            .expect("the receiver is right here");
        for executor in &executors {
            say(ToManager::ExecutorUp(executor_up(executor))).expect("the receiver is right here");
        }
        let session = manager.worker_session(Box::pin(UnboundedReceiverStream::new(messages)));
        let incoming = session.await.map_err(|status| UserError::new(status.message()))?;
        let (ready, mut readiness) = watch::channel(0);
        let needed = executors.len();
        let task = tokio::spawn(attend(executors, incoming, outgoing.clone(), ready));
        let all = readiness.wait_for(|count| *count >= needed);
        match tokio::time::timeout(JOIN_TIMEOUT, all).await {
            Ok(Ok(_)) => Ok(Self { outgoing, task }),
            Ok(Err(_)) | Err(_) => {
                task.abort();
                Err(UserError::new(format!("the manager did not take the executors of worker {worker}")))
            }
        }
    }

    /// Leaves the manager, with all executors.
    pub fn leave(&self, reason: &str) {
        let leaving = ToManager::Leaving(v1::WorkerLeaving { reason: reason.to_owned() });
        // A manager that is gone need not be told.
        let _ = self.outgoing.send(v1::WorkerToManager { message: Some(leaving) });
    }
}

impl Drop for InProcessWorker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Hands out epochs and sends heartbeats until the manager ends the session.
async fn attend(
    executors: Vec<Arc<Executor>>,
    mut incoming: Messages<v1::ManagerToWorker>,
    outgoing: mpsc::UnboundedSender<v1::WorkerToManager>,
    ready: watch::Sender<usize>,
) {
    let mut beats = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            message = incoming.recv() => match message.map(|message| message.message) {
                Some(Some(FromManager::Registered(registered))) => {
                    let every = Duration::from_millis(registered.heartbeat_ms.max(1));
                    beats = tokio::time::interval(every);
                }
                Some(Some(FromManager::ExecutorEpoch(epoch))) => set_epoch(&executors, epoch, &ready),
                Some(Some(FromManager::LaunchDriver(launch))) => refuse_driver(&outgoing, launch.job),
                Some(
                    Some(
                        FromManager::StopDriver(_)
                        | FromManager::FreeResult(_)
                        | FromManager::FreeKept(_)
                        | FromManager::Drain(_)
                        | FromManager::Leave(_),
                    )
                    | None,
                ) => {}
                None => return,
            },
            _ = beats.tick() => {
                let executors = executors.iter().map(|executor| usage(executor)).collect();
                let beat = ToManager::Heartbeat(v1::WorkerHeartbeat { executors });
                if outgoing.send(v1::WorkerToManager { message: Some(beat) }).is_err() {
                    return;
                }
            }
        }
    }
}

fn set_epoch(executors: &[Arc<Executor>], epoch: v1::ExecutorEpoch, ready: &watch::Sender<usize>) {
    let Some(executor) = executors.iter().find(|executor| executor.id().index == epoch.index) else { return };
    match executor.set_epoch(Epoch(epoch.epoch)) {
        Ok(()) => ready.send_modify(|count| *count += 1),
        Err(fault) => tracing::warn!(executor = %executor.id(), %fault, "the executor refused its epoch"),
    }
}

fn refuse_driver(outgoing: &mpsc::UnboundedSender<v1::WorkerToManager>, job: u64) {
    let reason = "this worker starts no processes".to_owned();
    let ended = ToManager::DriverEnded(v1::DriverEnded { job, launch: 0, succeeded: false, reason });
    // A manager that is gone need not be told.
    let _ = outgoing.send(v1::WorkerToManager { message: Some(ended) });
}

fn registration(
    worker: &WorkerId,
    executors: &[Arc<Executor>],
    topology: Option<&Topology>,
) -> v1::RegisterWorker {
    let spec = |executor: &Arc<Executor>| v1::ExecutorSpec {
        index: executor.id().index,
        numa_node: None,
        cpus: Vec::new(),
        slots: u32::try_from(executor.cores().len()).expect("cores are counted in 32 bits"),
        memory_bytes: executor.memory().limit(),
    };
    let topology_json =
        topology.map(|topology| serde_json::to_string(topology).expect("plain data becomes JSON"));
    v1::RegisterWorker {
        wire_version: version::WIRE_OLDEST,
        // Nothing here moves: it ends with its session.
        wire_newest: version::WIRE_OLDEST,
        release: version::build().to_owned(),
        worker: worker.to_string(),
        incarnation: format!("process {}", std::process::id()),
        address: String::new(),
        host: "this process".to_owned(),
        topology_json: topology_json.unwrap_or_default(),
        executors: executors.iter().map(spec).collect(),
        rack: String::new(),
        // Who would serve them ends with the executors.
        keeper_address: String::new(),
        // It starts no processes.
        driver_places: Some(0),
    }
}

fn executor_up(executor: &Executor) -> v1::ExecutorUp {
    // Who is reached by function call needs no address, but the manager wants one to show.
    let or_here =
        |address: &str| if address.is_empty() { "in-process".to_owned() } else { address.to_owned() };
    v1::ExecutorUp {
        index: executor.id().index,
        control_address: or_here(executor.control_address()),
        shuffle_address: or_here(executor.shuffle_address()),
        pid: std::process::id(),
        // The manager here does not end before its executors do.
        epoch: 0,
    }
}

fn usage(executor: &Executor) -> v1::ExecutorUsage {
    let status = executor.status();
    v1::ExecutorUsage {
        index: executor.id().index,
        running_attempts: u32::try_from(status.running_attempts).unwrap_or(u32::MAX),
        memory_used: status.memory_used,
        block_bytes: status.blocks.memory_bytes + status.blocks.disk_bytes,
        answers: 0,
    }
}

/// One manager and one executor for the jobs of one session, and the loop that drives them.
pub(crate) struct HomeCluster {
    pub control: Arc<Control>,
    parts: Option<Parts>,
    executor: Arc<Executor>,
}

struct Parts {
    manager: Arc<Manager>,
    worker: InProcessWorker,
    executor: Arc<Executor>,
}

impl fmt::Debug for HomeCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HomeCluster({:?})", self.executor)
    }
}

impl HomeCluster {
    /// A cluster that has the machine, or what the options ask for of it.
    pub(crate) async fn start(options: &LocalOptions) -> Result<Arc<Self>, UserError> {
        Self::start_with(options.clone(), 1).await
    }

    /// A cluster for the few plans of a cluster session that cannot travel.
    pub(crate) async fn start_beside(memory: Option<ByteSize>) -> Result<Arc<Self>, UserError> {
        let share = if memory.is_some() { 1 } else { BESIDE_MEMORY_SHARE };
        Self::start_with(LocalOptions { memory, ..LocalOptions::default() }, share).await
    }

    async fn start_with(options: LocalOptions, memory_share: u64) -> Result<Arc<Self>, UserError> {
        let runtime = control_runtime()?;
        let started = runtime.spawn(assemble(options, memory_share)).await;
        let started = started.unwrap_or_else(|fault| {
            Err(UserError::new("the local executor could not be started").detail(fault.to_string()))
        });
        started.map(Arc::new)
    }

    /// What hands jobs to it.
    pub(crate) fn runner(self: &Arc<Self>) -> Runner {
        Runner {
            control: Arc::clone(&self.control),
            fetcher: Arc::clone(self.executor.fetcher()),
            is_local: true,
            executors_wait_max: JOIN_TIMEOUT,
            home: None,
            keeps: Some(Arc::clone(self)),
        }
    }

    /// Ends jobs, executor and manager.
    pub(crate) async fn close(&self) {
        self.control.close().await;
        if let (Some(parts), Ok(runtime)) = (&self.parts, control_runtime()) {
            let (executor, manager) = (Arc::clone(&parts.executor), Arc::clone(&parts.manager));
            parts.worker.leave("the session was closed");
            // A part that panics has said so itself.
            let _ = runtime.spawn(end(executor, manager)).await;
        }
    }
}

impl Drop for HomeCluster {
    /// Core threads must not outlive their session.
    fn drop(&mut self) {
        let (Some(parts), Ok(runtime)) = (self.parts.take(), control_runtime()) else { return };
        let control = Arc::clone(&self.control);
        runtime.spawn(async move {
            control.close().await;
            parts.worker.leave("the session was dropped");
            end(parts.executor, parts.manager).await;
        });
    }
}

async fn end(executor: Arc<Executor>, manager: Arc<Manager>) {
    executor.shutdown(SHUTDOWN_TIMEOUT).await;
    manager.stop().await;
}

/// Runs on the control runtime, where the control work of executor and manager is to stay.
async fn assemble(options: LocalOptions, memory_share: u64) -> Result<HomeCluster, UserError> {
    let request = LayoutRequest {
        executors: Some(1),
        cores: options.cores.filter(|_| !options.unpinned),
        memory: options.memory.map(|memory| memory.0),
        ..LayoutRequest::default()
    };
    let planning = tokio::task::spawn_blocking(move || plan(&request)).await;
    let (topology, layout) = planning.expect("planning does not panic")?;
    let worker: WorkerId = "local".parse().expect("a name of letters");
    let id = ExecutorId { worker: worker.clone(), index: layout.index };
    let memory = ByteSize(layout.memory_bytes / memory_share);
    let mut config = executor_config(id, &layout, memory, options.scratch);
    if options.unpinned {
        let count = options.cores.map_or(config.cores.len(), |cores| cores as usize);
        config.cores = vec![None; count];
        config.numa_node = None;
    }
    let executor = Executor::start(config)?;
    let manager = Manager::start(ManagerConfig::default());
    match connect(&manager, &worker, &executor, &topology).await {
        Ok((member, control)) => {
            let parts = Parts { manager, worker: member, executor: Arc::clone(&executor) };
            Ok(HomeCluster { control: Arc::new(control), parts: Some(parts), executor })
        }
        Err(error) => {
            end(executor, manager).await;
            Err(error)
        }
    }
}

/// Joins the executor to the manager, and a driver loop to both.
async fn connect(
    manager: &Arc<Manager>,
    worker: &WorkerId,
    executor: &Arc<Executor>,
    topology: &Topology,
) -> Result<(InProcessWorker, Control), UserError> {
    let member = InProcessWorker::join(manager, worker, vec![Arc::clone(executor)], Some(topology)).await?;
    let peers = Peers::new(ManagerAt::Here(Arc::clone(manager)), [Arc::clone(executor)]);
    Ok((member, start(peers, loop_config(executor)).await?))
}

fn plan(request: &LayoutRequest) -> Result<(Topology, ExecutorLayout), UserError> {
    let topology = Topology::discover().map_err(|fault| {
        UserError::new("this machine's cores cannot be found out").detail(fault.to_string())
    })?;
    let layouts = plan_executors(&topology, request)?;
    let layout = layouts.into_iter().next().expect("one executor was asked for");
    Ok((topology, layout))
}

fn executor_config(
    id: ExecutorId,
    layout: &ExecutorLayout,
    memory: ByteSize,
    scratch: Option<PathBuf>,
) -> ExecutorConfig {
    ExecutorConfig {
        id,
        cores: layout.cores.iter().copied().map(Some).collect(),
        numa_node: layout.numa_node,
        memory,
        scratch: vec![scratch.unwrap_or_else(std::env::temp_dir)],
        loop_kind: LoopKind::best().kind,
        block_listener: None,
        advertise_host: String::new(),
        control_address: String::new(),
        keeper: None,
        blocks: BlockSettings { memory_fraction: BLOCK_MEMORY_FRACTION, ..BlockSettings::default() },
        security: Security::default(),
        limits: Limits::default(),
    }
}

fn loop_config(executor: &Executor) -> LoopConfig {
    LoopConfig {
        name: "local".to_owned(),
        queue: String::new(),
        weight: 1,
        submitted_job: None,
        manager_away_max: JOIN_TIMEOUT,
        // A plan that goes by pointer holds state once it has run: it is good for one attempt.
        policy: Policy::single_attempt(),
        fetcher: Arc::clone(executor.fetcher()),
    }
}
