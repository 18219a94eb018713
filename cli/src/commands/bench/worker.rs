//! `firesteel bench worker`, `check` and `info`: what a script that drives several engines asks of this one.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use firesteel_base::UserError;
use firesteel_bench::record::{FailureKind, Outcome, Verdict};
use firesteel_bench::run::{Target, describe};
use firesteel_bench::verify::{Answer, Expected, Rules, compare, write_csv};
use firesteel_bench::{Benchmark, queries};
use serde::{Deserialize, Serialize};

use crate::args::{Global, PlaceArgs};
use crate::context::{Context, Role};
use crate::exit::{Exit, Failure};
use crate::{runtime, session};

/// Answer queries given as JSON lines on standard input, and tell what each took
#[derive(Debug, Args)]
pub struct WorkerArgs {
    /// The benchmark whose tables are queried
    #[arg(value_parser = super::benchmark)]
    benchmark: Benchmark,
    /// A folder made by `firesteel bench gen`
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Hold an answer in a CSV file against the right one
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The benchmark
    #[arg(value_parser = super::benchmark)]
    benchmark: Benchmark,
    /// The query, such as q01
    query: String,
    /// The scale of the data, for which there is a stored answer
    #[arg(long, value_name = "F", required_unless_present = "right")]
    scale: Option<f64>,
    /// The right answer: CSV with a header, NULL as nothing
    #[arg(long, value_name = "FILE.csv", conflicts_with = "scale")]
    right: Option<PathBuf>,
    /// The answer: CSV with a header, NULL as nothing
    #[arg(long, value_name = "FILE.csv")]
    answer: PathBuf,
}

/// Tell as JSON what a record says of a folder of data and of this machine
#[derive(Debug, Args)]
pub struct InfoArgs {
    /// The benchmark
    #[arg(value_parser = super::benchmark)]
    benchmark: Benchmark,
    /// A folder made by `firesteel bench gen`
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

/// A line of standard input.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    #[allow(dead_code, reason = "the asking side names it for its own messages")]
    query: String,
    sql: String,
    /// Where the answer is wanted as CSV.
    #[serde(default)]
    answer: Option<PathBuf>,
}

fn say(message: &impl Serialize) -> Result<(), Failure> {
    let line = serde_json::to_string(message).expect("a message is plain data");
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|fault| {
        Failure::new(Exit::Output, UserError::new(format!("standard output cannot be written: {fault}")))
    })
}

/// Runs `bench worker`.
pub fn run(global: &Global, args: WorkerArgs) -> Result<Exit, Failure> {
    let context = Context::load(global, args.place.flags().0, Role::Command)?;
    let place = args.place.place(&context)?;
    let conf = session::conf(&args.place.conf)?;
    runtime::run(async {
        let session = session::open(&place, "bench", conf.clone()).await?;
        let target = Target::of(session.clone()).await?;
        target.register(args.benchmark, &args.data).await?;
        let engine = serde_json::json!({
            "name": "firesteel", "version": firesteel_base::version::RELEASE, "commit": firesteel_bench::COMMIT,
        });
        say(&serde_json::json!({
            "ready": true, "engine": engine, "mode": target.mode, "cores": target.cores, "settings": conf, "versions": {},
        }))?;
        for line in std::io::stdin().lock().lines() {
            let line =
                line.map_err(|fault| UserError::new(format!("standard input cannot be read: {fault}")))?;
            let request: Request = serde_json::from_str(&line).map_err(|fault| {
                UserError::new("a line of standard input is no request").detail(fault.to_string())
            })?;
            say(&answer(&target, &request).await)?;
        }
        session.close().await;
        Ok(Exit::Done)
    })
}

async fn answer(target: &Target, request: &Request) -> Outcome {
    let failed = |error: UserError| Outcome::Failed { kind: FailureKind::Error, message: error.to_string() };
    let asked = match target.measure(&request.sql, true).await {
        Ok(asked) => asked,
        Err(error) => return failed(error),
    };
    match request.answer.as_ref().map(|path| write_csv(&asked.rows, path)) {
        Some(Err(error)) => failed(error),
        Some(Ok(())) | None => Outcome::Done(asked.measures),
    }
}

/// Runs `bench check`.
pub fn check(args: &CheckArgs) -> Result<Exit, Failure> {
    let query =
        queries::all(args.benchmark).iter().find(|query| query.name == args.query).ok_or_else(|| {
            Failure::usage(UserError::new(format!("{} has no query {}", args.benchmark, args.query)))
        })?;
    let expected = match (&args.right, args.scale) {
        (Some(file), _) => Expected::from_csv(&read(file)?).map_err(|fault| {
            UserError::new(format!("{} is no CSV", file.display())).detail(fault.to_string())
        })?,
        (None, scale) => Expected::stored(args.benchmark, scale.unwrap_or_default(), query.name)?,
    };
    let verdict = match Answer::from_csv(&read(&args.answer)?) {
        Ok(answer) => match compare(&expected, &answer, &Rules::of(query.sql)) {
            Ok(()) => Verdict::Right,
            Err(mismatch) => Verdict::Wrong(mismatch.to_string()),
        },
        Err(fault) => Verdict::Wrong(format!("it is no CSV: {fault}")),
    };
    say(&verdict)?;
    Ok(Exit::Done)
}

fn read(path: &Path) -> Result<String, UserError> {
    std::fs::read_to_string(path)
        .map_err(|fault| UserError::new(format!("{} cannot be read: {fault}", path.display())))
}

/// Runs `bench info`.
pub fn info(args: &InfoArgs) -> Result<Exit, Failure> {
    let (data, machine) = describe(&args.data, args.benchmark)?;
    say(&serde_json::json!({ "data": data, "machine": machine }))?;
    Ok(Exit::Done)
}
