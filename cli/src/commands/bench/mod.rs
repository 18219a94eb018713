//! `firesteel bench`

mod compare;
mod gen_data;
mod report;
mod run;
mod scale;
mod verify;
mod worker;

use clap::{Args, Subcommand};
use firesteel_base::UserError;
use firesteel_bench::Benchmark;

use crate::args::Global;
use crate::exit::{Exit, Failure};

const EXAMPLES: &str = "\
Examples:
  firesteel bench gen tpch --scale 1 --out data/tpch
  firesteel bench run tpch --data data/tpch --iterations 5 --out new.json
  firesteel bench run shuffle --bytes 4GiB --manager head:7400
  firesteel bench verify tpcds --data data/tpcds --manager head:7400
  firesteel bench scale tpch --data data/tpch --executors 1,2,4 --against duckdb.json
  firesteel bench compare old.json new.json --fail-above 5%
  firesteel bench report *.json --html report.html

What tpch, tpcds and sort measure is derived from TPC-H and TPC-DS; it is not comparable to published TPC results.";

/// Generate benchmark data, run benchmarks, compare and show what was measured
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    Gen(gen_data::GenArgs),
    Run(run::RunArgs),
    Verify(verify::VerifyArgs),
    Compare(compare::CompareArgs),
    Report(report::ReportArgs),
    Scale(scale::ScaleArgs),
    #[command(hide = true)]
    Worker(worker::WorkerArgs),
    #[command(hide = true)]
    Check(worker::CheckArgs),
    #[command(hide = true)]
    Info(worker::InfoArgs),
}

/// Runs the command.
pub fn run(global: &Global, args: BenchArgs) -> Result<Exit, Failure> {
    match args.command {
        BenchCommand::Gen(args) => gen_data::run(global, args),
        BenchCommand::Run(args) => run::run(global, args),
        BenchCommand::Verify(args) => verify::run(global, args),
        BenchCommand::Compare(args) => compare::run(args),
        BenchCommand::Report(args) => report::run(global, args),
        BenchCommand::Scale(args) => scale::run(global, &args),
        BenchCommand::Worker(args) => worker::run(global, args),
        BenchCommand::Check(args) => worker::check(&args),
        BenchCommand::Info(args) => worker::info(&args),
    }
}

/// The benchmark of that name.
fn benchmark(text: &str) -> Result<Benchmark, String> {
    text.parse().map_err(|fault: UserError| fault.hint.unwrap_or(fault.message))
}
