//! The simulator's command.

mod beats_command;
mod scale_command;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use firesteel_sim::mutation::Kind;
use firesteel_sim::{Options, Report, run};
use peak_alloc::PeakAlloc;
use serde_json::json;

/// Counts what is allocated, for `scale`.
#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const ABOUT: &str = "Simulates whole clusters from seeds";

const TEACHES: &str = "\
A seed is a cluster: a manager or three, workers with executors, users with queries, clients that submit jobs, and what goes wrong
with them. The job machine and the manager's machine are the real ones; the channels between them, the clock, the journal and all
else is simulated. After every step it is checked that no row is lost or doubled, no slot lent twice, nothing freed that is needed,
nothing kept that is not, and that what a submitted job gave is of the last launch of its driver.

Examples:
  firesteel-sim --seed 7                    tell the story of seed 7
  firesteel-sim --seed 7 --last 40          the last 40 lines of it
  firesteel-sim --seeds 0..2000             run many; those that fail are named with the command that replays them
  firesteel-sim --seeds 0..500 --json       the same for scripts, an object a line
  firesteel-sim --seeds 0..50 --mutation lease-twice
                                            break something on purpose: the checker must find it
  firesteel-sim --mutations                 what can be broken
  firesteel-sim scale --nodes 1000 --jobs 100 --tasks 100000
                                            what a cluster of that size costs its manager and its drivers
  firesteel-sim beats --workers 1000        what heartbeats over gRPC cost a manager

Exit codes: 0 all held, 1 something did not, 2 the command line is wrong.";

#[derive(Debug, Parser)]
#[command(name = "firesteel-sim", version, about = ABOUT, after_help = TEACHES, args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Run this seed and tell its story.
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Run the seeds from A on, up to B without it.
    #[arg(long, value_name = "A..B", value_parser = seeds)]
    seeds: Option<std::ops::Range<u64>>,
    /// Break a run off after so many steps.
    #[arg(long, value_name = "N", default_value_t = Options::default().steps_max)]
    steps: u64,
    /// Tell only the last lines of a story.
    #[arg(long, value_name = "N")]
    last: Option<usize>,
    /// Nothing goes wrong: every query must succeed.
    #[arg(long)]
    calm: bool,
    /// Jobs are submitted in every world, not in some.
    #[arg(long)]
    submit: bool,
    /// So many managers in every world: 1 or 3.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=5))]
    managers: Option<u32>,
    /// The manager is never killed.
    #[arg(long)]
    keep_manager: bool,
    /// Draw faults too that are known and not mended.
    #[arg(long)]
    known: bool,
    /// Break something on purpose.
    #[arg(long, value_name = "NAME")]
    mutation: Option<Kind>,
    /// List what can be broken on purpose.
    #[arg(long)]
    mutations: bool,
    /// Print JSON, an object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure what the manager and the drivers of a large cluster do: messages, time and memory.
    Scale(scale_command::ScaleArgs),
    /// Measure what heartbeats cost a manager with its gRPC service, over loopback.
    Beats(beats_command::BeatsArgs),
}

fn seeds(text: &str) -> Result<std::ops::Range<u64>, String> {
    let parsed = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    parsed.filter(|range| !range.is_empty()).ok_or_else(|| format!("'{text}' is no range such as 0..100"))
}

fn main() -> ExitCode {
    let args = Args::parse();
    match &args.command {
        Some(Command::Scale(scale)) => return scale_command::scale(scale, || ALLOCATOR.current_usage()),
        Some(Command::Beats(beats)) => return beats_command::beats(beats),
        None => {}
    }
    if args.mutations {
        for kind in Kind::ALL {
            println!("{:<22} {}", kind.name(), kind.what());
        }
        return ExitCode::SUCCESS;
    }
    // A panic of a machine is told as a violation.
    std::panic::set_hook(Box::new(|_| {}));
    match (args.seed, args.seeds.clone()) {
        (Some(seed), _) => tell(seed, &args),
        (None, Some(seeds)) => run_many(seeds, &args),
        (None, None) => {
            eprintln!("error: name a seed\n hint: --seed 7, or --seeds 0..1000; --help tells more");
            ExitCode::from(2)
        }
    }
}

fn options(args: &Args, keeps_story: bool) -> Options {
    Options {
        keeps_story,
        mutation: args.mutation,
        is_calm: args.calm,
        restarts_manager: !args.keep_manager,
        shows_known: args.known,
        script: None,
        submits: args.submit,
        managers: args.managers,
        steps_max: args.steps,
    }
}

fn tell(seed: u64, args: &Args) -> ExitCode {
    let report = run(seed, &options(args, true));
    let skipped = args.last.map_or(0, |last| report.story.len().saturating_sub(last));
    for line in &report.story[skipped..] {
        if args.json {
            println!("{}", json!({"at_ms": line.at.0, "who": line.who, "what": line.what}));
        } else {
            println!("{line}");
        }
    }
    println!("{}", summary(&report, args.json));
    code(report.violation.is_none())
}

fn run_many(seeds: std::ops::Range<u64>, args: &Args) -> ExitCode {
    let options = options(args, false);
    let (mut failed, mut total) = (0_u64, firesteel_sim::check::Counts::default());
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let report = run(seed, &options);
        total.add(&report.counts);
        failed += u64::from(report.violation.is_some());
        if args.json || report.violation.is_some() {
            println!("{}", summary(&report, args.json));
            if !args.json {
                println!("  replay: {}", replay(seed, args));
            }
        }
    }
    if !args.json {
        println!(
            "{count} seeds, {failed} failed; queries: {} succeeded, {} failed, {} cancelled, {} lost with their driver; \
             {} attempts, {} blocks read, {} decisions by sizes; submitted jobs: {} succeeded, {} were launched again, {} results \
             fetched, {} lost; {} managers after others",
            total.succeeded,
            total.failed,
            total.cancelled,
            total.abandoned,
            total.launched,
            total.read,
            total.decided,
            total.submitted,
            total.launched_again,
            total.delivered,
            total.results_lost,
            total.managers
        );
    }
    code(failed == 0)
}

fn replay(seed: u64, args: &Args) -> String {
    let mut command = format!("cargo run -p firesteel-sim -- --seed {seed}");
    if let Some(kind) = args.mutation {
        command += &format!(" --mutation {kind}");
    }
    if let Some(managers) = args.managers {
        command += &format!(" --managers {managers}");
    }
    let flags = [
        (args.calm, " --calm"),
        (args.submit, " --submit"),
        (args.keep_manager, " --keep-manager"),
        (args.known, " --known"),
    ];
    for (is_set, flag) in flags {
        command += if is_set { flag } else { "" };
    }
    command
}

fn summary(report: &Report, as_json: bool) -> String {
    let Report { seed, violation, steps, time, counts, .. } = report;
    if as_json {
        return json!({
            "seed": seed,
            "violation": violation,
            "steps": steps,
            "virtual_ms": time.0,
            "succeeded": counts.succeeded,
            "failed": counts.failed,
            "cancelled": counts.cancelled,
            "abandoned": counts.abandoned,
        })
        .to_string();
    }
    match violation {
        Some(what) => format!("seed {seed} fails at {time}, step {steps}: {what}"),
        None => format!(
            "seed {seed} holds: {} queries succeeded, {} failed, {} were cancelled, {} lost with their driver; \
             {steps} steps, {time}",
            counts.succeeded, counts.failed, counts.cancelled, counts.abandoned
        ),
    }
}

fn code(held: bool) -> ExitCode {
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
