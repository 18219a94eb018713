//! What `firesteel bench` measures of a cluster, and of a query that has too little memory.

use std::path::Path;

use firesteel_base::ByteSize;
use firesteel_chaos::measure::{self, Case};
use firesteel_testing::cluster::{ClusterOptions, ProcessCluster};
use firesteel_testing::data;
use firesteel_testing::oracle::tpch::Scale;
use serde_json::Value;

use crate::engines::{FIRESTEEL, cluster};

/// What the groups of q18 do not fit in, at scale 1.
const LITTLE: ByteSize = ByteSize(128 << 20);

/// The record of a run of one query, whose answer is right.
fn record(cluster: &ProcessCluster, data: &Path, query: &str, conf: &[&str]) -> Value {
    let out = cluster.folder().join("record.json");
    let (data, out_text) = (data.to_str().unwrap(), out.to_str().unwrap());
    let ask = ["bench", "run", "tpch", "--data", data, "--queries", query, "--out", out_text];
    let often = ["--iterations", "2", "--warmup", "0"];
    cluster.run(&[&ask[..], &often[..], conf].concat()).unwrap().succeeded().unwrap();
    let record: Value = serde_json::from_slice(&std::fs::read(out).unwrap()).unwrap();
    assert_eq!(record["queries"][0]["verdict"]["is"], "right");
    record
}

fn measure(record: &Value, name: &str) -> f64 {
    let outcome = &record["queries"][0]["runs"][1]["outcome"];
    outcome[name].as_f64().unwrap_or_else(|| panic!("no {name} in {outcome}"))
}

#[test]
fn a_record_holds_what_the_executors_used() {
    let cluster = cluster(ClusterOptions::default());
    let record = record(&cluster, &data::tpch(Scale::Tenth).unwrap(), "3", &[]);
    let [read, shuffled, copied] =
        ["bytes_read", "bytes_shuffled", "bytes_copied"].map(|name| measure(&record, name));
    // Three columns of three tables at least, and every byte that is shuffled is copied into a frame.
    assert!(read > 1e6 && shuffled > 1e4 && copied >= shuffled, "{record:#}");
    assert_eq!(measure(&record, "bytes_spilled"), 0.0);
    assert!(measure(&record, "cpu_seconds") > 0.0, "{record:#}");
    // Three processes at least: the client and two executors.
    assert!(measure(&record, "peak_memory_bytes") > 3e7, "{record:#}");
    assert!(measure(&record, "stages") >= 3.0 && measure(&record, "tasks") >= 4.0, "{record:#}");
    let samples = record["timeline"].as_array().unwrap();
    assert!(samples.iter().all(|sample| sample["memory_bytes"].as_f64().unwrap() > 3e7), "{samples:?}");
    cluster.stop().unwrap();
}

#[test]
fn a_record_tells_what_was_spilled() {
    let cluster = cluster(ClusterOptions { memory: LITTLE, ..ClusterOptions::default() });
    let sorting = ["--conf", "datafusion.optimizer.prefer_hash_join=false"];
    let record = record(&cluster, &data::tpch(Scale::One).unwrap(), "18", &sorting);
    assert!(measure(&record, "bytes_spilled") > 1e6, "{record:#}");
    cluster.stop().unwrap();
}

/// Each fault hits a query once: the answer is that of the undisturbed run, and the logs tell when it was noticed.
#[test]
fn what_faults_cost_is_told() {
    let options = measure::Options {
        binary: FIRESTEEL.into(),
        data: data::tpch(Scale::Tenth).unwrap(),
        queries: vec!["q09".to_owned()],
        cases: vec![Case::ExecutorKilled, Case::DriverKilled, Case::ManagerKilled],
        repeats: 1,
        workers: 2,
        cores: 1,
        memory: ByteSize(512 << 20),
        at: 0.5,
        overhead: true,
        conf: Vec::new(),
    };
    let results = measure::measure(&options, |line| println!("{line}")).unwrap();
    assert!(results.all_right(), "{results:#?}");
    assert!(results.measured.iter().all(|measured| measured.noticed.is_some()), "{results:#?}");
    assert_eq!(results.measured.len(), options.cases.len());
    assert_eq!(results.overhead.unwrap().queries.len(), 1);
}
