//! `firesteel bench scale`: clusters that it starts and ends, what it tells of them, and what it refuses.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Child;

use firesteel_testing::cluster::proc;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Ended, Reaped, command, names_in, run, signal};

/// Small data of TPC-H, and room for what a test writes.
struct Place {
    folder: TempDir,
    data: String,
}

impl Place {
    fn with_data(scale: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data").to_str().unwrap().to_owned();
        run(&["bench", "gen", "tpch", "--scale", scale, "--out", &data, "-q"]).printed();
        fs::create_dir(folder.path().join("tmp")).unwrap();
        Self { folder, data }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn temporary(&self) -> PathBuf {
        self.folder.path().join("tmp")
    }

    /// The record of an engine that took so long for queries of this data on this machine.
    fn record(&self, seconds: &[(&str, f64)]) -> Value {
        let info: Value =
            serde_json::from_str(&run(&["bench", "info", "tpch", "--data", &self.data]).printed()).unwrap();
        let query = |&(name, seconds): &(&str, f64)| {
            let outcome = json!({ "is": "done", "seconds": seconds, "rows": 1 });
            json!({ "name": name, "runs": [{ "stream": 0, "iteration": 0, "outcome": outcome }], "verdict": { "is": "right" } })
        };
        json!({
            "format": 1, "benchmark": "tpch", "mode": "local", "cores": 1, "command": ["python3", "run.py"],
            "engine": { "name": "duckdb", "version": "1.0", "commit": null },
            "data": info["data"], "machine": info["machine"], "started": "2026-03-01T09:30:00Z",
            "iterations": 1, "warmup": 1, "cold": false, "streams": 1, "timeout_seconds": null, "verified": "stored answers",
            "queries": seconds.iter().map(query).collect::<Vec<_>>(),
        })
    }

    fn keep(&self, name: &str, record: &Value) -> String {
        let path = self.path(name);
        fs::write(&path, record.to_string()).unwrap();
        path
    }

    fn arguments<'a>(&'a self, rest: &[&'a str]) -> Vec<&'a str> {
        [&["bench", "scale", "tpch", "--data", &self.data, "--memory", "128MiB"], rest].concat()
    }

    /// Starts the command, with temporary files in this place.
    fn start(&self, rest: &[&str]) -> Reaped {
        Reaped(command(&self.arguments(rest)).env("TMPDIR", self.temporary()).spawn().unwrap())
    }
}

/// The processes below `parent`, to any depth.
fn family(parent: u32) -> BTreeSet<u32> {
    let children = proc::children(parent).unwrap();
    let below: Vec<u32> = children.iter().flat_map(|&child| family(child)).collect();
    children.into_iter().chain(below).collect()
}

/// Reads standard error to its end, and sees which processes are below the command when a cluster is up and at every query
/// that was measured, at which it calls `measured`.
fn watch(child: &mut Child, mut measured: impl FnMut(&Child)) -> (BTreeSet<u32>, String) {
    let (mut pids, mut said) = (BTreeSet::new(), String::new());
    for line in BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap) {
        if line.starts_with("cluster of") || line.starts_with('q') {
            pids.extend(family(child.id()));
        }
        if line.starts_with('q') {
            measured(child);
        }
        said += &line;
        said.push('\n');
    }
    (pids, said)
}

fn assert_gone(pids: &BTreeSet<u32>, temporary: &Path) {
    let alive: Vec<_> =
        pids.iter().filter(|&&pid| proc::is_alive(pid)).map(|&pid| proc::arguments(pid)).collect();
    assert!(alive.is_empty(), "still there: {alive:?}");
    assert!(names_in(temporary).is_empty(), "{:?}", names_in(temporary));
}

fn ended(mut child: Reaped, stderr: String) -> Ended {
    let mut stdout = String::new();
    std::io::Read::read_to_string(&mut child.0.stdout.take().unwrap(), &mut stdout).unwrap();
    Ended { code: child.0.wait().unwrap().code(), stdout, stderr }
}

#[test]
fn two_sizes_are_measured_kept_held_against_an_engine_and_shown() {
    let place = Place::with_data("0.01");
    let against = place.keep("duckdb.json", &place.record(&[("q01", 1000.0), ("q06", 1e-6)]));
    let (out, html) = (place.path("kept"), place.path("scale.html"));
    let mut child = place.start(&[
        "--executors",
        "2,1",
        "--queries",
        "1,6",
        "--iterations",
        "2",
        "--timeout",
        "60",
        "--against",
        &against,
        "--out",
        &out,
        "--html",
        &html,
        "--json",
    ]);
    let (pids, said) = watch(&mut child.0, |_| ());
    let printed = ended(child, said).printed();
    // A manager, and a worker and an executor for each of the three.
    assert!(pids.len() >= 3 + 5, "{pids:?}");
    assert_gone(&pids, &place.temporary());

    let told: Value = serde_json::from_str(&printed).unwrap();
    let sizes = told["sizes"].as_array().unwrap();
    assert_eq!((&sizes[0]["executors"], &sizes[1]["executors"]), (&1.into(), &2.into()));
    for size in sizes {
        let oversubscribed = size["cores"].as_u64() > told["machine_cores"].as_u64();
        assert_eq!(size["oversubscribed"], oversubscribed);
        assert_eq!(size["efficiency"].is_null(), oversubscribed);
    }
    assert_eq!(told["left_out"], json!([]));
    let query =
        |name: &str| told["queries"].as_array().unwrap().iter().find(|query| query["name"] == name).unwrap();
    assert_eq!(query("q01")["cost"], json!({ "is": "cores", "cores": 1, "executors": 1 }));
    assert_eq!(query("q06")["cost"]["is"], "not_within");
    assert_eq!(told["against"]["cost"]["is"], "cores");

    assert_eq!(names_in(Path::new(&out)), ["tpch-1.json", "tpch-2.json"]);
    for executors in [1, 2] {
        let record = fs::read_to_string(format!("{out}/tpch-{executors}.json")).unwrap();
        let record: Value = serde_json::from_str(&record).unwrap();
        assert_eq!((&record["cores"], &record["iterations"]), (&executors.into(), &2.into()));
        assert_eq!(record["queries"].as_array().unwrap().len(), 2);
    }
    let page = fs::read_to_string(html).unwrap();
    assert!(
        page.contains("<h2>Scaling</h2>")
            && page.contains("COST: 1 core (1 executor) of the cluster beat duckdb 1.0")
    );
}

#[test]
fn ctrl_c_ends_the_cluster_and_what_was_measured_is_kept() {
    let place = Place::with_data("0.01");
    let out = place.path("scale.json");
    let mut child = place.start(&["--executors", "1,2", "--queries", "6,1", "--out", &out]);
    let mut interrupted = false;
    let (pids, said) = watch(&mut child.0, |child| {
        if !std::mem::replace(&mut interrupted, true) {
            signal(child, "INT");
        }
    });
    assert!(pids.len() >= 3, "{pids:?}\n{said}");
    ended(child, said).told(130, &["the benchmark was cancelled by Ctrl-C"]);
    assert_gone(&pids, &place.temporary());
    let record = fs::read_to_string(place.path("scale-1.json")).unwrap();
    let record: Value = serde_json::from_str(&record).unwrap();
    assert_eq!(record["queries"][0]["name"], "q06");
    assert!(!fs::exists(place.path("scale-2.json")).unwrap());
}

#[test]
fn a_query_that_fails_everywhere_leaves_nothing_to_compare() {
    let place = Place::with_data("0.001");
    let mut child = place.start(&[
        "--executors",
        "1",
        "--queries",
        "6",
        "--timeout",
        "0.0001",
        "--out",
        &place.path("x.json"),
    ]);
    let (pids, said) = watch(&mut child.0, |_| ());
    ended(child, said).told(1, &["no query passed at every size", "q06 in the run on 1 executor: timeout"]);
    assert!(fs::exists(place.path("x-1.json")).unwrap());
    assert!(pids.len() >= 3, "{pids:?}");
    assert_gone(&pids, &place.temporary());
}

#[test]
fn sizes_that_make_no_sense_are_refused() {
    let place = Place::with_data("0.001");
    let refused = |rest: &[&str], names: &[&str]| run(&place.arguments(rest)).told(2, names);
    refused(&["--executors", "0"], &["'0' is no number of executors", "such as 1,2,4"]);
    refused(&["--executors", "1,2,2"], &["has 2 twice"]);
    for rubbish in ["", "two", "1,,2", "1-4", "257", "-1"] {
        run(&place.arguments(&[&format!("--executors={rubbish}")])).told(2, &["is no number of executors"]);
    }
    refused(&["--executors", "1", "--queries", "23"], &["23", "1 to 22"]);
    refused(&["--executors", "1", "--cores-per-executor", "4096"], &["4096 cores for each executor"]);
    refused(&["--executors", "1", "--conf", "x"], &["KEY=VALUE"]);
    let much = ["bench", "scale", "tpch", "--data", &place.data, "--executors", "1,256", "--memory", "1TiB"];
    run(&much).told(2, &["256 executors with 1TiB of memory each", "this machine has"]);
    assert_eq!(run(&["bench", "scale", "tpch", "--data", &place.data]).code, Some(2));
}

#[test]
fn data_and_places_that_are_not_there_are_refused() {
    let place = Place::with_data("0.001");
    let nowhere = place.path("nowhere");
    run(&["bench", "scale", "tpch", "--data", &nowhere, "--executors", "1"])
        .told(1, &["nowhere", "bench gen"]);
    run(&["bench", "scale", "tpcds", "--data", &place.data, "--executors", "1"]).told(1, &["tpch", "tpcds"]);
    let html = format!("{nowhere}/x.html");
    run(&place.arguments(&["--executors", "1", "--html", &html])).told(5, &["x.html", "no such folder"]);
    let out = place.keep("taken", &Value::Null);
    run(&place.arguments(&["--executors", "1", "--out", &out])).told(5, &["taken"]);
}

#[test]
fn a_record_that_cannot_be_held_against_the_run_is_refused_before_it() {
    let place = Place::with_data("0.001");
    let good = place.record(&[("q01", 1.0), ("q06", 1.0)]);
    let refused = |record: &Value, names: &[&str]| {
        let file = place.keep("other.json", record);
        let arguments = ["--executors", "1", "--queries", "1", "--against", &file];
        run(&place.arguments(&arguments)).told(1, names);
    };
    let with = |pointer: &str, value: Value| {
        let mut record = good.clone();
        *record.pointer_mut(pointer).unwrap() = value;
        record
    };
    refused(
        &with("/benchmark", "tpcds".into()),
        &["cannot be compared", "benchmark: tpcds in the record to beat"],
    );
    refused(&with("/data/checksum", "0".into()), &["checksum of the data: 0"]);
    refused(&with("/data/scale", 10.into()), &["scale: 10"]);
    refused(&with("/machine/cpus", 4096.into()), &["processors: 4096"]);
    refused(&with("/machine/memory_bytes", 1.into()), &["memory"]);
    refused(&with("/streams", 4.into()), &["several streams"]);
    refused(&with("/cold", true.into()), &["cold caches"]);
    let failed = json!({ "is": "failed", "kind": "error", "message": "out of memory" });
    refused(
        &with("/queries/0/runs/0/outcome", failed),
        &["none of the queries", "q01: error: out of memory"],
    );
    refused(&with("/format", 99.into()), &["format 99"]);
    let missing = place.path("missing.json");
    run(&place.arguments(&["--executors", "1", "--against", &missing])).told(1, &["missing.json"]);
}
