//! A manager that asks who calls: users have their own jobs in their own queues, and no token is seen anywhere.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use firesteel_testing::cluster::{ClusterOptions, Finished, ProcessCluster, Running, proc};
use serde_json::Value;

use crate::engines::{FIRESTEEL, cluster};

/// Longer than any of these tests lets it run.
const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 1000000) AS a(i) CROSS JOIN \
                       generate_series(1, 10000000) AS b(j) WHERE a.i + b.j < 0";

fn tokens(file: &Path, arguments: &[&str]) -> Finished {
    let mut command = Command::new(FIRESTEEL);
    command.arg("tokens").args(arguments).arg("--file").arg(file);
    Running::start(command).unwrap().finish().unwrap()
}

fn token(file: &Path, arguments: &[&str]) -> String {
    let printed = tokens(file, &[&["add"], arguments].concat()).succeeded().unwrap();
    assert!(printed.starts_with("fst_"), "{printed}");
    printed.trim().to_owned()
}

fn run(cluster: &ProcessCluster, token: Option<&str>, arguments: &[&str]) -> Finished {
    let mut command = cluster.client(arguments);
    match token {
        Some(token) => command.env("FIRESTEEL_TOKEN", token),
        None => command.env_remove("FIRESTEEL_TOKEN"),
    };
    Running::start(command).unwrap().finish().unwrap()
}

fn refused(ended: &Finished, told: &str) {
    assert!(!ended.status.success(), "{ended:?}");
    assert!(ended.stderr.contains(told), "not '{told}': {}", ended.stderr);
    assert!(ended.stderr.contains("hint: "), "{}", ended.stderr);
}

/// The command lines of the manager, the workers and all that they have started.
fn command_lines(cluster: &ProcessCluster) -> Vec<String> {
    let workers: Vec<u32> = (0..2).map(|worker| cluster.worker_pid(worker)).collect();
    let children = workers.iter().flat_map(|&worker| proc::children(worker).unwrap());
    let all = children.chain(workers.iter().copied()).chain([cluster.manager_pid(0)]);
    all.map(|pid| proc::arguments(pid).join(" ")).collect()
}

fn jobs(cluster: &ProcessCluster) -> Vec<Value> {
    let text = cluster.run(&["jobs", "--all", "--json"]).unwrap().succeeded().unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn users_have_their_own_jobs_in_their_own_queues_and_no_secret_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens.toml");
    let expired = token(&file, &["eve", "--expires", "1s"]);
    let ops = token(&file, &["ops", "--admin"]);
    let ana = token(&file, &["ana", "--queue", "etl", "--expires", "1d"]);
    let bob = token(&file, &["bob"]);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let listed = tokens(&file, &["list"]).succeeded().unwrap();
    assert!(listed.contains("ana") && listed.contains("etl") && !listed.contains("fst_"), "{listed}");

    let options = ClusterOptions { token: Some(ops.clone()), ..ClusterOptions::default() }
        .set("manager.tokens", file.to_str().unwrap())
        .set("log.level", "info,firesteel_manager=debug,firesteel_executor=debug,firesteel_driver=debug");
    let mut cluster = cluster(options);
    let (one, endless) = (cluster.folder().join("one.sql"), cluster.folder().join("endless.sql"));
    fs::write(&one, "SELECT 1 AS one").unwrap();
    fs::write(&endless, ENDLESS).unwrap();
    let (one, endless) = (one.to_str().unwrap(), endless.to_str().unwrap());

    // Who are you?
    refused(&run(&cluster, None, &["jobs"]), "asks for a token, and none was shown");
    refused(&run(&cluster, None, &["sql", "-c", "SELECT 1"]), "asks for a token, and none was shown");
    refused(&run(&cluster, Some("fst_00"), &["jobs"]), "not one of this cluster");
    refused(&run(&cluster, Some("fsd_1_00"), &["jobs"]), "not one of this cluster");
    cluster
        .wait_for("the token's time to be over", |cluster| {
            Ok(!run(cluster, Some(&expired), &["jobs"]).status.success())
        })
        .unwrap();
    refused(&run(&cluster, Some(&expired), &["submit", one]), "the token has expired");

    // Jobs of a user, in that user's queues.
    refused(&run(&cluster, Some(&ana), &["submit", one]), "ana may have no jobs in the queue without a name");
    refused(&run(&cluster, Some(&ana), &["submit", one, "--queue", "night"]), "(client.queue): etl");
    let csv = ["--format", "csv", "-q"];
    let answer = run(&cluster, Some(&ana), &[&["submit", one, "--queue", "etl"], &csv[..]].concat());
    assert_eq!(answer.succeeded().unwrap(), "one\n1\n");
    let sql = ["sql", "--queue", "etl", "-c", "SELECT 2 AS two"];
    let answer = run(&cluster, Some(&ana), &[&sql[..], &csv[..]].concat());
    assert_eq!(answer.succeeded().unwrap(), "two\n2\n");
    assert!(jobs(&cluster).iter().all(|job| job["user"] == "ana" && job["queue"] == "etl"));

    // What is hers is nobody else's business, but an administrator's.
    let started = run(&cluster, Some(&ana), &["submit", endless, "--queue", "etl", "--detach"]);
    let started = started.succeeded().unwrap();
    let job = started.trim();
    cluster
        .wait_for("the endless job to run", |cluster| {
            let text = cluster.run(&["jobs", "show", job, "--json"])?.succeeded()?;
            Ok(serde_json::from_str::<Value>(&text)?["state"] == "running")
        })
        .unwrap();
    for line in command_lines(&cluster) {
        assert!(!line.contains("fst_") && !line.contains("fsd_"), "{line}");
    }
    refused(&run(&cluster, Some(&bob), &["jobs", "cancel", job]), "is a job of ana");
    refused(&run(&cluster, Some(&bob), &["jobs", "result", "job1"]), "another user's");
    refused(&run(&cluster, Some(&ana), &["nodes", "drain", "w0"]), "for an administrator to do");
    let shown = run(&cluster, Some(&bob), &["jobs", "show", job]).succeeded().unwrap();
    assert!(shown.contains("ana") && !shown.contains("generate_series"), "{shown}");
    for reader in [&ana, &ops] {
        let result = run(&cluster, Some(reader), &["jobs", "result", "job1", "--format", "csv"]);
        assert_eq!(result.succeeded().unwrap(), "one\n1\n");
    }
    cluster.run(&["jobs", "cancel", job]).unwrap().succeeded().unwrap();
    let waited = run(&cluster, Some(&ana), &["jobs", "wait", job]);
    assert!(waited.stderr.contains("cancelled on request of ops"), "{waited:?}");

    // A token in a file, which nobody else may read.
    let mine = folder.path().join("mine");
    fs::write(&mine, format!("{bob}\n")).unwrap();
    let with_file = |cluster: &ProcessCluster| {
        let mut command = cluster.client(&["jobs"]);
        command.env_remove("FIRESTEEL_TOKEN").env("FIRESTEEL_CLIENT_TOKEN_FILE", &mine);
        Running::start(command).unwrap().finish().unwrap()
    };
    fs::set_permissions(&mine, Permissions::from_mode(0o644)).unwrap();
    refused(&with_file(&cluster), "others may read or write the file");
    fs::set_permissions(&mine, Permissions::from_mode(0o600)).unwrap();
    with_file(&cluster).succeeded().unwrap();

    // One that is removed is none any more, soon.
    tokens(&file, &["remove", "bob"]).succeeded().unwrap();
    cluster
        .wait_for("the file to be read again", |cluster| {
            Ok(run(cluster, Some(&bob), &["jobs"]).stderr.contains("not one of this cluster"))
        })
        .unwrap();

    let logs = cluster.all_logs().unwrap();
    assert!(logs.contains("job1"), "they tell something");
    for secret in ["fst_", "fsd_"] {
        assert!(!logs.contains(secret), "a log tells a secret");
    }
    // Its workers keep results, so their folders are not empty when they end.
    cluster.wait_for("all slots and blocks to be free", |cluster| cluster.is_idle()).unwrap();
}

#[test]
fn a_manager_does_not_start_with_a_file_of_tokens_that_others_may_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens.toml");
    token(&file, &["ana"]);
    let start = |file: &Path| {
        let mut command = Command::new(FIRESTEEL);
        command
            .args(["manager", "--insecure", "--bind", "127.0.0.1:0"])
            .env("FIRESTEEL_MANAGER_TOKENS", file);
        Running::start(command).unwrap().finish().unwrap()
    };
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    let told = start(&file).failed_with(1).unwrap();
    assert!(told.contains("tokens.toml") && told.contains("chmod 600"), "{told}");
    let told = start(&folder.path().join("none.toml")).failed_with(1).unwrap();
    assert!(told.contains("none.toml") && told.contains("firesteel tokens add"), "{told}");
}
