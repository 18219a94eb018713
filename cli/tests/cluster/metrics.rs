//! What managers and workers of a real cluster tell Prometheus.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;

use firesteel_bench::queries::{tpch, tpch_script};
use firesteel_metrics::Role;
use firesteel_metrics::table::METRICS;
use firesteel_testing::cluster::{Certificates, ClusterOptions, ProcessCluster, Signal};
use firesteel_testing::data;
use firesteel_testing::oracle::tpch::Scale;

use crate::engines::cluster;
use crate::prometheus::{Exported, get};

const ANY_PORT: &str = "127.0.0.1:0";

fn told(options: ClusterOptions) -> ProcessCluster {
    cluster(options.alert().set("manager.metrics", ANY_PORT).set("worker.metrics", ANY_PORT))
}

/// Where a daemon said that it serves its metrics, by the name of its log; the last of its lives counts.
fn address(cluster: &ProcessCluster, daemon: &str) -> String {
    let log = std::fs::read_to_string(cluster.folder().join(format!("{daemon}.log"))).unwrap();
    let line =
        log.lines().rfind(|line| line.contains("metrics are served")).unwrap_or_else(|| panic!("{log}"));
    // Colours, if there are any, are between the key and the value.
    let at = line.rfind("127.0.0.1:").unwrap();
    line[at..].chars().take_while(|c| c.is_ascii_digit() || ".:".contains(*c)).collect()
}

/// The names of the metrics that these tell.
fn of(roles: &[Role]) -> BTreeSet<&'static str> {
    METRICS.iter().filter(|metric| roles.contains(&metric.role)).map(|metric| metric.name).collect()
}

/// Submits a query that has something to shuffle.
fn run_job(cluster: &ProcessCluster) {
    let script = tpch_script(&data::tpch(Scale::Tenth).unwrap(), &tpch("q03").unwrap());
    let file = cluster.folder().join("query.sql");
    std::fs::write(&file, script).unwrap();
    cluster.run(&["submit", file.to_str().unwrap(), "--format", "csv"]).unwrap().succeeded().unwrap();
}

#[test]
fn each_metric_is_told_and_a_job_moves_what_counts() {
    let state = tempfile::tempdir().unwrap();
    let options =
        ClusterOptions { certificates: Some(Certificates::of("test").unwrap()), ..ClusterOptions::default() };
    let mut cluster = told(options.set("manager.state", state.path().to_str().unwrap()));
    let (manager, workers) =
        (address(&cluster, "manager"), ["worker-0", "worker-1"].map(|name| address(&cluster, name)));
    let sum = |name: &str| workers.iter().map(|worker| Exported::scrape(worker).sum(name, &[])).sum::<f64>();
    let before = Exported::scrape(&manager);
    assert_eq!(before.names(), of(&[Role::Both, Role::Manager, Role::Leader]));
    assert_eq!(before.sum("firesteel_manager_nodes", &[("state", "alive")]), 2.0);
    assert_eq!(before.sum("firesteel_manager_slots", &[]), 2.0);
    assert_eq!(before.sum("firesteel_manager_leads", &[]), 1.0);
    assert_eq!(before.sum("firesteel_manager_jobs_added_total", &[]), 0.0);
    let age = before.sum("firesteel_manager_heartbeat_age_seconds", &[]);
    assert!((0.0..3.0).contains(&age), "{age}");

    run_job(&cluster);
    // A page is told again for a moment.
    let ended = |page: &Exported| page.sum("firesteel_manager_jobs_ended_total", &[]);
    cluster.wait_for("the job to be counted", |_| Ok(ended(&Exported::scrape(&manager)) == 1.0)).unwrap();
    let after = Exported::scrape(&manager);
    for name in [
        "jobs_added_total",
        "grants_total",
        "placements_total",
        "placement_seconds_count",
        "journal_append_seconds_count",
        "journal_bytes_total",
    ] {
        let name = format!("firesteel_manager_{name}");
        assert!(after.sum(&name, &[]) > before.sum(&name, &[]), "{name}");
    }
    let ended = |outcome| after.sum("firesteel_manager_jobs_ended_total", &[("outcome", outcome)]);
    assert_eq!(["succeeded", "failed", "cancelled"].map(ended), [1.0, 0.0, 0.0]);

    // Executors are asked once a second how they are.
    let fetched = "firesteel_worker_executor_fetched_bytes_total";
    cluster.wait_for("the executors to be asked", |_| Ok(sum(fetched) > 0.0)).unwrap();
    assert!(sum("firesteel_worker_executor_cpu_seconds_total") > 0.0);
    assert_eq!(sum("firesteel_worker_registered"), 2.0);
    cluster.wait_for("the driver to be gone", |_| Ok(sum("firesteel_worker_results") == 1.0)).unwrap();
    assert!(sum("firesteel_worker_result_bytes") > 0.0);
    assert_eq!(sum("firesteel_worker_executor_memory_limit_bytes"), 2.0 * (2_u64 << 30) as f64);
    let drivers = workers.iter().map(|worker| {
        Exported::scrape(worker).sum("firesteel_worker_drivers_ended_total", &[("outcome", "succeeded")])
    });
    assert_eq!(drivers.sum::<f64>(), 1.0);
    for worker in &workers {
        let told = Exported::scrape(worker);
        assert_eq!(told.names(), of(&[Role::Both, Role::Worker]));
        let [free, size] =
            ["free", "size"].map(|what| told.sum(&format!("firesteel_worker_scratch_{what}_bytes"), &[]));
        assert!(0.0 < free && free <= size, "{free} of {size}");
    }
    let day = 86_400.0;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let left = after.sum("firesteel_certificate_expiry_seconds", &[]) - now;
    // The job's result stays on scratch, which `stop` would complain of.
    assert!(left > day / 24.0 && left < 100.0 * 365.0 * day, "{left}");
}

#[test]
fn health_is_that_of_the_connection_and_a_dead_executor_is_counted() {
    let mut cluster = told(ClusterOptions { workers: 1, ..ClusterOptions::default() });
    let (manager, worker) = (address(&cluster, "manager"), address(&cluster, "worker-0"));
    assert_eq!(get(&manager, "/healthz").status, 200);
    assert_eq!(
        (get(&worker, "/healthz").status, get(&worker, "/healthz").body.as_str()),
        (200, "registered\n")
    );

    let executor = cluster.executor_pids(0).unwrap()[0];
    firesteel_testing::cluster::send(executor, Signal::Kill).unwrap();
    let restarts = "firesteel_worker_executor_restarts_total";
    cluster
        .wait_for("the executor to be up again", |_| {
            let told = Exported::scrape(&worker);
            let up = told.sum("firesteel_worker_executors", &[("state", "up")]);
            Ok(told.sum(restarts, &[("executor", "0")]) == 1.0 && up == 1.0)
        })
        .unwrap();
    let gone = "firesteel_manager_executors_gone_total";
    cluster.wait_for("it to be counted", |_| Ok(Exported::scrape(&manager).sum(gone, &[]) == 1.0)).unwrap();

    cluster.kill_manager(0).unwrap();
    cluster.wait_for("the worker to miss it", |_| Ok(get(&worker, "/healthz").status == 503)).unwrap();
    assert_eq!(get(&worker, "/healthz").body, "the worker is registered at no manager\n");
    let registered = "firesteel_worker_registered";
    cluster
        .wait_for("that to be told", |_| Ok(Exported::scrape(&worker).sum(registered, &[]) == 0.0))
        .unwrap();
    cluster.start_manager(0).unwrap();
    cluster.wait_for("the worker to be back", |_| Ok(get(&worker, "/healthz").status == 200)).unwrap();
    assert!(Exported::scrape(&worker).sum("firesteel_worker_manager_losses_total", &[]) >= 1.0);
    cluster.stop().unwrap();
}

#[test]
fn of_several_managers_one_leads_and_the_others_follow() {
    let mut cluster = told(ClusterOptions { managers: 3, workers: 1, ..ClusterOptions::default() });
    let leader = cluster.leader().unwrap();
    let told = |index: usize| address(&cluster, &format!("manager-{index}"));
    let managers = [0, 1, 2].map(told);
    for (index, manager) in managers.iter().enumerate() {
        let (leads, exported, health) =
            (index == leader, Exported::scrape(manager), get(manager, "/healthz"));
        assert_eq!(exported.sum("firesteel_manager_leads", &[]), f64::from(u8::from(leads)));
        assert_eq!(exported.sum("firesteel_manager_leader_known", &[]), 1.0);
        assert!(exported.sum("firesteel_manager_term", &[]) >= 1.0);
        let roles = [Role::Both, Role::Manager, Role::Leader];
        let told: BTreeSet<_> = of(&roles[..if leads { 3 } else { 2 }]);
        // It has no certificate.
        let told: BTreeSet<_> =
            told.into_iter().filter(|name| *name != "firesteel_certificate_expiry_seconds").collect();
        assert_eq!(exported.names(), told);
        let says = if leads {
            "leads\n".to_owned()
        } else {
            format!("follows {}\n", cluster.manager_addresses()[leader])
        };
        assert_eq!((health.status, health.body), (200, says));
    }
    // One that is left alone knows of no leader.
    let [second, third] = [1, 2].map(|more| (leader + more) % 3);
    cluster.kill_manager(leader).unwrap();
    cluster.kill_manager(second).unwrap();
    cluster.wait_for("the last one to ail", |_| Ok(get(&managers[third], "/healthz").status == 503)).unwrap();
    let alone = Exported::scrape(&managers[third]);
    assert_eq!(alone.sum("firesteel_manager_leader_known", &[]), 0.0);
    assert_eq!(get(&managers[third], "/healthz").body, "no manager leads, as far as this one knows\n");
}

#[test]
fn hostile_clients_do_not_keep_prometheus_out() {
    let cluster = told(ClusterOptions { workers: 1, ..ClusterOptions::default() });
    for daemon in ["manager", "worker-0"] {
        let address = address(&cluster, daemon);
        let mut crowd = Vec::new();
        let giant = [b"GET /metrics HTTP/1.1\r\nA: ".to_vec(), vec![b'a'; 1 << 20]].concat();
        for number in 0..300 {
            let mut stream = TcpStream::connect(&address).unwrap();
            let says: &[u8] = match number % 3 {
                0 => b"",
                1 => b"GET /metrics HT",
                _ => &giant,
            };
            // It may be closed before all is said.
            let _ = stream.write_all(says);
            crowd.push(stream);
        }
        Exported::scrape(&address);
    }
    cluster.stop().unwrap();
}
