//! The driver of a submitted job dies, with its worker or without: another one is launched, and the answer is right.

use std::time::Duration;

use firesteel_bench::queries::tpch;
use firesteel_bench::queries::tpch_script;
use firesteel_testing::cluster::{ClusterOptions, ProcessCluster, Running, Signal, proc, send};
use firesteel_testing::data;
use firesteel_testing::oracle::Answer;
use firesteel_testing::oracle::tpch::{Scale, check};
use serde_json::Value;

use crate::engines::cluster;
use crate::managers::jobs;

const QUERY: &str = "q18";

/// Submits a query, and waits until its tasks run. Returns the client that waits for the result, the number of the worker that runs the
/// driver, and the driver's process.
fn submitted(cluster: &mut ProcessCluster) -> (Running, usize, u32) {
    let script = tpch_script(&data::tpch(Scale::One).unwrap(), &tpch(QUERY).unwrap());
    let file = cluster.folder().join("query.sql");
    std::fs::write(&file, script).unwrap();
    let client =
        Running::start(cluster.client(&["submit", file.to_str().unwrap(), "--format", "csv"])).unwrap();
    cluster
        .wait_for("it to run", |cluster| {
            let running = |job: &Value| job["state"] == "running" && job["slots_held"].as_u64() > Some(0);
            Ok(jobs(cluster).iter().any(running))
        })
        .unwrap();
    let (worker, driver) = driver_of(cluster).expect("a driver runs under a worker");
    (client, worker, driver)
}

fn driver_of(cluster: &ProcessCluster) -> Option<(usize, u32)> {
    let is_driver = |pid: &u32| proc::arguments(*pid).get(1).is_some_and(|word| word == "driver");
    (0..cluster.worker_count()).find_map(|worker| {
        let children = proc::children(cluster.worker_pid(worker)).unwrap();
        children.into_iter().find(is_driver).map(|pid| (worker, pid))
    })
}

fn answers_right(client: Running) {
    let answer = client.finish().unwrap().succeeded().unwrap();
    check(Scale::One, QUERY, &Answer::from_csv(&answer).unwrap()).unwrap();
}

/// Every process is there that there was, and no driver.
fn assert_idle(cluster: &mut ProcessCluster) {
    cluster.wait_for("all slots and blocks to be free", |cluster| cluster.is_idle()).unwrap();
    cluster.wait_for("no driver to be left", |cluster| Ok(driver_of(cluster).is_none())).unwrap();
    let known = jobs(cluster);
    assert!(known.len() == 1 && known[0]["state"] == "succeeded", "{known:?}");
}

#[test]
fn a_driver_that_is_killed_is_launched_once_more() {
    let mut cluster = cluster(ClusterOptions::default().alert());
    let (client, _, driver) = submitted(&mut cluster);
    send(driver, Signal::Kill).unwrap();
    answers_right(client);
    assert_idle(&mut cluster);
}

/// Nothing but the worker is hit: what it runs ends with it, and says nothing of the job.
#[test]
fn a_driver_whose_worker_is_killed_is_launched_elsewhere() {
    let mut cluster = cluster(ClusterOptions::default().alert());
    let (client, worker, driver) = submitted(&mut cluster);
    cluster.signal_worker(worker, Signal::Kill).unwrap();
    answers_right(client);
    assert!(!proc::is_alive(driver));
    let known = jobs(&cluster);
    assert!(known.len() == 1 && known[0]["state"] == "succeeded", "{known:?}");
}

/// The manager hears neither the worker nor its driver, which live on: what they come back with counts no more.
#[test]
fn a_driver_that_falls_silent_with_its_worker_is_launched_elsewhere() {
    let mut cluster = cluster(ClusterOptions::default().alert());
    let (client, worker, driver) = submitted(&mut cluster);
    let mut all = vec![cluster.worker_pid(worker), driver];
    all.extend(cluster.executor_pids(worker).unwrap());
    all.iter().for_each(|&pid| send(pid, Signal::Stop).unwrap());
    cluster
        .wait_for("another driver", |cluster| {
            let there = driver_of(cluster).is_some_and(|(_, pid)| pid != driver);
            Ok(there || jobs(cluster).iter().all(|job| job["state"] == "succeeded"))
        })
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    all.iter().for_each(|&pid| send(pid, Signal::Continue).unwrap());
    answers_right(client);
    assert_idle(&mut cluster);
}
