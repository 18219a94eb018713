//! Workers that are drained: what runs ends, what is needed moves, and they leave by themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use firesteel_bench::queries::{tpch, tpch_tables_sql};
use firesteel_testing::cluster::{ClusterOptions, ProcessCluster, Running, Signal};
use firesteel_testing::data;
use firesteel_testing::oracle::Answer;
use firesteel_testing::oracle::tpch::{Scale, check};
use serde_json::Value;

use crate::engines::{Engine, cluster, runtime};
use crate::failures::{done_once, survives};
use crate::sharing::ENDLESS;
use crate::tpch::register;

fn three_workers() -> ClusterOptions {
    ClusterOptions { workers: 3, ..ClusterOptions::default() }.alert()
}

/// Runs `firesteel nodes` with these arguments.
fn nodes(cluster: &ProcessCluster, arguments: &[&str]) -> Running {
    Running::start(cluster.client(&[&["nodes"], arguments].concat())).unwrap()
}

fn state_of(cluster: &ProcessCluster, worker: &str) -> anyhow::Result<Value> {
    let nodes = cluster.nodes()?;
    Ok(nodes.into_iter().find(|node| node["worker"] == worker).unwrap_or_default())
}

/// A client that runs for longer than any test.
fn endless(cluster: &mut ProcessCluster) -> Running {
    let data = data::tpch(Scale::Tenth).unwrap();
    let script = tpch_tables_sql(&data).join(";\n") + ";\n" + ENDLESS;
    let client = Running::start(cluster.client(&["sql", "-c", &script])).unwrap();
    cluster
        .wait_for("the query to run", |cluster| {
            let runs = |executor: &Value| executor["running_attempts"].as_u64() > Some(0);
            Ok(cluster.executors()?.iter().filter(|executor| runs(executor)).count() > 0)
        })
        .unwrap();
    client
}

#[test]
fn a_worker_is_drained_in_the_middle_of_a_job_and_nothing_is_done_again() {
    let mut cluster = cluster(three_workers());
    runtime().block_on(async {
        let engine = Engine::connect(cluster.address()).await.unwrap();
        register(&engine, Scale::One).await;
        for (query, worker) in [("q18", "w0"), ("q09", "w1")] {
            let mut drained = None;
            let drain = || drained = Some(nodes(&cluster, &["drain", worker, "--json"]));
            let (_, failed) = tokio::join!(survives(&engine, query, drain), done_once(&engine, query));
            assert_eq!(failed, 0, "{query}");
            let told = drained.unwrap().finish().unwrap();
            let node: Value = serde_json::from_str(&told.succeeded().unwrap()).unwrap();
            assert_eq!((&node["worker"], &node["state"]), (&worker.into(), &"left".into()), "{node}");
            cluster.worker_has_left(0).unwrap();
            assert_eq!(state_of(&cluster, worker).unwrap()["gone_reason"], "it was drained");
        }
        engine.0.close().await;
    });
    cluster.wait_for("all slots and blocks to be free", |cluster| cluster.is_idle()).unwrap();
    assert_eq!(cluster.sql("SELECT 1 AS one").unwrap(), "one\n1\n");
    cluster.stop().unwrap();
}

#[test]
fn a_worker_that_is_asked_to_stop_is_drained_first() {
    let mut cluster = cluster(three_workers());
    runtime().block_on(async {
        let engine = Engine::connect(cluster.address()).await.unwrap();
        register(&engine, Scale::One).await;
        let stop = || cluster.terminate_worker(2).unwrap();
        let (_, failed) = tokio::join!(survives(&engine, "q18", stop), done_once(&engine, "q18"));
        assert_eq!(failed, 0);
        engine.0.close().await;
    });
    cluster.worker_has_left(2).unwrap();
    assert_eq!(state_of(&cluster, "w2").unwrap()["gone_reason"], "it was drained");
    cluster.stop().unwrap();
}

/// A worker that has something to wait for ends at once when it is asked a second time.
#[test]
fn a_second_signal_ends_a_worker_at_once() {
    let mut cluster = cluster(ClusterOptions { workers: 1, ..three_workers() }.set("worker.drain", "10m"));
    let client = endless(&mut cluster);
    cluster.terminate_worker(0).unwrap();
    cluster.wait_for("it to be drained", |c| Ok(state_of(c, "w0")?["state"] == "draining")).unwrap();
    thread::sleep(Duration::from_millis(500));
    assert!(cluster.worker_runs(0), "it waits for what runs there");
    let asked = Instant::now();
    cluster.terminate_worker(0).unwrap();
    cluster.worker_has_left(0).unwrap();
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
    client.signal(Signal::Kill).unwrap();
}

#[test]
fn what_has_not_ended_at_the_deadline_is_run_again_elsewhere() {
    let mut cluster = cluster(ClusterOptions { workers: 2, ..three_workers() });
    let client = endless(&mut cluster);
    let running = |cluster: &ProcessCluster, worker: &str| -> anyhow::Result<u64> {
        Ok(state_of(cluster, worker)?["executors"][0]["running_attempts"].as_u64().unwrap_or(0))
    };
    let busy = if running(&cluster, "w0").unwrap() > 0 { 0 } else { 1 };
    let (name, other) = (format!("w{busy}"), format!("w{}", 1 - busy));
    let told = nodes(&cluster, &["drain", &name, "--deadline", "2s"]).finish().unwrap();
    let notes = told.stderr.clone();
    assert_eq!(told.succeeded().unwrap(), format!("{name} left\n"));
    assert!(notes.contains("running") && notes.contains("given up at the deadline"), "{notes}");
    cluster.worker_has_left(busy).unwrap();
    cluster.wait_for("it to run elsewhere", |c| Ok(running(c, &other)? > 0)).unwrap();
    let jobs = cluster.run(&["jobs", "--json"]).unwrap().succeeded().unwrap();
    let jobs: Value = serde_json::from_str(&jobs).unwrap();
    let failed = jobs[0]["stages"].as_array().unwrap().iter().map(|stage| stage["failed_attempts"].as_u64());
    assert_eq!(failed.max(), Some(Some(0)), "nobody has failed: {jobs}");
    client.signal(Signal::Kill).unwrap();
}

#[test]
fn what_cannot_be_drained_is_said_plainly() {
    let mut cluster = cluster(ClusterOptions { workers: 2, ..three_workers() });
    let client = endless(&mut cluster);
    let refused = nodes(&cluster, &["drain", "w7"]).finish().unwrap().failed_with(1).unwrap();
    assert!(refused.contains("there is no worker 'w7'; there are w0, w1"), "{refused}");
    let refused = nodes(&cluster, &["undrain", "w0"]).finish().unwrap().failed_with(1).unwrap();
    assert!(refused.contains("worker 'w0' is not being drained"), "{refused}");
    // Both have something that is waited for, so neither leaves.
    for worker in ["w0", "w1"] {
        cluster
            .wait_for("it to be busy", |c| Ok(state_of(c, worker)?["executors"][0]["up"] == true))
            .unwrap();
    }
    let busy = cluster
        .nodes()
        .unwrap()
        .into_iter()
        .find(|node| node["executors"][0]["running_attempts"].as_u64() > Some(0));
    let busy = busy.unwrap()["worker"].as_str().unwrap().to_owned();
    let other = if busy == "w0" { "w1" } else { "w0" };
    let told = nodes(&cluster, &["drain", &busy, "--no-wait"]).finish().unwrap().succeeded().unwrap();
    assert_eq!(told, format!("{busy} draining\n"));
    let refused = nodes(&cluster, &["drain", other]).finish().unwrap().failed_with(1).unwrap();
    let said = format!("no other worker than '{other}' takes tasks");
    assert!(refused.contains(&said) && refused.contains("--force"), "{refused}");
    let list = cluster.run(&["nodes"]).unwrap().succeeded().unwrap();
    assert!(list.lines().any(|line| line.starts_with(&busy) && line.contains("draining")), "{list}");
    let told = nodes(&cluster, &["undrain", &busy]).finish().unwrap().succeeded().unwrap();
    assert_eq!(told, format!("{busy} alive\n"));
    client.signal(Signal::Kill).unwrap();
}

#[test]
fn a_drain_outlives_the_manager() {
    let state = tempfile::tempdir().unwrap();
    let options = ClusterOptions { workers: 2, ..three_workers() };
    let mut cluster = cluster(options.set("manager.state", state.path().to_str().unwrap()));
    let client = endless(&mut cluster);
    let is_busy = |node: &Value| node["executors"][0]["running_attempts"].as_u64() > Some(0);
    let busy = cluster.nodes().unwrap().into_iter().find(is_busy).unwrap();
    let busy = busy["worker"].as_str().unwrap().to_owned();
    let waiting = nodes(&cluster, &["drain", &busy]);
    cluster.wait_for("it to be drained", |c| Ok(state_of(c, &busy)?["drain"]["confirmed"] == true)).unwrap();
    cluster.restart_manager(Duration::from_millis(500)).unwrap();
    cluster.wait_for("the next one to know", |c| Ok(state_of(c, &busy)?["state"] == "draining")).unwrap();
    client.signal(Signal::Kill).unwrap();
    // Nothing is left there then.
    assert_eq!(waiting.finish().unwrap().succeeded().unwrap(), format!("{busy} left\n"));
    cluster.worker_has_left(if busy == "w0" { 0 } else { 1 }).unwrap();
    cluster.stop().unwrap();
}

/// Runs queries one after another until it is told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU32>,
    running: thread::JoinHandle<()>,
}

impl Load {
    const QUERIES: [&str; 6] = ["q09", "q18", "q05", "q21", "q03", "q07"];

    fn on(cluster: &ProcessCluster) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (stopped, counted, address) =
            (Arc::clone(&stop), Arc::clone(&done), cluster.address().to_owned());
        let running = thread::spawn(move || {
            runtime().block_on(async {
                let engine = Engine::connect(&address).await.unwrap();
                register(&engine, Scale::One).await;
                for query in Self::QUERIES.into_iter().cycle() {
                    if stopped.load(Ordering::Relaxed) {
                        break;
                    }
                    let answered = async {
                        let (_, batches) = engine.rows(tpch(query).unwrap().sql).await.unwrap();
                        check(Scale::One, query, &Answer::from_batches(&batches).unwrap()).unwrap();
                    };
                    let ((), failed) = tokio::join!(answered, done_once(&engine, query));
                    assert_eq!(failed, 0, "attempts of {query} have failed");
                    counted.fetch_add(1, Ordering::Relaxed);
                }
                engine.0.close().await;
            });
        });
        Self { stop, done, running }
    }

    /// Waits until so many more queries were answered.
    fn await_more(&self, queries: u32) {
        let goal = self.done.load(Ordering::Relaxed) + queries;
        let deadline = Instant::now() + Duration::from_secs(120);
        while self.done.load(Ordering::Relaxed) < goal {
            assert!(!self.running.is_finished(), "a query has failed");
            assert!(Instant::now() < deadline, "no query is answered any more");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn end(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        self.running.join().unwrap();
        self.done.load(Ordering::Relaxed)
    }
}

/// Every process of a cluster is replaced while queries run: none fails, every answer is right, and no task that was done is
/// done again.
#[test]
fn a_rolling_restart_of_every_process_fails_no_query() {
    let state = tempfile::tempdir().unwrap();
    let mut cluster = cluster(three_workers().set("manager.state", state.path().to_str().unwrap()));
    let load = Load::on(&cluster);
    load.await_more(2);
    for (worker, name) in ["w0", "w1", "w2"].into_iter().enumerate() {
        let told = nodes(&cluster, &["drain", name]).finish().unwrap();
        assert_eq!(told.succeeded().unwrap(), format!("{name} left\n"));
        cluster.replace_worker(worker).unwrap();
        load.await_more(1);
    }
    cluster.restart_manager(Duration::from_millis(700)).unwrap();
    load.await_more(2);
    let answered = load.end();
    assert!(answered >= 7, "{answered} queries were answered");
    let jobs = cluster.run(&["jobs", "list", "--all", "--json"]).unwrap().succeeded().unwrap();
    let jobs: Value = serde_json::from_str(&jobs).unwrap();
    let unhappy: Vec<_> = jobs.as_array().unwrap().iter().filter(|job| job["state"] != "succeeded").collect();
    assert!(unhappy.is_empty(), "{unhappy:?}");
    cluster.wait_for("all slots and blocks to be free", |cluster| cluster.is_idle()).unwrap();
    cluster.stop().unwrap();
}
