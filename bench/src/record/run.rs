//! The record of one benchmark run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::stats;

/// The number of the file format that this release writes and reads.
pub const FORMAT: u32 = 1;

/// One benchmark run of one engine: what ran, on what, and what was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    /// The number of the file format, [`FORMAT`].
    pub format: u32,
    /// The workload: `tpch`, `tpcds`, `shuffle` or `sort`.
    pub benchmark: String,
    /// What ran the queries.
    pub engine: EngineInfo,
    /// How the engine ran, such as `local` or `cluster of 2 executors with 1 core`.
    pub mode: String,
    /// Cores that the engine was allowed to use, over all its processes.
    pub cores: u32,
    /// What was queried.
    pub data: DataInfo,
    /// Settings of the engine that were not left at their default.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// The command that made this record, a word an element.
    pub command: Vec<String>,
    /// When the run began, in UTC as RFC 3339 has it.
    pub started: String,
    /// Where it ran.
    pub machine: Machine,
    /// Versions of other software that matters.
    #[serde(default)]
    pub versions: BTreeMap<String, String>,
    /// Measured runs of each query and stream.
    pub iterations: u32,
    /// Runs of each query before the measured ones.
    pub warmup: u32,
    /// Whether the caches were emptied before every run.
    pub cold: bool,
    /// Streams that ran queries at the same time.
    pub streams: u32,
    /// Seconds after which a query was stopped.
    pub timeout_seconds: Option<f64>,
    /// What the answers were checked against, such as `stored answers`; none when they were not checked.
    pub verified: Option<String>,
    /// The queries in the order in which they ran.
    pub queries: Vec<QueryRecord>,
    /// What the engine used over time.
    #[serde(default)]
    pub timeline: Vec<Sample>,
    /// What several streams did together.
    #[serde(default)]
    pub throughput: Option<Throughput>,
}

/// An engine and its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineInfo {
    /// `firesteel`, `duckdb` or another.
    pub name: String,
    /// Its release.
    pub version: String,
    /// The commit that it was built from.
    pub commit: Option<String>,
}

/// The data of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataInfo {
    /// The folder, or `generated` when the rows are made as they are queried.
    pub path: String,
    /// The scale factor; 0 where there is none.
    pub scale: f64,
    /// The generator of the rows and its version.
    pub generator: String,
    /// Files of all tables.
    pub files: u32,
    /// The format of the files; older records, which do not say it, are of Parquet.
    #[serde(default = "parquet")]
    pub format: String,
    /// How the files are compressed.
    pub compression: String,
    /// Whether the rows of each table are sorted.
    #[serde(default)]
    pub sorted: bool,
    /// How foreign keys are spread, such as `zipf:1`, when not as the specification says. No stored answers hold then.
    #[serde(default)]
    pub skew: Option<String>,
    /// Rows of all tables.
    pub rows: u64,
    /// Bytes of all files; of the rows in memory where there are no files.
    pub bytes: u64,
    /// Stands for the content of all tables, or for what it is made by.
    pub checksum: String,
}

fn parquet() -> String {
    "parquet".to_owned()
}

/// The machine of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// The model of its processor.
    pub cpu: String,
    /// Logical processors.
    pub cpus: u32,
    /// NUMA nodes.
    pub numa_nodes: u32,
    /// Memory that is installed.
    pub memory_bytes: u64,
    /// The disk that holds the data.
    pub disk: String,
    /// The release of the kernel.
    pub kernel: String,
}

/// What the engine used at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Seconds since the start of the run.
    pub at: f64,
    /// Cores that were busy since the sample before.
    pub cpu_cores: f64,
    /// Resident memory.
    pub memory_bytes: u64,
}

/// What several streams did together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Throughput {
    /// Streams that ran at the same time.
    pub streams: u32,
    /// From the start of the first to the end of the last.
    pub seconds: f64,
    /// Queries that all streams finished.
    pub queries: u32,
}

/// One query and all its measured runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryRecord {
    /// Its name, such as `q1`.
    pub name: String,
    /// Its runs in the order in which they ended.
    pub runs: Vec<Run>,
    /// Whether its answer is right.
    #[serde(default)]
    pub verdict: Verdict,
}

/// Whether an answer is right.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "is", content = "difference", rename_all = "snake_case", deny_unknown_fields)]
pub enum Verdict {
    /// It is the expected one.
    Right,
    /// It is another one, which differs in this.
    Wrong(String),
    /// It was not checked.
    #[default]
    Unverified,
}

/// One run of one query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The stream that it ran in, from 0.
    pub stream: u32,
    /// Its number among the measured runs of its stream, from 0.
    pub iteration: u32,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// With all rows of an answer.
    Done(Measures),
    /// Without one.
    Failed {
        /// What kind of failure it was.
        kind: FailureKind,
        /// The message of the engine.
        message: String,
    },
}

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The engine gave up.
    Error,
    /// The time that was allowed ran out.
    Timeout,
}

/// What was measured of a run that ended well; what the engine does not tell is none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measures {
    /// From the request to the last row of the answer.
    pub seconds: f64,
    /// Rows of the answer.
    pub rows: u64,
    /// Processor time of all processes of the engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    /// The most memory that was in use at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
    /// Bytes that were read from the tables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_read: Option<u64>,
    /// Bytes that went from stage to stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_shuffled: Option<u64>,
    /// Bytes that were put on disk for lack of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_spilled: Option<u64>,
    /// Bytes that were copied from memory to memory on their way from stage to stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_copied: Option<u64>,
    /// Rows that the query shuffles, sorts or groups, where it is asked for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_rows: Option<u64>,
    /// Bytes of those rows in memory, where they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_bytes: Option<u64>,
    /// Stages of the plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stages: Option<u32>,
    /// Tasks of all stages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<u32>,
}

impl RunRecord {
    /// The query of that name.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<&QueryRecord> {
        self.queries.iter().find(|query| query.name == name)
    }

    /// The queries that failed.
    pub fn failed(&self) -> impl Iterator<Item = &QueryRecord> {
        self.queries.iter().filter(|query| query.is_failed())
    }

    /// The medians of all queries together; none when a query failed or there is none.
    #[must_use]
    pub fn total_seconds(&self) -> Option<f64> {
        self.medians().filter(|medians| !medians.is_empty()).map(|medians| medians.iter().sum())
    }

    /// The geometric mean of the medians of all queries; none when a query failed or there is none.
    #[must_use]
    pub fn geometric_mean_seconds(&self) -> Option<f64> {
        self.medians().and_then(|medians| stats::geometric_mean(&medians))
    }

    fn medians(&self) -> Option<Vec<f64>> {
        self.queries.iter().map(QueryRecord::passed_median).collect()
    }
}

impl QueryRecord {
    /// Seconds of the runs that ended well.
    #[must_use]
    pub fn seconds(&self) -> Vec<f64> {
        self.measures().map(|measures| measures.seconds).collect()
    }

    /// What was measured of the runs that ended well.
    pub fn measures(&self) -> impl Iterator<Item = &Measures> {
        self.runs.iter().filter_map(|run| match &run.outcome {
            Outcome::Done(measures) => Some(measures),
            Outcome::Failed { .. } => None,
        })
    }

    /// The median of [`Self::seconds`]; none when no run ended well.
    #[must_use]
    pub fn median(&self) -> Option<f64> {
        stats::median(&self.seconds())
    }

    /// The median of a query that did not fail: the only time that may be counted or compared.
    #[must_use]
    pub fn passed_median(&self) -> Option<f64> {
        if self.is_failed() { None } else { self.median() }
    }

    /// Whether a run failed, the answer is wrong, or it did not run at all.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.failure().is_some()
    }

    /// Why the query counts as failed; none when it does not.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        let of_run = self.runs.iter().find_map(|run| match &run.outcome {
            Outcome::Done(_) => None,
            Outcome::Failed { kind: FailureKind::Error, message } => Some(format!("error: {message}")),
            Outcome::Failed { kind: FailureKind::Timeout, message } => Some(format!("timeout: {message}")),
        });
        match &self.verdict {
            _ if of_run.is_some() => of_run,
            Verdict::Wrong(difference) => Some(format!("wrong answer: {difference}")),
            _ if self.runs.is_empty() => Some("it did not run".to_owned()),
            Verdict::Right | Verdict::Unverified => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn a_failed_run_takes_the_total_away() {
        let mut record = samples::record("firesteel", &[("q1", &[1.0, 3.0, 2.0]), ("q2", &[8.0])]);
        assert_eq!(record.total_seconds(), Some(10.0));
        assert!((record.geometric_mean_seconds().unwrap() - 4.0).abs() < 1e-12);

        record.queries[0].runs.push(samples::failed(FailureKind::Timeout, "stopped after 300 s"));
        assert_eq!(record.queries[0].median(), Some(2.0));
        assert_eq!(record.queries[0].passed_median(), None);
        assert_eq!(record.queries[0].failure().unwrap(), "timeout: stopped after 300 s");
        assert_eq!((record.total_seconds(), record.geometric_mean_seconds()), (None, None));
        assert_eq!(record.failed().count(), 1);
    }

    #[test]
    fn a_wrong_answer_is_a_failure() {
        let mut record = samples::record("firesteel", &[("q1", &[1.0])]);
        record.queries[0].verdict = Verdict::Wrong("4 rows, not 5".to_owned());
        assert_eq!(record.queries[0].failure().unwrap(), "wrong answer: 4 rows, not 5");
        assert_eq!(record.total_seconds(), None);
    }

    #[test]
    fn a_query_without_runs_is_a_failure_and_no_queries_have_no_total() {
        let record = samples::record("firesteel", &[("q1", &[])]);
        assert!(record.queries[0].is_failed());
        assert_eq!(samples::record("firesteel", &[]).total_seconds(), None);
    }
}
