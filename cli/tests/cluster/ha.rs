//! Three managers: one leads, and another one does when it is gone.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use firesteel_bench::queries::{tpch, tpch_tables_sql};
use firesteel_testing::cluster::{ClusterOptions, ProcessCluster, Running, Signal};
use firesteel_testing::data;
use firesteel_testing::oracle::tpch::Scale;
use serde_json::Value;

use crate::engines::{Engine, FIRESTEEL, cluster, runtime};
use crate::failures::done_once;
use crate::managers::{both_are_known, jobs, outlives};
use crate::tpch::register;

/// More than the promise of five seconds, as these tests share their machine with others.
const FAIL_OVER_MAX: Duration = Duration::from_secs(15);

fn three() -> ClusterOptions {
    ClusterOptions { managers: 3, ..ClusterOptions::default().alert() }
}

fn role(cluster: &ProcessCluster, manager: usize) -> String {
    cluster.manager_shown(manager).unwrap()["role"].as_str().unwrap_or_default().to_owned()
}

fn kill_leader(cluster: &mut ProcessCluster) -> usize {
    let leader = cluster.leader().unwrap();
    cluster.kill_manager(leader).unwrap();
    leader
}

/// Waits until a member has all that the leader has, as one of its followers.
fn wait_until_caught_up(cluster: &mut ProcessCluster, member: usize) {
    let leader = cluster.leader().unwrap();
    cluster
        .wait_for("a manager to catch up", |cluster| {
            let (mine, theirs) = (cluster.manager_shown(member)?, cluster.manager_shown(leader)?);
            Ok(mine["role"] == "follower" && mine["applied"].as_u64() >= theirs["applied"].as_u64())
        })
        .unwrap();
}

#[test]
fn queries_go_on_when_the_leader_is_killed_and_nothing_is_run_again() {
    let mut cluster = cluster(three());
    runtime().block_on(async {
        let engine = Engine::connect(cluster.address()).await.unwrap();
        register(&engine, Scale::One).await;
        for query in ["q18", "q09"] {
            let mut killed = None;
            outlives(&mut cluster, &engine, query, |cluster| killed = Some(kill_leader(cluster))).await;
            let killed = killed.unwrap();
            assert_ne!(cluster.leader().unwrap(), killed);
            cluster.start_manager(killed).unwrap();
            wait_until_caught_up(&mut cluster, killed);
        }
        engine.0.close().await;
    });
    let jobs = jobs(&cluster);
    assert!(jobs.len() >= 2 && jobs.iter().all(|job| job["state"] == "succeeded"), "{jobs:?}");
    cluster.wait_for("all slots and blocks to be free", |cluster| cluster.is_idle()).unwrap();
    cluster.stop().unwrap();
}

/// From the leader's death until a query that was asked after it has its answer, which takes slots that the next leader lends.
#[test]
fn the_next_leader_lends_slots_within_seconds() {
    let mut cluster = cluster(three());
    let took = runtime().block_on(async {
        let engine = Engine::connect(cluster.address()).await.unwrap();
        register(&engine, Scale::One).await;
        let sql = "SELECT count(*) FROM nation";
        engine.rows(sql).await.unwrap();
        let leader = cluster.leader().unwrap();
        let killed = Instant::now();
        cluster.kill_manager(leader).unwrap();
        engine.rows(sql).await.unwrap();
        let took = killed.elapsed();
        engine.0.close().await;
        took
    });
    eprintln!("from the leader's death to the answer of the next query: {took:?}");
    assert!(took < FAIL_OVER_MAX, "{took:?}");
}

/// One runs and one has ended: the next leader knows both, and the client that waits for the first does not notice.
#[test]
fn submitted_jobs_and_the_history_are_known_to_the_next_leader() {
    let mut cluster = cluster(three());
    let data = data::tpch(Scale::One).unwrap();
    let script = tpch_tables_sql(&data).join(";\n") + ";\n" + tpch("q18").unwrap().sql;
    std::fs::write(cluster.folder().join("q18.sql"), script).unwrap();
    std::fs::write(cluster.folder().join("one.sql"), "SELECT 41 + 1 AS answer").unwrap();
    let submit = |cluster: &ProcessCluster, file: &str| {
        let file = cluster.folder().join(file);
        Running::start(cluster.client(&["submit", file.to_str().unwrap(), "--format", "csv"])).unwrap()
    };
    submit(&cluster, "one.sql").finish().unwrap().succeeded().unwrap();
    let long = submit(&cluster, "q18.sql");
    cluster
        .wait_for("the long one to run", |cluster| {
            let running = |job: &Value| job["state"] == "running" && job["slots_held"].as_u64() > Some(0);
            Ok(jobs(cluster).iter().any(running))
        })
        .unwrap();
    kill_leader(&mut cluster);
    both_are_known(&cluster, long);
}

/// What one alone would say might not be known to the others.
#[test]
fn one_of_three_serves_nobody_until_another_one_is_back() {
    let mut cluster = cluster(three());
    let first = kill_leader(&mut cluster);
    let second = kill_leader(&mut cluster);
    let told = cluster.run(&["jobs"]).unwrap().failed_with(3).unwrap();
    for address in cluster.manager_addresses() {
        assert!(told.contains(&format!("{address}: ")), "{address} is not named: {told}");
    }
    assert!(told.contains("none of the managers") && told.contains("firesteel managers"), "{told}");
    assert!(cluster.managers_shown().unwrap()["leader"].is_null());
    cluster.start_manager(second).unwrap();
    cluster.leader().unwrap();
    assert_eq!(cluster.sql("SELECT 1 AS one").unwrap(), "one\n1\n");
    cluster.start_manager(first).unwrap();
    wait_until_caught_up(&mut cluster, first);
    cluster.stop().unwrap();
}

/// It believes that it leads until it looks at the time, and looks before it says anything.
#[test]
fn a_leader_that_was_frozen_leads_no_more() {
    let mut cluster = cluster(three());
    let frozen = cluster.leader().unwrap();
    runtime().block_on(async {
        let engine = Engine::connect(cluster.address()).await.unwrap();
        register(&engine, Scale::One).await;
        outlives(&mut cluster, &engine, "q18", |cluster| {
            cluster.signal_manager(frozen, Signal::Stop).unwrap();
            std::thread::sleep(Duration::from_secs(10));
            cluster.signal_manager(frozen, Signal::Continue).unwrap();
        })
        .await;
        let leader = cluster.leader().unwrap();
        assert_ne!(leader, frozen);
        let (_, failed) = tokio::join!(engine.rows(tpch("q09").unwrap().sql), done_once(&engine, "q09"));
        assert_eq!(failed, 0);
        engine.0.close().await;
    });
    wait_until_caught_up(&mut cluster, frozen);
    // Whoever asks that one alone is told where to go.
    let alone = &cluster.manager_addresses()[frozen];
    let listed =
        cluster.run(&["jobs", "list", "--all", "--json", "--manager", alone]).unwrap().succeeded().unwrap();
    assert_eq!(serde_json::from_str::<Vec<Value>>(&listed).unwrap(), jobs(&cluster));
    cluster.stop().unwrap();
}

#[test]
fn a_follower_that_is_killed_changes_nothing_and_catches_up_with_its_old_state() {
    let mut cluster = cluster(three());
    let leader = cluster.leader().unwrap();
    let follower = (leader + 1) % 3;
    let term = cluster.manager_shown(leader).unwrap()["term"].clone();
    runtime().block_on(async {
        let engine = Engine::connect(cluster.address()).await.unwrap();
        register(&engine, Scale::One).await;
        outlives(&mut cluster, &engine, "q18", |cluster| cluster.kill_manager(follower).unwrap()).await;
        engine.0.close().await;
    });
    cluster.start_manager(follower).unwrap();
    wait_until_caught_up(&mut cluster, follower);
    let now = cluster.manager_shown(leader).unwrap();
    assert!(now["role"] == "leader" && now["term"] == term, "{now}");
    cluster.stop().unwrap();
}

/// It has no vote until it has what the others have: it may have given one away that it does not remember.
#[test]
fn a_manager_whose_state_is_lost_joins_again() {
    let mut cluster = cluster(three());
    std::fs::write(cluster.folder().join("one.sql"), "SELECT 1 AS one").unwrap();
    let file = cluster.folder().join("one.sql");
    cluster.run(&["submit", file.to_str().unwrap()]).unwrap().succeeded().unwrap();
    let lost = (cluster.leader().unwrap() + 1) % 3;
    cluster.kill_manager(lost).unwrap();
    std::fs::remove_dir_all(cluster.manager_state(lost)).unwrap();
    cluster.start_manager(lost).unwrap();
    assert!(["forming", "joining"].contains(&role(&cluster, lost).as_str()));
    wait_until_caught_up(&mut cluster, lost);
    // How far stages came is not kept.
    let history = |cluster: &ProcessCluster| -> Vec<[Value; 4]> {
        let of_job = |job: &Value| ["job", "name", "state", "ended_unix_ms"].map(|key| job[key].clone());
        jobs(cluster).iter().map(of_job).collect()
    };
    let before = history(&cluster);
    kill_leader(&mut cluster);
    cluster.leader().unwrap();
    assert_eq!(history(&cluster), before);
    assert_eq!(cluster.sql("SELECT 1 AS one").unwrap(), "one\n1\n");
}

fn manager(bind: &str, peers: &str, state: &Path) -> Running {
    let mut command = Command::new(FIRESTEEL);
    command.args([
        "manager",
        "--insecure",
        "--bind",
        bind,
        "--peers",
        peers,
        "--state",
        state.to_str().unwrap(),
    ]);
    Running::start(command).unwrap()
}

#[test]
fn lists_of_managers_that_make_no_sense_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |bind: &str, peers: &str, code: i32| {
        manager(bind, peers, folder.path()).finish().unwrap().failed_with(code).unwrap()
    };
    let two = refused("127.0.0.1:0", "127.0.0.1:7401,127.0.0.1:7402", 2);
    assert!(two.contains("a majority of two is both"), "{two}");
    let none = refused("127.0.0.1:0", "127.0.0.1:7401,127.0.0.1:7402,127.0.0.1:7403", 2);
    assert!(none.contains("is none of the managers") && none.contains("--advertise"), "{none}");
}

#[test]
fn a_folder_is_of_one_member_of_one_list() {
    let mut cluster = cluster(ClusterOptions { workers: 1, ..three() });
    let follower = (cluster.leader().unwrap() + 1) % 3;
    cluster.kill_manager(follower).unwrap();
    let (addresses, state) = (cluster.manager_addresses().to_vec(), cluster.manager_state(follower));
    let other_list = [&addresses[follower], "127.0.0.1:1", "127.0.0.1:2"].join(",");
    let told = manager(&addresses[follower], &other_list, &state).finish().unwrap().failed_with(1).unwrap();
    assert!(told.contains("manager.peers names") && told.contains("does not change"), "{told}");
    let mut alone = Command::new(FIRESTEEL);
    alone.args(["manager", "--insecure", "--bind", "127.0.0.1:0", "--state", state.to_str().unwrap()]);
    let told = Running::start(alone).unwrap().finish().unwrap().failed_with(1).unwrap();
    assert!(told.contains("one of several managers") && told.contains("--peers"), "{told}");
    cluster.start_manager(follower).unwrap();
    wait_until_caught_up(&mut cluster, follower);
    cluster.stop().unwrap();
}
