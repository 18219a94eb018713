//! Sessions on a cluster: the answers of local mode, stage by stage over executors.

use std::sync::Arc;

use firesteel_base::version;
use firesteel_certs::Security;
use firesteel_driver::{ConnectOptions, Phase, Session};
use firesteel_protocol::v1;
use tokio::net::TcpListener;

use crate::support::{Cluster, QUERIES, SHORT, Tables, local, number, partitions, rows, until};

#[tokio::test]
async fn the_cluster_answers_as_local_mode_does() {
    let tables = Tables::make(20_000).await;
    let (here, _scratch) = local(2).await;
    tables.register(&here).await;
    for (executors, cores) in [(1, 1), (2, 1), (2, 2)] {
        let cluster = Cluster::start(executors, cores).await;
        let session = cluster.session(ConnectOptions::default()).await;
        tables.register(&session).await;
        for sql in QUERIES {
            assert_eq!(rows(&session, sql).await, rows(&here, sql).await, "{executors} x {cores}: {sql}");
        }
        session.close().await;
        cluster.assert_empty();
        cluster.stop().await;
    }
    here.close().await;
}

#[tokio::test]
async fn all_roles_work_over_grpc() {
    let tables = Tables::make(5000).await;
    let mut cluster = Cluster::start(0, 1).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let until_stop = || {
        let mut stopped = stopped.clone();
        async move {
            // The sender is gone when the test is over.
            let _ = stopped.wait_for(|stop| *stop).await;
        }
    };
    for number in 0..2 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        cluster.add(number, 1, listener.local_addr().unwrap().to_string()).await;
        let executor = Arc::clone(cluster.executors.last().unwrap());
        tokio::spawn(firesteel_executor::shell::serve(executor, listener, Security::default(), until_stop()));
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let manager = Arc::clone(&cluster.manager);
    tokio::spawn(firesteel_manager::shell::grpc::serve(manager, listener, Security::default(), until_stop()));
    let session = Session::connect(&address, ConnectOptions::default()).await.unwrap();
    session.await_executors(2, SHORT).await.unwrap();
    tables.register(&session).await;
    let sql = "select name, count(*) as n from t join names on t.g = names.g group by name order by n, name";
    assert_eq!(rows(&session, sql).await.len(), 17 + 1);
    assert_eq!(number(&session, "select count(distinct v) from t").await, 143);
    session.close().await;
    cluster.assert_empty();
    stop.send(true).unwrap();
    cluster.stop().await;
}

#[tokio::test]
async fn jobs_are_listed_under_their_sessions_name_with_how_they_ended() {
    let cluster = Cluster::start(1, 1).await;
    let options = ConnectOptions { name: "report".to_owned(), ..ConnectOptions::default() };
    let session = cluster.session(options).await;
    let sql = "select * from generate_series(1, 5)";
    assert_eq!(rows(&session, sql).await.len(), 5 + 1);
    let progress = until(&session, |progress| progress.phase == Phase::Succeeded).await;
    let job = progress.job.unwrap().0;
    let request = v1::WaitJobRequest { wire_version: version::WIRE, job, max_wait_ms: 10_000 };
    let info = cluster.manager.wait_job(request).await.unwrap();
    assert_eq!((info.name.as_str(), info.sql.as_str()), ("report", sql));
    assert_eq!((info.state(), info.result_rows, info.slots_held), (v1::JobState::Succeeded, 5, 0));
    session.close().await;
    cluster.stop().await;
}

#[tokio::test]
async fn jobs_of_several_sessions_share_a_cluster() {
    let tables = Tables::make(5000).await;
    let cluster = Cluster::start(2, 1).await;
    let mut sessions = Vec::new();
    for _ in 0..3 {
        let session = cluster.session(partitions(4)).await;
        tables.register(&session).await;
        sessions.push(session);
    }
    let jobs = sessions.iter().flat_map(|session| {
        (0..3).map(move |g| {
            number(
                session,
                match g {
                    0 => "select sum(v) from (select g, sum(v) as v from t group by g)",
                    1 => "select sum(a.v) from t a join t b on a.k = b.k",
                    _ => "select sum(v) from t",
                },
            )
        })
    });
    let answers = futures::future::join_all(jobs).await;
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    for session in sessions {
        session.close().await;
    }
    cluster.assert_empty();
    cluster.stop().await;
}

#[tokio::test]
async fn what_cannot_travel_runs_in_the_drivers_process() {
    let cluster = Cluster::start(1, 1).await;
    let session = cluster.session(ConnectOptions::default()).await;
    session.sql("create view v as select 1 as n").await.unwrap();
    let sql = "select table_name from information_schema.tables where table_name = 'v'";
    assert_eq!(rows(&session, sql).await.len(), 1 + 1);
    session.close().await;
    cluster.stop().await;
}

#[tokio::test]
async fn executors_that_come_later_are_used() {
    let mut cluster = Cluster::start(1, 1).await;
    let session = cluster.session(ConnectOptions::default()).await;
    assert_eq!(number(&session, "select count(*) from generate_series(1, 10)").await, 10);
    cluster.add(1, 1, String::new()).await;
    session.await_executors(2, SHORT).await.unwrap();
    session.close().await;
    cluster.stop().await;
}
