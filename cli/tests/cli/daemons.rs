//! Daemons: ports that are taken, ends by signals, the local cluster.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::Stdio;

use crate::support::{Reaped, command, run, signal};

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    run(&["manager", "--insecure", "--bind", &address]).told(1, &[&address, "another manager", "--bind"]);
}

#[test]
fn a_manager_says_where_it_is_and_ends_well_on_sigterm() {
    let mut manager = Reaped(command(&["manager", "--insecure", "--bind", "127.0.0.1:0"]).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(manager.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("manager ready at ").unwrap().to_owned();
    assert!(run(&["jobs", "--manager", &address]).printed().contains("no jobs"));
    assert_eq!(run(&["jobs", "--manager", &address, "--json"]).printed(), "[]\n");
    assert!(run(&["nodes", "--manager", &address]).printed().contains("no workers have joined"));
    run(&["jobs", "--manager", &address, "show", "job99"]).told(1, &["job99"]);
    let told: serde_json::Value =
        serde_json::from_str(&run(&["nodes", "--manager", &address, "--json"]).printed()).unwrap();
    assert_eq!(told["manager_release"], env!("FIRESTEEL_BUILD"), "of which build it is");
    signal(&manager.0, "TERM");
    assert_eq!(manager.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_supervised_manager_ends_with_its_input() {
    let child = command(&["manager", "--insecure", "--bind", "127.0.0.1:0", "--stop-with-input"])
        .stdin(Stdio::piped())
        .spawn();
    let mut manager = Reaped(child.unwrap());
    BufReader::new(manager.0.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    drop(manager.0.stdin.take());
    assert_eq!(manager.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_worker_with_more_than_the_machine_has_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let scratch = folder.path().to_str().unwrap();
    let worker =
        ["worker", "--insecure", "--bind", "127.0.0.1:0", "--manager", "127.0.0.1:1", "--scratch", scratch];
    run(&[&worker[..], &["--cores", "4000"]].concat()).told(2, &["4000 cores"]);
    run(&[&worker[..], &["--cores", "1", "--memory", "60TiB"]].concat()).told(2, &["60TiB"]);
    run(&[&worker[..], &["--cpus", "60000"]].concat()).told(2, &["60000"]);
}

#[test]
fn roles_that_a_worker_starts_say_so_when_a_person_does() {
    run(&["executor"]).told(1, &["firesteel worker"]);
    let ended = run(&["driver", "--job", "1", "--manager", "127.0.0.1:1", "--result", "/no/such/file"]);
    assert_eq!(ended.code, Some(1));
    // Its worker reads the reason from the last line.
    let last = ended.stderr.lines().last().unwrap();
    let told: serde_json::Value = serde_json::from_str(last).unwrap();
    assert!(told["hint"].as_str().unwrap().contains("firesteel submit"), "{last}");
}

#[test]
fn a_local_cluster_lives_as_long_as_its_command_and_ends_with_its_code() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("cluster");
    let cluster = |rest: &[&str]| {
        let head = [
            "local-cluster",
            "--workers",
            "1",
            "--cores-per-executor",
            "1",
            "--memory",
            "256MiB",
            "--port",
            "0",
        ];
        run(&[&head[..], &["--dir", dir.to_str().unwrap(), "--"], rest].concat())
    };
    let firesteel = crate::support::FIRESTEEL;
    let query = [firesteel, "sql", "-q", "--format", "csv", "-c", "select 40 + 2 as answer"];
    assert_eq!(cluster(&query).printed(), "answer\n42\n");
    assert_eq!(cluster(&["sh", "-c", "test -n \"$FIRESTEEL_MANAGER\" && exit 7"]).code, Some(7));
    cluster(&["/no/such/program"]).told(1, &["/no/such/program"]);
    assert!(dir.join("manager.log").exists() && dir.join("worker-0.log").exists());
}
