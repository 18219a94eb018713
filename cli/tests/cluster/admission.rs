//! A thousand jobs at once: what is taken ends right, what is not is told why, and nobody else is any the worse for it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use firesteel_base::version;
use firesteel_certs::Security;
use firesteel_protocol::channel::{self, Channel, Server, Status};
use firesteel_protocol::v1::manager_client::ManagerClient;
use firesteel_protocol::v1::{
    self, CancelJobRequest, JobInfo, JobState, ListJobsRequest, ListNodesRequest, NodeState, SubmitRequest,
    WaitJobRequest, driver_to_manager, manager_to_driver,
};
use firesteel_testing::cluster::{ClusterOptions, ProcessCluster, proc};
use futures::StreamExt;
use futures::channel::mpsc;
use futures::stream::BoxStream;

use crate::engines::{cluster, runtime};

const BURST: usize = 1_000;
const CONNECTIONS: usize = 20;
/// Submitted jobs that may wait in these tests.
const QUEUED_MAX: usize = 900;
/// Drivers that each of two workers runs at a time.
const PLACES: usize = 2;
/// Of those that are taken so many run to their end; the others are cancelled while they wait.
const RUN: usize = 12;

/// What a burst may add to the memory of a manager or a worker, in bytes.
const MEMORY_MAX: u64 = 256 << 20;
/// How long a question about the nodes may take meanwhile, and how long ago a worker may have been heard.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How long anything else may take.
const PATIENCE: Duration = Duration::from_secs(180);

type Manager = ManagerClient<Channel>;

fn options() -> ClusterOptions {
    ClusterOptions::default()
        .set("manager.heartbeat", "500ms")
        .set("manager.node_suspect_after", "5s")
        .set("manager.node_timeout", "10s")
        .set("manager.queued_jobs", &QUEUED_MAX.to_string())
        .set("manager.open_jobs", &QUEUED_MAX.to_string())
        .set("worker.drivers", &PLACES.to_string())
}

async fn client(address: &str) -> Manager {
    ManagerClient::new(channel::connect(&Security::default(), Server::Manager, address).await.unwrap())
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// The memory that the manager and the workers have had at most.
fn peaks(cluster: &ProcessCluster) -> Vec<u64> {
    let pids = [cluster.manager_pid(0), cluster.worker_pid(0), cluster.worker_pid(1)];
    pids.into_iter().map(|pid| proc::peak_memory(pid).unwrap()).collect()
}

fn check_memory(cluster: &ProcessCluster, before: &[u64]) {
    for (before, after) in before.iter().zip(peaks(cluster)) {
        let grown = after - before;
        eprintln!("memory: {} MiB at most, {} MiB more than before", after >> 20, grown >> 20);
        assert!(grown <= MEMORY_MAX, "a process grew by {} MiB", grown >> 20);
    }
}

/// Asks again and again how the nodes are, until `done`: each answer comes in time, and every worker was heard lately.
async fn watch_nodes(mut manager: Manager, done: impl Future<Output = ()>) {
    let mut done = std::pin::pin!(done);
    let (mut slowest, mut oldest, mut answers) = (Duration::ZERO, Duration::ZERO, 0);
    loop {
        let asked = Instant::now();
        let request = ListNodesRequest { wire_version: version::WIRE_OLDEST };
        let nodes = soon("the nodes", manager.list_nodes(request)).await.unwrap().into_inner().nodes;
        slowest = slowest.max(asked.elapsed());
        for node in &nodes {
            assert_eq!(node.state(), NodeState::Alive, "{}", node.worker);
            oldest = oldest.max(Duration::from_millis(node.last_heartbeat_age_ms));
        }
        answers += 1;
        let pause = tokio::time::sleep(Duration::from_millis(50));
        tokio::select! {
            () = &mut done => break,
            () = pause => {}
        }
    }
    eprintln!("nodes: {answers} answers, the slowest in {slowest:?}, the oldest heartbeat {oldest:?} ago");
    assert!(slowest < ANSWER_MAX && oldest < ANSWER_MAX, "{slowest:?}, {oldest:?}");
}

async fn submit(mut manager: Manager, number: usize) -> Result<u64, Status> {
    let request = SubmitRequest {
        wire_version: version::WIRE_OLDEST,
        name: format!("burst {number}"),
        sql: format!("SELECT {number} AS n"),
        user: "ana".to_owned(),
        ..SubmitRequest::default()
    };
    Ok(manager.submit(request).await?.into_inner().job)
}

/// Submits them all at once, over some connections.
async fn submit_all(address: &str) -> (Vec<u64>, Vec<Status>) {
    let mut submitting = Vec::new();
    for connection in 0..CONNECTIONS {
        let manager = client(address).await;
        let numbers = (0..BURST).filter(move |number| number % CONNECTIONS == connection);
        submitting.extend(numbers.map(|number| submit(manager.clone(), number)));
    }
    let (mut jobs, mut refused) = (Vec::new(), Vec::new());
    for answer in soon("the answers", futures::future::join_all(submitting)).await {
        match answer {
            Ok(job) => jobs.push(job),
            Err(status) => refused.push(status),
        }
    }
    jobs.sort_unstable();
    (jobs, refused)
}

async fn ended(mut manager: Manager, job: u64) -> JobInfo {
    loop {
        let request = WaitJobRequest { wire_version: version::WIRE_OLDEST, job, max_wait_ms: 10_000 };
        let info = manager.wait_job(request).await.unwrap().into_inner();
        if info.ended_unix_ms > 0 {
            return info;
        }
    }
}

async fn all_jobs(manager: &mut Manager) -> BTreeMap<u64, JobInfo> {
    let request = ListJobsRequest { wire_version: version::WIRE_OLDEST, all: true };
    let jobs = manager.list_jobs(request).await.unwrap().into_inner().jobs;
    jobs.into_iter().map(|job| (job.job, job)).collect()
}

#[test]
fn a_thousand_submissions_at_once_are_taken_or_refused_and_those_taken_wait_their_turn() {
    let state = tempfile::tempdir().unwrap();
    let mut cluster = cluster(options().set("manager.state", state.path().to_str().unwrap()));
    let before = peaks(&cluster);
    runtime().block_on(async {
        let manager = client(cluster.address()).await;
        let work = async {
            let begun = Instant::now();
            let (jobs, refused) = submit_all(cluster.address()).await;
            eprintln!("{} taken, {} refused in {:?}", jobs.len(), refused.len(), begun.elapsed());
            assert!(jobs.len() >= QUEUED_MAX && !refused.is_empty());
            for status in &refused {
                let error = channel::user_error("manager", cluster.address(), status);
                let told = "the manager takes no more than 900 jobs that wait for a driver";
                assert_eq!(error.message, told);
                assert!(error.hint.unwrap().contains("manager.queued_jobs"));
            }
            let last = &all_jobs(&mut manager.clone()).await[jobs.last().unwrap()];
            let reason = &last.waiting_for;
            assert_eq!(last.state(), JobState::Queued);
            assert!(reason.starts_with("one of 4 places for drivers, all of which are taken:"), "{reason}");
            assert!(reason.ends_with(" jobs come first"), "{reason}");

            let first: Vec<_> = jobs[..RUN].iter().map(|&job| ended(manager.clone(), job)).collect();
            let mut ran = 0;
            let mut ending = std::pin::pin!(futures::future::join_all(first));
            let first = loop {
                tokio::select! {
                    ended = soon("the first jobs' ends", &mut ending) => break ended,
                    () = tokio::time::sleep(Duration::from_millis(200)) => {}
                }
                for worker in 0..2 {
                    ran = ran.max(cluster.driver_pids(worker).unwrap().len());
                }
            };
            assert!(ran <= PLACES, "a worker ran {ran} drivers");
            for job in &first {
                assert_eq!((job.state(), job.result_rows), (JobState::Succeeded, 1), "{job:?}");
            }
            let cancelled = jobs[RUN..].iter().map(|&job| {
                let mut manager = manager.clone();
                async move {
                    let request = CancelJobRequest { wire_version: version::WIRE_OLDEST, job };
                    manager.cancel_job(request).await.unwrap();
                    ended(manager, job).await
                }
            });
            // Those that have begun meanwhile end right, or as cancelled.
            for job in soon("the other jobs' ends", futures::future::join_all(cancelled)).await {
                assert!(matches!(job.state(), JobState::Cancelled | JobState::Succeeded), "{job:?}");
            }
        };
        watch_nodes(manager.clone(), work).await;
    });
    check_memory(&cluster, &before);
    let result = cluster.run(&["jobs", "result", "job1", "--format", "csv"]).unwrap().succeeded().unwrap();
    assert!(result.starts_with("n\n"), "{result}");
    cluster.wait_for("all slots and blocks to be free", |cluster| cluster.is_idle()).unwrap();
    // Its workers keep results, so their folders are not empty when they end.
    assert_eq!(cluster.sql("SELECT 1 AS one").unwrap(), "one\n1\n");
}

/// A driver that opens jobs and does nothing else for them.
struct Driver {
    said: mpsc::UnboundedSender<v1::DriverToManager>,
    told: BoxStream<'static, Result<v1::ManagerToDriver, Status>>,
}

impl Driver {
    async fn open(address: &str, number: usize) -> Self {
        let (said, messages) = mpsc::unbounded();
        let hello = v1::DriverHello {
            wire_version: version::WIRE_OLDEST,
            wire_newest: version::WIRE,
            release: version::RELEASE.to_owned(),
            host: "laptop".to_owned(),
            user: "ana".to_owned(),
            incarnation: format!("driver {number}"),
        };
        let hello = v1::DriverToManager { message: Some(driver_to_manager::Message::Hello(hello)) };
        said.unbounded_send(hello).unwrap();
        let told = client(address).await.driver_session(messages).await.unwrap();
        Self { said, told: told.into_inner().boxed() }
    }

    fn say(&self, message: driver_to_manager::Message) {
        self.said.unbounded_send(v1::DriverToManager { message: Some(message) }).unwrap();
    }

    async fn hear(&mut self) -> manager_to_driver::Message {
        self.told.next().await.unwrap().unwrap().message.unwrap()
    }

    /// Opens so many jobs. Returns those that are open and why the others are not.
    async fn open_jobs(&mut self, count: usize) -> (Vec<u64>, Vec<String>) {
        for request in 0..count as u64 {
            let open = v1::OpenJob { request, sql: "select 1".to_owned(), ..v1::OpenJob::default() };
            self.say(driver_to_manager::Message::OpenJob(open));
        }
        // What is said after that answers what was said before.
        self.say(driver_to_manager::Message::CloseJob(v1::CloseJob {
            job: u64::MAX,
            state: JobState::Cancelled.into(),
            ..v1::CloseJob::default()
        }));
        let (mut jobs, mut refused) = (Vec::new(), Vec::new());
        loop {
            match self.hear().await {
                manager_to_driver::Message::JobOpened(opened) => jobs.push(opened.job),
                manager_to_driver::Message::CancelJob(cancel) => {
                    jobs.retain(|job| *job != cancel.job);
                    refused.push(cancel.reason);
                }
                manager_to_driver::Message::JobClosed(closed) if closed.job == u64::MAX => break,
                _ => {}
            }
        }
        (jobs, refused)
    }

    /// Asks for a slot for each, and closes it when it has one.
    async fn run(&mut self, jobs: &[u64]) {
        for &job in jobs {
            let demand = v1::StageDemand { job, tasks: 1, cores_per_task: 1, ..v1::StageDemand::default() };
            self.say(driver_to_manager::Message::Demand(demand));
        }
        let mut left = jobs.len();
        while left > 0 {
            match self.hear().await {
                manager_to_driver::Message::Grant(grant) => {
                    let (job, state) = (grant.job, JobState::Succeeded.into());
                    let close = v1::CloseJob { job, state, result_rows: 1, ..v1::CloseJob::default() };
                    self.say(driver_to_manager::Message::CloseJob(close));
                }
                manager_to_driver::Message::JobClosed(_) => left -= 1,
                _ => {}
            }
        }
    }
}

#[test]
fn a_thousand_jobs_of_clients_at_once_are_refused_beyond_the_limit_and_each_gets_its_slot() {
    let mut cluster = cluster(options().set("manager.driver_timeout", "2m"));
    let before = peaks(&cluster);
    runtime().block_on(async {
        let manager = client(cluster.address()).await;
        let address = cluster.address();
        let work = async {
            let opening = (0..CONNECTIONS).map(|number| async move {
                let mut driver = Driver::open(address, number).await;
                let (jobs, refused) = driver.open_jobs(BURST / CONNECTIONS).await;
                (driver, jobs, refused)
            });
            let opened = soon("the jobs to be opened", futures::future::join_all(opening)).await;
            let refused: Vec<_> = opened.iter().flat_map(|(_, _, refused)| refused).collect();
            assert_eq!(refused.len(), BURST - QUEUED_MAX);
            let told = "the manager takes no more than 900 jobs at a time whose driver is in a client";
            assert!(refused.iter().all(|reason| reason.starts_with(told)), "{refused:?}");

            let begun = Instant::now();
            let mut running = futures::stream::iter(opened)
                .map(async |(mut driver, jobs, _)| driver.run(&jobs).await)
                .buffer_unordered(CONNECTIONS);
            soon("every job to have had its slot", async { while running.next().await.is_some() {} }).await;
            eprintln!("{QUEUED_MAX} jobs had a slot in {:?}", begun.elapsed());
        };
        watch_nodes(manager.clone(), work).await;
        let jobs = all_jobs(&mut manager.clone()).await;
        let succeeded = jobs.values().filter(|job| job.state() == JobState::Succeeded).count();
        assert_eq!(succeeded, QUEUED_MAX);
    });
    check_memory(&cluster, &before);
    cluster.wait_for("all slots and blocks to be free", |cluster| cluster.is_idle()).unwrap();
    cluster.stop().unwrap();
}
