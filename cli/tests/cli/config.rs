//! `firesteel config`, and configurations that are wrong.

use crate::support::{command, run};

#[test]
fn each_value_is_shown_with_its_source() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("firesteel.toml");
    std::fs::write(&file, "[worker]\nmemory = \"2GiB\"\nrack = \"r1\"\n").unwrap();
    let ended = command(&["config", "--json", "--config", file.to_str().unwrap(), "--log-level", "debug"])
        .env("FIRESTEEL_WORKER_RACK", "r2")
        .env("FIRESTEEL_MANAGER", "head:7400")
        .output()
        .unwrap();
    let entries: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    let entry = |key: &str| {
        let found = entries.as_array().unwrap().iter().find(|entry| entry["key"] == key).unwrap();
        (found["value"].as_str().unwrap().to_owned(), found["source"].as_str().unwrap().to_owned())
    };
    let is =
        |key: &str, value: &str, source: &str| assert_eq!(entry(key), (value.to_owned(), source.to_owned()));
    is("worker.memory", "2GiB", &format!("{} line 2", file.display()));
    is("worker.rack", "r2", "environment variable FIRESTEEL_WORKER_RACK");
    is("client.manager", "head:7400", "environment variable FIRESTEEL_MANAGER");
    is("log.level", "debug", "flag --log-level");
    is("worker.smt", "false", "default");
}

#[test]
fn all_faults_are_told_together() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("firesteel.toml");
    std::fs::write(&file, "[worker]\ncoers = 4\nmemory = \"3 parsecs\"\nbind = \"here:99999\"\n").unwrap();
    let arguments = ["worker", "--cores", "0", "--config", file.to_str().unwrap()];
    let said = run(&arguments).told(
        2,
        &[
            "the configuration has 4 faults",
            "worker.coers: unknown key; did you mean worker.cores?",
            "line 2",
            "worker.memory = '3 parsecs': must be auto, or a size from 64MiB to 64TiB",
            "worker.bind = 'here:99999': must be host:port with a port from 0 to 65535",
            "worker.cores = '0': must be auto, or a whole number from 1 to 4096",
            "flag --cores",
        ],
    );
    assert!(said.contains("hint: docs/configuration.md"), "{said}");
}

#[test]
fn a_file_that_is_named_must_be_there() {
    run(&["config", "--config", "/no/such/file.toml"]).told(2, &["/no/such/file.toml", "flag --config"]);
    let ended = command(&["config"]).env("FIRESTEEL_CONFIG", "/no/such/file.toml").output().unwrap();
    assert_eq!(ended.status.code(), Some(2));
}

#[test]
fn the_reference_is_the_page() {
    assert_eq!(run(&["config", "--reference"]).printed(), include_str!("../../../docs/configuration.md"));
}

#[test]
fn the_template_is_a_configuration_that_sets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("firesteel.toml");
    std::fs::write(&file, run(&["config", "--template"]).printed()).unwrap();
    let shown = run(&["config", "--config", file.to_str().unwrap()]).printed();
    assert!(shown.lines().skip(1).all(|line| line.ends_with(" default")), "{shown}");
}
