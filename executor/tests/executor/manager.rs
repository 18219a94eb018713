//! A manager that does what a test says, and a worker to register with it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use firesteel_base::UserError;
use firesteel_base::service::ServiceManager;
use firesteel_certs::Security;
use firesteel_executor::worker::{
    self, CgroupSettings, ChildCommand, DriverSettings, RestartPolicy, ResultLimits, Stops, WorkerLimits,
};
use firesteel_executor::{BlockSettings, WorkerConfig};
use firesteel_hw::layout::LayoutRequest;
use firesteel_protocol::v1;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};
use v1::manager_server::{Manager, ManagerServer};
use v1::manager_to_worker::Message as ToWorker;
use v1::worker_to_manager::Message as FromWorker;

const PATIENCE: Duration = Duration::from_secs(60);

/// Hands each session that a worker opens to the test.
pub struct FakeManager {
    pub address: String,
    sessions: mpsc::UnboundedReceiver<Session>,
}

/// One session of a worker.
pub struct Session {
    pub registration: v1::RegisterWorker,
    incoming: Streaming<v1::WorkerToManager>,
    outgoing: mpsc::Sender<Result<v1::ManagerToWorker, Status>>,
}

impl FakeManager {
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// One that refuses every worker.
    pub async fn refusing(status: Status) -> Self {
        Self::start_with(Some(status)).await
    }

    async fn start_with(refusal: Option<Status>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (opened, sessions) = mpsc::unbounded_channel();
        let service = ManagerServer::new(Service { opened, refusal });
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { address, sessions }
    }

    /// The next session, registered by a manager of the wire version before.
    pub async fn session(&mut self) -> Session {
        self.session_in(0).await
    }

    /// The next session, registered.
    pub async fn session_in(&mut self, wire_version: u32) -> Session {
        let session =
            tokio::time::timeout(PATIENCE, self.sessions.recv()).await.expect("no worker came").unwrap();
        session.say(ToWorker::Registered(v1::WorkerRegistered {
            manager_release: "test".to_owned(),
            heartbeat_ms: 10,
            wire_version,
            run: 1,
        }));
        session
    }
}

impl Session {
    pub fn say(&self, message: ToWorker) {
        self.outgoing.try_send(Ok(v1::ManagerToWorker { message: Some(message) })).unwrap();
    }

    /// The next message but for heartbeats.
    pub async fn hear(&mut self) -> FromWorker {
        loop {
            match self.hear_any().await {
                FromWorker::Heartbeat(_) => {}
                other => return other,
            }
        }
    }

    async fn hear_any(&mut self) -> FromWorker {
        let message =
            tokio::time::timeout(PATIENCE, self.incoming.next()).await.expect("the worker is silent");
        message.expect("the session ended").unwrap().message.unwrap()
    }

    /// The next heartbeat that tells of an executor.
    pub async fn hear_usage(&mut self) -> v1::ExecutorUsage {
        loop {
            if let FromWorker::Heartbeat(beat) = self.hear_any().await
                && let Some(usage) = beat.executors.first()
            {
                return *usage;
            }
        }
    }

    /// The next heartbeat.
    pub async fn hear_beat(&mut self) {
        while !matches!(self.hear_any().await, FromWorker::Heartbeat(_)) {}
    }

    /// The next word of how it stands to being drained.
    pub async fn hear_drain(&mut self) -> v1::WorkerDrain {
        loop {
            if let FromWorker::Drain(drain) = self.hear_any().await {
                return drain;
            }
        }
    }

    /// Its last word.
    pub async fn hear_leaving(&mut self) -> String {
        loop {
            if let FromWorker::Leaving(leaving) = self.hear_any().await {
                return leaving.reason;
            }
        }
    }

    pub async fn hear_up(&mut self) -> v1::ExecutorUp {
        match self.hear().await {
            FromWorker::ExecutorUp(up) => up,
            other => panic!("expected ExecutorUp, got {other:?}"),
        }
    }

    pub async fn hear_down(&mut self) -> v1::ExecutorDown {
        match self.hear().await {
            FromWorker::ExecutorDown(down) => down,
            other => panic!("expected ExecutorDown, got {other:?}"),
        }
    }

    pub async fn hear_driver_ended(&mut self) -> v1::DriverEnded {
        loop {
            match self.hear().await {
                FromWorker::DriverEnded(ended) => return ended,
                FromWorker::ExecutorUp(_) | FromWorker::ExecutorDown(_) => {}
                other => panic!("expected DriverEnded, got {other:?}"),
            }
        }
    }
}

struct Service {
    opened: mpsc::UnboundedSender<Session>,
    refusal: Option<Status>,
}

fn unused<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not for workers"))
}

#[tonic::async_trait]
impl Manager for Service {
    type WorkerSessionStream = BoxStream<'static, Result<v1::ManagerToWorker, Status>>;
    type DriverSessionStream = BoxStream<'static, Result<v1::ManagerToDriver, Status>>;

    async fn worker_session(
        &self,
        request: Request<Streaming<v1::WorkerToManager>>,
    ) -> Result<Response<Self::WorkerSessionStream>, Status> {
        let mut incoming = request.into_inner();
        let Some(FromWorker::Register(registration)) = incoming.message().await?.unwrap().message else {
            panic!("a session begins with a registration");
        };
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        let (outgoing, commands) = mpsc::channel(64);
        self.opened.send(Session { registration, incoming, outgoing }).unwrap();
        Ok(Response::new(ReceiverStream::new(commands).boxed()))
    }

    async fn driver_session(
        &self,
        _: Request<Streaming<v1::DriverToManager>>,
    ) -> Result<Response<Self::DriverSessionStream>, Status> {
        unused()
    }

    async fn drain_node(&self, _: Request<v1::DrainNodeRequest>) -> Result<Response<v1::NodeInfo>, Status> {
        unused()
    }

    async fn undrain_node(
        &self,
        _: Request<v1::UndrainNodeRequest>,
    ) -> Result<Response<v1::NodeInfo>, Status> {
        unused()
    }

    async fn submit(&self, _: Request<v1::SubmitRequest>) -> Result<Response<v1::SubmitReply>, Status> {
        unused()
    }

    async fn list_jobs(
        &self,
        _: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsReply>, Status> {
        unused()
    }

    async fn show_job(&self, _: Request<v1::ShowJobRequest>) -> Result<Response<v1::JobInfo>, Status> {
        unused()
    }

    async fn wait_job(&self, _: Request<v1::WaitJobRequest>) -> Result<Response<v1::JobInfo>, Status> {
        unused()
    }

    async fn cancel_job(&self, _: Request<v1::CancelJobRequest>) -> Result<Response<v1::JobInfo>, Status> {
        unused()
    }

    async fn list_nodes(
        &self,
        _: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesReply>, Status> {
        unused()
    }
}

/// A shell script as a child; its arguments begin at `$1`.
pub fn script(text: &str) -> ChildCommand {
    let args = ["-c", text, "child"].map(str::to_owned).to_vec();
    ChildCommand { program: "/bin/sh".into(), name: None, args }
}

/// A worker of one executor, which `executor` and `driver` stand for.
pub fn config(manager: &str, scratch: &Path, executor: ChildCommand, driver: ChildCommand) -> WorkerConfig {
    WorkerConfig {
        service: ServiceManager::default(),
        id: "host1".parse().unwrap(),
        manager: manager.to_owned(),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        advertise_host: "127.0.0.1".to_owned(),
        security: Security::default(),
        rack: "r1".to_owned(),
        scratch: vec![scratch.to_owned()],
        topology: None,
        layout: LayoutRequest {
            executors: Some(1),
            cores: Some(1),
            memory: Some(64 << 20),
            ..LayoutRequest::default()
        },
        pin: false,
        blocks: BlockSettings { memory_fraction: 0.5, ..BlockSettings::default() },
        executor_command: executor,
        driver_command: driver,
        cgroups: CgroupSettings::default(),
        run_as: None,
        log_folder: None,
        restart: RestartPolicy {
            delay_first: Duration::from_millis(1),
            delay_max: Duration::from_millis(1),
            ends_max: 3,
            window: Duration::from_secs(3600),
        },
        results: ResultLimits::default(),
        keep_blocks: true,
        drain: Duration::from_secs(30),
        drivers: DriverSettings::default(),
        metrics: None,
        limits: WorkerLimits { status_interval: Duration::from_millis(10), ..WorkerLimits::default() },
    }
}

/// A running worker.
pub struct Worker {
    drain: Option<oneshot::Sender<()>>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), UserError>>,
}

pub fn run(config: WorkerConfig) -> Worker {
    let (stop, stopped) = oneshot::channel::<()>();
    let (drain, drained) = oneshot::channel::<()>();
    let stops = Stops {
        drain: async {
            if drained.await.is_err() {
                std::future::pending::<()>().await;
            }
        },
        now: async {
            let _ = stopped.await;
        },
    };
    Worker { drain: Some(drain), stop, running: tokio::spawn(worker::run(config, stops)) }
}

impl Worker {
    /// Asks it to stop once what is there is elsewhere.
    pub fn drain(&mut self) {
        self.drain.take().unwrap().send(()).unwrap();
    }

    /// Tells it to stop at once and waits until it has.
    pub async fn stop(self) -> Result<(), UserError> {
        self.stop.send(()).unwrap();
        tokio::time::timeout(PATIENCE, self.running).await.expect("the worker does not stop").unwrap()
    }

    /// Waits until it ends by itself.
    pub async fn ended(self) -> Result<(), UserError> {
        tokio::time::timeout(PATIENCE, self.running).await.expect("the worker goes on").unwrap()
    }
}
