//! The manager over real gRPC on loopback.

#![allow(clippy::unwrap_used, reason = "these are tests, and so are their helpers")]

mod versions;

use std::sync::Arc;
use std::time::Duration;

use firesteel_base::{ManualClock, UserError, version};
use firesteel_certs::Security;
use firesteel_manager::shell::grpc;
use firesteel_manager::{Limits, Manager, ManagerConfig};
use firesteel_protocol::channel;
use firesteel_protocol::v1::manager_client::ManagerClient;
use firesteel_protocol::v1::{
    self, driver_to_manager, manager_to_driver, manager_to_worker, worker_to_manager,
};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

/// No wait of these tests is expected to take this long, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(30);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Nothing of it times out by itself.
fn patient() -> ManagerConfig {
    let forever = Duration::from_secs(3600);
    ManagerConfig {
        node_suspect_after: forever,
        node_timeout: forever,
        driver_timeout: forever,
        epoch_seed: 100,
        ..ManagerConfig::default()
    }
}

struct Served {
    address: String,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), firesteel_base::UserError>>,
}

async fn served(config: ManagerConfig) -> Served {
    serve(Manager::start(config)).await
}

async fn serve(manager: Arc<Manager>) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async {
        // Dropped when the test ends: that stops it too.
        let _ = stopped.await;
    };
    let ended = tokio::spawn(grpc::serve(manager, listener, Security::default(), shutdown));
    Served { address, stop, ended }
}

async fn connect(address: &str) -> Result<Channel, UserError> {
    channel::connect(&Security::default(), channel::Server::Manager, address).await
}

impl Served {
    async fn client(&self) -> ManagerClient<Channel> {
        ManagerClient::new(connect(&self.address).await.unwrap())
    }

    async fn worker(&self, register: v1::RegisterWorker) -> Result<Worker, Status> {
        let (said, inbound) = mpsc::channel(16);
        said.send(worker_says(worker_to_manager::Message::Register(register))).await.unwrap();
        let told = self.client().await.worker_session(ReceiverStream::new(inbound)).await?.into_inner();
        Ok(Worker { said, told })
    }

    async fn driver(&self, hello: v1::DriverHello) -> Result<Driver, Status> {
        let (said, inbound) = mpsc::channel(16);
        said.send(driver_says(driver_to_manager::Message::Hello(hello))).await.unwrap();
        let told = self.client().await.driver_session(ReceiverStream::new(inbound)).await?.into_inner();
        Ok(Driver { said, told })
    }

    /// A worker whose only executor is up.
    async fn worker_up(&self, name: &str, slots: u32) -> (Worker, u64) {
        let mut worker = self.worker(register(name, slots)).await.unwrap();
        assert!(matches!(worker.hear().await, manager_to_worker::Message::Registered(_)));
        let up = v1::ExecutorUp {
            index: 0,
            control_address: format!("{name}:1"),
            shuffle_address: format!("{name}:2"),
            pid: 7,
            epoch: 0,
        };
        worker.say(worker_to_manager::Message::ExecutorUp(up)).await;
        match worker.hear().await {
            manager_to_worker::Message::ExecutorEpoch(v1::ExecutorEpoch { index: 0, epoch }) => {
                (worker, epoch)
            }
            other => panic!("{other:?}"),
        }
    }
}

struct Worker {
    said: mpsc::Sender<v1::WorkerToManager>,
    told: Streaming<v1::ManagerToWorker>,
}

impl Worker {
    async fn say(&self, message: worker_to_manager::Message) {
        self.said.send(worker_says(message)).await.unwrap();
    }

    async fn hear(&mut self) -> manager_to_worker::Message {
        soon("a message to the worker", self.told.message()).await.unwrap().unwrap().message.unwrap()
    }
}

struct Driver {
    said: mpsc::Sender<v1::DriverToManager>,
    told: Streaming<v1::ManagerToDriver>,
}

impl Driver {
    async fn say(&self, message: driver_to_manager::Message) {
        self.said.send(driver_says(message)).await.unwrap();
    }

    async fn hear(&mut self) -> manager_to_driver::Message {
        soon("a message to the driver", self.told.message()).await.unwrap().unwrap().message.unwrap()
    }

    async fn open(&mut self) -> u64 {
        let open =
            v1::OpenJob { request: 5, name: "q1".into(), sql: "select 1".into(), ..Default::default() };
        self.say(driver_to_manager::Message::OpenJob(open)).await;
        match self.hear().await {
            manager_to_driver::Message::JobOpened(v1::JobOpened { request: 5, job, .. }) => job,
            other => panic!("{other:?}"),
        }
    }
}

fn worker_says(message: worker_to_manager::Message) -> v1::WorkerToManager {
    v1::WorkerToManager { message: Some(message) }
}

fn driver_says(message: driver_to_manager::Message) -> v1::DriverToManager {
    v1::DriverToManager { message: Some(message) }
}

fn register(name: &str, slots: u32) -> v1::RegisterWorker {
    v1::RegisterWorker {
        wire_version: version::WIRE_OLDEST,
        wire_newest: version::WIRE,
        release: version::RELEASE.to_owned(),
        worker: name.to_owned(),
        incarnation: format!("{name}-{slots}"),
        address: format!("{name}:7410"),
        host: name.to_owned(),
        executors: vec![v1::ExecutorSpec { index: 0, slots, memory_bytes: 1 << 30, ..Default::default() }],
        ..Default::default()
    }
}

fn hello() -> v1::DriverHello {
    v1::DriverHello {
        wire_version: version::WIRE_OLDEST,
        wire_newest: version::WIRE,
        release: version::RELEASE.to_owned(),
        host: "laptop".to_owned(),
        user: "ana".to_owned(),
        incarnation: "the only one".to_owned(),
    }
}

fn demand(job: u64, tasks: u32) -> driver_to_manager::Message {
    driver_to_manager::Message::Demand(v1::StageDemand {
        job,
        tasks,
        cores_per_task: 1,
        ..Default::default()
    })
}

fn show(job: u64) -> v1::ShowJobRequest {
    v1::ShowJobRequest { wire_version: version::WIRE, job }
}

fn wait(job: u64) -> v1::WaitJobRequest {
    let max_wait_ms = u64::try_from(PATIENCE.as_millis()).unwrap();
    v1::WaitJobRequest { wire_version: version::WIRE, job, max_wait_ms }
}

#[tokio::test]
async fn two_workers_register_and_a_driver_runs_a_job_on_them() {
    let served = served(patient()).await;
    let (_a, first) = served.worker_up("a", 2).await;
    let (_b, second) = served.worker_up("b", 2).await;
    assert!(second > first, "epochs grow");

    let mut driver = served.driver(hello()).await.unwrap();
    let manager_to_driver::Message::Welcome(welcome) = driver.hear().await else { panic!("no welcome") };
    assert_eq!(welcome.cluster.unwrap().executors.len(), 2);
    let job = driver.open().await;
    driver.say(demand(job, 3)).await;
    let mut granted = Vec::new();
    while granted.iter().map(|(_, tasks)| tasks).sum::<u32>() < 3 {
        let manager_to_driver::Message::Grant(grant) = driver.hear().await else { panic!("no grant") };
        let executor = grant.executor.unwrap();
        granted.push((format!("{}@{}", executor.id.unwrap().worker, executor.control_address), grant.tasks));
    }
    assert_eq!(granted, [("a@a:1".to_owned(), 2), ("b@b:1".to_owned(), 1)]);

    let mut client = served.client().await;
    let nodes =
        client.list_nodes(v1::ListNodesRequest { wire_version: version::WIRE }).await.unwrap().into_inner();
    let leased: Vec<u32> = nodes.nodes.iter().map(|node| node.executors[0].slots_leased).collect();
    assert_eq!(leased, [2, 1]);
    let info = client.show_job(show(job)).await.unwrap().into_inner();
    assert_eq!((info.state(), info.slots_held, info.user.as_str()), (v1::JobState::Running, 3, "ana"));
    assert!(info.started_unix_ms >= info.submitted_unix_ms && info.ended_unix_ms == 0);

    let close =
        v1::CloseJob { job, state: v1::JobState::Succeeded.into(), result_rows: 42, ..Default::default() };
    driver.say(driver_to_manager::Message::CloseJob(close)).await;
    let ended = soon("the job's end", client.wait_job(wait(job))).await.unwrap().into_inner();
    assert_eq!((ended.state(), ended.result_rows, ended.slots_held), (v1::JobState::Succeeded, 42, 0));
    let list = |all| v1::ListJobsRequest { wire_version: version::WIRE, all };
    assert_eq!(client.list_jobs(list(false)).await.unwrap().into_inner().jobs.len(), 0);
    assert_eq!(client.list_jobs(list(true)).await.unwrap().into_inner().jobs.len(), 1);
}

#[tokio::test]
async fn an_id_in_use_is_refused() {
    let served = served(patient()).await;
    let _first = served.worker_up("a", 2).await;
    let refused = served.worker(register("a", 4)).await.err().unwrap();
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert!(refused.message().contains("'a' is in use by a live worker at a:7410"), "{refused}");
}

#[tokio::test]
async fn another_version_is_refused_everywhere() {
    let served = served(patient()).await;
    let wire_version = version::WIRE + 1;
    let worker = served
        .worker(v1::RegisterWorker { wire_version, wire_newest: 0, ..register("a", 1) })
        .await
        .err()
        .unwrap();
    let driver =
        served.driver(v1::DriverHello { wire_version, wire_newest: 0, ..hello() }).await.err().unwrap();
    let mut client = served.client().await;
    let statuses = [
        worker,
        driver,
        client.submit(v1::SubmitRequest { wire_version, ..Default::default() }).await.unwrap_err(),
        client.list_jobs(v1::ListJobsRequest { wire_version, all: true }).await.unwrap_err(),
        client.show_job(v1::ShowJobRequest { wire_version, job: 1 }).await.unwrap_err(),
        client.wait_job(v1::WaitJobRequest { wire_version, job: 1, max_wait_ms: 0 }).await.unwrap_err(),
        client.cancel_job(v1::CancelJobRequest { wire_version, job: 1 }).await.unwrap_err(),
        client.list_nodes(v1::ListNodesRequest { wire_version }).await.unwrap_err(),
    ];
    for status in statuses {
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
        assert!(status.message().contains("install the same release"), "{status}");
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_its_field() {
    let served = served(patient()).await;
    let faulty = [
        (v1::RegisterWorker { worker: "a b".into(), ..register("a", 1) }, "RegisterWorker.worker"),
        (v1::RegisterWorker { incarnation: String::new(), ..register("a", 1) }, "RegisterWorker.incarnation"),
        (
            v1::RegisterWorker { topology_json: "{}".into(), ..register("a", 1) },
            "RegisterWorker.topology_json",
        ),
        (register("a", 0), "ExecutorSpec.slots"),
    ];
    for (register, field) in faulty {
        let refused = served.worker(register).await.err().unwrap();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(field), "{refused}");
    }
    let mut client = served.client().await;
    let nothing =
        client.submit(v1::SubmitRequest { wire_version: version::WIRE, ..Default::default() }).await;
    assert_eq!(nothing.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(client.show_job(show(99)).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(client.wait_job(wait(99)).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_session_without_a_greeting_is_refused() {
    let served = served(patient()).await;
    let (said, inbound) = mpsc::channel(1);
    said.send(worker_says(worker_to_manager::Message::Heartbeat(v1::WorkerHeartbeat::default())))
        .await
        .unwrap();
    let refused = served.client().await.worker_session(ReceiverStream::new(inbound)).await.err().unwrap();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::InvalidArgument, "the first message of a session is its greeting")
    );
}

#[tokio::test]
async fn a_malformed_message_ends_the_session_and_says_why() {
    let served = served(patient()).await;
    let mut driver = served.driver(hello()).await.unwrap();
    driver.hear().await;
    let job = driver.open().await;
    let no_cores = v1::StageDemand { job, tasks: 1, cores_per_task: 0, ..Default::default() };
    driver.say(driver_to_manager::Message::Demand(no_cores)).await;
    let status = soon("the session's end", driver.told.message()).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("StageDemand.cores_per_task"), "{status}");
    let ended = soon("the job's end", served.client().await.wait_job(wait(job))).await.unwrap().into_inner();
    assert_eq!(ended.state(), v1::JobState::Failed);
}

#[tokio::test]
async fn executors_of_a_worker_whose_stream_is_cut_are_gone_after_the_time_out() {
    let clock = Arc::new(ManualClock::default());
    let config = ManagerConfig { epoch_seed: 100, ..ManagerConfig::default() };
    let timeout = config.node_timeout;
    let patient_with_drivers = ManagerConfig { driver_timeout: 2 * timeout, ..config };
    let served = serve(Manager::start_with_clock(patient_with_drivers, clock.clone())).await;
    let (worker, _) = served.worker_up("a", 2).await;
    let mut driver = served.driver(hello()).await.unwrap();
    drop(worker);
    let mut client = served.client().await;
    soon("the cut to be noticed", async {
        while state_of_only_node(&mut client).await != v1::NodeState::Suspect {}
    })
    .await;
    clock.advance(timeout);
    loop {
        if let manager_to_driver::Message::ExecutorGone(gone) = driver.hear().await {
            assert_eq!(gone.executor.unwrap().id.unwrap().worker, "a");
            assert!(gone.reason.contains("worker 'a' is lost"), "{}", gone.reason);
            break;
        }
    }
    assert_eq!(state_of_only_node(&mut client).await, v1::NodeState::Lost);
}

async fn state_of_only_node(client: &mut ManagerClient<Channel>) -> v1::NodeState {
    let request = v1::ListNodesRequest { wire_version: version::WIRE };
    client.list_nodes(request).await.unwrap().into_inner().nodes[0].state()
}

#[tokio::test]
async fn a_driver_that_goes_away_frees_its_slots_for_the_next() {
    let served = served(patient()).await;
    let _worker = served.worker_up("a", 2).await;
    let mut first = served.driver(hello()).await.unwrap();
    first.hear().await;
    let job = first.open().await;
    first.say(demand(job, 2)).await;
    assert!(matches!(first.hear().await, manager_to_driver::Message::Grant(_)));
    let mut second = served.driver(hello()).await.unwrap();
    second.hear().await;
    let next = second.open().await;
    second.say(demand(next, 2)).await;
    drop(first);
    let manager_to_driver::Message::Grant(grant) = second.hear().await else { panic!("no grant") };
    assert_eq!((grant.job, grant.tasks), (next, 2));
    let ended =
        soon("the first job's end", served.client().await.wait_job(wait(job))).await.unwrap().into_inner();
    assert_eq!(ended.failure.unwrap().message, "the driver went away");
}

#[tokio::test]
async fn a_submitted_job_is_launched_on_a_worker_and_can_be_cancelled() {
    let served = served(patient()).await;
    let mut client = served.client().await;
    let submit = v1::SubmitRequest {
        wire_version: version::WIRE,
        name: "nightly".into(),
        sql: "select 1".into(),
        user: "ana".into(),
        ..Default::default()
    };
    let job = client.submit(submit).await.unwrap().into_inner().job;
    let info = client.show_job(show(job)).await.unwrap().into_inner();
    assert_eq!((info.state(), info.cluster_mode), (v1::JobState::Queued, true));
    assert_eq!(info.waiting_for, "a worker to run its driver: none is registered");
    let (mut worker, _) = served.worker_up_after_launch("a").await;
    let cancelled =
        client.cancel_job(v1::CancelJobRequest { wire_version: version::WIRE, job }).await.unwrap();
    assert_eq!(cancelled.into_inner().state(), v1::JobState::Cancelled);
    assert!(
        matches!(worker.hear().await, manager_to_worker::Message::StopDriver(v1::StopDriver { job: j }) if j == job)
    );
    let ended = soon("its end", client.wait_job(wait(job))).await.unwrap().into_inner();
    assert_eq!(ended.failure.unwrap().message, "cancelled on request");
}

impl Served {
    /// A worker that is asked to launch a driver as soon as it is registered.
    async fn worker_up_after_launch(&self, name: &str) -> (Worker, v1::LaunchDriver) {
        let mut worker = self.worker(register(name, 1)).await.unwrap();
        assert!(matches!(worker.hear().await, manager_to_worker::Message::Registered(_)));
        match worker.hear().await {
            manager_to_worker::Message::LaunchDriver(launch) => (worker, launch),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn waiting_ends_when_its_time_is_over() {
    let served = served(patient()).await;
    let mut driver = served.driver(hello()).await.unwrap();
    driver.hear().await;
    let job = driver.open().await;
    let briefly = v1::WaitJobRequest { max_wait_ms: 20, ..wait(job) };
    let info = soon("the wait's end", served.client().await.wait_job(briefly)).await.unwrap().into_inner();
    assert_eq!(info.state(), v1::JobState::Queued);
}

#[tokio::test]
async fn shutdown_ends_sessions_and_waits_and_then_the_server() {
    let served = served(patient()).await;
    let (mut worker, _) = served.worker_up("a", 1).await;
    let mut driver = served.driver(hello()).await.unwrap();
    driver.hear().await;
    let job = driver.open().await;
    let mut client = served.client().await;
    let waiting = tokio::spawn(async move { client.wait_job(wait(job)).await });
    let mut client = served.client().await;
    // Answered after the wait was taken in, or the wait is refused as one that came too late.
    client.show_job(show(job)).await.unwrap();
    served.stop.send(()).unwrap();
    let to_worker = soon("the worker's end", worker.told.message()).await.unwrap_err();
    let to_driver = soon("the driver's end", driver.told.message()).await.unwrap_err();
    let to_client = soon("the wait's end", waiting).await.unwrap().unwrap_err();
    for status in [to_worker, to_driver, to_client] {
        assert_eq!(status.code(), Code::Unavailable, "{status}");
    }
    soon("the server's end", served.ended).await.unwrap().unwrap();
    assert!(connect(&served.address).await.is_err());
}

#[tokio::test]
async fn in_one_process_sessions_need_no_server_and_end_with_the_manager() {
    let manager = Manager::start(patient());
    let (said, inbound) = mpsc::channel(4);
    said.send(driver_says(driver_to_manager::Message::Hello(hello()))).await.unwrap();
    let mut told = manager.driver_session(Box::pin(ReceiverStream::new(inbound))).await.unwrap();
    let welcome = soon("the welcome", told.recv()).await.unwrap();
    assert!(matches!(welcome.message, Some(manager_to_driver::Message::Welcome(_))));
    drop(manager);
    assert_eq!(soon("the session's end", told.recv()).await, None);
}

#[tokio::test]
async fn a_session_that_does_not_take_its_messages_is_dropped_and_holds_nobody_up() {
    let limits = Limits { session_queue: 2, ..Limits::default() };
    let manager = Manager::start(ManagerConfig { limits, ..patient() });
    let (said, inbound) = mpsc::channel(16);
    said.send(driver_says(driver_to_manager::Message::Hello(hello()))).await.unwrap();
    let mut told = manager.driver_session(Box::pin(ReceiverStream::new(inbound))).await.unwrap();
    for request in 0..4 {
        let open = v1::OpenJob { request, ..Default::default() };
        said.send(driver_says(driver_to_manager::Message::OpenJob(open))).await.unwrap();
    }
    let ended = soon("the first job's end", async {
        loop {
            match manager.wait_job(wait(1)).await {
                Ok(info) => return info,
                // The driver's message has not been taken in yet.
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    assert_eq!(ended.failure.unwrap().message, "the driver went away");
    let mut heard = 0;
    while soon("what was queued", told.recv()).await.is_some() {
        heard += 1;
    }
    assert_eq!(heard, 2, "what fits into its queue, and then the end");
}
