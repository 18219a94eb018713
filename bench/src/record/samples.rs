//! Records for the tests of this module.

use std::collections::BTreeMap;

use super::{
    DataInfo, EngineInfo, FORMAT, FailureKind, Machine, Measures, Outcome, QueryRecord, Run, RunRecord,
    Verdict,
};

/// A record of TPC-H at scale 1 with these seconds of these queries.
pub(crate) fn record(engine: &str, queries: &[(&str, &[f64])]) -> RunRecord {
    RunRecord {
        format: FORMAT,
        benchmark: "tpch".to_owned(),
        engine: EngineInfo { name: engine.to_owned(), version: "0.1.0".to_owned(), commit: None },
        mode: "local".to_owned(),
        cores: 8,
        data: data(),
        settings: BTreeMap::new(),
        command: ["firesteel", "bench", "run"].map(str::to_owned).to_vec(),
        started: "2026-03-01T09:30:00Z".to_owned(),
        machine: machine(),
        versions: BTreeMap::new(),
        iterations: 5,
        warmup: 1,
        cold: false,
        streams: 1,
        timeout_seconds: None,
        verified: Some("stored answers".to_owned()),
        queries: queries.iter().map(|(name, seconds)| query(name, seconds)).collect(),
        timeline: Vec::new(),
        throughput: None,
    }
}

/// A run that failed.
pub(crate) fn failed(kind: FailureKind, message: &str) -> Run {
    Run { stream: 0, iteration: 0, outcome: Outcome::Failed { kind, message: message.to_owned() } }
}

fn query(name: &str, seconds: &[f64]) -> QueryRecord {
    let done = |seconds: f64| Outcome::Done(Measures { seconds, rows: 4, ..Measures::default() });
    let runs = seconds.iter().zip(0..).map(|(&seconds, iteration)| Run {
        stream: 0,
        iteration,
        outcome: done(seconds),
    });
    QueryRecord { name: name.to_owned(), runs: runs.collect(), verdict: Verdict::Right }
}

fn data() -> DataInfo {
    DataInfo {
        path: "/data/tpch-1".to_owned(),
        scale: 1.0,
        generator: "tpchgen 4.0.0".to_owned(),
        files: 32,
        format: "parquet".to_owned(),
        compression: "zstd".to_owned(),
        sorted: false,
        skew: None,
        rows: 8_661_245,
        bytes: 385 << 20,
        checksum: "9f2c51d07be4a613".to_owned(),
    }
}

fn machine() -> Machine {
    Machine {
        cpu: "AMD EPYC 9354".to_owned(),
        cpus: 8,
        numa_nodes: 1,
        memory_bytes: 32 << 30,
        disk: "NVMe".to_owned(),
        kernel: "6.12.9".to_owned(),
    }
}
