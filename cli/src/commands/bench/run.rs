//! `firesteel bench run` and `firesteel bench verify`

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use firesteel_base::UserError;
use firesteel_bench::record::{RunRecord, Verdict};
use firesteel_bench::run::{RunOptions, Target, checked_content, checked_manifest, chosen};
use firesteel_bench::verify::RightAnswers;
use firesteel_bench::{Benchmark, Progress, progress, queries};

use crate::args::{Global, PlaceArgs};
use crate::context::{Context, Role};
use crate::exit::{Exit, Failure};
use crate::runtime;
use crate::session;
use crate::signals::{Stop, interrupted};

const RUN_EXAMPLES: &str = "\
Examples:
  # Five runs of each query in this process, on two core threads
  firesteel bench run tpch --data data/tpch --iterations 5 --cores 2 --out local.json

  # The same on a cluster, a minute at most for each query
  firesteel bench run tpch --data data/tpch --iterations 5 --manager head:7400 --timeout 60 --out cluster.json

  # Four streams at the same time, reading from the disk
  firesteel bench run tpcds --data data/tpcds --streams 4 --cold

The record is written after every query. Answers are held against the stored ones where there are any for the data, else
against DuckDB where it is installed; a run without that says so. A query that fails is a FAIL in the record, and the exit
code is 1.";

const VERIFY_EXAMPLES: &str = "\
Examples:
  # Against the answers that are part of the program: TPC-H at scale 0.1 and 1, TPC-DS at scale 1
  firesteel bench verify tpch --data data/tpch

  # Data of any other scale, against DuckDB, which is given the same files
  firesteel bench verify tpch --data data/tpch-10 --against duckdb

DuckDB is the `duckdb` on the PATH, or the package in the environment that bench/peers makes, or what --duckdb says. It may
use a quarter of this machine's memory, and a query as long as --timeout says, or ten minutes.";

/// What is asked.
#[derive(Debug, Args)]
struct QueryArgs {
    /// The benchmark: tpch or tpcds
    #[arg(value_parser = super::benchmark)]
    benchmark: Benchmark,
    /// A folder made by `firesteel bench gen`
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The queries to ask, such as 1-5,7 [default: all]
    #[arg(long, value_name = "LIST")]
    queries: Option<String>,
    /// Give a query up after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    /// Keep the record in this file
    #[arg(long, value_name = "FILE.json")]
    out: Option<PathBuf>,
    /// Where right answers come from [default: stored ones where there are any for the scale, else DuckDB]
    #[arg(long, value_name = "SOURCE")]
    against: Option<Against>,
    /// The DuckDB to ask: its program, or a Python that has its package
    #[arg(long, value_name = "PATH")]
    duckdb: Option<PathBuf>,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Where right answers come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Against {
    Stored,
    Duckdb,
}

/// Run the queries of a benchmark, time them and check their answers
#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub struct RunArgs {
    #[command(flatten)]
    query: QueryArgs,
    /// Measured runs of each query
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    iterations: u32,
    /// Runs of each query before those
    #[arg(long, value_name = "N", default_value_t = 1)]
    warmup: u32,
    /// Streams that ask all queries at the same time, each once and in an order of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    streams: u32,
    /// Drop the data from the page cache before every run
    #[arg(long)]
    cold: bool,
    /// Do not check the answers
    #[arg(long, conflicts_with_all = ["against", "duckdb"])]
    no_verify: bool,
}

/// Ask every query once and hold its answer against the right one
///
/// First every file is read and held against its checksum in the manifest.
#[derive(Debug, Args)]
#[command(after_help = VERIFY_EXAMPLES)]
pub struct VerifyArgs {
    #[command(flatten)]
    query: QueryArgs,
}

/// A time above 0, given in seconds.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "give a number of seconds, such as 60".to_owned())?;
    Duration::try_from_secs_f64(number)
        .ok()
        .filter(|limit| !limit.is_zero())
        .ok_or_else(|| "give a number of seconds above 0".to_owned())
}

/// Runs `bench run`.
pub fn run(global: &Global, args: RunArgs) -> Result<Exit, Failure> {
    let (context, mut options) = prepare(global, &args.query)?;
    options.iterations = args.iterations;
    options.warmup = args.warmup;
    options.streams = args.streams;
    options.cold = args.cold;
    options.right = if args.no_verify { None } else { right_answers(&args.query)? };
    let record = measure(&context, &args.query.place, &options)?;
    tell(&record);
    ended(&record)
}

/// Runs `bench verify`.
pub fn verify(global: &Global, args: VerifyArgs) -> Result<Exit, Failure> {
    let (context, mut options) = prepare(global, &args.query)?;
    // What the answers are held against is of these very rows, so every byte of them is looked at first.
    checked_content(&options.data, options.benchmark)?;
    options.right = right_answers(&args.query)?;
    if options.right.is_none() {
        return Err(nothing_to_hold_against(&args.query)?.into());
    }
    let record = measure(&context, &args.query.place, &options)?;
    let right = record.queries.iter().filter(|query| query.verdict == Verdict::Right && !query.is_failed());
    println!("{} of {} answers are right", right.count(), record.queries.len());
    ended(&record)?;
    let unchecked: Vec<_> = record
        .queries
        .iter()
        .filter(|query| query.verdict == Verdict::Unverified)
        .map(|query| query.name.as_str())
        .collect();
    if unchecked.is_empty() {
        return Ok(Exit::Done);
    }
    let source = options.right.map_or_else(String::new, |right| right.to_string());
    Err(UserError::new(format!("{} answers could not be checked against {source}", unchecked.len()))
        .detail(unchecked.join(", "))
        .into())
}

/// The source of right answers that was asked for, or the best there is.
fn right_answers(args: &QueryArgs) -> Result<Option<RightAnswers>, Failure> {
    let against = args.against.or(args.duckdb.as_ref().map(|_| Against::Duckdb));
    if against == Some(Against::Stored) && args.duckdb.is_some() {
        return Err(Failure::usage(UserError::new("--duckdb is of no use with --against stored")));
    }
    let recipe = checked_manifest(&args.data, args.benchmark)?.recipe;
    Ok(match against {
        Some(Against::Stored) => Some(RightAnswers::stored(&recipe)?),
        Some(Against::Duckdb) => Some(RightAnswers::duckdb(&recipe, args.duckdb.as_deref())?),
        None => RightAnswers::available(&recipe),
    })
}

/// Why nothing can be verified: of both sources, what is missing.
fn nothing_to_hold_against(args: &QueryArgs) -> Result<UserError, UserError> {
    let recipe = checked_manifest(&args.data, args.benchmark)?.recipe;
    let (stored, duckdb) = (RightAnswers::stored(&recipe), RightAnswers::duckdb(&recipe, None));
    let fault = stored.err().unwrap_or_else(|| UserError::new("there is nothing to hold answers against"));
    let hint = duckdb.err().and_then(|fault| fault.hint).unwrap_or_default();
    Ok(UserError { hint: Some(format!("DuckDB can be asked instead: {hint}")), ..fault })
}

/// How the command ends: well only when every query did.
fn ended(record: &RunRecord) -> Result<Exit, Failure> {
    let failed: Vec<_> = record
        .failed()
        .map(|query| format!("{}: {}", query.name, query.failure().unwrap_or_default()))
        .collect();
    if failed.is_empty() {
        return Ok(Exit::Done);
    }
    let message = format!("{} of {} queries failed", failed.len(), record.queries.len());
    Err(Failure::from(UserError::new(message).detail(failed.join("\n"))))
}

fn prepare(global: &Global, args: &QueryArgs) -> Result<(Context, RunOptions), Failure> {
    let context = Context::load(global, args.place.flags().0, Role::Command)?;
    let queries = match &args.queries {
        Some(text) => chosen(args.benchmark, text).map_err(Failure::usage)?,
        None => queries::all(args.benchmark).to_vec(),
    };
    let options = RunOptions {
        benchmark: args.benchmark,
        data: args.data.clone(),
        queries,
        conf: session::conf(&args.place.conf)?,
        iterations: 1,
        warmup: 0,
        streams: 1,
        cold: false,
        timeout: args.timeout,
        right: None,
        out: args.out.clone(),
        command: std::env::args().collect(),
    };
    Ok((context, options))
}

fn measure(context: &Context, place: &PlaceArgs, options: &RunOptions) -> Result<RunRecord, Failure> {
    let place = place.place(context);
    let told: Box<dyn Progress + Send> =
        if context.quiet { Box::new(progress::Silent) } else { progress::stderr() };
    runtime::run(async {
        let mut stop = Stop::listen()?;
        let session = session::open(&place, "bench", options.conf.clone()).await?;
        let measured = async {
            let target = Target::of(session.clone()).await?;
            firesteel_bench::run::run(options, &target, told.as_ref()).await
        };
        let outcome = tokio::select! {
            outcome = measured => outcome.map_err(Failure::from),
            signal = stop.next() => Err(interrupted("the benchmark", signal)),
        };
        session.close().await;
        outcome
    })
}

/// The sum of it all.
fn tell(record: &RunRecord) {
    let checked = match &record.verified {
        Some(by) => format!("answers checked against {by}"),
        None => "answers NOT checked".to_owned(),
    };
    match (record.total_seconds(), record.geometric_mean_seconds()) {
        (Some(total), Some(mean)) => println!("total {total:.3} s, geometric mean {mean:.3} s; {checked}"),
        _ => println!("no total, as queries failed; {checked}"),
    }
    if let Some(throughput) = &record.throughput {
        println!(
            "{} streams: {} queries in {:.3} s",
            throughput.streams, throughput.queries, throughput.seconds
        );
    }
}
