//! Clusters that certificates secure: they answer as others do, and whoever lacks the right one gets nothing.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use firesteel_base::config::{Auto, SecuritySettings};
use firesteel_base::version;
use firesteel_bench::queries::tpch;
use firesteel_certs::{Lifetime, Request, Role, Security};
use firesteel_protocol::channel::{self, Server};
use firesteel_protocol::v1::manager_client::ManagerClient;
use firesteel_protocol::v1::members_client::MembersClient;
use firesteel_protocol::v1::{MemberCall, RegisterWorker, WorkerToManager, worker_to_manager};
use firesteel_testing::cluster::{Certificates, ClusterOptions, Finished, ProcessCluster, Running, proc};
use firesteel_testing::oracle::Answer;
use firesteel_testing::oracle::tpch::{Scale, check};

use crate::engines::{Engine, FIRESTEEL, cluster, runtime};
use crate::tpch::register;

fn secured(certificates: &Certificates) -> ClusterOptions {
    ClusterOptions { certificates: Some(certificates.clone()), ..ClusterOptions::default() }
}

fn client_with(folder: &Path) -> Security {
    let folder = Auto::Set(folder.to_str().unwrap().to_owned());
    let (ca, certificate, key) = (Auto::Auto, Auto::Auto, Auto::Auto);
    Security::of_client(&SecuritySettings { folder, ca, certificate, key, insecure: false }).unwrap()
}

/// A client of the cluster, with another certificate or with none.
fn run_as(cluster: &ProcessCluster, folder: Option<&Path>, arguments: &[&str]) -> Finished {
    let mut command = cluster.client(arguments);
    match folder {
        Some(folder) => command.env("FIRESTEEL_SECURITY_FOLDER", folder),
        None => command.env_remove("FIRESTEEL_SECURITY_FOLDER"),
    };
    Running::start(command).unwrap().finish().unwrap()
}

fn submit(cluster: &ProcessCluster, sql: &str) -> String {
    let file = cluster.folder().join("job.sql");
    std::fs::write(&file, sql).unwrap();
    let arguments = ["submit", file.to_str().unwrap(), "--deploy-mode", "cluster", "--format", "csv", "-q"];
    cluster.run(&arguments).unwrap().succeeded().unwrap()
}

/// The lines of all keys that these certificates have.
fn secrets(certificates: &Certificates) -> Vec<String> {
    let folders = ["ca/ca.key", "manager/node.key", "worker/node.key", "client/node.key"];
    let texts = folders.map(|key| std::fs::read_to_string(certificates.path().join(key)).unwrap());
    let lines = texts.iter().flat_map(|text| text.lines()).filter(|line| !line.starts_with("-----"));
    lines.map(str::to_owned).collect()
}

fn all_processes(cluster: &ProcessCluster) -> BTreeSet<u32> {
    let mut open = proc::children(std::process::id()).unwrap();
    let mut all = BTreeSet::new();
    while let Some(pid) = open.pop() {
        if all.insert(pid) {
            open.extend(proc::children(pid).unwrap());
        }
    }
    let executors = cluster.executor_pids(0).unwrap();
    assert!(!executors.is_empty() && executors.iter().all(|pid| all.contains(pid)));
    all
}

#[test]
fn a_secured_cluster_answers_rightly_and_keeps_its_keys_to_itself() {
    let certificates = Certificates::of("test").unwrap();
    let cluster = cluster(secured(&certificates).set("log.level", "debug"));
    runtime().block_on(async {
        let client = client_with(&certificates.folder("client"));
        let engine = Engine::connect_secured(cluster.address(), client).await.unwrap();
        register(&engine, Scale::Tenth).await;
        for query in ["q03", "q18"] {
            let (_, batches) = engine.rows(tpch(query).unwrap().sql).await.unwrap();
            check(Scale::Tenth, query, &Answer::from_batches(&batches).unwrap()).unwrap();
        }
        engine.0.close().await;
    });
    assert_eq!(submit(&cluster, "select 40 + 2 as answer"), "answer\n42\n");
    let secrets = secrets(&certificates);
    for pid in all_processes(&cluster) {
        for of in ["cmdline", "environ"] {
            let told = std::fs::read(format!("/proc/{pid}/{of}")).unwrap_or_default();
            let told = String::from_utf8_lossy(&told);
            assert!(secrets.iter().all(|line| !told.contains(line.as_str())), "{of} of {pid}");
        }
    }
    let logs: Vec<_> =
        std::fs::read_dir(cluster.folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let logs: Vec<_> = logs.iter().filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
    assert_eq!(logs.len(), 3);
    for log in logs {
        let text = std::fs::read_to_string(log).unwrap();
        assert!(text.contains("secured by certificates"), "{text}");
        assert!(secrets.iter().all(|line| !text.contains(line.as_str())), "{}", log.display());
    }
    // The worker keeps the job's result on its disk, so the cluster is not asked whether it leaves nothing.
}

/// Executors that share no memory fetch blocks from one another over TLS, and drivers fetch results so.
#[test]
fn blocks_go_over_tcp_in_a_secured_cluster() {
    let certificates = Certificates::of("test").unwrap();
    let cluster = cluster(secured(&certificates).set("executor.transport", "tcp"));
    runtime().block_on(async {
        let client = client_with(&certificates.folder("client"));
        let engine = Engine::connect_secured(cluster.address(), client).await.unwrap();
        register(&engine, Scale::Tenth).await;
        for query in ["q05", "q09"] {
            let (_, batches) = engine.rows(tpch(query).unwrap().sql).await.unwrap();
            check(Scale::Tenth, query, &Answer::from_batches(&batches).unwrap()).unwrap();
        }
        engine.0.close().await;
    });
    cluster.stop().unwrap();
}

#[test]
fn clients_without_the_right_certificate_get_nothing_and_are_told_why() {
    let (certificates, others) = (Certificates::of("test").unwrap(), Certificates::of("test").unwrap());
    let cluster = cluster(ClusterOptions { workers: 1, ..secured(&certificates) });
    let told = run_as(&cluster, None, &["jobs"]).failed_with(3).unwrap();
    assert!(told.contains("speaks TLS alone") && told.contains("security.folder"), "{told}");
    let told = run_as(&cluster, None, &["sql", "-c", "select 1"]).failed_with(3).unwrap();
    assert!(told.contains("speaks TLS alone"), "{told}");
    let told = run_as(&cluster, Some(&others.folder("client")), &["nodes"]).failed_with(3).unwrap();
    assert!(told.contains("issued by another authority"), "{told}");

    let day = Duration::from_secs(86_400);
    let lifetime = Lifetime { begins: SystemTime::now() - 2 * day, ends: SystemTime::now() - day };
    let over = Request { lifetime, ..Certificates::request(Role::Client) };
    let over = certificates.issue("over", &over).unwrap();
    let told = run_as(&cluster, Some(&over), &["jobs"]).failed_with(2).unwrap();
    assert!(told.contains("is over: it held until"), "{told}");

    let open = certificates.issue("open", &Certificates::request(Role::Client)).unwrap();
    run_as(&cluster, Some(&open), &["jobs"]).succeeded().unwrap();
    std::fs::set_permissions(open.join("node.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let told = run_as(&cluster, Some(&open), &["jobs"]).failed_with(2).unwrap();
    assert!(told.contains("is not secret") && told.contains("chmod 600"), "{told}");
    cluster.stop().unwrap();
}

#[test]
fn a_role_makes_its_own_calls_alone() {
    let certificates = Certificates::of("test").unwrap();
    let cluster = cluster(ClusterOptions { workers: 1, ..secured(&certificates) });
    runtime().block_on(async {
        for role in ["client", "worker"] {
            let security = client_with(&certificates.folder(role));
            let channel = channel::connect(&security, Server::Manager, cluster.address()).await.unwrap();
            let mut members = MembersClient::new(channel);
            for refused in [
                members.append(MemberCall::default()).await,
                members.vote(MemberCall::default()).await,
                members.install_snapshot(MemberCall::default()).await,
            ] {
                let told = refused.unwrap_err().to_string();
                assert!(told.contains("for a manager") && told.contains(role), "{told}");
            }
        }
        let security = client_with(&certificates.folder("client"));
        let channel = channel::connect(&security, Server::Manager, cluster.address()).await.unwrap();
        let register = RegisterWorker {
            worker: "mine".to_owned(),
            wire_version: version::WIRE,
            ..RegisterWorker::default()
        };
        let message = WorkerToManager { message: Some(worker_to_manager::Message::Register(register)) };
        let session = ManagerClient::new(channel).worker_session(futures::stream::iter([message])).await;
        let told = session.unwrap_err().to_string();
        assert!(
            told.contains("for a worker of the cluster 'test'") && told.contains("client tester"),
            "{told}"
        );
    });
    assert_eq!(cluster.nodes().unwrap().len(), 1);
    cluster.stop().unwrap();
}

#[test]
fn workers_without_the_right_certificate_do_not_join_and_say_why() {
    let (certificates, others) = (Certificates::of("test").unwrap(), Certificates::of("test").unwrap());
    let mut cluster = cluster(ClusterOptions { workers: 1, ..secured(&certificates) });
    let refused = |cluster: &ProcessCluster, folder: &Path| {
        let mut command = cluster.worker_command("other", 7).unwrap();
        command.env("FIRESTEEL_SECURITY_FOLDER", folder);
        Running::start(command).unwrap().finish().unwrap().failed_with(2).unwrap()
    };
    let told = refused(&cluster, &certificates.folder("client"));
    assert!(told.contains("is of a client tester of the cluster 'test', not of a worker"), "{told}");
    let elsewhere = Request { hosts: vec!["elsewhere".to_owned()], ..Certificates::request(Role::Worker) };
    let elsewhere = certificates.issue("elsewhere", &elsewhere).unwrap();
    let mut command = cluster.worker_command("other", 8).unwrap();
    command.env("FIRESTEEL_SECURITY_FOLDER", &elsewhere);
    let told = Running::start(command).unwrap().finish().unwrap().failed_with(1).unwrap();
    assert!(told.contains("does not name '127.0.0.1'") && told.contains("it names elsewhere"), "{told}");

    // One is told that it lacks something, and ends; the other one tries for as long as it lives, as when a manager is away.
    for (id, variable, value, says, ends) in [
        ("plain", "INSECURE", "true", "speaks TLS alone", Some(1)),
        ("foreign", "FOLDER", others.folder("worker").to_str().unwrap(), "issued by another authority", None),
    ] {
        let mut command = cluster.worker_command(id, 9).unwrap();
        let log = cluster.folder().join(format!("{id}.log"));
        command.env(format!("FIRESTEEL_SECURITY_{variable}"), value).stdin(Stdio::piped());
        let mut worker = Reaped(command.stderr(File::create(&log).unwrap()).spawn().unwrap());
        cluster
            .wait_for("the worker to say why", |_| Ok(std::fs::read_to_string(&log)?.contains(says)))
            .unwrap();
        match ends {
            Some(code) => assert_eq!(worker.0.wait().unwrap().code(), Some(code)),
            None => assert!(worker.0.try_wait().unwrap().is_none()),
        }
    }
    assert_eq!(cluster.nodes().unwrap().len(), 1);
}

/// A process that is killed when the test is over.
struct Reaped(std::process::Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn three_managers_talk_among_themselves_and_another_one_leads() {
    let certificates = Certificates::of("test").unwrap();
    let options = ClusterOptions { managers: 3, workers: 1, ..secured(&certificates).alert() };
    let mut cluster = cluster(options);
    assert_eq!(cluster.sql("select 1 as one").unwrap(), "one\n1\n");
    let leader = cluster.leader().unwrap();
    cluster.kill_manager(leader).unwrap();
    assert_ne!(cluster.leader().unwrap(), leader);
    assert_eq!(cluster.sql("select 2 as two").unwrap(), "two\n2\n");
    cluster.start_manager(leader).unwrap();
    cluster.stop().unwrap();
}

#[test]
fn silence_and_garbage_keep_nobody_out() {
    let certificates = Certificates::of("test").unwrap();
    let cluster = cluster(ClusterOptions { workers: 1, ..secured(&certificates) });
    let open = || TcpStream::connect(cluster.address()).unwrap();
    let mut silent: Vec<_> = (0..100).map(|_| open()).collect();
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0x16, 3, 1, 0xff, 0xff],
        &[0; 4096],
    ] {
        for _ in 0..10 {
            // It may have been thrown out already.
            let _ = open().write_all(garbage);
        }
    }
    assert_eq!(cluster.sql("select 1 as one").unwrap(), "one\n1\n");
    let one = silent.last_mut().unwrap();
    one.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert!(!matches!(one.read(&mut [0; 8]), Ok(1..)), "nothing is said to who says nothing");
    assert_eq!(cluster.sql("select 2 as two").unwrap(), "two\n2\n");
    cluster.stop().unwrap();
}

#[test]
fn a_client_with_a_certificate_is_told_that_the_cluster_has_none() {
    let certificates = Certificates::of("test").unwrap();
    let cluster = cluster(ClusterOptions { workers: 1, ..ClusterOptions::default() });
    let folder = certificates.folder("client");
    let told = run_as(&cluster, Some(&folder), &["jobs"]).failed_with(3).unwrap();
    assert!(told.contains("TLS") && told.contains("--insecure"), "{told}");
    run_as(&cluster, Some(&folder), &["jobs", "--insecure"]).succeeded().unwrap();
    cluster.stop().unwrap();
}

/// Executors and drivers of another user than root's, who cannot read their worker's key.
#[test]
fn executors_and_drivers_run_as_the_user_that_is_named() {
    let certificates = Certificates::of("test").unwrap();
    let options = secured(&certificates).set("worker.run_as", "nobody");
    if !rustix::process::geteuid().is_root() {
        let mut command = Command::new(FIRESTEEL);
        command
            .args(["worker", "--insecure", "--manager", "127.0.0.1:1"])
            .env("FIRESTEEL_WORKER_RUN_AS", "nobody");
        let told = Running::start(command).unwrap().finish().unwrap().failed_with(2).unwrap();
        assert!(told.contains("only root can start processes of another user"), "{told}");
        return eprintln!("not run by root: only that it is refused was tried");
    }
    let cluster = cluster(options);
    let sql =
        "select value % 7 as k, count(*) as n from generate_series(1, 7000) group by k order by k limit 1";
    assert_eq!(cluster.sql(sql).unwrap(), "k,n\n0,1000\n");
    assert_eq!(submit(&cluster, "select 40 + 2 as answer"), "answer\n42\n");
    for pid in cluster.executor_pids(0).unwrap() {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        assert!(line("Uid:").split_whitespace().all(|uid| uid == "65534"), "{status}");
        assert_eq!(line("Groups:"), "", "{status}");
    }
}
