//! How long little work takes: whole processes, and a query through a running cluster.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use firesteel_bench::queries::{tpch, tpch_script};
use serde::Serialize;

use crate::peers::Peer;
use crate::timing::{Times, timed};

/// What takes little is measured more often.
const ITERATIONS_MIN: u32 = 20;

/// Times of little work.
#[derive(Debug, Serialize)]
pub struct Latency {
    /// `firesteel sql -c "select 1"`, from start to end of the process.
    pub select_1_process: Times,
    /// Q6 the same way, tables made known included.
    pub q6_process: Times,
    /// `select 1` of an open session on a running cluster.
    pub select_1_cluster_session: Times,
    /// `firesteel sql --manager .. -c "select 1"`, from start to end of the process.
    pub select_1_cluster_process: Times,
}

/// Measures all of them.
pub async fn measure(
    program: &Path,
    data: &Path,
    manager: &str,
    cluster: &Peer,
    iterations: u32,
) -> anyhow::Result<Latency> {
    let q6 = tpch_script(&data.canonicalize()?, &tpch("q06").context("q06 is one of the queries")?);
    let often = iterations.max(ITERATIONS_MIN);
    Ok(Latency {
        select_1_process: processes(program, &["-c", "select 1"], often).await?,
        q6_process: processes(program, &["-c", &q6], iterations).await?,
        select_1_cluster_session: session(cluster, often).await?,
        select_1_cluster_process: processes(program, &["--manager", manager, "-c", "select 1"], often)
            .await?,
    })
}

async fn processes(program: &Path, arguments: &[&str], iterations: u32) -> anyhow::Result<Times> {
    let mut times = Times::default();
    for round in 0..=iterations {
        let mut command = Command::new(program);
        command.args(["sql", "--quiet"]).args(arguments).stdin(Stdio::null()).env_remove("FIRESTEEL_MANAGER");
        let (took, output) = timed(async { command.output() }).await;
        let output = output.with_context(|| format!("cannot start {}", program.display()))?;
        ensure!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
        if round > 0 {
            times.add(took);
        }
    }
    Ok(times)
}

async fn session(cluster: &Peer, iterations: u32) -> anyhow::Result<Times> {
    let mut times = Times::default();
    for round in 0..=iterations {
        let (took, rows) = timed(cluster.run("select 1")).await;
        ensure!(rows? == 1, "select 1 has one row");
        if round > 0 {
            times.add(took);
        }
    }
    Ok(times)
}
