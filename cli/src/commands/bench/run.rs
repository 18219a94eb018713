//! `firesteel bench run`

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use firesteel_base::{ByteSize, UserError};
use firesteel_bench::record::{RateTable, RunRecord};
use firesteel_bench::run::{Keys, RunOptions, Shuffle, Sort, Target, Workload};
use firesteel_bench::{Benchmark, Progress, progress};

use super::verify::RightArgs;
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

  # 4 GiB of rows through an exchange by key, once with even and once with skewed keys
  firesteel bench run shuffle --bytes 4GiB --keys uniform,zipf:1.1 --manager head:7400 --out shuffle.json

  # Sorts and groupings of lineitem
  firesteel bench run sort --data data/tpch --out sort.json

The record is written after every query. Answers are held against right ones where those are known: stored ones, or those \
of a DuckDB that is installed; a run without that says so. A query that fails is a FAIL in the record, and the exit code is \
1. `firesteel bench run WORKLOAD --help` tells the options of each.";

const SHUFFLE_HELP: &str = "\
Rows of 64-bit integers, made by arithmetic as they are read, cross an exchange by key, and every column is summed up \
behind it. On a cluster they are written as blocks and fetched by the executors that sum them; in local mode they change \
core by pointer, and what is measured is the division of batches by key. The sums are known beforehand, so every answer \
is checked.

Keys are all different (uniform), or from 1 to 1048576 and as frequent as their power of minus EXPONENT (zipf:EXPONENT). \
The queries are named uniform, zipf-1.1 and so on. A Zipf key takes one power to make, about 20 ns of its row's time.

Examples:
  firesteel bench run shuffle --bytes 4GiB --columns 8 --local --cores 2
  firesteel bench run shuffle --bytes 64GiB --keys zipf:1.1 --manager head:7400 --iterations 5 --out zipf.json";

const SORT_HELP: &str = "\
Queries:
  sort-orderkey       all of lineitem to a Parquet file, by l_orderkey
  sort-partkey        the same by l_partkey
  group-orders        rows and quantity of each order: as many groups as orders
  distinct-suppliers  distinct suppliers of each order
  group-parts         rows and quantity of each supplier and part

The data is that of `firesteel bench gen tpch`, as Parquet files. Sorted files and answers are checked by reading the \
data without the engine; that is not part of any time.

Examples:
  firesteel bench run sort --data data/tpch --local --cores 2 --memory 4GiB
  firesteel bench run sort --data /shared/tpch --out-data /shared/scratch --manager head:7400 --queries sort-orderkey";

/// What is asked of generated data, and where.
#[derive(Debug, Args)]
pub(super) struct AskArgs {
    /// The queries to ask, such as 1-5,7 or sort-orderkey [default: all]
    #[arg(long, value_name = "LIST")]
    queries: Option<String>,
    /// Give a query up after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    /// Keep the record in this file
    #[arg(long, value_name = "FILE.json")]
    out: Option<PathBuf>,
    #[command(flatten)]
    pub(super) place: PlaceArgs,
}

/// How often it is asked.
#[derive(Debug, Args)]
struct MeasureArgs {
    /// Measured runs of each query
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    iterations: u32,
    /// Runs of each query before those
    #[arg(long, value_name = "N", default_value_t = 1)]
    warmup: u32,
    /// Do not check the answers
    #[arg(long)]
    no_verify: bool,
    #[command(flatten)]
    ask: AskArgs,
}

/// Run the queries of a workload, time them and check their answers
#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub struct RunArgs {
    #[command(subcommand)]
    workload: WorkloadArgs,
}

#[derive(Debug, Subcommand)]
#[command(
    subcommand_value_name = "WORKLOAD",
    subcommand_help_heading = "Workloads",
    disable_help_subcommand = true
)]
enum WorkloadArgs {
    /// The 22 queries of TPC-H
    #[command(alias = "tpc-h")]
    Tpch(TpcArgs),
    /// The 99 queries of TPC-DS
    #[command(alias = "tpc-ds")]
    Tpcds(TpcArgs),
    /// Exchanges by key, of rows that are made as they are read
    #[command(after_help = SHUFFLE_HELP)]
    Shuffle(ShuffleArgs),
    /// Sorts and groupings of the lineitem of TPC-H
    #[command(after_help = SORT_HELP)]
    Sort(SortArgs),
}

#[derive(Debug, Args)]
struct TpcArgs {
    /// A folder made by `firesteel bench gen`
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Streams that ask all queries at the same time, each once and in an order of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    streams: u32,
    /// Drop the data from the page cache before every run
    #[arg(long)]
    cold: bool,
    #[command(flatten)]
    right: RightArgs,
    #[command(flatten)]
    measure: MeasureArgs,
}

#[derive(Debug, Args)]
struct ShuffleArgs {
    /// Bytes of rows to shuffle, such as 4GiB
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    bytes: ByteSize,
    /// Columns of each row, 8 bytes each; the first is the key
    #[arg(long, value_name = "N", default_value_t = 8)]
    columns: u32,
    /// How keys are distributed: uniform, zipf:EXPONENT, or several of them
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "uniform,zipf:1.1", value_parser = keys)]
    keys: Vec<Keys>,
    #[command(flatten)]
    measure: MeasureArgs,
}

#[derive(Debug, Args)]
struct SortArgs {
    /// A folder made by `firesteel bench gen tpch`
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Folder to write sorted files to, under the same path on every executor; they are removed afterwards [default: the system's
    /// temporary folder]
    #[arg(long, value_name = "DIR")]
    out_data: Option<PathBuf>,
    /// Drop the data from the page cache before every run
    #[arg(long)]
    cold: bool,
    #[command(flatten)]
    measure: MeasureArgs,
}

/// A time above 0, given in seconds.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "give a number of seconds, such as 60".to_owned())?;
    Duration::try_from_secs_f64(number)
        .ok()
        .filter(|limit| !limit.is_zero())
        .ok_or_else(|| "give a number of seconds above 0".to_owned())
}

fn keys(text: &str) -> Result<Keys, String> {
    text.parse().map_err(|fault: UserError| fault.hint.unwrap_or(fault.message))
}

/// Runs `bench run`.
pub fn run(global: &Global, args: RunArgs) -> Result<Exit, Failure> {
    let (workload, measured, streams, cold) = match args.workload {
        WorkloadArgs::Tpch(args) => tpc(Benchmark::Tpch, args)?,
        WorkloadArgs::Tpcds(args) => tpc(Benchmark::Tpcds, args)?,
        WorkloadArgs::Shuffle(args) => {
            let shuffle = Shuffle::new(args.bytes.0, args.columns, args.keys).map_err(Failure::usage)?;
            (Workload::Shuffle(shuffle), args.measure, 1, false)
        }
        WorkloadArgs::Sort(args) => {
            let sort = Sort::new(&args.data, args.out_data.as_deref())?;
            (Workload::Sort(sort), args.measure, 1, args.cold)
        }
    };
    let (context, options) = prepare(global, workload, &measured.ask)?;
    let MeasureArgs { iterations, warmup, no_verify, ask } = measured;
    let options = RunOptions { iterations, warmup, streams, cold, verify: !no_verify, ..options };
    let record = measure(&context, &ask.place, &options)?;
    tell(&record);
    ended(&record)
}

fn tpc(benchmark: Benchmark, args: TpcArgs) -> Result<(Workload, MeasureArgs, u32, bool), Failure> {
    let TpcArgs { data, streams, cold, right, measure } = args;
    let right = match measure.no_verify {
        true if right.is_given() => {
            let message = "--no-verify and a source of right answers exclude each other";
            return Err(Failure::usage(UserError::new(message).hint("leave one of them out")));
        }
        true => None,
        false => right.answers(benchmark, &data)?,
    };
    Ok((Workload::Tpc { benchmark, data, right }, measure, streams, cold))
}

/// How the command ends: well only when every query did.
pub(super) fn ended(record: &RunRecord) -> Result<Exit, Failure> {
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

/// One run of each query, its answer checked.
pub(super) fn prepare(
    global: &Global,
    workload: Workload,
    args: &AskArgs,
) -> Result<(Context, RunOptions), Failure> {
    let context = Context::load(global, args.place.flags().0, Role::Command)?;
    let queries = match &args.queries {
        Some(text) => workload.chosen(text).map_err(Failure::usage)?,
        None => workload.queries(),
    };
    let options = RunOptions {
        workload,
        queries,
        conf: session::conf(&args.place.conf)?,
        iterations: 1,
        warmup: 0,
        streams: 1,
        cold: false,
        timeout: args.timeout,
        verify: true,
        out: args.out.clone(),
        command: std::env::args().collect(),
    };
    Ok((context, options))
}

pub(super) fn measure(
    context: &Context,
    place: &PlaceArgs,
    options: &RunOptions,
) -> Result<RunRecord, Failure> {
    let place = place.place(context)?;
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
    if let Some(rates) = RateTable::of(record) {
        println!("{rates}");
    }
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
