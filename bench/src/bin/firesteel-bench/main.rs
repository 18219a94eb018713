//! `firesteel-bench`: Firesteel beside its peers, in one run over the same files.
//!
//! Results made with it are derived from TPC-H and not comparable to published TPC-H results; every report says so.

mod cluster;
mod compare;
mod latency;
mod peers;
mod report;
mod timing;

use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::{Parser, Subcommand};

/// The allocator of the `firesteel` command, here for every peer.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measure Firesteel beside its peers
#[derive(Debug, Parser)]
#[command(name = "firesteel-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the 22 queries of TPC-H on plain DataFusion, in local mode and on a cluster, alternating query by query
    Compare(CompareArgs),
}

/// What is compared over what.
#[derive(Debug, clap::Args)]
struct CompareArgs {
    /// A folder made by `firesteel bench gen tpch`
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// How often each query runs on each, after one run that is not counted
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    iterations: u32,
    /// Partitions of DataFusion, core threads of local mode, and one-core executors of the cluster
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=256))]
    cores: u32,
    /// Run these queries only, such as q01,q06
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    queries: Vec<String>,
    /// Use the running cluster of this manager instead of starting one
    #[arg(long, value_name = "HOST:PORT")]
    manager: Option<String>,
    /// The `firesteel` program [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    firesteel: Option<PathBuf>,
    /// Write all times to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl CompareArgs {
    fn program(&self) -> anyhow::Result<PathBuf> {
        let beside = || Ok::<_, std::io::Error>(std::env::current_exe()?.with_file_name("firesteel"));
        let program = self.firesteel.clone().map_or_else(beside, Ok)?;
        ensure!(
            program.is_file(),
            "{} is not there: build it, or name it with --firesteel",
            program.display()
        );
        Ok(program)
    }
}

fn main() -> anyhow::Result<()> {
    firesteel_hw::allocator::keep_freed_memory();
    let Command::Compare(args) = Cli::parse().command;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(args.cores as usize)
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let report = runtime.block_on(compare::run(&args))?;
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&report).context("a report is plain data")?;
        std::fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    }
    println!("{}", report::Markdown(&report));
    Ok(())
}
