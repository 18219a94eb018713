//! What was measured, as JSON and as Markdown.

use std::fmt;

use firesteel_bench::generate::Recipe;
use serde::Serialize;

use crate::latency::Latency;
use crate::timing::{Times, shown};

/// A whole run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The release of Firesteel.
    pub release: String,
    /// The version of DataFusion.
    pub datafusion: String,
    /// The machine.
    pub machine: String,
    /// Partitions, core threads, executors.
    pub cores: u32,
    /// Runs of each query.
    pub iterations: u32,
    /// The data.
    pub data: Recipe,
    /// The queries.
    pub queries: Vec<QueryTimes>,
    /// Little work.
    pub latency: Latency,
}

/// Milliseconds of one query on each peer.
#[derive(Debug, Serialize)]
pub struct QueryTimes {
    /// Its name.
    pub query: String,
    /// Plain DataFusion.
    pub datafusion: Times,
    /// Local mode.
    pub local: Times,
    /// Cluster mode.
    pub cluster: Times,
}

impl QueryTimes {
    fn medians(&self) -> [f64; 3] {
        [&self.datafusion, &self.local, &self.cluster].map(Times::median)
    }
}

/// A report as a README shows it.
pub struct Markdown<'a>(pub &'a Report);

impl fmt::Display for Markdown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.0;
        writeln!(
            f,
            "TPC-H at scale {}, Parquet with {} in up to {} files a table, hot; medians of {} runs in milliseconds, least and most in \
             parentheses. {}. Firesteel {}, DataFusion {}. Derived from TPC-H; not comparable to published TPC-H results.\n",
            report.data.scale,
            report.data.compression,
            report.data.files,
            report.iterations,
            report.machine,
            report.release,
            report.datafusion
        )?;
        let cores = report.cores;
        writeln!(
            f,
            "| query | DataFusion, {cores} partitions | local mode, {cores} core threads | to DataFusion | \
             cluster, {cores} one-core executors | to local mode |\n| --- | ---: | ---: | ---: | ---: | ---: |"
        )?;
        for query in &report.queries {
            let cell = |times: &Times| format!("{} ({})", times.median_ms(), times.range_ms());
            let [datafusion, local, cluster] = query.medians();
            row(
                f,
                &query.query,
                &[cell(&query.datafusion), cell(&query.local), cell(&query.cluster)],
                [local / datafusion, cluster / local],
            )?;
        }
        let totals = report
            .queries
            .iter()
            .map(QueryTimes::medians)
            .fold([0.0; 3], |sum, query| [sum[0] + query[0], sum[1] + query[1], sum[2] + query[2]]);
        row(f, "**total**", &totals.map(shown), [totals[1] / totals[0], totals[2] / totals[1]])?;
        latency(f, &report.latency)
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, cells: &[String; 3], ratios: [f64; 2]) -> fmt::Result {
    let [datafusion, local, cluster] = cells;
    writeln!(f, "| {name} | {datafusion} | {local} | {:.2} | {cluster} | {:.2} |", ratios[0], ratios[1])
}

fn latency(f: &mut fmt::Formatter<'_>, latency: &Latency) -> fmt::Result {
    writeln!(f, "\n| little work | median ms | least-most |\n| --- | ---: | ---: |")?;
    let lines = [
        ("`firesteel sql -c \"select 1\"`, whole process", &latency.select_1_process),
        ("Q6 the same way, tables made known included", &latency.q6_process),
        ("`select 1` of an open session on a running cluster", &latency.select_1_cluster_session),
        ("`firesteel sql --manager .. -c \"select 1\"`, whole process", &latency.select_1_cluster_process),
    ];
    for (what, times) in lines {
        writeln!(f, "| {what} | {} | {} |", times.median_ms(), times.range_ms())?;
    }
    Ok(())
}
