//! What a benchmark run measured: the file it is kept in, the comparison of two runs, and a page about several.
//!
//! A [`RunRecord`] says what ran, on what, and what came of every run of every query. It is JSON, so that a script
//! that drives another engine can write the same file; fields that may be missing are `null` or left out:
//!
//! ```json
//! {
//!   "format": 1,
//!   "benchmark": "tpch",
//!   "engine": {"name": "duckdb", "version": "1.4.1", "commit": null},
//!   "mode": "local",
//!   "cores": 8,
//!   "data": {
//!     "path": "/data/tpch-10", "scale": 10.0, "generator": "tpchgen 4.0.0", "files": 64,
//!     "compression": "zstd", "rows": 86586082, "bytes": 3865470566, "checksum": "9f2c51d07be4a613"
//!   },
//!   "settings": {"memory_limit": "24GiB"},
//!   "command": ["python3", "peer.py", "--threads", "8"],
//!   "started": "2026-03-01T09:30:00Z",
//!   "machine": {
//!     "cpu": "AMD EPYC 9354", "cpus": 8, "numa_nodes": 1, "memory_bytes": 34359738368,
//!     "disk": "NVMe", "kernel": "6.12.9"
//!   },
//!   "versions": {"python": "3.13.1"},
//!   "iterations": 2,
//!   "warmup": 1,
//!   "cold": false,
//!   "streams": 1,
//!   "timeout_seconds": 300.0,
//!   "verified": "stored answers",
//!   "queries": [
//!     {
//!       "name": "q1",
//!       "runs": [
//!         {"stream": 0, "iteration": 0, "outcome": {
//!           "is": "done", "seconds": 0.83, "rows": 4, "cpu_seconds": 6.1, "peak_memory_bytes": 402653184,
//!           "bytes_read": 271581184, "bytes_shuffled": 0, "bytes_spilled": 0,
//!           "bytes_copied": 0, "stages": 2, "tasks": 16
//!         }},
//!         {"stream": 0, "iteration": 1, "outcome": {"is": "done", "seconds": 0.81, "rows": 4}}
//!       ],
//!       "verdict": {"is": "right"}
//!     },
//!     {
//!       "name": "q2",
//!       "runs": [
//!         {"stream": 0, "iteration": 0, "outcome": {
//!           "is": "failed", "kind": "timeout", "message": "stopped after 300 s"
//!         }}
//!       ],
//!       "verdict": {"is": "unverified"}
//!     },
//!     {
//!       "name": "q3",
//!       "runs": [{"stream": 0, "iteration": 0, "outcome": {"is": "done", "seconds": 1.9, "rows": 10}}],
//!       "verdict": {"is": "wrong", "difference": "row 3: revenue is 2.5, not 2.6"}
//!     }
//!   ],
//!   "timeline": [{"at": 0.0, "cpu_cores": 7.6, "memory_bytes": 1073741824}],
//!   "throughput": {"streams": 4, "seconds": 61.2, "queries": 88}
//! }
//! ```
//!
//! Workloads whose queries move known rows (`shuffle`, `sort`) also say in each run how many (`input_rows`) and, where it is
//! known, how many bytes those take in memory (`input_bytes`).
//!
//! Invariant: a query with a failed run or a wrong answer has no time. It is shown and compared as failed, so no total
//! is ever lowered by work that was not done.

mod compare;
mod file;
mod rates;
mod report;
mod run;
pub mod stats;
mod table;

#[cfg(test)]
pub(crate) mod samples;

pub(crate) use compare::alike::{Ground, conditions, require_ground};
pub(crate) use report::{Text, counted, html_with};
pub(crate) use table::line_up;

pub use compare::{Change, CompareOptions, Comparison, QueryComparison, compare};
pub use rates::{RateTable, Rates};
pub use report::html;
pub use run::{
    DataInfo, EngineInfo, FORMAT, FailureKind, Machine, Measures, Outcome, QueryRecord, Run, RunRecord,
    Sample, Throughput, Verdict,
};
