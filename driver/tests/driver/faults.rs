//! What goes wrong, and what is said about it.

use std::time::Duration;

use firesteel_base::Class;
use firesteel_driver::{ConnectOptions, Session};

use crate::support::{Cluster, Tables, failure, local, number};

#[tokio::test]
async fn a_users_mistake_is_told_as_such() {
    let tables = Tables::make(1000).await;
    let (session, _scratch) = local(2).await;
    tables.register(&session).await;
    let (class, error) = failure(&session, "select nothing from t").await;
    assert_eq!(class, Class::User);
    assert!(error.message.contains("nothing"), "{error}");
    let (class, error) = failure(&session, "select 10 / (k - k) from t").await;
    assert_eq!(class, Class::User);
    assert!(error.message.to_lowercase().contains("divi"), "{error}");
    assert!(failure(&session, "select from where").await.1.message.len() > 5);
    assert_eq!(number(&session, "select count(*) from t").await, 1000);
    session.close().await;
}

#[tokio::test]
async fn on_a_cluster_a_users_mistake_is_not_tried_again() {
    let tables = Tables::make(1000).await;
    let cluster = Cluster::start(2, 1).await;
    let session = cluster.session(ConnectOptions::default()).await;
    tables.register(&session).await;
    let (class, error) = failure(&session, "select g, sum(10 / (v - v)) from t group by g").await;
    assert_eq!(class, Class::User);
    assert!(error.message.to_lowercase().contains("divi"), "{error}");
    assert!(!error.to_string().contains("is not tried again"), "{error}");
    session.close().await;
    cluster.assert_empty();
    cluster.stop().await;
}

#[tokio::test]
async fn a_file_that_went_away_is_named() {
    let tables = Tables::make(1000).await;
    let (session, _scratch) = local(1).await;
    tables.register(&session).await;
    let frame = session.sql("select sum(v) from t").await.unwrap();
    let plan = frame.create_physical_plan().await.unwrap();
    std::fs::remove_file(tables.path().join("t/2.parquet")).unwrap();
    let fault =
        firesteel_engine::datafusion::physical_plan::collect(plan, session.context().task_ctx()).await;
    let error = crate::support::told(&fault.unwrap_err()).1;
    assert!(error.to_string().contains("2.parquet"), "{error}");
    session.close().await;
}

#[tokio::test]
async fn a_manager_that_is_not_there_is_named() {
    // A port that was free a moment ago.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let error = Session::connect(&address, ConnectOptions::default()).await.unwrap_err();
    assert!(error.message.contains(&format!("cannot reach the manager at {address}")), "{error}");
}

#[tokio::test]
async fn a_cluster_without_executors_is_waited_for_and_then_told() {
    let cluster = Cluster::start(0, 1).await;
    let options =
        ConnectOptions { executors_wait_max: Duration::from_millis(200), ..ConnectOptions::default() };
    let session = cluster.session(options).await;
    let (_, error) = failure(&session, "select count(*) from generate_series(1, 10)").await;
    assert_eq!(error.message, "the cluster has no executors");
    session.close().await;
    cluster.stop().await;
}
