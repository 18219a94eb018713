//! The manager dies, and another one goes on in its place.

use std::time::Duration;

use firesteel_base::ByteSize;
use firesteel_bench::queries::{tpch, tpch_tables_sql};
use firesteel_testing::cluster::{ClusterOptions, ProcessCluster, Running};
use firesteel_testing::data;
use firesteel_testing::oracle::tpch::Scale;
use serde_json::Value;

use crate::engines::{Engine, FIRESTEEL, cluster, runtime};
use crate::failures::{done_once, survives};
use crate::tpch::register;

/// How long the cluster is without a manager.
const AWAY: Duration = Duration::from_millis(700);

fn with_state(folder: &tempfile::TempDir) -> ClusterOptions {
    ClusterOptions::default().alert().set("manager.state", folder.path().to_str().unwrap())
}

/// The jobs that the manager remembers, the latest first.
pub fn jobs(cluster: &ProcessCluster) -> Vec<Value> {
    let text = cluster.run(&["jobs", "list", "--all", "--json"]).unwrap().succeeded().unwrap();
    match serde_json::from_str(&text).unwrap() {
        Value::Array(jobs) => jobs,
        other => panic!("jobs are {other}"),
    }
}

/// Harms the manager while a query is half done: the answer is right, and nothing that was done is done again.
pub async fn outlives(
    cluster: &mut ProcessCluster,
    engine: &Engine,
    query: &str,
    harm: impl FnOnce(&mut ProcessCluster),
) {
    let (_, failed) = tokio::join!(survives(engine, query, || harm(cluster)), done_once(engine, query));
    assert_eq!(failed, 0, "{query}");
}

#[test]
fn a_query_goes_on_while_there_is_no_manager_and_the_next_one_knows_it() {
    let state = tempfile::tempdir().unwrap();
    let mut cluster = cluster(with_state(&state));
    runtime().block_on(async {
        let engine = Engine::connect(cluster.address()).await.unwrap();
        register(&engine, Scale::One).await;
        for query in ["q18", "q09"] {
            outlives(&mut cluster, &engine, query, |cluster| cluster.restart_manager(AWAY).unwrap()).await;
        }
        engine.0.close().await;
    });
    let jobs = jobs(&cluster);
    assert!(jobs.len() >= 2 && jobs.iter().all(|job| job["state"] == "succeeded"), "{jobs:?}");
    cluster.wait_for("all slots and blocks to be free", |cluster| cluster.is_idle()).unwrap();
    assert_eq!(cluster.sql("SELECT 1 AS one").unwrap(), "one\n1\n");
    cluster.stop().unwrap();
}

/// Longer than it takes for silence to be the end of a worker, or of a driver.
#[test]
fn nobody_is_given_up_by_a_manager_that_was_frozen() {
    let mut cluster = cluster(ClusterOptions::default().alert());
    let executors = cluster.executor_pids(0).unwrap();
    runtime().block_on(async {
        let engine = Engine::connect(cluster.address()).await.unwrap();
        register(&engine, Scale::One).await;
        let frozen = Duration::from_secs(5);
        outlives(&mut cluster, &engine, "q18", |cluster| cluster.freeze_manager(frozen).unwrap()).await;
        engine.0.close().await;
    });
    assert!(cluster.nodes().unwrap().iter().all(|node| node["state"] == "alive"));
    assert_eq!(cluster.executor_pids(0).unwrap(), executors);
    let jobs = jobs(&cluster);
    assert!(jobs.iter().all(|job| job["state"] == "succeeded"), "{jobs:?}");
    cluster.stop().unwrap();
}

/// Nothing was kept: what runs is known from those who run it.
#[test]
fn a_query_outlives_a_manager_that_keeps_nothing() {
    let mut cluster = cluster(ClusterOptions::default().alert());
    runtime().block_on(async {
        let engine = Engine::connect(cluster.address()).await.unwrap();
        register(&engine, Scale::One).await;
        outlives(&mut cluster, &engine, "q18", |cluster| cluster.restart_manager(AWAY).unwrap()).await;
        engine.0.close().await;
    });
    let jobs = jobs(&cluster);
    assert!(jobs.iter().all(|job| job["state"] == "succeeded"), "{jobs:?}");
    cluster.wait_for("all slots and blocks to be free", |cluster| cluster.is_idle()).unwrap();
    cluster.stop().unwrap();
}

/// Of two submitted jobs `one` has ended and `long` runs: the manager that is there now knows both, the second ends well, and the
/// result of the first is still where it was.
pub fn both_are_known(cluster: &ProcessCluster, long: Running) {
    let known = jobs(cluster);
    assert!(known.len() == 2 && known.iter().any(|job| job["ended_unix_ms"].is_null()), "{known:?}");
    let answer = long.finish().unwrap().succeeded().unwrap();
    assert!(answer.lines().count() > 50, "q18 has 57 rows at this scale: {answer}");
    let known = jobs(cluster);
    assert!(known.len() == 2 && known.iter().all(|job| job["state"] == "succeeded"), "{known:?}");
    let one = known.iter().find(|job| job["name"] == "one").unwrap()["job"].as_str().unwrap().to_owned();
    let result = cluster.run(&["jobs", "result", &one, "--format", "csv"]).unwrap().succeeded().unwrap();
    assert_eq!(result, "answer\n42\n");
}

/// One runs and one has ended: both are there under the next manager, and the client that waits for the first does not notice.
#[test]
fn submitted_jobs_and_their_results_outlive_the_manager() {
    let state = tempfile::tempdir().unwrap();
    let mut cluster = cluster(with_state(&state));
    let data = data::tpch(Scale::One).unwrap();
    let script = tpch_tables_sql(&data).join(";\n") + ";\n" + tpch("q18").unwrap().sql;
    let file = cluster.folder().join("q18.sql");
    std::fs::write(&file, script).unwrap();
    std::fs::write(cluster.folder().join("one.sql"), "SELECT 41 + 1 AS answer").unwrap();
    let submit = |cluster: &ProcessCluster, file: &str, more: &[&str]| {
        let file = cluster.folder().join(file);
        let arguments = [&["submit", file.to_str().unwrap(), "--format", "csv"], more].concat();
        Running::start(cluster.client(&arguments)).unwrap()
    };
    submit(&cluster, "one.sql", &[]).finish().unwrap().succeeded().unwrap();
    let long = submit(&cluster, "q18.sql", &[]);
    cluster
        .wait_for("the long one to run", |cluster| {
            let running = |job: &Value| job["state"] == "running" && job["slots_held"].as_u64() > Some(0);
            Ok(jobs(cluster).iter().any(running))
        })
        .unwrap();
    cluster.restart_manager(AWAY).unwrap();
    both_are_known(&cluster, long);
    // The workers keep both results on their disks, so the cluster is not asked whether it leaves nothing.
}

#[test]
fn two_managers_do_not_share_a_journal() {
    let state = tempfile::tempdir().unwrap();
    let options = ClusterOptions { workers: 1, memory: ByteSize(1 << 30), ..with_state(&state) };
    let cluster = cluster(options);
    let second =
        ["manager", "--insecure", "--bind", "127.0.0.1:0", "--state", state.path().to_str().unwrap()];
    let mut command = std::process::Command::new(FIRESTEEL);
    command.args(second);
    let fault = Running::start(command).unwrap().finish().unwrap().failed_with(1).unwrap();
    assert!(fault.contains("another manager has the journal") && fault.contains("--state"), "{fault}");
    assert_eq!(cluster.sql("SELECT 1 AS one").unwrap(), "one\n1\n");
    cluster.stop().unwrap();
}
