//! The worker daemon: everything that happens to it, one thing at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use firesteel_base::{Epoch, JobId, UserError, version};
use firesteel_hw::cgroup::Groups;
use firesteel_metrics::Served;
use firesteel_protocol::managers::Managers;
use firesteel_protocol::v1;
use firesteel_shuffle::keep::Keeper;
use futures::FutureExt;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use v1::manager_to_worker::Message as FromManager;
use v1::worker_to_manager::Message as ToManager;

use super::config::WorkerConfig;
use super::drain::{DrainState, Left, PACE};
use super::driver_child::{DriverEnd, Launched};
use super::executor_child::{EpochOfLife, ExecutorChild, ExecutorEvent};
use super::metrics::{Counts, ScratchFolder, Seen, WorkerMetrics};
use super::plan::{Plan, executor_folders, process_config};
use super::results::ResultStore;
use super::state::State;
use crate::executor::host_port;
use crate::scratch::FolderLock;
use crate::shell::manager_link::{self, LinkEvent};
use crate::shell::worker_service;

mod drivers;
mod keeping;
mod leaving;
mod seen;

use drivers::Drivers;

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// To the session with the manager.
    Link(LinkEvent),
    /// To an executor.
    Executor {
        /// Which.
        index: u32,
        /// What.
        event: ExecutorEvent,
    },
    /// To a cluster-mode driver: it ended.
    Driver {
        /// Which.
        launched: Launched,
        /// How.
        end: DriverEnd,
    },
    /// Somebody wants to know how the worker is.
    Look(oneshot::Sender<Seen>),
}

/// Events that wait to be looked at; who makes more waits.
const EVENTS_MAX: usize = 1024;

/// How long the manager is given to hear that this worker leaves.
const FAREWELL: Duration = Duration::from_secs(1);

/// When a worker is asked to stop.
#[derive(Debug)]
pub struct Stops<D, N> {
    /// Completes when it is to stop once what runs and lies here is elsewhere, or the time for that is over
    /// ([`WorkerConfig::drain`]).
    pub drain: D,
    /// Completes when it is to stop at once.
    pub now: N,
}

/// Runs a worker until it is asked to stop, or is drained on the manager's order: finds out what the machine has, registers
/// with the manager, runs executors and cluster-mode drivers as child processes. It ends by itself only when it cannot work at
/// all.
///
/// # Errors
/// When the scratch folder is another worker's, control groups are asked for and cannot be had, the port is taken, the machine does not have what the layout asks for,
/// or the manager refuses this worker (its name is in use, or it is of another release).
pub async fn run(
    config: WorkerConfig,
    stops: Stops<impl Future<Output = ()>, impl Future<Output = ()>>,
) -> Result<(), UserError> {
    config.security.check_host(&config.advertise_host)?;
    let _lock = lock_scratch(&config)?;
    let groups = config.cgroups.claim(&config.id)?;
    let listener = listen(&config).await?;
    let metrics = firesteel_metrics::open("worker", "worker.metrics", config.metrics.as_ref()).await?;
    let address = host_port(&config.advertise_host, port(&listener)?);
    let plan = Plan::make(&config)?;
    let folder = config.scratch[0].join("results");
    let results = Arc::new(ResultStore::create(folder.clone(), config.results)?);
    if let Some(user) = config.run_as {
        let own = plan.layouts.iter().flat_map(|layout| executor_folders(&config, layout.index));
        user.give(own.chain([folder]))?;
    }
    let end = CancellationToken::new();
    let (security, ended) = (config.security.clone(), end.clone().cancelled_owned());
    let served = tokio::spawn(worker_service::serve(Arc::clone(&results), listener, security, ended));
    let (events, inbox) = mpsc::channel(EVENTS_MAX);
    let keeper = if config.keep_blocks { keeping::start(&config) } else { None };
    let registration = v1::RegisterWorker {
        keeper_address: keeper.as_ref().map(|(_, address)| address.clone()).unwrap_or_default(),
        ..registration(&config, &plan, address)
    };
    let link = tokio::spawn(manager_link::keep(
        Managers::of(&config.manager, config.security.clone()),
        registration,
        config.limits.in_use_max,
        events.clone(),
    ));
    let keeper = keeper.map(|(keeper, _)| keeper);
    let _told =
        metrics.map(|listener| Served::start(listener, told_by(&config, &events, &results, keeper.as_ref())));
    let mut daemon = Daemon::new(config, plan, results, keeper, groups, events);
    let ended = daemon.run(inbox, stops).await;
    daemon.end(link).await;
    end.cancel();
    // A client that still reads a result loses it: whoever stops a worker means it.
    let _ = tokio::time::timeout(FAREWELL, served).await;
    ended
}

fn told_by(
    config: &WorkerConfig,
    events: &mpsc::Sender<Event>,
    results: &Arc<ResultStore>,
    keeper: Option<&Arc<Keeper>>,
) -> WorkerMetrics {
    WorkerMetrics {
        events: events.clone(),
        results: Arc::clone(results),
        keeper: keeper.cloned(),
        security: config.security.clone(),
        scratch: config.scratch.iter().map(|folder| ScratchFolder::of(folder)).collect(),
    }
}

fn lock_scratch(config: &WorkerConfig) -> Result<FolderLock, UserError> {
    let first = config.scratch.first().ok_or_else(|| {
        UserError::new(format!("worker {} has no scratch folder", config.id)).hint("name at least one")
    })?;
    FolderLock::acquire("worker", first)
}

async fn listen(config: &WorkerConfig) -> Result<TcpListener, UserError> {
    TcpListener::bind(config.listen).await.map_err(|fault| {
        UserError::new(format!("worker {} cannot listen on {}", config.id, config.listen))
            .detail(fault.to_string())
            .hint("is another worker running on this host? Give each a port of its own")
    })
}

fn port(listener: &TcpListener) -> Result<u16, UserError> {
    let address = listener.local_addr().map_err(|fault| UserError::new(fault.to_string()))?;
    Ok(address.port())
}

fn registration(config: &WorkerConfig, plan: &Plan, address: String) -> v1::RegisterWorker {
    v1::RegisterWorker {
        wire_version: version::WIRE_OLDEST,
        wire_newest: version::WIRE,
        release: version::build().to_owned(),
        worker: config.id.to_string(),
        incarnation: uuid::Uuid::new_v4().to_string(),
        address,
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        topology_json: plan.topology.to_json(),
        executors: plan.specs(),
        rack: config.rack.clone(),
        keeper_address: String::new(),
        driver_places: Some(u32::try_from(plan.driver_places).unwrap_or(u32::MAX)),
    }
}

struct Daemon {
    config: WorkerConfig,
    plan: Plan,
    results: Arc<ResultStore>,
    /// Keeps the blocks of executors that are gone.
    keeper: Option<Arc<Keeper>>,
    /// Where control groups of children are made.
    groups: Option<Arc<Groups>>,
    state: State,
    events: mpsc::Sender<Event>,
    outgoing: Option<mpsc::Sender<v1::WorkerToManager>>,
    /// The wire version that is spoken with the manager, since there was one.
    wire: Option<u32>,
    heartbeat: Duration,
    drain: DrainState,
    /// What has happened, for its metrics.
    counts: Counts,
    /// The manager lets a worker go that is drained.
    may_leave: bool,
    /// How often executors are asked what they use.
    pace: watch::Sender<Duration>,
    /// Why it stops.
    reason: &'static str,
    epochs: BTreeMap<u32, watch::Sender<EpochOfLife>>,
    drivers: Drivers,
    children: TaskTracker,
    stop: CancellationToken,
}

/// How often to beat before the manager has said it.
const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(1);

impl Daemon {
    fn new(
        config: WorkerConfig,
        plan: Plan,
        results: Arc<ResultStore>,
        keeper: Option<Arc<Keeper>>,
        groups: Option<Arc<Groups>>,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let pace = watch::Sender::new(config.limits.status_interval);
        Self {
            config,
            plan,
            results,
            keeper,
            groups,
            state: State::default(),
            events,
            outgoing: None,
            wire: None,
            heartbeat: HEARTBEAT_DEFAULT,
            drain: DrainState::default(),
            counts: Counts::default(),
            may_leave: false,
            pace,
            reason: "the worker was told to stop",
            epochs: BTreeMap::new(),
            drivers: Drivers::default(),
            children: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    async fn run(
        &mut self,
        mut inbox: mpsc::Receiver<Event>,
        stops: Stops<impl Future<Output = ()>, impl Future<Output = ()>>,
    ) -> Result<(), UserError> {
        let (mut asked, mut now) = (std::pin::pin!(stops.drain.fuse()), std::pin::pin!(stops.now));
        let mut beat = tokio::time::interval(self.heartbeat);
        loop {
            let deadline = self.drain.deadline();
            tokio::select! {
                biased;
                () = &mut now => return Ok(()),
                () = &mut asked => self.begin_drain(),
                () = leaving::reached(deadline) => {}
                _ = beat.tick() => self.beat(),
                Some(event) = inbox.recv() => self.take(event)?,
            }
            if let Some(left) = self.may_go() {
                tracing::info!(worker = %self.config.id, ?left, "leaves the cluster");
                self.reason = match left {
                    Left::Empty => "it was drained",
                    Left::Overdue => "it was drained, and what was left was given up at the deadline",
                };
                return Ok(());
            }
            let period = if self.drain.is_draining() { PACE.min(self.heartbeat) } else { self.heartbeat };
            if beat.period() != period {
                beat = tokio::time::interval(period);
            }
        }
    }

    fn beat(&mut self) {
        self.say(self.state.heartbeat());
        if self.drain.is_draining() {
            self.say_drain(false);
        }
    }

    fn take(&mut self, event: Event) -> Result<(), UserError> {
        match event {
            Event::Link(event) => self.link(event),
            Event::Executor { index, event } => {
                if let ExecutorEvent::GivenUp { reason } = &event {
                    tracing::error!(worker = %self.config.id, index, reason, "gave an executor up");
                }
                if let Some(message) = self.state.executor(index, event) {
                    self.say(message);
                }
                Ok(())
            }
            Event::Driver { launched, end } => {
                self.count_end(&end);
                self.driver_ended(launched, end);
                Ok(())
            }
            Event::Look(asked) => {
                // Whoever asked may not wait any more.
                let _ = asked.send(self.seen());
                Ok(())
            }
        }
    }

    fn link(&mut self, event: LinkEvent) -> Result<(), UserError> {
        match event {
            LinkEvent::Registered { outgoing, heartbeat, release, wire } => {
                tracing::info!(worker = %self.config.id, manager = self.config.manager, release, "registered");
                self.heartbeat = heartbeat;
                self.outgoing = Some(outgoing);
                self.wire = Some(wire);
                self.say_drain(true);
                self.state.all().into_iter().for_each(|message| self.say(message));
                self.start_executors();
                self.say_registered();
            }
            LinkEvent::Command(command) => self.obey(command),
            LinkEvent::Lost(fault) => {
                self.outgoing = None;
                self.counts.manager_losses += 1;
                let running = if self.epochs.is_empty() { "" } else { "; executors keep running" };
                tracing::warn!(worker = %self.config.id, %fault, "no manager, trying until there is one{running}");
                self.config.service.status(&format!(
                    "no manager at {}, trying until there is one{running}",
                    self.config.manager
                ));
            }
            LinkEvent::Refused(fault) => return Err(fault),
        }
        Ok(())
    }

    fn say_registered(&self) {
        let (service, manager) = (&self.config.service, &self.config.manager);
        if !self.drain.is_draining() {
            service.ready(&format!("registered at {manager}, executors: {}", self.epochs.len()));
        }
    }

    /// Tells the manager, when there is one. What it misses it hears when it comes back.
    fn say(&mut self, message: ToManager) {
        let Some(outgoing) = &self.outgoing else { return };
        if outgoing.try_send(v1::WorkerToManager { message: Some(message) }).is_err() {
            tracing::warn!(worker = %self.config.id, "the manager does not read; the session is made anew");
            self.outgoing = None;
        }
    }

    fn obey(&mut self, command: FromManager) {
        match command {
            FromManager::ExecutorEpoch(given) => {
                let epoch = Epoch(given.epoch);
                match self.state.epoch(given.index, epoch) {
                    Err(ended) => self.say(ToManager::ExecutorDown(ended)),
                    Ok(life) => {
                        if let Some(executor) = self.epochs.get(&given.index) {
                            executor.send_replace(Some((life, epoch)));
                        }
                    }
                }
            }
            FromManager::FreeKept(free) => {
                if let Some(keeper) = &self.keeper {
                    keeper.free_job(JobId(free.job));
                }
            }
            FromManager::LaunchDriver(launch) => self.launch_driver(launch),
            FromManager::StopDriver(stop) => self.stop_driver(JobId(stop.job)),
            FromManager::FreeResult(free) => {
                self.results.free(JobId(free.job));
                self.state.forget_job(JobId(free.job));
            }
            FromManager::Drain(order) => {
                let was_draining = self.drain.is_draining();
                self.drain.obey(&order);
                self.counts.drains += u64::from(!was_draining && self.drain.is_draining());
                tracing::info!(worker = %self.config.id, draining = self.drain.is_draining(), "the manager's order");
                self.drain_changed();
            }
            FromManager::Leave(_) => self.may_leave = self.drain.is_draining(),
            FromManager::Registered(_) => tracing::warn!("the manager registered this worker twice"),
        }
    }

    /// Starts the executors, once.
    fn start_executors(&mut self) {
        if !self.epochs.is_empty() {
            return;
        }
        for layout in &self.plan.layouts {
            let (sender, epoch) = watch::channel(None);
            self.epochs.insert(layout.index, sender);
            let child = ExecutorChild {
                index: layout.index,
                config: process_config(
                    &self.config,
                    layout,
                    self.keeper.as_ref().map(|keeper| keeper.name().to_owned()),
                ),
                security: self.config.security.clone(),
                keeper: self.keeper.clone(),
                command: self.config.executor_command.clone(),
                run_as: self.config.run_as,
                groups: self.groups.clone(),
                log_folder: self.config.log_folder.clone(),
                restart: self.config.restart,
                limits: self.config.limits.clone(),
                epoch,
                pace: self.pace.subscribe(),
                events: self.events.clone(),
                stop: self.stop.child_token(),
            };
            self.children.spawn(child.supervise());
        }
    }

    /// Leaves the cluster and ends all children.
    async fn end(mut self, mut link: JoinHandle<()>) {
        let reason = self.reason.to_owned();
        self.config.service.stopping(&format!("ends its executors: {reason}"), self.config.limits.end_max());
        self.say(ToManager::Leaving(v1::WorkerLeaving { reason }));
        self.outgoing = None;
        self.stop.cancel();
        self.children.close();
        self.children.wait().await;
        drop(self.events);
        // The link ends by itself once the manager has closed the session.
        if tokio::time::timeout(FAREWELL, &mut link).await.is_err() {
            tracing::info!("the manager did not say goodbye in time");
            link.abort();
        }
    }
}
