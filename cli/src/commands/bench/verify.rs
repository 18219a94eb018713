//! `firesteel bench verify`

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use firesteel_base::UserError;
use firesteel_bench::Benchmark;
use firesteel_bench::record::{RunRecord, Verdict};
use firesteel_bench::run::{Workload, checked_content, checked_manifest};
use firesteel_bench::verify::RightAnswers;

use super::run::{AskArgs, ended, measure, prepare};
use crate::args::Global;
use crate::exit::{Exit, Failure};

const EXAMPLES: &str = "\
Examples:
  # Against the answers that are part of the program: TPC-H at scale 0.1 and 1, TPC-DS at scale 1
  firesteel bench verify tpch --data data/tpch

  # Data of any other scale, against DuckDB, which is given the same files
  firesteel bench verify tpch --data data/tpch-10 --against duckdb

DuckDB is the `duckdb` on the PATH, or the package in the environment that bench/peers makes, or what --duckdb says. It may
use a quarter of this machine's memory, and a query as long as --timeout says, or ten minutes.";

/// Where right answers come from.
#[derive(Debug, Args)]
pub struct RightArgs {
    /// Where right answers come from [default: stored ones where there are any for the data, else DuckDB]
    #[arg(long, value_name = "SOURCE")]
    against: Option<Against>,
    /// The DuckDB to ask: its program, or a Python that has its package
    #[arg(long, value_name = "PATH")]
    duckdb: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Against {
    Stored,
    Duckdb,
}

impl RightArgs {
    /// Whether any was named.
    pub fn is_given(&self) -> bool {
        self.against.is_some() || self.duckdb.is_some()
    }

    /// The source that was asked for, or the best there is.
    pub fn answers(&self, benchmark: Benchmark, data: &Path) -> Result<Option<RightAnswers>, Failure> {
        let against = self.against.or(self.duckdb.as_ref().map(|_| Against::Duckdb));
        if against == Some(Against::Stored) && self.duckdb.is_some() {
            return Err(Failure::usage(UserError::new("--duckdb is of no use with --against stored")));
        }
        let recipe = checked_manifest(data, benchmark)?.recipe;
        Ok(match against {
            Some(Against::Stored) => Some(RightAnswers::stored(&recipe)?),
            Some(Against::Duckdb) => Some(RightAnswers::duckdb(&recipe, self.duckdb.as_deref())?),
            None => RightAnswers::available(&recipe),
        })
    }
}

/// Ask every query once and hold its answer against the right one
///
/// First every file is read and held against its checksum in the manifest.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct VerifyArgs {
    /// The benchmark: tpch or tpcds
    #[arg(value_parser = super::benchmark)]
    benchmark: Benchmark,
    /// A folder made by `firesteel bench gen`
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    #[command(flatten)]
    right: RightArgs,
    #[command(flatten)]
    ask: AskArgs,
}

/// Runs the command.
pub fn run(global: &Global, args: VerifyArgs) -> Result<Exit, Failure> {
    let VerifyArgs { benchmark, data, right, ask } = args;
    // What the answers are held against is of these very rows, so every byte of them is looked at first.
    checked_content(&data, benchmark)?;
    let Some(right) = right.answers(benchmark, &data)? else {
        return Err(nothing_to_hold_against(benchmark, &data)?.into());
    };
    let source = right.to_string();
    let (context, options) = prepare(global, Workload::Tpc { benchmark, data, right: Some(right) }, &ask)?;
    let record = measure(&context, &ask.place, &options)?;
    let right = record.queries.iter().filter(|query| query.verdict == Verdict::Right && !query.is_failed());
    println!("{} of {} answers are right", right.count(), record.queries.len());
    ended(&record)?;
    all_checked(&record, &source)
}

/// Ends well only when every answer was held against one.
fn all_checked(record: &RunRecord, source: &str) -> Result<Exit, Failure> {
    let unchecked = record.queries.iter().filter(|query| query.verdict == Verdict::Unverified);
    let unchecked: Vec<_> = unchecked.map(|query| query.name.as_str()).collect();
    if unchecked.is_empty() {
        return Ok(Exit::Done);
    }
    let message = format!("{} answers could not be checked against {source}", unchecked.len());
    Err(UserError::new(message).detail(unchecked.join(", ")).into())
}

/// Why nothing can be verified: of both sources, what is missing.
fn nothing_to_hold_against(benchmark: Benchmark, data: &Path) -> Result<UserError, UserError> {
    let recipe = checked_manifest(data, benchmark)?.recipe;
    let (stored, duckdb) = (RightAnswers::stored(&recipe), RightAnswers::duckdb(&recipe, None));
    let fault = stored.err().unwrap_or_else(|| UserError::new("there is nothing to hold answers against"));
    let hint = duckdb.err().and_then(|fault| fault.hint).unwrap_or_default();
    Ok(UserError { hint: Some(format!("DuckDB can be asked instead: {hint}")), ..fault })
}
