//! `firesteel-sim scale`.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use firesteel_sim::scale::{Allocated, Progress, Scale, run};
use indicatif::{ProgressBar, ProgressStyle};

/// A log has a line after so many seconds of virtual time.
const LINE_EVERY_S: u64 = 10;

/// What `firesteel-sim scale` is told.
#[derive(Debug, Args)]
pub struct ScaleArgs {
    /// Workers, each with one executor.
    #[arg(long, value_name = "N", default_value_t = Scale::default().nodes, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    nodes: u32,
    /// Core threads of each executor.
    #[arg(long, value_name = "N", default_value_t = Scale::default().slots, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    slots: u32,
    /// Jobs, each with a driver of its own.
    #[arg(long, value_name = "N", default_value_t = Scale::default().jobs, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    jobs: u32,
    /// Tasks of all jobs together; a job has three at least.
    #[arg(long, value_name = "N", default_value_t = Scale::default().tasks, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    tasks: u32,
    /// Over how many seconds of the cluster's time the jobs come.
    #[arg(long, value_name = "S", default_value_t = Scale::default().arrival_s, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    arrival: u64,
    /// The seed of the times that attempts take.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it, and tells what it came to.
pub fn scale(args: &ScaleArgs, allocated: Allocated) -> ExitCode {
    let scale = Scale {
        nodes: args.nodes,
        slots: args.slots,
        jobs: args.jobs,
        tasks: args.tasks,
        arrival_s: args.arrival,
        seed: args.seed,
    };
    let is_terminal = std::io::stderr().is_terminal();
    let bar = if is_terminal { bar(u64::from(scale.tasks)) } else { ProgressBar::hidden() };
    let report = run(&scale, allocated, &mut |progress: Progress| {
        bar.set_position(progress.tasks_done);
        bar.set_message(format!("{} s", progress.virtual_s));
        if !is_terminal && progress.virtual_s.is_multiple_of(LINE_EVERY_S) {
            eprintln!("after {} s in the cluster {} tasks are done", progress.virtual_s, progress.tasks_done);
        }
    });
    bar.finish_and_clear();
    if args.json {
        println!("{}", report.json());
    } else {
        println!("{report}");
    }
    ExitCode::SUCCESS
}

fn bar(tasks: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{elapsed:>4} {wide_bar} {percent:>3}% {human_pos} tasks, {msg} in the cluster",
    )
    .expect("the template is valid");
    let bar = ProgressBar::new(tasks).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
