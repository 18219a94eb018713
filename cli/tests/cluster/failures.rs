//! What dies is noticed, and the answer is still right.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use firesteel_base::ByteSize;
use firesteel_bench::queries::{tpch, tpch_tables_sql};
use firesteel_driver::Phase;
use firesteel_engine::datafusion::arrow::util::pretty::pretty_format_batches;
use firesteel_testing::cluster::{ClusterOptions, ProcessCluster, Running, Signal, proc, send};
use firesteel_testing::data;
use firesteel_testing::oracle::Answer;
use firesteel_testing::oracle::tpch::{Scale, check};

use crate::engines::{Engine, cluster, runtime};
use crate::sharing::ENDLESS;
use crate::tpch::{EARLY, register};

/// Runs `query` and, once attempts of it run, does `harm`; the answer is right all the same.
pub async fn survives(engine: &Engine, query: &str, harm: impl FnOnce()) {
    let answered = async {
        let (_, batches) = engine.rows(tpch(query).unwrap().sql).await.unwrap();
        check(Scale::One, query, &Answer::from_batches(&batches).unwrap()).unwrap();
    };
    let mut progress = engine.0.progress();
    let harmed = async {
        // Some task has ended, so blocks lie on the executors, and others still run.
        let hit = progress.wait_for(|now| {
            let (done, all) = now.tasks();
            done > 0 && done < all && now.stages.iter().any(|stage| stage.running > 0)
        });
        tokio::time::timeout(Duration::from_secs(60), hit).await.unwrap().unwrap();
        harm();
    };
    tokio::join!(answered, harmed);
}

/// Watches the next query to its end: no task that was done is done again. Returns how many attempts of a stage have failed, at
/// most.
pub async fn done_once(engine: &Engine, query: &str) -> u32 {
    let mut progress = engine.0.progress();
    let (mut most_done, mut failed) = (BTreeMap::new(), 0);
    while progress.changed().await.is_ok() {
        let now = progress.borrow_and_update().clone();
        for stage in &now.stages {
            let before = most_done.insert(stage.stage, stage.done).unwrap_or(0);
            assert!(stage.done >= before, "{query}: {} was run again: {now:?}", stage.stage);
            failed = failed.max(stage.failed_attempts);
        }
        if now.phase == Phase::Succeeded {
            break;
        }
    }
    failed
}

#[test]
fn an_executor_that_is_killed_in_the_middle_of_a_job() {
    let mut cluster = cluster(ClusterOptions::default().alert());
    let killed = cluster.executor_pids(0).unwrap();
    assert_eq!(killed.len(), 1);
    runtime().block_on(async {
        let engine = Engine::connect(cluster.address()).await.unwrap();
        register(&engine, Scale::One).await;
        survives(&engine, "q18", || send(killed[0], Signal::Kill).unwrap()).await;
        engine.0.close().await;
    });
    cluster
        .wait_for("the worker to start it again", |cluster| {
            let now = cluster.executor_pids(0)?;
            Ok(now.len() == 1 && now != killed && cluster.executors()?.iter().all(|e| e["up"] == true))
        })
        .unwrap();
    assert!(cluster.executors().unwrap().iter().any(|executor| executor["epoch"].as_u64() > Some(1)));
    assert_eq!(cluster.sql("SELECT 1 AS one").unwrap(), "one\n1\n");
    cluster.wait_for("all slots and blocks to be free", |cluster| cluster.is_idle()).unwrap();
    cluster.stop().unwrap();
}

/// Its worker serves them from then on.
#[test]
fn what_a_killed_executor_has_written_is_not_computed_again() {
    let mut cluster = cluster(ClusterOptions::default().alert());
    let killed = cluster.executor_pids(0).unwrap();
    runtime().block_on(async {
        let engine = Engine::connect(cluster.address()).await.unwrap();
        register(&engine, Scale::One).await;
        for query in ["q09", "q18"] {
            let killed = cluster.executor_pids(0).unwrap();
            let harm = || send(killed[0], Signal::Kill).unwrap();
            tokio::join!(survives(&engine, query, harm), done_once(&engine, query));
            cluster
                .wait_for("the worker to start it again", |cluster| {
                    let now = cluster.executor_pids(0)?;
                    Ok(now.len() == 1
                        && now != killed
                        && cluster.executors()?.iter().all(|e| e["up"] == true))
                })
                .unwrap();
        }
        engine.0.close().await;
    });
    assert_ne!(cluster.executor_pids(0).unwrap(), killed);
    cluster.wait_for("all slots and blocks to be free", |cluster| cluster.is_idle()).unwrap();
    cluster.stop().unwrap();
}

/// Some wait for what is still written, and what they wait for has to be run again.
#[test]
fn an_executor_that_is_killed_while_stages_have_begun_early() {
    let mut cluster = cluster(ClusterOptions { workers: 3, ..ClusterOptions::default() }.alert());
    runtime().block_on(async {
        let engine = Engine::connect(cluster.address()).await.unwrap();
        register(&engine, Scale::One).await;
        for setting in EARLY {
            engine.rows(setting).await.unwrap();
        }
        for (query, worker) in [("q18", 0), ("q09", 1), ("q21", 2), ("q05", 0)] {
            let killed = cluster.executor_pids(worker).unwrap();
            survives(&engine, query, || send(killed[0], Signal::Kill).unwrap()).await;
            cluster
                .wait_for("the worker to start it again", |cluster| {
                    let now = cluster.executor_pids(worker)?;
                    let all_up = cluster.executors()?.iter().all(|e| e["up"] == true);
                    Ok(now.len() == 1 && now != killed && all_up)
                })
                .unwrap();
        }
        engine.0.close().await;
    });
    cluster.wait_for("all slots and blocks to be free", |cluster| cluster.is_idle()).unwrap();
    cluster.stop().unwrap();
}

#[test]
fn a_worker_that_is_killed_with_its_executor_in_the_middle_of_a_job() {
    let mut cluster = cluster(ClusterOptions::default().alert());
    let executors = cluster.executor_pids(0).unwrap();
    runtime().block_on(async {
        let engine = Engine::connect(cluster.address()).await.unwrap();
        register(&engine, Scale::One).await;
        survives(&engine, "q09", || {
            executors.iter().for_each(|&pid| send(pid, Signal::Kill).unwrap());
            cluster.signal_worker(0, Signal::Kill).unwrap();
        })
        .await;
        engine.0.close().await;
    });
    cluster
        .wait_for("it to be given up", |cluster| {
            Ok(cluster.nodes()?.iter().any(|node| node["worker"] == "w0" && node["state"] == "lost"))
        })
        .unwrap();
    assert_eq!(cluster.sql("SELECT 1 AS one").unwrap(), "one\n1\n");
}

/// As behind a cut network: it lives on and is not heard. What its executors come back with counts no more.
#[test]
fn a_worker_that_falls_silent_in_the_middle_of_a_job_is_given_up_and_taken_back() {
    let mut cluster = cluster(ClusterOptions::default().alert());
    let mut silent = cluster.executor_pids(0).unwrap();
    silent.push(cluster.worker_pid(0));
    let epochs = |cluster: &ProcessCluster| -> Vec<u64> {
        let executors = cluster.executors().unwrap();
        executors.iter().filter_map(|executor| executor["epoch"].as_u64()).collect()
    };
    let before = epochs(&cluster);
    runtime().block_on(async {
        let engine = Engine::connect(cluster.address()).await.unwrap();
        register(&engine, Scale::One).await;
        survives(&engine, "q09", || silent.iter().for_each(|&pid| send(pid, Signal::Stop).unwrap())).await;
        engine.0.close().await;
    });
    cluster
        .wait_for("it to be given up", |cluster| {
            Ok(cluster.nodes()?.iter().any(|node| node["worker"] == "w0" && node["state"] == "lost"))
        })
        .unwrap();
    silent.iter().for_each(|&pid| send(pid, Signal::Continue).unwrap());
    cluster
        .wait_for("it to be back", |cluster| {
            let all_up = cluster.executors()?.iter().all(|executor| executor["up"] == true);
            Ok(all_up && cluster.nodes()?.iter().all(|node| node["state"] == "alive"))
        })
        .unwrap();
    assert_ne!(epochs(&cluster), before, "its executor has another epoch");
    cluster.wait_for("all slots and blocks to be free", |cluster| cluster.is_idle()).unwrap();
    assert_eq!(cluster.sql("SELECT 1 AS one").unwrap(), "one\n1\n");
    cluster.stop().unwrap();
}

#[test]
fn executors_do_not_outlive_a_worker_that_is_killed() {
    let mut cluster = cluster(ClusterOptions::default().alert());
    let executors = cluster.executor_pids(1).unwrap();
    cluster.signal_worker(1, Signal::Kill).unwrap();
    cluster
        .wait_for("its executors to end", |_| Ok(!executors.iter().any(|&pid| proc::is_alive(pid))))
        .unwrap();
}

/// The client that asked is killed: it can free nothing any more, so the cluster does.
#[test]
fn a_client_that_is_killed_leaves_nothing_running() {
    let mut cluster = cluster(ClusterOptions::default().alert());
    let data = data::tpch(Scale::Tenth).unwrap();
    let script = tpch_tables_sql(&data).join(";\n") + ";\n" + ENDLESS;
    let client = Running::start(cluster.client(&["sql", "-c", &script])).unwrap();
    cluster
        .wait_for("the query to run", |cluster| {
            Ok(cluster.executors()?.iter().any(|executor| executor["running_attempts"].as_u64() > Some(0)))
        })
        .unwrap();
    client.signal(Signal::Kill).unwrap();
    client.finish().unwrap();
    cluster.wait_for("all slots and blocks to be free", |cluster| cluster.is_idle()).unwrap();
    cluster.stop().unwrap();
}

#[test]
fn a_worker_that_leaves_is_missed_by_nobody() {
    let mut cluster = cluster(ClusterOptions::default().alert());
    cluster.signal_worker(1, Signal::Terminate).unwrap();
    cluster
        .wait_for("it to have left", |cluster| {
            Ok(cluster.nodes()?.iter().all(|node| node["worker"] != "w1" || node["state"] == "left"))
        })
        .unwrap();
    assert_eq!(cluster.sql("SELECT count(*) AS n FROM generate_series(1, 1000)").unwrap(), "n\n1000\n");
    cluster.stop().unwrap();
}

/// What one group of rows comes to fits into no executor, and cannot be spilled: each attempt ends with a typed report, the task is tried
/// elsewhere up to its limit, and then the query fails and says what it found no memory for.
#[test]
fn attempts_that_find_no_memory_are_tried_elsewhere_and_then_fail_the_query_plainly() {
    const QUERY: &str = "SELECT array_length(array_agg(repeat(l_comment, 24))) AS n FROM lineitem";
    let mut cluster = cluster(ClusterOptions { memory: ByteSize(64 << 20), ..ClusterOptions::default() });
    runtime().block_on(async {
        let engine = Engine::connect(cluster.address()).await.unwrap();
        register(&engine, Scale::Tenth).await;
        let mut progress = engine.0.progress();
        let failed = async {
            let mut most = 0;
            while progress.changed().await.is_ok() {
                let now = progress.borrow_and_update().clone();
                most = now.stages.iter().map(|stage| stage.failed_attempts).max().unwrap_or(0).max(most);
                if now.phase == Phase::Failed {
                    break;
                }
            }
            most
        };
        let (answer, failed) = tokio::join!(engine.rows(QUERY), failed);
        let error = answer.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("memory") && error.contains("64MiB"), "{error}");
        assert!(failed > 1, "it was tried {failed} times");
        engine.rows("SELECT 1").await.unwrap();
        engine.0.close().await;
    });
    cluster.wait_for("all slots and blocks to be free", |cluster| cluster.is_idle()).unwrap();
    cluster.stop().unwrap();
}

/// Lets a process run for a small part of the time only, until it is dropped.
struct Slowed {
    end: Arc<AtomicBool>,
    slowing: Option<JoinHandle<()>>,
}

impl Slowed {
    fn down(pid: u32) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let slowing = thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                for (signal, millis) in [(Signal::Stop, 97), (Signal::Continue, 3)] {
                    send(pid, signal).unwrap();
                    thread::sleep(Duration::from_millis(millis));
                }
            }
        });
        Self { end, slowing: Some(slowing) }
    }
}

impl Drop for Slowed {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        self.slowing.take().unwrap().join().unwrap();
    }
}

/// What it has begun is done a second time by the other one, and whoever is first counts.
#[test]
fn an_executor_that_is_slow_is_overtaken() {
    const QUERY: &str = "SELECT l_returnflag, l_linestatus, count(*), sum(l_extendedprice * (1 - l_discount)), \
                         count(DISTINCT l_suppkey) FROM lineitem GROUP BY 1, 2 ORDER BY 1, 2";
    let cluster = cluster(ClusterOptions::default());
    let slow = cluster.executor_pids(0).unwrap()[0];
    runtime().block_on(async {
        let engine = Engine::connect(cluster.address()).await.unwrap();
        register(&engine, Scale::One).await;
        let rows = async |query: &str| {
            pretty_format_batches(&engine.rows(query).await.unwrap().1).unwrap().to_string()
        };
        let right = rows(QUERY).await;
        let slowed = Slowed::down(slow);
        let overtaken = rows(&format!("EXPLAIN ANALYZE {QUERY}")).await;
        assert!(overtaken.contains("speculated: task") && overtaken.contains("on w0/e0"), "{overtaken}");
        assert_eq!(rows(QUERY).await, right);
        drop(slowed);
        engine.rows("SET firesteel.speculation = false").await.unwrap();
        assert!(!rows(&format!("EXPLAIN ANALYZE {QUERY}")).await.contains("speculated"));
        engine.0.close().await;
    });
    cluster.stop().unwrap();
}
