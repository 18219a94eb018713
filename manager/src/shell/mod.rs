//! The machine's shell: turns messages and timers into events, and runs effects.
//!
//! ```text
//!   session streams ── pump each ──┐ bounded            ┌──► bounded queue of each session
//!   client calls ──────────────────┼────────► one task ─┤
//!   timer ─────────────────────────┘  owns the machine  └──► answers
//! ```
//!
//! The task never waits for anybody: a session that lets its queue run full is dropped as dead. It takes what waits in
//! batches, and writes and tells what comes of one at once: so a burst of jobs costs a few writes, and no heartbeat waits for
//! many. Who only looks has a queue of its own, of which each batch is followed by a few. [`Manager`] is the handle; [`grpc`] serves
//! it to other processes, and local mode calls it as it is.
//!
//! Several managers are [`Member`]s of which one leads and runs what is above ([`replication`]).
//!
//! With a [`Journal`] jobs outlive the manager: what changes of them is written before anybody hears of it, or once in a
//! tick where their drivers could tell it again.
//!
//! The first message of a session is its greeting. A gRPC client must have it on its way *before* it waits for the
//! answer to its call, as the answer to the call is the answer to the greeting.

mod counts;
mod drain;
#[cfg(any(test, fuzzing))]
pub mod fuzzed;
pub mod grpc;
mod guard;
mod inbound;
mod journal;
mod mailbox;
mod metrics;
mod notes;
mod outbound;
mod replication;
mod run;
mod session;
mod waiters;

/// The machine's messages as they go over the wire, for whoever joins machines without a shell.
pub mod wire {
    pub use super::inbound::{driver_event, registration, worker_event};
    pub use super::outbound::{to_driver, to_worker};
}

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use firesteel_base::version::{self, Spoken};
use firesteel_base::{Clock, JobId, SystemClock, UserError};
use firesteel_protocol::channel::check_version;
use firesteel_protocol::v1;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::Stream;
use tonic::Status;

use crate::ManagerConfig;
use crate::config::{lease_seed, unix_ms};
use crate::machine::Machine;
use crate::machine::message::{Answer, ClientRequest, Refusal, Seed};
use crate::machine::rights::Rights;
use crate::tokens::random;
pub use counts::Counts;
pub use guard::Guard;
pub use journal::Journal;
pub use mailbox::Messages;
use mailbox::Room;
pub use metrics::ManagerMetrics;
pub use replication::{Member, Peers};
use run::{Input, Inputs, Look, Runner, Start, View};
pub(crate) use session::Outgoing;

/// A stream of messages.
pub type BoxStream<T> = Pin<Box<dyn Stream<Item = T> + Send>>;

/// The longest that one call waits for a job's end; then it answers with the job as it is.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// A running manager.
#[derive(Debug)]
pub struct Manager {
    inputs: mpsc::Sender<Input>,
    looks: mpsc::Sender<Look>,
    /// Who asks callers who they are, if anybody does.
    guard: Option<Arc<Guard>>,
    counts: Arc<Counts>,
    sessions: AtomicU64,
    session_room: Room,
    started_unix_ms: u64,
    failure: watch::Receiver<Option<UserError>>,
}

impl Manager {
    /// Starts a manager on the current tokio runtime. It ends when it is stopped or dropped.
    #[must_use]
    pub fn start(config: ManagerConfig) -> Arc<Self> {
        Self::start_with_clock(config, Arc::new(SystemClock::default()))
    }

    /// As [`start`](Self::start), by a clock of the caller's: what is silent for too long is judged by it.
    #[must_use]
    pub fn start_with_clock(config: ManagerConfig, clock: Arc<dyn Clock>) -> Arc<Self> {
        let machine = Machine::new(config.clone());
        Self::launch(&config, Start { machine, clock, origin_unix_ms: unix_ms(), journal: None })
    }

    /// Starts a manager that goes on where the one that kept this journal ended. Its epochs and leases count on.
    #[must_use]
    pub fn start_with_journal(config: ManagerConfig, mut journal: Journal) -> Arc<Self> {
        let epoch_seed = journal.epoch_seed();
        let config = ManagerConfig { epoch_seed, lease_seed: lease_seed(epoch_seed), ..config };
        let clock = SystemClock::starting_at(journal.now());
        let machine = Machine::restore(config.clone(), journal.take_jobs(), journal.numbered(), clock.now());
        let origin_unix_ms = journal.origin_unix_ms();
        let start = Start { machine, clock: Arc::new(clock), origin_unix_ms, journal: Some(journal) };
        Self::launch(&config, start)
    }

    fn launch(config: &ManagerConfig, start: Start) -> Arc<Self> {
        let limits = &config.limits;
        let (inputs, queue) = mpsc::channel(limits.event_queue);
        let (looks, looking) = mpsc::channel(limits.look_queue);
        let (failed, failure) = watch::channel(None);
        let run = Runner::new(config, start).run(Inputs { queue, looking });
        tokio::spawn(async move {
            if let Err(error) = run.await {
                tracing::error!(%error, "the manager ends");
                failed.send_replace(Some(error));
            }
        });
        let session_room = Room { messages: limits.session_queue, bytes: limits.session_queue_bytes };
        let (sessions, started_unix_ms) = (AtomicU64::new(1), unix_ms());
        let (guard, counts) = (config.tokens.clone(), Arc::clone(&config.counts));
        Arc::new(Self { inputs, looks, guard, counts, sessions, session_room, started_unix_ms, failure })
    }

    /// Whether the manager has ended by itself.
    fn has_failed(&self) -> bool {
        self.failure.borrow().is_some()
    }

    /// Completes when the manager has ended by itself, with the reason.
    pub async fn failed(&self) -> UserError {
        let mut failure = self.failure.clone();
        match failure.wait_for(Option::is_some).await.map(|error| error.clone()) {
            Ok(Some(error)) => error,
            // It was stopped.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// A worker's session: what it says goes in, what it is told comes out, until either side ends.
    ///
    /// # Errors
    /// When it does not greet in time or well, is of another wire version, or has a name that is in use.
    pub async fn worker_session(
        &self,
        inbound: BoxStream<v1::WorkerToManager>,
    ) -> Result<Messages<v1::ManagerToWorker>, Status> {
        Ok(self.open_worker(inbound).await?.messages)
    }

    /// A driver's session: what it says goes in, what it is told comes out, until either side ends.
    ///
    /// # Errors
    /// When it does not greet in time or well, or is of another wire version.
    pub async fn driver_session(
        &self,
        inbound: BoxStream<v1::DriverToManager>,
    ) -> Result<Messages<v1::ManagerToDriver>, Status> {
        Ok(self.open_driver(Rights::All, inbound).await?.messages)
    }

    /// Submits a job in cluster deploy mode.
    ///
    /// # Errors
    /// When the request is malformed or of another wire version, or there are too many jobs.
    pub async fn submit(&self, request: v1::SubmitRequest) -> Result<v1::SubmitReply, Status> {
        self.submit_as(Rights::All, request).await
    }

    async fn submit_as(&self, rights: Rights, request: v1::SubmitRequest) -> Result<v1::SubmitReply, Status> {
        check_client(request.wire_version)?;
        if request.sql.trim().is_empty() {
            return Err(Status::invalid_argument("there is no SQL to run"));
        }
        let seed = random().map(Seed).map_err(|error| Status::internal(error.to_string()))?;
        let submission = inbound::submission(request, seed);
        let job = self.request_job(rights, ClientRequest::Submit(submission)).await?;
        Ok(v1::SubmitReply { job: job.0 })
    }

    /// The live jobs by age, and the ended ones that are remembered when all are asked for. Of a long SQL text the beginning
    /// is told; [`show_job`](Self::show_job) tells all of it.
    ///
    /// # Errors
    /// When the request is of another wire version.
    pub async fn list_jobs(&self, request: v1::ListJobsRequest) -> Result<v1::ListJobsReply, Status> {
        check_client(request.wire_version)?;
        self.look(move |view| {
            let jobs = view.machine.jobs(request.all);
            let brief = |job| outbound::brief(view.job_info(job));
            v1::ListJobsReply { jobs: jobs.into_iter().map(brief).collect() }
        })
        .await
    }

    /// A job as it is.
    ///
    /// # Errors
    /// When there is no such job, or the request is of another wire version.
    pub async fn show_job(&self, request: v1::ShowJobRequest) -> Result<v1::JobInfo, Status> {
        check_client(request.wire_version)?;
        self.job_info(JobId(request.job)).await
    }

    /// A job once it has ended, or as it is when the wait is over.
    ///
    /// # Errors
    /// When there is no such job, too many callers wait, or the request is of another wire version.
    pub async fn wait_job(&self, request: v1::WaitJobRequest) -> Result<v1::JobInfo, Status> {
        check_client(request.wire_version)?;
        let id = JobId(request.job);
        let wait = Duration::from_millis(request.max_wait_ms).min(WAIT_MAX);
        if wait.is_zero() {
            return self.job_info(id).await;
        }
        let (ended, end) = oneshot::channel();
        self.send(Input::Wait { job: id, ended }).await?;
        match tokio::time::timeout(wait, end).await {
            Ok(answer) => answer.map_err(|_| stopping())?,
            Err(_) => self.job_info(id).await,
        }
    }

    /// Cancels a job and answers with it as it is then; one that runs ends a little later.
    ///
    /// # Errors
    /// When there is no such job, or the request is of another wire version.
    pub async fn cancel_job(&self, request: v1::CancelJobRequest) -> Result<v1::JobInfo, Status> {
        self.cancel_job_as(Rights::All, request).await
    }

    async fn cancel_job_as(
        &self,
        rights: Rights,
        request: v1::CancelJobRequest,
    ) -> Result<v1::JobInfo, Status> {
        check_client(request.wire_version)?;
        let id = self.request_job(rights, ClientRequest::Cancel { job: JobId(request.job) }).await?;
        self.job_info(id).await
    }

    /// The workers and their executors.
    ///
    /// # Errors
    /// When the request is of another wire version.
    pub async fn list_nodes(&self, request: v1::ListNodesRequest) -> Result<v1::ListNodesReply, Status> {
        check_client(request.wire_version)?;
        let nodes = self.look(|view| {
            let nodes = view.machine.nodes().iter();
            nodes.map(|node| outbound::node_info(view.machine, node, view.now)).collect()
        });
        Ok(v1::ListNodesReply {
            manager_release: version::build().to_owned(),
            manager_started_unix_ms: self.started_unix_ms,
            nodes: nodes.await?,
        })
    }

    /// Ends every session, tells it so, and stops.
    pub async fn stop(&self) {
        let (stopped, stop) = oneshot::channel();
        if self.inputs.send(Input::Stop(stopped)).await.is_ok() {
            // It is gone already when it does not answer.
            let _ = stop.await;
        }
    }

    fn next_session(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed)
    }

    async fn request_job(&self, rights: Rights, request: ClientRequest) -> Result<JobId, Status> {
        match self.request(rights, request).await? {
            Answer::Job(job) => Ok(job),
            Answer::Worker(_) => unreachable!("a request about a job is answered with it"),
        }
    }

    async fn request(&self, rights: Rights, request: ClientRequest) -> Result<Answer, Status> {
        let (answer, answered) = oneshot::channel();
        self.send(Input::Client { rights, request, answer }).await?;
        answered.await.map_err(|_| stopping())?.map_err(|refusal| outbound::status(&refusal))
    }

    async fn job_info(&self, id: JobId) -> Result<v1::JobInfo, Status> {
        self.look(move |view| view.machine.job(id).map(|job| view.job_info(job)))
            .await?
            .ok_or_else(|| outbound::status(&Refusal::UnknownJob(id)))
    }

    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&View<'_>) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let (answer, answered) = oneshot::channel();
        let look = move |view: &View<'_>| {
            // Whoever asked may have gone.
            let _ = answer.send(look(view));
        };
        self.looks.send(Box::new(look)).await.map_err(|_| stopping())?;
        answered.await.map_err(|_| stopping())
    }

    async fn send(&self, input: Input) -> Result<(), Status> {
        self.inputs.send(input).await.map_err(|_| stopping())
    }
}

/// A client names the one version that its request is in.
fn check_client(wire: u32) -> Result<(), Status> {
    check_version("client", Spoken::said(wire, wire), "").map(drop)
}

pub(crate) fn stopping() -> Status {
    Status::unavailable("the manager is shutting down")
}
