//! Sessions of cluster deploy mode: all queries under the job that the process was launched for.

use std::time::Duration;

use firesteel_base::{Class, JobId, UserError, version};
use firesteel_driver::{ConnectOptions, Session};
use firesteel_protocol::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use v1::manager_to_worker::Message as ToWorker;
use v1::worker_to_manager::Message as FromWorker;

use crate::support::{Cluster, LONG, Tables, number, told};

/// Submits a job and stands for the worker that is asked to run its driver.
async fn launched(cluster: &Cluster) -> (JobId, mpsc::UnboundedSender<v1::WorkerToManager>) {
    let (outgoing, messages) = mpsc::unbounded_channel();
    let register = v1::RegisterWorker {
        wire_version: version::WIRE,
        release: version::RELEASE.to_owned(),
        worker: "launcher".to_owned(),
        incarnation: "1".to_owned(),
        host: "here".to_owned(),
        ..v1::RegisterWorker::default()
    };
    outgoing.send(v1::WorkerToManager { message: Some(FromWorker::Register(register)) }).unwrap();
    let incoming = cluster.manager.worker_session(Box::pin(UnboundedReceiverStream::new(messages)));
    let mut incoming = incoming.await.unwrap();
    let submit = v1::SubmitRequest {
        wire_version: version::WIRE,
        name: "nightly".to_owned(),
        sql: "two queries".to_owned(),
        user: "somebody".to_owned(),
        ..v1::SubmitRequest::default()
    };
    let job = cluster.manager.submit(submit).await.unwrap().job;
    loop {
        let message = incoming.recv().await.expect("the manager asks for the driver").message;
        if let Some(ToWorker::LaunchDriver(launch)) = message {
            assert_eq!(launch.job, job);
            // Its messages are not needed any more, but its session is.
            tokio::spawn(async move { while incoming.recv().await.is_some() {} });
            return (JobId(job), outgoing);
        }
    }
}

async fn session(cluster: &Cluster, job: JobId) -> Session {
    let options = ConnectOptions { submitted_job: Some((job, 1)), ..ConnectOptions::default() };
    cluster.session(options).await
}

async fn ended(cluster: &Cluster, job: JobId) -> v1::JobInfo {
    let request = v1::WaitJobRequest { wire_version: version::WIRE, job: job.0, max_wait_ms: 10_000 };
    cluster.manager.wait_job(request).await.unwrap()
}

#[tokio::test]
async fn its_queries_are_one_job() {
    let tables = Tables::make(2000).await;
    let cluster = Cluster::start(2, 1).await;
    let (job, _worker) = launched(&cluster).await;
    let session = session(&cluster, job).await;
    tables.register(&session).await;
    let sums = tokio::join!(
        number(&session, "select sum(n) from (select g, count(*) as n from t group by g)"),
        number(&session, "select count(*) from t a join t b on a.k = b.k"),
    );
    assert_eq!(sums, (2000, 2000));
    assert_eq!(number(&session, "select count(distinct g) from t").await, 17);
    session.conclude(Ok(123));
    session.close().await;
    let info = ended(&cluster, job).await;
    assert_eq!((info.state(), info.result_rows), (v1::JobState::Succeeded, 123));
    cluster.assert_empty();
    cluster.stop().await;
}

#[tokio::test]
async fn it_ends_as_its_user_says() {
    let cluster = Cluster::start(1, 1).await;
    let (job, _worker) = launched(&cluster).await;
    let session = session(&cluster, job).await;
    session.conclude(Err(UserError::new("table 'nowhere' does not exist")));
    session.close().await;
    let info = ended(&cluster, job).await;
    assert_eq!(info.state(), v1::JobState::Failed);
    assert_eq!(info.failure.unwrap().message, "table 'nowhere' does not exist");
    cluster.stop().await;
}

#[tokio::test]
async fn when_it_is_cancelled_nothing_runs_under_it_any_more() {
    let cluster = Cluster::start(1, 1).await;
    let (job, _worker) = launched(&cluster).await;
    let session = session(&cluster, job).await;
    assert_eq!(number(&session, "select count(*) from generate_series(1, 10)").await, 10);
    let request = v1::CancelJobRequest { wire_version: version::WIRE, job: job.0 };
    cluster.manager.cancel_job(request).await.unwrap();
    // The session hears of it soon; from then on it runs nothing.
    let refused = async {
        loop {
            let query = session.sql("select 1").await.unwrap().collect().await;
            match query {
                Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(fault) => break told(&fault).0,
            }
        }
    };
    assert_eq!(tokio::time::timeout(LONG, refused).await.expect("it hears of it"), Class::Cancelled);
    session.close().await;
    assert_eq!(ended(&cluster, job).await.state(), v1::JobState::Cancelled);
    cluster.stop().await;
}
