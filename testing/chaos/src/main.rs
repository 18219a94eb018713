//! The command.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{Parser, Subcommand};
use firesteel_base::ByteSize;
use firesteel_base::units::parse_duration;
use firesteel_chaos::measure::{self, Case, HEAD, measure};
use firesteel_chaos::record::End;
use firesteel_chaos::schedule::Family;
use firesteel_chaos::story::Tone;
use firesteel_chaos::{Options, Report, interrupt, run};
use serde_json::json;

const ABOUT: &str =
    "Runs TPC-H on a cluster of real processes while faults befall it, and checks every answer";

const TEACHES: &str = "\
It starts a manager and workers of --binary, asks TPC-H queries as clients, and breaks something every few seconds: kills and
stops processes, cuts links and makes them lossy, fills disks, corrupts blocks. Every query must end in time with the right
answer, or with an error that docs/chaos.md allows; at the end the cluster must be whole and idle, and leave nothing behind.

Examples:
  firesteel-chaos --binary target/release/firesteel --data data/tpch-1 --for 1h
  firesteel-chaos --binary target/release/firesteel --data data/tpch-1 --for 10m --faults kill,manager --seed 7
  firesteel-chaos --binary target/release/firesteel --data data/tpch-1 --log faults.jsonl
  firesteel-chaos --binary target/release/firesteel --data data/tpch-1 --replay faults.jsonl

  firesteel-chaos measure --binary target/release/firesteel --data data/tpch-1 --queries q09,q18
                                            how long each kind of fault takes to be noticed and mended

Links and disks need root. What this host cannot do is said at the start and left out.
Exit codes: 0 all held, 1 something did not, 2 the command line is wrong or nothing could be started, 130 interrupted.";

#[derive(Debug, Parser)]
#[command(name = "firesteel-chaos", version, about = ABOUT, after_help = TEACHES)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Command {
    #[command(flatten)]
    run: Option<Args>,
    #[command(subcommand)]
    other: Option<Other>,
}

#[derive(Debug, Subcommand)]
enum Other {
    /// Have each kind of fault hit a query once, and tell what it costs
    Measure(MeasureArgs),
}

/// Every query of --queries is asked undisturbed, and then once for each fault and --repeats, which comes at a fixed part of the
/// undisturbed time. Told are the times until a log says that the fault was noticed and that something was done about it, and until
/// the answer, which is held against the undisturbed one.
#[derive(Debug, clap::Args)]
struct MeasureArgs {
    /// The `firesteel` to run; a release build, for figures that mean something
    #[arg(long, value_name = "PATH")]
    binary: PathBuf,
    /// TPC-H data of any scale, made by `firesteel bench gen tpch`
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The queries
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "q09,q18")]
    queries: Vec<String>,
    /// The faults [default: all but worker-cut, which needs root]
    #[arg(long, value_enum, value_name = "KINDS", value_delimiter = ',')]
    faults: Vec<Case>,
    /// How often each is measured
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeats: u32,
    /// How many workers, with one executor each
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(2..=64))]
    workers: u32,
    /// Core threads of each executor
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=512))]
    cores: u32,
    /// Memory of each executor
    #[arg(long, value_name = "SIZE", default_value = "2GiB")]
    memory: ByteSize,
    /// The part of its undisturbed time after which a query is hit
    #[arg(long, value_name = "PART", default_value_t = 0.5, value_parser = part)]
    at: f64,
    /// Measure too what keeping blocks and a journal costs: on two clusters, in turn
    #[arg(long)]
    overhead: bool,
    /// A setting of manager and workers; may be given several times
    #[arg(long = "conf", value_name = "VARIABLE=VALUE", value_parser = setting)]
    conf: Vec<(String, String)>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl MeasureArgs {
    fn options(&self) -> measure::Options {
        let all = [
            Case::ExecutorKilled,
            Case::ExecutorStopped,
            Case::WorkerKilled,
            Case::WorkerStopped,
            Case::DriverKilled,
            Case::ManagerKilled,
        ];
        measure::Options {
            binary: self.binary.clone(),
            data: self.data.clone(),
            queries: self.queries.clone(),
            cases: if self.faults.is_empty() { all.to_vec() } else { self.faults.clone() },
            repeats: self.repeats,
            workers: self.workers,
            cores: self.cores,
            memory: self.memory,
            at: self.at,
            overhead: self.overhead,
            conf: self.conf.clone(),
        }
    }
}

fn part(text: &str) -> Result<f64, String> {
    let part = text.parse().ok().filter(|part| (0.0..1.0).contains(part));
    part.ok_or_else(|| format!("'{text}' is no part such as 0.5"))
}

#[derive(Debug, clap::Args)]
struct Args {
    /// The `firesteel` to run.
    #[arg(long, value_name = "PATH")]
    binary: PathBuf,
    /// TPC-H data at scale 0.1 or 1, made by `firesteel bench gen tpch`.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// What faults and questions are drawn from [default: of the clock].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How long faults come and questions are asked.
    #[arg(long = "for", value_name = "TIME", default_value = "10m", value_parser = parse_duration)]
    span: Duration,
    /// How many workers.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=200))]
    workers: u32,
    /// How many clients ask at a time.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    clients: u32,
    /// The kinds of faults [default: all].
    #[arg(long, value_enum, value_name = "KINDS", value_delimiter = ',')]
    faults: Vec<Family>,
    /// The time between two faults.
    #[arg(long, value_name = "FROM..TO", default_value = "1s..5s", value_parser = every)]
    every: RangeInclusive<Duration>,
    /// Memory of each executor; little, so that blocks go to files.
    #[arg(long, value_name = "SIZE", default_value = "512MiB")]
    memory: ByteSize,
    /// The size of each worker's scratch disk, where this host can mount one.
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    disk: ByteSize,
    /// How long a query may take, whatever happens.
    #[arg(long, value_name = "TIME", default_value = "4m", value_parser = parse_duration)]
    query_max: Duration,
    /// Of a hundred queries, so many are submitted to run under a worker; the driver of the others is their client.
    #[arg(long, value_name = "PERCENT", default_value_t = 30, value_parser = clap::value_parser!(u32).range(0..=100))]
    submitted: u32,
    /// A setting of manager and workers, such as FIRESTEEL_LOG_LEVEL=debug; may be given several times.
    #[arg(long = "conf", value_name = "VARIABLE=VALUE", value_parser = setting)]
    conf: Vec<(String, String)>,
    /// Answers that count as right in place of the stored ones: q01.csv and so on.
    #[arg(long, value_name = "DIR")]
    answers: Option<PathBuf>,
    /// Go on after something did not hold.
    #[arg(long)]
    keep_going: bool,
    /// Write the faults here as well.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Have the faults of an earlier run at the same times.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "span", "workers", "clients", "faults", "every"])]
    replay: Option<PathBuf>,
    /// Print JSON, an object a line; the last is the summary.
    #[arg(long)]
    json: bool,
}

fn every(text: &str) -> Result<RangeInclusive<Duration>, String> {
    let (from, to) = text.split_once("..").unwrap_or((text, text));
    let parse = |part| parse_duration(part).map_err(|error| error.to_string());
    let range = parse(from)?..=parse(to)?;
    if range.is_empty() { Err(format!("'{text}' is no range such as 1s..5s")) } else { Ok(range) }
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a setting is VARIABLE=VALUE")?;
    if key.starts_with("FIRESTEEL_") {
        Ok((key.to_owned(), value.to_owned()))
    } else {
        Err(format!("'{key}' is no variable of Firesteel; `firesteel config --reference` lists them"))
    }
}

impl Args {
    fn options(self) -> Options {
        let of_clock = || {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            u64::from(since.subsec_nanos())
        };
        Options {
            binary: self.binary,
            data: self.data,
            answers: self.answers,
            seed: self.seed.unwrap_or_else(of_clock),
            span: self.span,
            workers: self.workers,
            clients: self.clients,
            families: if self.faults.is_empty() { Family::ALL.to_vec() } else { self.faults },
            every: self.every,
            memory: self.memory,
            disk: self.disk,
            query_max: self.query_max,
            submitted: self.submitted,
            keeps_going: self.keep_going,
            tone: if self.json { Tone::Json } else { Tone::Lines },
            log: self.log,
            replay: self.replay,
            conf: self.conf,
        }
    }
}

fn main() -> ExitCode {
    match Command::parse() {
        Command { other: Some(Other::Measure(args)), .. } => tell_measures(&args),
        Command { run: Some(args), .. } => tell_run(args),
        Command { run: None, other: None } => {
            eprintln!("error: --binary and --data are needed; --help tells more");
            ExitCode::from(2)
        }
    }
}

fn tell_measures(args: &MeasureArgs) -> ExitCode {
    if !args.json {
        println!("{HEAD}");
    }
    let results = measure(&args.options(), |line| {
        if !args.json {
            println!("{line}");
        }
    });
    let results = match results {
        Ok(results) => results,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::from(2);
        }
    };
    if args.json {
        println!("{}", results.to_json());
    } else {
        results.sums(args.workers).iter().for_each(|line| println!("{line}"));
        if let Some(overhead) = &results.overhead {
            println!("keeping blocks and a journal: {:+.1} %", 100.0 * overhead.ratio());
        }
    }
    if results.all_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell_run(args: Args) -> ExitCode {
    let as_json = args.json;
    match run(&args.options()) {
        Ok(report) => {
            println!("{}", if as_json { as_object(&report) } else { in_words(&report) });
            match report.end {
                End::Interrupted => ExitCode::from(u8::try_from(interrupt::INTERRUPTED).unwrap_or(1)),
                End::Time | End::Breach if report.held() => ExitCode::SUCCESS,
                End::Time | End::Breach => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn as_object(report: &Report) -> String {
    let Report { seed, end, counts, most, breaches, folder } = report;
    let excused = counts.excused.iter().map(|(excuse, count)| (excuse.to_string(), json!(count)));
    let taken = most.iter().map(|(role, usage)| {
        let usage = json!({"memory": usage.memory, "files": usage.files, "threads": usage.threads});
        (format!("{role:?}").to_ascii_lowercase(), usage)
    });
    json!({
        "seed": seed,
        "end": format!("{end:?}").to_ascii_lowercase(),
        "held": report.held(),
        "faults": counts.faults,
        "faults_without_target": counts.missed,
        "right": counts.right,
        "excused": excused.collect::<serde_json::Map<_, _>>(),
        "longest_query_ms": firesteel_chaos::story::millis(counts.longest),
        "most": taken.collect::<serde_json::Map<_, _>>(),
        "breaches": breaches,
        "folder": folder,
    })
    .to_string()
}

fn in_words(report: &Report) -> String {
    let Report { seed, counts, most, breaches, folder, .. } = report;
    let mut lines = vec![format!("seed {seed}: {counts}")];
    for (role, usage) in most {
        let memory = usage.memory >> 20;
        lines.push(format!(
            "  {role:?} at most: {memory} MiB, {} files, {} threads",
            usage.files, usage.threads
        ));
    }
    lines.extend(breaches.iter().map(|breach| format!("  did not hold: {breach}")));
    if let Some(folder) = folder {
        let folder = folder.display();
        lines.push(format!("  logs in {folder}/logs; the same faults again: --replay {folder}/faults.jsonl"));
    }
    lines.push(if report.held() { "all held".to_owned() } else { "not all held".to_owned() });
    lines.join("\n")
}
