//! Workloads of `firesteel bench run` on a cluster: answers are right, and what crossed executors is counted.

use firesteel_testing::cluster::{ClusterOptions, ProcessCluster};
use serde_json::Value;

use crate::engines::cluster;

/// The record of a run with these words on the cluster, each query once.
fn record(cluster: &ProcessCluster, words: &[&str]) -> Value {
    let out = cluster.folder().join("record.json");
    let place = ["--manager", cluster.address(), "--iterations", "1", "--warmup", "0"];
    let out_words = ["--out", out.to_str().unwrap()];
    let command = [&["bench", "run"][..], words, &place[..], &out_words[..]].concat();
    cluster.run(&command).unwrap().succeeded().unwrap();
    let record: Value = serde_json::from_str(&std::fs::read_to_string(out).unwrap()).unwrap();
    assert_eq!(record["mode"], "cluster of 2 executors");
    record
}

/// The measures of each query's only run, whose answer is right.
fn measures(record: &Value) -> Vec<&Value> {
    let queries = record["queries"].as_array().unwrap();
    let measures = queries.iter().map(|query| {
        assert_eq!(query["verdict"]["is"], "right", "{query}");
        &query["runs"][0]["outcome"]
    });
    measures.collect()
}

fn number(measures: &Value, name: &str) -> u64 {
    measures[name].as_u64().unwrap_or_else(|| panic!("there is no {name} in {measures}"))
}

#[test]
fn every_row_crosses_the_shuffle() {
    let mut cluster = cluster(ClusterOptions::default());
    let words = ["shuffle", "--bytes", "16MiB", "--columns", "4", "--keys", "uniform,zipf:1.1"];
    let record = record(&cluster, &words);
    let measures = measures(&record);
    assert_eq!(measures.len(), 2);
    for run in measures {
        // One stage makes the rows on both executors, one sums them by key on both, one adds the sums up.
        assert_eq!((number(run, "stages"), number(run, "tasks")), (3, 5), "{run}");
        assert_eq!(number(run, "input_bytes"), 16 << 20, "{run}");
        assert!(number(run, "bytes_shuffled") >= 16 << 20, "{run}");
    }
    cluster.wait_for("all slots and blocks to be free", |cluster| cluster.is_idle()).unwrap();
    cluster.stop().unwrap();
}

#[test]
fn lineitem_is_sorted_to_one_file_and_grouped() {
    let mut cluster = cluster(ClusterOptions::default());
    let path = |name: &str| cluster.folder().join(name).to_str().unwrap().to_owned();
    let (data, sorted) = (path("data"), path("sorted"));
    let gen_words = ["bench", "gen", "tpch", "--scale", "0.01", "--files", "2", "--out", &data, "-q"];
    cluster.run(&gen_words).unwrap().succeeded().unwrap();
    std::fs::create_dir(&sorted).unwrap();
    let record = record(&cluster, &["sort", "--data", &data, "--out-data", &sorted]);
    let measures = measures(&record);
    assert_eq!(measures.len(), 5);
    for run in measures {
        assert!(number(run, "stages") > 1 && number(run, "tasks") > 2, "{run}");
        assert!(number(run, "bytes_shuffled") > 0, "{run}");
    }
    assert_eq!(std::fs::read_dir(&sorted).unwrap().count(), 0, "sorted files are left");
    cluster.wait_for("all slots and blocks to be free", |cluster| cluster.is_idle()).unwrap();
    cluster.stop().unwrap();
}
