//! `firesteel bench run` and `firesteel bench verify`

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use firesteel_base::UserError;
use firesteel_bench::record::RunRecord;
use firesteel_bench::run::{RunOptions, Target, checked_content, chosen};
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

The record is written after every query. Answers are held against the stored ones where there are any for the scale and the
data is not skewed; a run without that says so. A query that fails is a FAIL in the record, and the exit code is 1.";

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
    #[command(flatten)]
    place: PlaceArgs,
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
    #[arg(long)]
    no_verify: bool,
}

/// Ask every query once and hold its answer against the stored one
///
/// First every file is read and held against its checksum in the manifest.
#[derive(Debug, Args)]
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
    options.verify = !args.no_verify;
    let record = measure(&context, &args.query.place, &options)?;
    tell(&record);
    ended(&record)
}

/// Runs `bench verify`.
pub fn verify(global: &Global, args: VerifyArgs) -> Result<Exit, Failure> {
    let (context, options) = prepare(global, &args.query)?;
    // What the answers are held against is of these very rows, so every byte of them is looked at first.
    let recipe = checked_content(&options.data, options.benchmark)?.recipe;
    if let Some(skew) = recipe.skew {
        return Err(Failure::from(
            UserError::new(format!("the stored answers do not hold for data that is skewed ({skew})"))
                .hint("generate the data without --skew"),
        ));
    }
    let record = measure(&context, &args.query.place, &options)?;
    if record.verified.is_none() {
        let scale = record.data.scale;
        return Err(Failure::from(
            UserError::new(format!("there are no stored answers of {} at scale {scale}", record.benchmark))
                .hint("generate the data at scale 1, or TPC-H at scale 0.1"),
        ));
    }
    let (failed, all) = (record.failed().count(), record.queries.len());
    println!("{} of {all} answers are right", all - failed);
    ended(&record)
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
        verify: true,
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
        None => match &record.data.skew {
            Some(skew) => format!("answers NOT checked, as the data is skewed ({skew})"),
            None => "answers NOT checked".to_owned(),
        },
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
